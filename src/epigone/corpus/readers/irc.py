"""Logs of IRC, as irssi, WeeChat, HexChat, mIRC and ZNC write them: what people said, without joins and notices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from epigone.corpus.readers.conversation import Message, clean_message, join_messages
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.speakers import clean_name

FEWEST_MESSAGES, SHARE_OF_LINES = 3, 0.8
DATE = r"\d{4}-\d\d-\d\d|\d{1,2}[./]\d{1,2}[./]\d{2,4}|[^\W\d_]{3} \d\d"
TIMED = re.compile(
    rf"(?:[^\s<>\d\[(][^\s<>]{{0,30}} )?[\[(]?(?:(?P<day>{DATE})[ T])?"
    r"[\[(]?\d{1,2}:\d\d(?::\d\d)?(?: ?[AaPp][Mm]|Z|[+-]\d\d:?\d\d)?[\])]?(?=[ \t])"
)
"""The time, after the date or the name of the channel if the log has them."""
TALK = re.compile(r"[ \t]{1,4}<[ @+%&~!]{0,2}(?P<name>[^<>\s]{1,40})>(?:[ \t](?P<text>.*))?$")
COLUMNS = re.compile(r"\t[@+%&~!]?(?P<name>[^\t\s]{1,40})\t(?P<text>.*)$")
"""WeeChat has tabs around the name."""
ACTION = re.compile(r"[ \t]{1,4}\*[ \t]{1,4}(?P<name>[^\s*]{1,40})[ \t](?P<text>.*)$")
ACTION_IN_COLUMNS = re.compile(r"\t \*\t(?P<name>\S{1,40}) (?P<text>.*)$")
NOTICE = re.compile(
    r"[ \t]{1,4}(?:-!-|\*\*\*|\*[ \t]|===|--|-->|<--|==|-[^\s-][^\s]{0,60}-(?:[ \t]|$)|\*\t|Joins:|Parts:|Quits:)"
)
MOVES = re.compile(
    r"(?:\([^()\s]{1,100}\) )?(?:\[[^\[\]\s]{1,100}\] )?"
    r"(?:has (?:joined|left|quit|kicked|changed|set|been)|sets? mode|gives? |removes? |is now known as|changes topic"
    r"|was kicked|quits?\b|joins?\b|\([^()]{1,100}\) (?:Quit|has)|talking on #|for #|Users on)"
)
"""What follows a name in notices that look like actions."""
HEAD = re.compile(
    r"(?:--- (?:Log|Day)|\*{4} (?:BEGIN|ENDING|END) LOGGING|Session (?:Start|Close|Ident|Time))(?P<day>[^\n]*)"
)
"""Lines without a time that begin a log or a day."""
COLOUR = re.compile("\x03(?:\\d{1,2}(?:,\\d{1,2})?)?|\x04[0-9a-fA-F]{6}")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log: its name and text, or neither for a notice."""

    name: str
    text: str
    day: str


def parse_line(line: str) -> Line | None:
    """What a line is; None if it is not of a log."""
    timed = TIMED.match(line)
    if timed is None:
        head = HEAD.match(line)
        return Line("", line, head["day"]) if head else None
    rest, day = line[timed.end() :], timed["day"] or ""
    if found := TALK.match(rest) or COLUMNS.match(rest):
        name = found["name"]
        is_notice = found.re is COLUMNS and name in ("--", "-->", "<--", "==", "=!=", "*")
        return Line("", line, day) if is_notice else Line(name, found["text"] or "", day)
    found = ACTION.match(rest) or ACTION_IN_COLUMNS.match(rest)
    if found and not MOVES.match(found["text"]):
        return Line(found["name"], f"_{found['text'].strip()}_", day)
    return Line("", line, day) if found or NOTICE.match(rest) else None


def recognise(beginning: Beginning) -> bool:
    """A text nearly all of whose lines are those of a log, with a time, and some of them with a name in brackets."""
    if not TIMED.match(beginning.first_line) and not HEAD.match(beginning.first_line):
        return False
    lines = [found for line in beginning.lines if (found := parse_line(line))]
    n_messages = sum(bool(line.name) for line in lines)
    return n_messages >= FEWEST_MESSAGES and len(lines) >= SHARE_OF_LINES * len(beginning.lines)


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one conversation of a log."""
    messages, day = list[Message](), ""
    for line in context.read_lines(file):
        found = parse_line(line) or _parse_untimed(line, context)
        if found is None:
            if line.strip():
                context.drops.add("other lines", line)
            continue
        day = found.day or day
        if not found.name:
            context.drops.add("notices", found.text)
        elif text := clean_message(COLOUR.sub("", found.text), context.drops):
            messages.append(Message(clean_name(found.name), text, day))
    yield ParsedDocument(text=join_messages(messages, context), date=messages[0].day if messages else "")


IRC = Format(
    name="irc",
    title="a log of IRC",
    suffixes=(".log",),
    recognise=recognise,
    read=read,
)


def _parse_untimed(line: str, context: ReadContext) -> Line | None:
    """A line without a time, as a log has them that was asked to be read as one."""
    found = TALK.match(f" {line}") if context.settings.format == "irc" else None
    return Line(found["name"], found["text"] or "", "") if found else None
