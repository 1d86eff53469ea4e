"""What a person wrote in a mail: without quotations, the lines that announce them, signatures, and footers of lists."""

from __future__ import annotations

import re

from epigone.corpus.readers.conversation import LINK
from epigone.corpus.readers.layout import INVISIBLE
from epigone.corpus.readers.reader import DropLog

QUOTE = re.compile(r"[ \t]?>")
WROTE = re.compile(
    r"(?:wrote|writes|schrieb|a écrit|escribió|escreveu|ha scritto|schreef|пишет|написала?|napisał\(?a?\)?|skrev"
    r"|kirjoitti|写道|のメッセージ)[^\n]{0,80}[:：]$|<[^<>\s]{1,100}@[^<>\s]{1,100}>[^\n]{0,40}:$"
    r"|@[^\n]{1,80}(?:wrote|schrieb)[^\n]{0,20}$",
    re.I,
)
ANNOUNCED = re.compile(r"(?:On|Am|Le|El|Il|Op|Em|Den|W dniu|\d{1,4}[./-]\d)\b", re.I)
"""How the line before begins, if what announces a quotation has two lines."""
MOST_ANNOUNCING = 3
ORIGINAL = re.compile(
    r"[ \t]*-{2,}[ \t]?(?:Original Message|Original-Nachricht|Ursprüngliche Nachricht|Message d'origine"
    r"|Mensaje original|Mensagem original|Messaggio originale|Oorspronkelijk bericht|Исходное сообщение"
    r"|Forwarded message|Weitergeleitete Nachricht|Message transféré|Mensaje reenviado)[ \t]?-{2,}",
    re.I,
)
HEADER = re.compile(
    r"[ \t*]*(?:From|Sent|To|Cc|Date|Subject|Von|Gesendet|An|Datum|Betreff|De|Envoyé|À|Objet|Enviado|Para|Asunto|Da"
    r"|Inviato|A|Oggetto|Van|Verzonden|Aan|Onderwerp|Assunto|От|Кому|Тема)[ \t*]*:",
    re.I,
)
FEWEST_HEADERS = 3
SIGNATURE = re.compile(r"--[ \t\xa0]*$")
MOST_SIGNATURE_LINES = 15
"""After two dashes without a space, which may also divide a text."""
SENT_FROM = re.compile(
    r"[ \t]*(?:Sent from (?:my|the|Mail|Outlook|Yahoo)\b|Get Outlook for |Von meinem \w{1,20} gesendet|Envoyé de mon "
    r"|Enviado desde mi |Inviato da(?:l mio)? |Verzonden vanaf mijn |Отправлено с )[^\n]{0,60}$",
    re.I,
)
RULE = re.compile(r"[ \t]*(?:_{10,}|-{10,}|={10,}|#{10,})[ \t]*$")
FOOTER = re.compile(
    r"mailing list|unsubscribe|mailman/listinfo|abbestellen|désabonner|Google Groups|You received this", re.I
)
FOOTER_LINES = 5
ARMOUR = re.compile(r"-----BEGIN PGP (SIGNED MESSAGE|SIGNATURE|MESSAGE|PUBLIC KEY BLOCK)-----")


def strip_mail(text: str, drops: DropLog, *, flowed: bool = False, delete_space: bool = False) -> str:
    """The lines that a mail's author wrote, in paragraphs, with one line end at the end; "" if there are none.

    `flowed`, `delete_space`: that lines which end with a space go on in the next one (RFC 3676).
    """
    text = INVISIBLE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    lines = _strip_rest(_join_flowed(lines, delete_space=delete_space) if flowed else lines, drops)
    kept = "\n".join(_strip_quotations(lines, drops))
    for link in LINK.findall(kept):
        drops.add("links", link)
    kept = re.sub(r"<>|\[\]\(\)", "", LINK.sub("", kept))
    kept = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in kept.split("\n"))).strip("\n")
    return kept + "\n" if kept.strip() else ""


def _join_flowed(lines: list[str], *, delete_space: bool) -> list[str]:
    """Paragraphs on one line each, where a space at the end of a line says that it goes on."""
    joined: list[str] = []
    parts: list[str] = []
    for line in lines:
        is_quote = line.startswith(">")
        line = line[1:] if line.startswith(" ") else line  # which protects "From" and ">"
        goes_on = line.endswith(" ") and line != "-- " and not is_quote
        if is_quote and parts:
            joined.append("".join(parts))
            parts = []
        parts.append(line[:-1] if goes_on and delete_space else line)
        if not goes_on:
            joined.append("".join(parts))
            parts = []
    return [*joined, "".join(parts)]


def _strip_rest(lines: list[str], drops: DropLog) -> list[str]:
    """Lines up to a signature, a whole mail that is quoted, a list's footer or what is signed by a machine."""
    for number, line in enumerate(lines):
        what = ""
        if SIGNATURE.match(line) and (line.startswith("-- ") or len(lines) - number <= MOST_SIGNATURE_LINES):
            what = "signatures"
        elif ORIGINAL.match(line) or _is_quoted_head(lines, number):
            what = "quotations"
        elif RULE.match(line) and any(map(FOOTER.search, lines[number + 1 : number + 1 + FOOTER_LINES])):
            what = "footers of mailing lists"
        elif (found := ARMOUR.match(line)) and found[1] != "SIGNED MESSAGE":
            what = "keys, signatures and encrypted parts"
        if what:
            drops.add(what, "\n".join(lines[number:]).strip())
            return lines[:number]
    return lines


def _is_quoted_head(lines: list[str], number: int) -> bool:
    """Whether the head of a mail begins at a line, as Outlook quotes it."""
    if not HEADER.match(lines[number]):
        return False
    heads = [line for line in lines[number : number + 6] if HEADER.match(line)]
    return len(heads) >= FEWEST_HEADERS


def _strip_quotations(lines: list[str], drops: DropLog) -> list[str]:
    """Lines without those that are quoted, and without those that say whose they are."""
    kept: list[str] = []
    quoted: list[str] = []
    for line in lines:
        if QUOTE.match(line):
            if not quoted:
                _strip_announcement(kept, drops)
            quoted.append(line)
            continue
        if quoted:
            drops.add("quoted lines", "\n".join(quoted), count=len(quoted))
            quoted = []
            kept.append("")
        if SENT_FROM.match(line):
            drops.add("signatures", line)
        elif not ARMOUR.match(line) and not (line.startswith("Hash: ") and len(kept) < 3):
            kept.append(line)
    if quoted:
        drops.add("quoted lines", "\n".join(quoted), count=len(quoted))
    return kept


def _strip_announcement(kept: list[str], drops: DropLog) -> None:
    """Remove "On Tuesday Ann wrote:" from the end of the lines."""
    end = len(kept)
    while end and not kept[end - 1].strip():
        end -= 1
    if not end or not WROTE.search(kept[end - 1].rstrip()):
        return
    start = end - 1
    while start > max(0, end - MOST_ANNOUNCING) and not ANNOUNCED.match(kept[start]) and kept[start - 1].strip():
        start -= 1
    if not ANNOUNCED.match(kept[start]):
        start = end - 1
    drops.add("lines that announce quotations", " ".join(kept[start:end]))
    del kept[start:]
