"""Chats exported by WhatsApp on Android and iOS, in any language: the messages, without media and notices.

A message begins with a date and a time, in the order and with the marks of the phone's language, and a name. A notice
(who joined, what the group is called) has no name, or, on iOS, a mark of direction before its text, as have the words
that stand for media. So most of it needs no list of languages; the rest is in the lists below.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from epigone.corpus.readers.conversation import Message, clean_message, join_messages
from epigone.corpus.readers.reader import Beginning, DropLog, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.speakers import DIRECTIONS, clean_name
from epigone.corpus.readers.zipped import open_zip

SHARE_OF_NAMED, SHARE_WITHOUT_NOTICE = 0.3, 0.7
"""Of the lines that begin with a time, those with a name: many joins and leaves stand in a large group. The second
one is for a text in which nothing else says that it is a chat."""
LONGEST_GENERATED = 300
GENERATED = "\u200e"
"""Left-to-right mark, with which WhatsApp begins what it writes itself."""
SPACE = "[ \xa0\u202f]"
DATE = rf"\d{{1,4}}[./-]{SPACE}?\d{{1,2}}[./-]{SPACE}?\d{{1,4}}\.?|"
DATE += rf"\d{{4}}[年년]{SPACE}?\d{{1,2}}[月월]{SPACE}?\d{{1,2}}[日일]"
HALF = r"[^\W\d_](?:[^\d\n\-–\]:,]{0,10}[^\W\d_])?\.?"
"""AM, p. m., 오후: what says which half of the day it is, or the word for "o'clock" or "at"."""
TIME = rf"(?:{HALF}{SPACE}?)?\d{{1,2}}[:.]\d{{2}}(?:[:.]\d{{2}})?(?:{SPACE}?{HALF})?"
START = re.compile(
    rf"[\u200e\u200f\u202a-\u202e\ufeff]*(?P<open>\[)?(?P<day>{DATE}),?{SPACE}(?P<time>{TIME})"
    rf"(?(open)\]{SPACE}?|(?:{SPACE}[-–]{SPACE}|:{SPACE}|,{SPACE}))"
)
NAMED = re.compile(r"(?P<name>[^:\n]{1,80}?) ?:(?: |$)")
QUOTED = re.compile('["“”„«»]')
LEVELS = frozenset(["debug", "info", "information", "warn", "warning", "error", "fatal", "critical", "trace", "notice"])
"""Of programs' logs, which also begin with a date and a time."""

