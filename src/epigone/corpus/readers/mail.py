"""Mails: a file of one (.eml) or of many (mbox), each a document of what its author wrote.

Headers and parts are found by Python's `email`, which raises various errors for what is damaged; they are caught for
each mail, so that one does not end the reading of a mailbox.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header
from email.message import Message as Mail
from email.policy import compat32
from typing import BinaryIO

from epigone.corpus.encoding import NOTATIONS, read_cp1252
from epigone.corpus.readers.layout import join_blocks
from epigone.corpus.readers.mail_text import strip_mail
from epigone.corpus.readers.markup import MarkupText
from epigone.corpus.readers.page import Element, parse_page, walk
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.speakers import Speakers, clean_name

MOST_MAIL_BYTES = 1 << 25
LONGEST_LINE = 1 << 20
LONGEST_HEADER = 2_000
DEEPEST_PARTS = 20
SEPARATOR = re.compile(rb"From \S{1,200}(?: at \S{1,200})? {1,4}.{0,80}\d{4}")
HEADER_LINE = re.compile(r"[!-9;-~]{1,60}:(?: |$)|[ \t]+\S")
MAIL_HEADERS = frozenset(["from", "date", "subject", "message-id", "received", "return-path"])
SURE = ("message-id:", "received:", "mime-version:", "return-path:", "delivered-to:", "x-gm-thrid:", "content-type:")
ESCAPED = re.compile(rb"^>(>*From )", re.M)
ADDRESS = re.compile(r"<([^<>\s]{1,200})>")
BARE_ADDRESS = re.compile(r"[^\s<>\"]{1,100}@[^\s<>\"]{1,100}")
ANSWER = re.compile(r"^(?:(?:re|fwd?|aw|wg|tr|rv|sv|antw|r)(?:\[\d+\])? ?: ?)++", re.I)
QUOTING_NAMES = re.compile(
    r"\b(?:gmail_quote|gmail_attr|yahoo_quoted|moz-cite-prefix|moz-signature|divRplyFwdMsg|appendonsend)"
)
DAMAGED = (ValueError, LookupError, TypeError, AttributeError, RecursionError, MessageError)


def recognise(beginning: Beginning) -> bool:
    """The line before a mail in a mailbox, with a header after it, or a header that only mails have."""
    first, _, _ = beginning.head.partition(b"\n")
    in_mailbox = bool(SEPARATOR.match(first))
    if not in_mailbox and not HEADER_LINE.match(beginning.first_line):
        return False
    lines = beginning.lines[int(in_mailbox) :]
    if not in_mailbox and beginning.suffix != ".eml" and not any(line.lower().startswith(SURE) for line in lines[:30]):
        return False
    names: list[str] = []
    for line in lines[:30]:
        if not HEADER_LINE.match(line):
            break
        if line[0] not in " \t":
            names.append(line.split(":")[0].lower())
    return len(names) >= 2 and not MAIL_HEADERS.isdisjoint(names)


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """A document for each mail that has text."""
    for data in split_mails(file, context):
        context.limits.check_time()
        try:
            parsed = _read_mail(data, context)
        except DAMAGED as error:
            context.drops.add("damaged mails", f"{type(error).__name__}: {error}")
            continue
        if parsed is not None:
            yield parsed


MAIL = Format(
    name="mail",
    title="mail (mbox, .eml)",
    suffixes=(".eml", ".mbox"),
    begins="abcdefghijklmnopqrstuvwxyz",
    recognise=recognise,
    read=read,
)


def split_mails(file: BinaryIO, context: ReadContext) -> Iterator[bytes]:
    """The mails in a mailbox; what is longer than 32 MB is left out."""
    lines: list[bytes] = []
    n_bytes, is_mailbox, after_blank, n_mails = 0, False, True, 0
    while line := file.readline(LONGEST_LINE):
        if after_blank and line.startswith(b"From ") and SEPARATOR.match(line) and (is_mailbox or not lines):
            if lines:
                yield b"".join(lines)
            lines, n_bytes, is_mailbox, n_mails = [], 0, True, n_mails + 1
            continue
        after_blank = line in (b"\n", b"\r\n")
        n_bytes += len(line)
        if n_bytes <= MOST_MAIL_BYTES:
            lines.append(ESCAPED.sub(rb"\1", line) if is_mailbox and line.startswith(b">") else line)
        elif lines:
            context.drops.add(f"mails of more than {MOST_MAIL_BYTES >> 20:,} MB", lines[0].decode("ascii", "replace"))
            lines = []
    if lines:
        yield b"".join(lines)


def _read_mail(data: bytes, context: ReadContext) -> ParsedDocument | None:
    """The document of one mail; None if it is not by a speaker who is wanted, or has no text."""
    mail = message_from_bytes(data, policy=compat32)
    name, address = parse_sender(read_header(mail, "From"))
    if context.speakers.hidden:
        _hide_recipients(mail, context.speakers)
    if not context.speakers.count(name, address):
        return None
    text = "\n".join(filter(None, _read_parts(mail, context, 0)))
    if not text:
        return None
    subject = ANSWER.sub("", read_header(mail, "Subject"))
    return ParsedDocument(text=text, title=clean_name(subject), author=name, date=read_header(mail, "Date")[:40])


def _hide_recipients(mail: Mail, speakers: Speakers) -> None:
    """Note the names of those to whom a mail goes: it speaks to them by these."""
    for header in ("To", "Cc"):
        for value in read_header(mail, header).split(","):
            name, address = parse_sender(value)
            if name and name != address:
                speakers.label(name)


def read_header(mail: Mail, name: str) -> str:
    """A header's text on one line, with encoded words decoded."""
    found = next((str(value) for key, value in mail.raw_items() if key.lower() == name.lower()), "")[:LONGEST_HEADER]
    value = decode_bytes(found.encode("utf-8", "surrogateescape"), "utf-8")  # not all programs encode words
    parts = (
        part if isinstance(part, str) else decode_bytes(part, charset or "latin-1")
        for part, charset in decode_header(value)
    )
    return " ".join("".join(parts).split())


