"""Subtitles (SRT, WebVTT, ASS) and lyrics with times (LRC): what is said or sung, without numbers, times and marks.

Subtitles become paragraphs that end at pauses; lines of lyrics stay lines. Where WebVTT or ASS names the speakers, or
most subtitles begin with a name, it is a conversation. A line of a dialogue, which begins with a dash, stays a line.
What YouTube's captions repeat of the line before is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import BinaryIO

from epigone.corpus.readers.conversation import Message, join_messages
from epigone.corpus.readers.layout import INVISIBLE
from epigone.corpus.readers.page import unescape
from epigone.corpus.readers.reader import Beginning, DropLog, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.speakers import clean_name

CLOCK = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
TIMES = re.compile(rf"\s*{CLOCK}\s*--?>\s*{CLOCK}(?:[ \t].{{0,200}})?$")
FIRST = re.compile(rf"\s*(?:\d{{1,9}}\s*\n)?\s*{CLOCK}\s*-->\s*{CLOCK}")
PAUSE_SECONDS = 3.0
"""Between two subtitles, before a new paragraph. In films most pauses within a speech are under two seconds."""
VOICE = re.compile(r"<v(?:\.[\w.]{1,60})?[ \t]+([^<>\n]{1,80})>")
TAG = re.compile(r"</?[a-zA-Z][^<>\n]{0,200}>|<\d{1,3}:[\d:.]{1,12}>|\{\\[^{}\n]{0,100}\}|\{[a-zA-Z]:[^{}\n]{0,60}\}")
SOUND = re.compile(r"[\[(\uff08][^\[\]()\uff08\uff09\n]{1,120}[\])\uff09]|[♪♫]+|^#[ \t]|[ \t]#$")
"""What is heard: [door slams], (laughs), ♪."""
DASH = re.compile(r"[-–—‐]\s?(?=\S)")
NAMED = re.compile(r"(?P<name>[^\W\d_a-z][^:\n]{1,40}): (?=\S)")
SHARE_OF_NAMED = 0.6
BLOCKS = ("NOTE", "STYLE", "REGION", "WEBVTT", "X-TIMESTAMP-MAP", "Kind:", "Language:")


SCRIPT = re.compile(r"\s*\[Script Info\]", re.I)
EVENT_FIELDS = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text")
OVERRIDE = re.compile(r"\{[^{}\n]*\}")
DRAWING = re.compile(r"\{[^{}\n]*\\p[1-9]")
BREAK = re.compile(r"\\[Nn]")
STAMP = re.compile(r"\[(\d{1,3}):(\d{1,2})(?:[.:](\d{1,3}))?\]")
FIRST_STAMP = re.compile(r"^\[\d{1,3}:\d\d\.\d{2,3}\]", re.M)
BLANK_LINES = re.compile(r"\n{3,}")
ABOUT = re.compile(r"\[(ti|ar|al|au|by|offset|length|re|ve|la)[ \t]*:([^\]\n]{0,200})\][ \t]*$", re.I)


def recognise(beginning: Beginning) -> bool:
    """The words that WebVTT and ASS begin with, a number and two times, or lines that begin with times in brackets."""
    first = beginning.first_line
    if first.startswith("[") and (SCRIPT.match(first) or FIRST_STAMP.match(first) or ABOUT.match(first)):
        return bool(SCRIPT.match(first) or FIRST_STAMP.search(beginning.text))
    text = beginning.text.lstrip("\ufeff")
    return bool(re.match(r"WEBVTT(?:[ \t\n]|$)", text) or FIRST.match(text))


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one document of a file: a text, or a conversation if it says who speaks."""
    lines = context.read_lines(file)
    first = next((line for line in lines if line.strip()), "")
    if FIRST_STAMP.match(first) or ABOUT.match(first):
        yield read_lyrics(chain([first], lines))
        return
    reader = _ScriptReader(context.drops) if SCRIPT.match(first) else _Reader(context.drops)
    for line in chain([first], lines):
        reader.add(line)
    cues = reader.finish()
    if any(cue.speaker for cue in cues) or find_named(cues):
        speaker, messages = "", list[Message]()
        for cue in cues:
            speaker = cue.speaker or speaker
            messages.append(Message(speaker, " ".join(cue.lines)))
        yield ParsedDocument(text=join_messages(list(_join_sentences(messages)), context))
    else:
        yield ParsedDocument(text=join_cues(cues))


