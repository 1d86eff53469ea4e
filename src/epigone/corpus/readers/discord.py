"""Chats of Discord: channels exported by DiscordChatExporter (JSON or a page), and messages in Discord's package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from epigone.corpus.readers.chat_pages import is_discord, open_page, read_discord
from epigone.corpus.readers.conversation import Message, clean_message, join_messages
from epigone.corpus.readers.json_stream import JsonReader, Path
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.speakers import clean_name

EXPORTED = re.compile(r'\A\s*\{\s*"guild"\s*:\s*\{')
PACKAGED = re.compile(r'\A\s*\[\s*\{\s*"ID"\s*:\s*"?\d+"?\s*,\s*"Timestamp"\s*:')
TYPED = ("Default", "Reply", "0", "19")
"""Types of messages that people wrote."""
CODE = re.compile(r"```(?:[^`]|`(?!``))*```")
MARKS = re.compile(r"<[@#][!&]?\d+>|<(?:id|/)[^<>\n]{1,60}>|<t:\d+(?::\w)?>")
"""Of people, channels and times, as a package has them."""
EMOJI = re.compile(r"<a?:(\w{2,32}):\d+>")
SPOILER = re.compile(r"\|\|([^|\n]+)\|\|")


def recognise(beginning: Beginning) -> bool:
    """An object that begins with a server, a list of messages that begin with a number and a time, or such a page."""
    text = beginning.text
    if is_discord(beginning):
        return True
    if EXPORTED.match(text):
        return '"channel"' in text
    return bool(PACKAGED.match(text)) and '"Contents"' in text


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one conversation of a channel, in order of time."""
    if page := open_page(file, context):
        yield read_discord(page, context)
        return
    title, messages = "", list[Message]()
    for found in JsonReader(context.decode_pieces(file), context.limits).walk(_is_entered):
        if found.path == ("channel",) and isinstance(found.value, dict):
            title = clean_name(str(found.value.get("name") or ""))
        elif found.path in (("messages", None), (None,)) and isinstance(found.value, dict):
            read_message = _read_exported if found.path[0] else _read_packaged
            if message := read_message(found.value, context):
                messages.append(message)
    if len(messages) > 1 and messages[-1].day < messages[0].day:  # a package has the newest first
        messages.reverse()
    yield ParsedDocument(text=join_messages(messages, context), title=title, date=messages[0].day if messages else "")


DISCORD = Format(
    name="discord",
    title="a Discord export",
    suffixes=(".json",),
    begins="{[<",
    recognise=recognise,
    read=read,
)


def _is_entered(path: Path) -> bool:
    return path in ((), ("messages",))


def _read_exported(found: dict[str, object], context: ReadContext) -> Message | None:
    """A message of DiscordChatExporter."""
    drops, content, author = context.drops, str(found.get("content") or ""), found.get("author")
    author = author if isinstance(author, dict) else {}
    if str(found.get("type", "Default")) not in TYPED:
        drops.add("notices", content)
        return None
    if author.get("isBot"):
        drops.add("messages of bots", content)
        return None
    for name in ("attachments", "stickers"):
        media = found.get(name)
        for one in media if isinstance(media, list) else []:
            drops.add("media", str(one.get("fileName") or one.get("name") or "") if isinstance(one, dict) else "")
    speaker = clean_name(str(author.get("nickname") or author.get("name") or ""))
    return _make_message(speaker, content, str(found.get("timestamp") or ""), context)


def _read_packaged(found: dict[str, object], context: ReadContext) -> Message | None:
    """A message of Discord's package, which has only those of the account's owner, without a name."""
    if attachments := found.get("Attachments"):
        context.drops.add("media", str(attachments))
    return _make_message("", str(found.get("Contents") or ""), str(found.get("Timestamp") or ""), context)


def _make_message(speaker: str, content: str, time: str, context: ReadContext) -> Message | None:
    if "```" in content and context.settings.code == "drop":
        for block in CODE.findall(content):
            context.drops.add("code blocks", block)
        content = CODE.sub("", content)
    if "<" in content:
        content = MARKS.sub("", EMOJI.sub(r":\1:", content))
    text = clean_message(SPOILER.sub(r"\1", content) if "||" in content else content, context.drops)
    return Message(speaker, text, time[:10]) if text else None