PLACEHOLDER = re.compile(r"<[^<>\n]{3,60}>")
"""Android's "<Media omitted>", in whatever language."""
ATTACHED = re.compile(
    r"(?:[^\s<>][^<>\n]{0,250})?\.\w{1,5}[ \xa0]\([^()\n]{3,40}\)"
    r"|<[^<>:\n]{2,40}:[ \xa0]?[^<>\n]{1,250}\.\w{1,5}[ \xa0]?>"
)
"""A file in Android's form or in that of iOS."""
PLACE = re.compile(
    r"[^\W\d][^:\n]{2,40}: https?://(?:maps|www)\.google\.\S+|[^\W\d][^:\n]{2,40}: https?://foursquare\.\S+"
)
OMITTED = re.compile(
    r"(?:image|video|audio|GIF|sticker|document|video note|contact card) omitted"
    r"|(?:Bild|Video|Audio|GIF|Sticker|Dokument|Videonachricht|Kontaktkarte) weggelassen"
    r"|(?:image|vidéo|audio|GIF|sticker|document|fiche contact) (?:absente?|omise?)"
    r"|(?:imagen|video|audio|GIF|sticker|documento|tarjeta de contacto) omitid[oa]"
    r"|(?:imagem|vídeo|áudio|GIF|figurinha|documento|cartão do contato) (?:ocultad|omitid)[oa]"
    r"|(?:immagine|video|audio|GIF|sticker|documento|scheda contatto) (?:omess|esclus|non inclus)[oa]"
    r"|(?:afbeelding|video|audio|GIF|sticker|document|contactkaart) weggelaten"
    r"|(?:изображение|видео|аудио|аудиофайл|GIF|стикер|документ|контакт)[^\n]{0,12} (?:отсутствует|пропущен[оа]?)"
    r"|(?:obraz|wideo|audio|GIF|naklejk[aę]|dokument) pominięt[oaey]|pominięto (?:obraz|wideo|audio|GIF|naklejkę)"
    r"|(?:görüntü|video|ses|GIF|çıkartma|belge) dahil edilmedi"
    r"|(?:画像|動画|音声|GIF|スタンプ|文書)[^\n]{0,6}省略[^\n]{0,8}|(?:圖片|图片|影片|视频|語音訊息|音频|貼圖|文件|GIF)已省略",
    re.I,
)
"""What iOS puts for media, if the mark before it was lost."""
DELETED = re.compile(
    r"(?:this message was deleted(?: by admin[^\n]{0,60})?|you deleted this message"
    r"|diese nachricht wurde gelöscht|du hast diese nachricht gelöscht"
    r"|ce message a été supprimé|vous avez supprimé ce message|tu as supprimé ce message"
    r"|se eliminó este mensaje|este mensaje fue eliminado|eliminaste este mensaje"
    r"|(?:esta )?mensagem (?:foi )?apagada|você apagou (?:esta|essa) mensagem|eliminou esta mensagem"
    r"|questo messaggio è stato eliminato|hai eliminato questo messaggio"
    r"|dit bericht (?:is|werd) verwijderd|(?:je|u) (?:hebt|heeft) dit bericht verwijderd"
    r"|(?:данное|это) сообщение удалено|вы удалили (?:данное|это) сообщение"
    r"|ta wiadomość została usunięta|usunięto tę wiadomość|bu mesaj silindi|bu mesajı sildiniz|null)\.?",
    re.I,
)
CALL = re.compile(
    r"(?:missed (?:group )?(?:voice|video) call(?: at \d[^\n]{0,20})?|(?:voice|video) call, [^\n]{1,30}"
    r"|verpasster (?:gruppen-?)?(?:sprach|video)anruf|(?:sprach|video)anruf, [^\n]{1,30}"
    r"|appel (?:vocal|vidéo)(?: de groupe)? manqué|(?:video)?llamada(?: de voz| de video| grupal)? perdida"
    r"|chamada (?:de (?:voz|vídeo)|em grupo) perdida|(?:video)?chiamata(?: vocale)? (?:di gruppo )?persa"
    r"|gemiste (?:groeps)?(?:spraak|video)-?oproep|пропущенный (?:аудио|видео|голосовой )(?:звонок|вызов))[.,]?"
    r"(?: [^\n]{0,40})?",
    re.I,
)
ENCRYPTED = re.compile(
    r"end-to-end[- ](?:encrypt|versleuteld)|ende-zu-ende|de bout en bout|de extremo a extremo|ponta a ponta"
    r"|ponto a ponto|crittografat[ie] end-to-end|сквозн[^\W\d]{1,9} шифровани"
    r"|szyfrowan[^\W\d]{1,9} end-to-end|uçtan uca şifrel"
    r"|端到端|エンドツーエンド",
    re.I,
)
"""The notice with which a chat begins."""
WAITING = re.compile(
    r"(?:waiting for this message|auf diese nachricht (?:wird|warten)|en attente de ce message|esperando (?:este|esta) "
    r"(?:mensaje|mensagem)|in attesa di questo messaggio|wachten op dit bericht|ожидание (?:этого )?сообщения)"
    r"[^\n]{0,80}",
    re.I,
)
ABOUT = re.compile("|".join(f"(?:{each.pattern})" for each in (OMITTED, DELETED, WAITING, CALL)), re.I)
"""Any of these, to look once."""
EDITED = re.compile(
    r"[ \n]*\u200e?<(?:this message was edited|diese nachricht wurde bearbeitet|ce message a été modifié"
    r"|(?:se editó este|este) mensaje(?: fue editado)?|(?:esta )?mensagem (?:foi )?editada"
    r"|questo messaggio è stato modificato|dit bericht is bewerkt|(?:данное |это )?сообщение (?:было )?изменено"
    r"|ta wiadomość została edytowana|bu mesaj düzenlendi)\.?>|[ \n]*\u200e<[^<>:\n]{3,60}>$",
    re.I,
)
OF_IOS = "_chat.txt"
CHAT_FILES = re.compile(
    r"(?:[^/]+/)?(?:_chat|(?:chat|discussion|conversa|чат)[^/]*whatsapp[^/]*|whatsapp[ _-]chat[^/]*)\.txt", re.I
)
TITLE = re.compile(
    r"(?:[^/]{0,20}[ _])?WhatsApp(?:[ _-]?Chat)?[ _]+(?:-|with|mit|avec|con|com|met|с|z)[ _]+(?P<name>.+)", re.I
)
"""The name of an export, which says whose chat it is."""