SUBTITLES = Format(
    name="subtitles",
    title="subtitles (SRT, VTT, ASS, LRC)",
    suffixes=(".srt", ".vtt", ".ass", ".ssa", ".lrc"),
    begins="[0123456789w",
    recognise=recognise,
    read=read,
)


@dataclass(slots=True)
class Cue:
    """A subtitle."""

    start: float
    """Seconds."""
    end: float
    speaker: str = ""
    lines: list[str] = field(default_factory=list)


class _Reader:
    """Collects subtitles from lines."""

    def __init__(self, drops: DropLog) -> None:
        self.drops = drops
        self.cues: list[Cue] = []
        self._cue: Cue | None = None
        self._held: list[str] = []
        """Lines of the subtitle so far: its last one may be the number of the next."""

    def add(self, line: str) -> None:
        """The next line."""
        if "->" in line and (times := TIMES.match(line)):
            if self._held and self._held[-1].strip().isdigit():
                self._held.pop()  # its number
            self._end()
            self._cue = Cue(_read_seconds(times.groups()[:4]), _read_seconds(times.groups()[4:]))
        elif not line.strip():
            self._end()
        else:
            self._held.append(line)

    def finish(self) -> list[Cue]:
        """All of them with text, after the last line."""
        self._end()
        return self.cues

    def _end(self) -> None:
        cue, lines = self._cue, self._held
        if cue is None:
            if lines and not lines[0].startswith(BLOCKS) and not lines[0].strip().isdigit():
                self.drops.add("other lines", "\n".join(lines))
            elif lines and lines[0].startswith("NOTE"):
                self.drops.add("notes", "\n".join(lines))
            self._held = []
            return
        self._cue, self._held = None, []
        if voice := VOICE.search(lines[0]) if lines else None:
            cue.speaker = clean_name(voice[1])
        before = self.cues[-1].lines if self.cues else []
        for line in lines:
            text = clean_line(line, self.drops)
            if text and not (before and text == before[-1] and not cue.lines):
                cue.lines.append(text)
        if cue.lines:
            self.cues.append(cue)


class _ScriptReader:
    """Collects subtitles from the events of a script (ASS, SSA), whose fields are named in a line before them."""

    def __init__(self, drops: DropLog) -> None:
        self.drops = drops
        self._cues: list[Cue] = []
        self._fields: tuple[str, ...] = EVENT_FIELDS

    def add(self, line: str) -> None:
        """The next line."""
        kind, _, rest = line.partition(":")
        kind = kind.strip().lower()
        if kind == "format":
            self._fields = tuple(name.strip().lower() for name in rest.split(","))
        elif kind in ("dialogue", "comment"):
            values = dict(zip(self._fields, rest.split(",", len(self._fields) - 1), strict=False))
            text = values.get("text", "")
            if kind == "comment" or DRAWING.search(text):
                self.drops.add("notes" if kind == "comment" else "drawings", text)
            else:
                self._add_cue(values, OVERRIDE.sub("", text))

    def _add_cue(self, values: Mapping[str, str], text: str) -> None:
        times = (re.fullmatch(CLOCK, values.get(name, "").strip()) for name in ("start", "end"))
        start, end = (_read_seconds(match.groups()) if match else 0.0 for match in times)
        found = [clean_line(line, self.drops) for line in BREAK.split(text.replace("\\h", " "))]
        if lines := [line for line in found if line]:
            name = values.get("name") or values.get("actor") or ""
            self._cues.append(Cue(start, end, clean_name(name), lines))

    def finish(self) -> list[Cue]:
        """All of them in order of time, each once; with the speakers only if most name one."""
        cues: list[Cue] = []
        for cue in sorted(self._cues, key=lambda each: each.start):
            if not cues or cue.lines != cues[-1].lines:  # what is drawn in several layers
                cues.append(cue)
        if sum(bool(cue.speaker) for cue in cues) < SHARE_OF_NAMED * len(cues):
            for cue in cues:
                cue.speaker = ""
        return cues


