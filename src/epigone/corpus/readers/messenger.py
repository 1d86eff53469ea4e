"""Chats exported by Messenger and Instagram, in both of their forms of JSON: a chat in each file, in order of time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import BinaryIO

from epigone.corpus.readers.conversation import Message, clean_message, join_messages
from epigone.corpus.readers.json_stream import JsonReader, Path
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.records import mend_encoding
from epigone.corpus.readers.speakers import clean_name

START = re.compile(r'\A\s*\{\s*"(?:participants|messages|threadName)"\s*:')
SENDER = re.compile(r'"(?:sender_name|senderName)"\s*:\s*"')
MEDIA = ("photos", "videos", "audio_files", "gifs", "files", "sticker", "media")
CALLS = ("Call", "Subscribe", "Unsubscribe", "call")
LATEST = 1e15
"""Milliseconds since 1970 that are still a time, tens of thousands of years away."""
GENERATED = re.compile(
    r"Reacted .{1,12} to your message|Liked a message|You sent an attachment\."
    r"|You missed a (?:video )?call from .{1,60}\.|.{1,120} (?:are|is) now connected on Messenger\."
)
BY_SENDER = re.compile(
    r"sent (?:an attachment|a (?:photo|video|sticker|GIF|voice message|link|location))\.?"
    r"|missed (?:a|your) (?:video )?call\.?|called you\."
    r"|(?:changed|named|set|left|added|removed|started|joined|unsent|pinned|created|turned) .{1,120}\."
)
"""What the programs write in English in place of what is not text, and behind the name of who did it."""


def recognise(beginning: Beginning) -> bool:
    """An object that begins with those who take part or with messages, which have the name of their sender."""
    text = beginning.text
    return bool(START.match(text)) and '"messages"' in text and bool(SENDER.search(text))


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one conversation of a file."""
    chat = _Chat(context)
    for found in JsonReader(context.decode_pieces(file), context.limits).walk(_is_entered):
        if found.path in (("title",), ("threadName",)) and isinstance(found.value, str):
            chat.name = found.value
        elif found.path == ("messages", None) and isinstance(found.value, dict):
            chat.add(found.value)
    yield chat.finish()


MESSENGER = Format(
    name="messenger",
    title="a chat of Messenger or Instagram",
    suffixes=(".json",),
    begins="{",
    recognise=recognise,
    read=read,
)


def _is_entered(path: Path) -> bool:
    return path in ((), ("messages",))


class _Chat:
    """Collects the messages of a chat."""

    def __init__(self, context: ReadContext) -> None:
        self.context, self.name = context, ""
        self._timed: list[tuple[float, Message]] = []
        self._is_old = False
        """Whether letters are written as Messenger's older form does, byte by byte."""

    def add(self, found: dict[str, object]) -> None:
        """The next message, as it is in the file."""
        drops = self.context.drops
        self._is_old = self._is_old or "sender_name" in found
        mend = mend_encoding if self._is_old else str
        sender = clean_name(mend(str(found.get("sender_name", found.get("senderName", "")))))
        text = clean_message(mend(str(found.get("content", found.get("text")) or "")), drops)
        media = [name for name in MEDIA if found.get(name)]
        if media:
            drops.add("media", media[0])
        if found.get("is_unsent") or found.get("isUnsent"):
            drops.add("deleted messages", text)
        elif "call_duration" in found or found.get("type") in CALLS or _is_generated(text, sender):
            drops.add("notices", text)
        elif text:
            seconds = _read_seconds(found.get("timestamp_ms", found.get("timestamp", 0)))
            self._timed.append((seconds, Message(sender, text, _name_day(seconds))))

    def finish(self) -> ParsedDocument:
        """The conversation, after the last message. Most files have the newest first."""
        timed = self._timed
        if len(timed) > 1 and timed[0][0] > timed[-1][0]:
            timed = timed[::-1]  # so that of one time the later one stays behind
        messages = [message for _, message in sorted(timed, key=lambda pair: pair[0])]
        return ParsedDocument(
            text=join_messages(messages, self.context),
            title=clean_name(mend_encoding(self.name) if self._is_old else self.name),
            date=messages[0].day if messages else "",
        )


def _is_generated(text: str, sender: str) -> bool:
    before = f"{sender} "
    return bool(GENERATED.fullmatch(text) or (text.startswith(before) and BY_SENDER.fullmatch(text, len(before))))


def _read_seconds(milliseconds: object) -> float:
    """0 for what is not a time."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        return 0.0
    return milliseconds / 1000 if abs(milliseconds) < LATEST else 0.0


def _name_day(seconds: float) -> str:
    """The day of a time, in UTC; "" if there is none."""
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat() if seconds else ""
    except (OverflowError, ValueError, OSError):
        return ""
