"""Emacs Org: the words of notes and posts, without settings, drawers, link addresses, tables and code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from epigone.corpus.readers.layout import drop_invisible
from epigone.corpus.readers.markdown import GAP, close_gaps
from epigone.corpus.readers.reader import Beginning, DropLog, Format, ParsedDocument, ReadContext

KEYWORD = re.compile(r"[ \t]*#\+([\w-]{1,40}):[ \t]*(.*)$")
BEGIN = re.compile(r"[ \t]*#\+(begin|end)_(\w{1,40})", re.I)
CODE_BLOCKS = frozenset(("src", "example"))
LEFT_OUT_BLOCKS = {"export": "export blocks", "comment": "comments", "html": "export blocks", "latex": "export blocks"}
"""Blocks that are no text; of others, such as quotations and verse, only the first and the last line are left out."""
HEADING = re.compile(r"(\*++)[ \t]++(.*)$")
STATE = re.compile(
    r"(?:TODO|DONE|NEXT|WAITING|WAIT|HOLD|STARTED|INPROGRESS|IN-PROGRESS|CANCELLED|CANCELED|SOMEDAY)(?:\s+|$)"
)
PRIORITY = re.compile(r"\[#[A-Za-z0-9]\][ \t]*")
TAGS = re.compile(r"(?<=\s):(?:[\w@#%]++:)++[ \t]*$")
HIDDEN = re.compile(r"COMMENT(?:\s|$)")
DRAWER = re.compile(r"[ \t]*:([\w-]{1,40}):[ \t]*$")
PLANNING = re.compile(r"[ \t]*(?:(?:SCHEDULED|DEADLINE|CLOSED):[ \t]*[<\[]|CLOCK:)")
STAMP = re.compile(
    r"[ \t]*[<\[]\d{4}-\d\d-\d\d[^<>\[\]\n]{0,40}[>\]](?:--?[<\[]\d{4}-\d\d-\d\d[^<>\[\]\n]{0,40}[>\]])?[ \t]*$"
)
DAY = re.compile(r"^[^\d\n]{0,20}(\d{4}-\d\d-\d\d).*")
RULE = re.compile(r"[ \t]*-{5,}[ \t]*$")
TASK = re.compile(r"([ \t]*(?:[-+*]|\d{1,9}[.)])[ \t]+)\[[ X-]\][ \t]+")
COUNTER = re.compile(r"[ \t]*\[(?:\d{0,9}/\d{0,9}|\d{0,3}%)\]")
"""How many tasks of a list are done."""
TERM = re.compile(r"([ \t]*[-+][ \t]+\S[^\n]*?)[ \t]+::(?=[ \t]|$)")
NOTE = re.compile(r"\[fn:[^\]\s]{1,60}\]")
PICTURE = re.compile(r"\.(?:png|jpe?g|gif|svg|webp|bmp|tiff?|pdf|mp[34]|webm|ogg|wav)$", re.I)

# As for Markdown, each pattern stops where the next one could begin, and begins with a character.
INLINE_NOTE = re.compile(r"[ \t]?\[fn:[\w-]{0,60}:[^\[\]\n]{0,2000}\]|[ \t]?\[fn:[\w-]{1,60}\]")
LINK = re.compile(r"\[\[([^\[\]\n]{1,2000})\](?:\[([^\[\]\n]{1,2000}(?:\n[^\[\]\n]{1,2000}){0,5})\])?\]")
ANGLE = re.compile(r"<((?:https?|mailto):[^<>\s]{1,2000})>")
TARGET = re.compile(r"<<<?[^<>\n]{1,200}>>>?")
MACRO = re.compile(r"\{\{\{[^{}\n]{1,500}\}\}\}|@@\w{1,20}:[^@\n]{0,500}@@")
EDGE, AFTER = r"[^\s\-(\[{'\"“‘—–\ue002-\ue004]", r"[^\s\-.,:;!?'\")}\\\[\]”’—–…\ue002-\ue004]"
"""What does not stand before and behind marked words."""
VERBATIM = re.compile(
    rf"=(?<!{EDGE}=)(?=[^\s=])([^=\n]{{1,500}})(?<=\S)=(?!{AFTER})|~(?<!{EDGE}~)(?=[^\s~])([^~\n]{{1,500}})(?<=\S)~(?!{AFTER})"
)
ITALIC, STRONG, STRUCK = (
    re.compile(rf"\{sign}(?<!{EDGE}\{sign})(?=[^\s{sign}])([^{sign}\n]+(?:\n[^{sign}\n]+)?)(?<=\S)\{sign}(?!{AFTER})")
    for sign in "/*+"
)
OPENING = frozenset("<[")
HARD_BREAK = re.compile(r"[ \t]*\\\\[ \t]*$", re.M)
BLANK_LINES = re.compile(r"\n{4,}")


def recognise(beginning: Beginning) -> bool:
    """By its name: nothing in it says for certain that a text is Org."""
    return beginning.suffix in ORG.suffixes


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one document of a file. Its lines stay as they are."""
    lines = _Lines(context.drops, keep_code=context.settings.code == "keep")
    for line in drop_invisible(context.decode(context.limits.read_part(file))).split("\n"):
        lines.add(line)
    about = lines.about
    yield ParsedDocument(
        text=lines.finish(),
        title=strip_inline(about.get("title", ""), DropLog()),
        author=about.get("author", ""),
        date=DAY.sub(r"\1", about.get("date", ""), count=1),
    )