def recognise(beginning: Beginning) -> bool:
    """A text whose lines begin with dates, times and names, or a zip with such a text and media."""
    if beginning.zip_names:
        n_texts = sum(name.lower().endswith(".txt") for name in beginning.zip_names)
        return n_texts == len(_find_chats(beginning.zip_names)) == 1
    if not START.match(beginning.first_line):
        return False
    lines = beginning.lines
    starts = [found for line in lines if (found := START.match(line))]
    names = Counter(
        clean_name(named["name"]).casefold() for found in starts if (named := NAMED.match(found.string, found.end()))
    )
    share = names.total() / len(starts)
    has_notice = any(GENERATED in line or ENCRYPTED.search(line) for line in lines)
    if has_notice or _find_chats([PurePosixPath(beginning.name).name]):
        return share >= SHARE_OF_NAMED
    if any(name.strip("[] ").split(" ")[0] in LEVELS for name in names):
        return False
    # A diary has few names, and what stands before a colon in it is hardly ever there again.
    return share >= SHARE_WITHOUT_NOTICE and 2 <= len(names) <= names.total() // 2 + 1 < names.total()


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one conversation of an export."""
    name = context.name
    if file.read(4) == b"PK\x03\x04":
        with open_zip(file, context.limits) as parts:
            chat = next(iter(_find_chats(parts.names)), None)
            if chat is None:
                raise context.limits.refuse("there is no chat of WhatsApp in it")
            for media in parts.names:
                if media != chat:
                    context.drops.add("media files", media)
            with context.open_copy(parts.stream(chat)) as copy:
                yield _read_chat(copy, context, name if chat.endswith(OF_IOS) else chat)
    else:
        yield _read_chat(file, context, name)


WHATSAPP = Format(
    name="whatsapp",
    title="a WhatsApp chat",
    suffixes=(".txt",),
    begins="[0123456789p",
    recognise=recognise,
    read=read,
)


def find_chat(folder: Path) -> Path | None:
    """The chat in a folder that an export of iOS was unpacked into: what is beside it was sent in the chat."""
    return path if (path := folder / OF_IOS).is_file() else None


def _find_chats(names: Iterable[str]) -> list[str]:
    return [name for name in names if CHAT_FILES.fullmatch(name)]


def _read_chat(file: BinaryIO, context: ReadContext, name: str) -> ParsedDocument:
    reader = _Reader(context.drops)
    for line in context.read_lines(file):
        reader.add(line)
    messages = reader.finish()
    title = TITLE.fullmatch(PurePosixPath(name).stem)
    return ParsedDocument(
        text=join_messages(messages, context),
        title=clean_name(title["name"].replace("_", " ")) if title else "",
        date=messages[0].day if messages else "",
    )


@dataclass(slots=True)
class _Reader:
    """Collects messages from lines."""

    drops: DropLog
    messages: list[Message] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)
    """Of the message that has begun, the first one without its time and name."""
    _name: str | None = None
    """Of its speaker; None if it is a notice."""
    _day: str = ""
    _names: dict[str, str | None] = field(default_factory=dict)
    """Of speakers, by what stands before the colon; None where it is not a name."""

    def add(self, line: str) -> None:
        """The next line."""
        if line[:12].isalpha() or not (found := START.match(line)):
            self._lines.append(line)
            return
        self._end()
        self._day = found["day"]
        named = NAMED.match(line, found.end())
        self._name = self._find_name(named["name"]) if named else None
        self._lines = [line[named.end() if named and self._name is not None else found.end() :]]

    def _find_name(self, shown: str) -> str | None:
        if shown not in self._names:
            self._names[shown] = None if QUOTED.search(shown) else clean_name(shown)
        return self._names[shown]

    def finish(self) -> list[Message]:
        """The messages, after the last line."""
        self._end()
        names = Counter(message.speaker for message in self.messages)
        return [message for message in self.messages if not self._is_notice(message, names)]

    def _end(self) -> None:
        """The message is complete."""
        if not self._lines:
            return
        text, self._lines = "\n".join(self._lines), []
        if self._name is None or (not self.messages and ENCRYPTED.search(text)):
            self.drops.add("notices", DIRECTIONS.sub("", text))
        elif kept := clean_message(strip_generated(text, self.drops), self.drops):
            self.messages.append(Message(self._name, kept, self._day))

    def _is_notice(self, message: Message, names: Counter[str]) -> bool:
        """Whether a colon in a notice, such as that of a group's new name, was taken for one after a name."""
        name = message.speaker
        words = name.split(" ")
        is_notice = (
            names[name] == 1
            and len(words) > 3
            and any(" ".join(words[:n]) in names for n in range(1, min(5, len(words) - 2)))
        )
        if is_notice:
            self.drops.add("notices", f"{name}: {message.text}")
        return is_notice