def parse_sender(value: str) -> tuple[str, str]:
    """The name and the address in a From header; the address also serves as a name."""
    found = ADDRESS.search(value)
    bare = BARE_ADDRESS.search(value) if found is None else None
    address = found[1] if found else bare[0] if bare else ""
    name = value[: found.start()] if found else value.replace(address, "").strip(" ()") if address else value
    return clean_name(name.strip(" \"'")) or address, address


def decode_bytes(data: bytes, charset: str) -> str:
    """Text in the encoding that a mail names, or in UTF-8, or else in cp1252."""
    for name in (charset, "utf-8"):
        try:
            if codecs.lookup(name).name not in NOTATIONS:
                return data.decode(name)
        except (LookupError, ValueError):
            continue
    return read_cp1252(data)


# -- parts


def _read_parts(mail: Mail, context: ReadContext, depth: int) -> Iterator[str]:
    """The texts of a mail or of a part: of alternatives the first plain one, or else the first page."""
    if depth > DEEPEST_PARTS:
        raise ValueError(f"its parts are nested more than {DEEPEST_PARTS} deep")
    kind = mail.get_content_type()
    if kind == "multipart/alternative":
        yield from _choose_alternative(mail, context, depth)
    elif mail.get_content_maintype() == "multipart" and mail.is_multipart():
        for part in _list_parts(mail):
            yield from _read_parts(part, context, depth + 1)
    elif mail.get_content_disposition() == "attachment" or kind not in ("text/plain", "text/html"):
        context.drops.add("attachments", str(mail.get_filename() or kind)[:200])
    else:
        yield _read_text(mail, context, is_page=kind == "text/html")


def _list_parts(mail: Mail) -> list[Mail]:
    parts = mail.get_payload()
    return [part for part in parts if isinstance(part, Mail)] if isinstance(parts, list) else []


def _choose_alternative(mail: Mail, context: ReadContext, depth: int) -> Iterator[str]:
    parts = _list_parts(mail)
    plain = [part for part in parts if part.get_content_type() == "text/plain"]
    for part in [*plain, *(part for part in parts if part not in plain)]:
        if found := "\n".join(filter(None, _read_parts(part, context, depth + 1))):
            yield found
            return


def _read_text(mail: Mail, context: ReadContext, *, is_page: bool) -> str:
    data = mail.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    text = decode_bytes(data, str(mail.get_content_charset() or "utf-8"))
    if is_page:
        return strip_mail(read_page(text, context), context.drops)
    flowed = str(mail.get_param("format") or "").lower() == "flowed"
    delete_space = str(mail.get_param("delsp") or "").lower() == "yes"
    return strip_mail(text, context.drops, flowed=flowed, delete_space=delete_space)


def read_page(source: str, context: ReadContext) -> str:
    """The text of a mail that is a page, without what it quotes."""
    page = parse_page(source, context.limits)

    def is_left_out(element: Element) -> bool:
        names = f"{element.attributes.get('class', '')} {element.attributes.get('id', '')}"
        is_quotation = element.tag == "blockquote" and element.attributes.get("type") == "cite"
        if is_quotation or (names != " " and QUOTING_NAMES.search(names)):
            context.drops.add("quotations", page.read_text(element))
            return True
        return False

    markup = MarkupText(context)
    root = next(page.find("body"), None) or next(page.find("html"), None)
    markup.add_all(walk(page, root, is_left_out))
    return join_blocks(markup.finish())