ORG = Format(name="org", title="an Org file of Emacs", suffixes=(".org",), recognise=recognise, read=read)


class _Lines:
    """Reads line after line."""

    def __init__(self, drops: DropLog, *, keep_code: bool) -> None:
        self.drops, self.keep_code = drops, keep_code
        self.about: dict[str, str] = {}
        """What the file says of itself, by its keywords in small letters."""
        self._kept: list[str] = []
        """Finished lines: code as it is, and text without its marks."""
        self._text: list[str] = []
        self._ends, self._what, self._block = "", "", list[str]()
        """The line that ends the block or drawer that has begun, what it is left out as, and its lines."""
        self._hidden_level = 0
        """Stars of a heading whose text is not meant to be read."""
        self._in_note = self._after_heading = False

    def add(self, line: str) -> None:
        """The next line."""
        if self._after_heading:
            self._after_heading = False
            self._text += [""] if line.strip() else []
        if self._ends:
            self._add_to_block(line)
            return
        first = line.lstrip(" \t")[:1]
        if first == "*" and line[0] == "*" and (heading := HEADING.match(line)):
            self._in_note = False
            self._add_heading(heading)
        elif self._hidden_level:
            self.drops.add("parts that are hidden", line, 0)
        elif first in ("#", ":", "|") or (first in "SDC" and PLANNING.match(line)) or first in OPENING:
            self._add_marked(line, first)
        elif self._in_note and first:
            self.drops.add("footnotes", line, 0)
        else:
            self._in_note = self._in_note and bool(first)
            self._text.append("" if first == "-" and RULE.match(line) else _clean_item(line, first))

    def _add_heading(self, heading: re.Match[str]) -> None:
        level, words = len(heading[1]), heading[2]
        if self._hidden_level and level > self._hidden_level:
            self.drops.add("parts that are hidden", words, 0)
            return
        self._hidden_level = 0
        tags = TAGS.search(words)
        if tags:
            words = words[: tags.start()]
            self.drops.add("tags", tags[0])
        words = PRIORITY.sub("", STATE.sub("", words, count=1) if STATE.match(words) else words, count=1)
        if HIDDEN.match(words) or (tags and ":noexport:" in tags[0]):
            self._hidden_level = level
            self.drops.add("parts that are hidden", words)
            self._text.append(GAP)
            return
        words = COUNTER.sub("", words).strip()
        self._text += ["", words or GAP] if self._text and self._text[-1].strip() else [words or GAP]
        self._after_heading = True

    def _add_marked(self, line: str, first: str) -> None:
        """A line that begins with a sign of Org's, or a date."""
        if first == "#" and (begin := BEGIN.match(line)):
            self._begin_block(begin[2].lower(), begins=begin[1].lower() == "begin")
        elif first == "#" and (found := KEYWORD.match(line)):
            self.about[found[1].lower()] = f"{self.about.get(found[1].lower(), '')} {found[2]}".strip()
            self._drop("settings", line)
        elif line.lstrip(" \t").startswith(("# ", "#\t")) or line.strip() in ("#", "#+TOC"):
            self._drop("comments", line)
        elif first == ":" and (drawer := DRAWER.match(line)):
            self._ends, self._what = ":end:", "drawers"
            self._block = [drawer[1]]
        elif first == ":" and line.lstrip(" \t")[1:2] in (" ", ""):
            self._add_code([line.lstrip(" \t")[2:]])
        elif first == "|":
            self._drop("tables", line)
        elif line[0] == "[" and NOTE.match(line):
            self._drop("footnotes", line)
            self._in_note = True
        elif PLANNING.match(line) or STAMP.match(line):
            self._drop("dates", line)
        elif self._in_note:
            self.drops.add("footnotes", line, 0)
        else:
            self._text.append(line)

    def _begin_block(self, kind: str, *, begins: bool) -> None:
        self._text.append(GAP)
        if begins and (kind in CODE_BLOCKS or kind in LEFT_OUT_BLOCKS):
            self._ends, self._what, self._block = f"#+end_{kind}", LEFT_OUT_BLOCKS.get(kind, "code blocks"), []

    def _add_to_block(self, line: str) -> None:
        shown = line.strip().lower()
        if self._ends == ":end:" and HEADING.match(line):  # a drawer that was never closed
            self._ends = ""
            self._text += self._block[1:]
            self.add(line)
        elif not shown.startswith(self._ends):
            self._block.append(line)
        else:
            self._ends = ""
            if self._what == "code blocks":
                self._add_code(self._block)
            else:
                self._drop(self._what, "\n".join(self._block))

    def _add_code(self, lines: list[str]) -> None:
        if not self.keep_code:
            self._drop("code blocks", "\n".join(lines))
            return
        self._end_text()
        self._kept += (line[1:] if line.startswith((",*", ",#", ",,")) else line for line in lines)

    def _drop(self, what: str, text: str) -> None:
        self.drops.add(what, text)
        self._text.append(GAP)

    def _end_text(self) -> None:
        text, self._text = "\n".join(self._text), []
        if text:
            self._kept += (_without_gaps(line) for line in strip_inline(text, self.drops).split("\n"))

    def finish(self) -> str:
        """The text, after the last line."""
        if self._ends:  # a block that was never closed may be anything
            self._text += self._block[self._ends == ":end:" :]
        self._end_text()
        text = "\n".join(self._kept)
        text = BLANK_LINES.sub("\n\n\n", close_gaps(text) if GAP in text else text).strip("\n")
        return text + "\n" if text.strip() else ""


