"""Conversations: messages with their speakers, as text with turns, or as what one of the speakers said.

A turn is what one person says before another speaks: "Name: " and the messages, one on each line, with a blank line
before the next turn. So plays are printed, and a generated text can end with a speech (`--stop-at speech`). Two blank
lines, as between scenes, stand before another day. Where only one speaks, names say nothing and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from epigone.corpus.readers.layout import INVISIBLE
from epigone.corpus.readers.reader import DropLog, ReadContext
from epigone.corpus.readers.speakers import DIRECTIONS, SPACES, Speakers

LINE_ENDS = re.compile(r"\r\n|[\r\v\f\x85\u2028\u2029]")
LINK = re.compile(r"(?<![\w@])(?:https?://|www\.)[^\s<>\"]*[^\s<>\"'.,;:!?)\]*_]", re.I)
BLANK_LINES = re.compile(r"\n(?:[ \t]*+\n)++")


@dataclass(frozen=True, slots=True)
class Message:
    """Something that someone said."""

    speaker: str
    """"" if that is not known."""
    text: str
    day: str = ""
    """In any form: another one begins a new scene."""


def clean_message(text: str, drops: DropLog) -> str:
    """What a message says: without links, which are counted, and with single spaces."""
    was_printable = text.isprintable()
    if not was_printable:  # all that is removed here is not, nor is any space but the usual one
        text = INVISIBLE.sub("", DIRECTIONS.sub("", LINE_ENDS.sub("\n", text)))
    if "://" in text or "www." in text:
        for link in LINK.findall(text):
            drops.add("links", link)
        text = LINK.sub("", text)
    if "  " in text or not (was_printable or text.isprintable()):
        text = SPACES.sub(" ", text)
    return "\n".join(line.strip() for line in text.split("\n")).strip() if "\n" in text else text.strip()


def join_messages(messages: Collection[Message], context: ReadContext) -> str:
    """The text of a conversation, with one line end at its end, or what those say in it who were asked for.

    Messages without text are left out. "" if nothing is left.
    """
    messages = [message for message in messages if message.text]
    is_dialogue = len({message.speaker for message in messages}) > 1
    context.speakers.in_turns |= is_dialogue
    named = is_dialogue and not context.speakers.wanted
    turns = _join_wanted(messages, context.speakers, named=named, is_dialogue=is_dialogue)
    text = "".join(turns).strip("\n")
    return text + "\n" if text else ""


def _join_wanted(messages: Iterable[Message], speakers: Speakers, *, named: bool, is_dialogue: bool) -> Iterator[str]:
    """Each message with what stands before it."""
    before: Message | None = None
    day = ""
    for message in messages:
        is_wanted = speakers.count(message.speaker)
        follows = is_dialogue and before is not None and before.speaker == message.speaker and before.day == message.day
        before = message
        if not is_wanted:
            continue
        between = "\n" if follows else "\n\n" if message.day == day else "\n\n\n"
        day = message.day
        if not named:
            yield between + message.text
            continue
        name = "" if follows or not message.speaker else f"{speakers.label(message.speaker)}: "
        yield between + name + (BLANK_LINES.sub("\n", message.text) if "\n" in message.text else message.text)