def strip_generated(text: str, drops: DropLog) -> str:
    """What a person wrote of a message: without what stands for media, and what WhatsApp wrote itself."""
    if GENERATED not in text and "<" not in text and "\n" not in text:
        plain = text.strip()
        kind = _classify(plain) if len(plain) < LONGEST_GENERATED else ""
        if kind:
            drops.add(kind, plain)
        return "" if kind else text
    edited = EDITED.search(text[-100:])
    if edited:
        drops.add("marks of edited messages", edited[0].strip(" \n\u200e"))
        text = text[: max(0, len(text) - 100)] + text[-100:][: edited.start()]
    kept = []
    for line in text.split("\n"):
        plain = DIRECTIONS.sub("", line).strip()
        kind = _classify(plain)
        if not kind and line.startswith(GENERATED) and plain:
            kind = "notices"
        if kind:
            drops.add(kind, plain)
        else:
            kept.append(_strip_attached(line, drops))
    return "\n".join(kept)


def _classify(plain: str) -> str:
    """What a line is that a person did not write; "" if a person did."""
    if plain.endswith((")", ">")) and ATTACHED.fullmatch(plain):
        return "media"
    if plain.startswith("<") and PLACEHOLDER.fullmatch(plain) and (" " in plain.strip("<> ") or not plain.isascii()):
        return "media"
    if "://" in plain and PLACE.fullmatch(plain):
        return "media"
    if not ABOUT.match(plain):
        return ""
    if OMITTED.fullmatch(plain):
        return "media"
    if DELETED.fullmatch(plain):
        return "deleted messages"
    if WAITING.fullmatch(plain):
        return "notices"
    return "calls" if CALL.fullmatch(plain) else ""


def _strip_attached(line: str, drops: DropLog) -> str:
    """A line without the name of a file after it, as iOS writes it after a caption."""
    start = line.rfind(GENERATED)
    plain = DIRECTIONS.sub("", line[start:]).strip() if start > 0 else ""
    if ATTACHED.fullmatch(plain):
        drops.add("media", plain)
        return line[:start]
    if OMITTED.fullmatch(plain):  # after the name of a document and its number of pages
        drops.add("media", DIRECTIONS.sub("", line))
        return "" if "\u2022" in line else line[:start]
    return line