def read_lyrics(lines: Iterable[str]) -> ParsedDocument:
    """Lyrics, each line as often as it has times, in their order; an empty one ends a stanza."""
    about: dict[str, str] = {}
    found: list[tuple[float, str]] = []
    for line in lines:
        if tag := ABOUT.match(line):
            about.setdefault(tag[1].lower(), tag[2].strip())
            continue
        end, times = 0, list[float]()
        while stamp := STAMP.match(line, end):
            end = stamp.end()
            times.append(_read_seconds((None, *stamp.groups())))
        text = " ".join(INVISIBLE.sub("", unescape(TAG.sub("", line[end:])).replace("♪", "")).split())
        if times or text:
            before = found[-1][0] if found else 0.0
            found += [(time, text) for time in times or [before]]
    shown = [text for _, text in sorted(found, key=lambda each: each[0])]
    text = BLANK_LINES.sub("\n\n", "\n".join(shown)).strip("\n")
    return ParsedDocument(
        text=f"{text}\n" if text else "", title=about.get("ti", ""), author=about.get("ar") or about.get("au", "")
    )


def find_named(cues: list[Cue]) -> bool:
    """Whether most subtitles begin with a name, as in transcripts of meetings: then the names are taken from them."""
    found = [NAMED.match(cue.lines[0]) for cue in cues]
    names = Counter(match["name"] for match in found if match)
    if not 2 <= len(names) <= names.total() // 2 or names.total() < SHARE_OF_NAMED * len(cues):
        return False
    for cue, match in zip(cues, found, strict=True):
        if match:
            cue.speaker = clean_name(match["name"])
            cue.lines[0] = cue.lines[0][match.end() :]
    return True


def clean_line(line: str, drops: DropLog) -> str:
    """What is said in a line."""
    text = unescape(TAG.sub("", line)) if "<" in line or "{" in line or "&" in line else line
    if SOUND.search(text):
        for sound in SOUND.findall(text):
            drops.add("sounds", sound)
        text = SOUND.sub("", text)
    return " ".join(INVISIBLE.sub("", text).split()).removesuffix(" -").lstrip(":").strip()


def _read_seconds(clock: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, parts = (int(part or 0) for part in clock)
    return hours * 3600.0 + minutes * 60 + seconds + parts / 1000


def join_cues(cues: list[Cue]) -> str:
    """Subtitles as paragraphs: a pause ends one, a dash begins a line."""
    parts: list[str] = []
    before: Cue | None = None
    for cue in cues:
        is_apart = before is not None and cue.start - before.end >= PAUSE_SECONDS
        for number, line in enumerate(cue.lines):
            is_turn = bool(DASH.match(line))
            between = "\n\n" if is_apart and not number else "\n" if is_turn or _ends_turn(parts) else " "
            parts.append((between if parts else "") + (DASH.sub("– ", line, count=1) if is_turn else line))
        before = cue
    return "".join([*parts, "\n"]) if parts else ""


def _ends_turn(parts: list[str]) -> bool:
    """Whether the last line is one of a dialogue, and its sentence has ended."""
    return bool(parts) and parts[-1].lstrip("\n ").startswith("– ") and parts[-1].endswith((".", "!", "?", "…", '"'))


def _join_sentences(messages: list[Message]) -> Iterator[Message]:
    """Messages of which one does not end in the middle of a sentence and goes on in the next."""
    held: Message | None = None
    for message in messages:
        if held is not None and held.speaker == message.speaker and not held.text.endswith((".", "!", "?", "…", '"')):
            held = Message(held.speaker, f"{held.text} {message.text}")
            continue
        if held is not None:
            yield held
        held = message
    if held is not None:
        yield held