def _clean_item(line: str, first: str) -> str:
    """A line that may be an item of a list: without the box of a task, and with a colon behind a term."""
    if first in "-+" or first.isdecimal():
        line = TASK.sub(r"\1", line, count=1) if "[" in line else line
        return TERM.sub(r"\1:", line, count=1) if "::" in line else line
    return line


def _without_gaps(line: str) -> str:
    if GAP not in line:
        return line.rstrip()
    rest = line.replace(f" {GAP} ", " ").replace(GAP, "").rstrip()
    return rest if rest.strip(" \t-+") else GAP


def strip_inline(text: str, drops: DropLog) -> str:
    """Text without the marks of emphasis, links, notes, targets and macros in it, and with _italics_."""
    held: list[str] = []

    def hold(shown: str) -> str:
        held.append(shown)
        return f"\ue002{len(held) - 1}\ue003"

    def count(what: str, kept: str = GAP) -> Callable[[re.Match[str]], str]:
        def replace(match: re.Match[str]) -> str:
            drops.add(what, match[0])
            return kept

        return replace

    if "=" in text or "~" in text:
        text = VERBATIM.sub(lambda match: hold(match[1] or match[2]), text)
    if "[fn:" in text:
        text = INLINE_NOTE.sub(count("footnote marks"), text)
    if "[[" in text:
        text = LINK.sub(lambda match: _show_link(match, drops, hold), text)
    if "<" in text:
        text = TARGET.sub(count("targets"), ANGLE.sub(lambda match: hold(match[1]), text))
    if "{{{" in text or "@@" in text:
        text = MACRO.sub(count("templates"), text)
    text = _strip_emphasis(text)
    for number in range(len(held)):
        held[number] = re.sub("\ue002(\\d+)\ue003", lambda match: held[int(match[1])], held[number])
    return re.sub("\ue002(\\d+)\ue003", lambda match: held[int(match[1])], text) if held else text


def _strip_emphasis(text: str) -> str:
    text = HARD_BREAK.sub("", text) if "\\\\" in text else text
    text = STRONG.sub(r"\1", text) if "*" in text else text
    text = STRUCK.sub(r"\1", text) if "+" in text else text
    return ITALIC.sub(r"_\1_", text) if "/" in text else text


def _show_link(match: re.Match[str], drops: DropLog, hold: Callable[[str], str]) -> str:
    """A link's words, or its address if it has none; pictures are left out."""
    address, words = match[1], match[2]
    if PICTURE.search(words or address) and not (words and " " in words):
        drops.add("images", match[0])
        return GAP
    if words:
        drops.add("addresses of links", match[0])
        return words
    return hold(address.removeprefix("file:").lstrip("*#"))
