"""Chats exported by Telegram Desktop: as JSON, one or all of an account, each a document; or as web pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from epigone.corpus.readers.chat_pages import is_telegram, open_page, read_telegram
from epigone.corpus.readers.conversation import Message, clean_message, join_messages
from epigone.corpus.readers.json_stream import JsonReader, Path
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.speakers import clean_name

KINDS = re.compile(
    r'"type"\s*:\s*"(?:saved_messages|bot_chat|(?:personal|private|public)_(?:chat|group|supergroup|channel))"'
)
ACCOUNT = re.compile(r'\A\s*\{\s*"about"\s*:\s*"[^"]{0,2000}Telegram|"personal_information"\s*:\s*\{')
DELETED_ACCOUNT = "Deleted account"


def recognise(beginning: Beginning) -> bool:
    """An object with the kind of a chat and its messages, or with an account's chats; or a page of messages."""
    text = beginning.text
    if not text.lstrip().startswith("{"):
        return is_telegram(beginning)
    return ('"messages"' in text and bool(KINDS.search(text))) or bool(ACCOUNT.search(text))


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """A document for each chat."""
    if page := open_page(file, context):
        yield read_telegram(page, context)
        return
    chat = _Chat(context)
    for found in JsonReader(context.decode_pieces(file), context.limits).walk(_is_entered):
        path = found.path
        if found.is_end:
            if _is_chat(path) and (chat.messages or not path):
                yield chat.finish()
                chat = _Chat(context)
        elif path[-1:] == ("name",) and isinstance(found.value, str) and _is_chat(path[:-1]):
            chat.name = found.value
        elif path[-2:] == ("messages", None) and isinstance(found.value, dict):
            chat.add(found.value)


TELEGRAM = Format(
    name="telegram",
    title="a Telegram export",
    suffixes=(".json",),
    begins="{<",
    recognise=recognise,
    read=read,
)


def _is_chat(path: Path) -> bool:
    return path in ((), ("chats", "list", None), ("left_chats", "list", None))


def _is_entered(path: Path) -> bool:
    return _is_chat(path) or path[-1] in ("chats", "left_chats", "list", "messages")


class _Chat:
    """Collects the messages of a chat."""

    def __init__(self, context: ReadContext) -> None:
        self.context, self.name = context, ""
        self.messages: list[Message] = []

    def add(self, found: dict[str, object]) -> None:
        """The next message, as it is in the file."""
        drops = self.context.drops
        if found.get("type") != "message":
            drops.add("notices", str(found.get("action", "")))
            return
        text = clean_message(self._read_text(found.get("text", "")), drops)
        if "forwarded_from" in found:
            drops.add("forwarded messages", text)
        elif "via_bot" in found:
            drops.add("messages of bots", text)
        else:
            if any(
                name in found for name in ("photo", "file", "media_type", "location_information", "contact_information")
            ):
                drops.add("media", str(found.get("media_type", found.get("photo", ""))))
            speaker = clean_name(str(found.get("from") or DELETED_ACCOUNT))
            if text:
                self.messages.append(Message(speaker, text, str(found.get("date", ""))[:10]))

    def finish(self) -> ParsedDocument:
        """The conversation, after the last message."""
        date = self.messages[0].day if self.messages else ""
        return ParsedDocument(text=join_messages(self.messages, self.context), title=clean_name(self.name), date=date)

    def _read_text(self, text: object) -> str:
        """A string, or a list of strings and of objects for links, bold text and the like."""
        if isinstance(text, str):
            return text
        parts: list[str] = []
        for part in text if isinstance(text, list) else []:
            if isinstance(part, str):
                parts.append(part)
            elif isinstance(part, dict) and isinstance(part.get("text"), str):
                if part.get("type") == "pre" and self.context.settings.code == "drop":
                    self.context.drops.add("code blocks", part["text"])
                else:
                    parts.append(part["text"])
        return "".join(parts)
