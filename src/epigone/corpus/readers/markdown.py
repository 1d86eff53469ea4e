"""Markdown as people write posts and notes in it: the words, without front matter, link addresses, images and code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from epigone.corpus.readers.layout import drop_invisible
from epigone.corpus.readers.page import unescape
from epigone.corpus.readers.reader import Beginning, DropLog, Format, ParsedDocument, ReadContext

FRONT_MATTER = re.compile(
    r"\A\s*(?:---[ \t]*\n(?=[\w-]+[ \t]*:|\s*(?:title|tags|aliases|date|layout|[\w-]+-plugin)[ \t]*:)"
    r"(.*?)\n(?:---|\.\.\.)"
    r"|\+\+\+[ \t]*\n(?=[\w-]+[ \t]*=)(.*?)\n\+\+\+)[ \t]*(?:\n|\Z)",
    re.S,
)
FIELD = re.compile(r"^(title|date)[ \t]*[:=][ \t]*(\S[^\n]*)$", re.M | re.I)
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
TEMPLATE_FENCE = re.compile(r"[ \t]*\{(?:%|\{<|\{%)[ \t]*(highlight|high|code|codeblock)\b")
"""Blocks of code as Jekyll and Hugo write them."""
CONTENTS = re.compile(r"[ \t]*(?:[-*+]|\d+\.)[ \t]+\[[^\[\]\n]*\]\(#[^()\n]*\)[ \t]*$")
HEADING = re.compile(r" {0,3}#{1,6}(?:[ \t]+|$)")
UNDERLINE = re.compile(r" {0,3}(?:=+|-{2,})[ \t]*$")
RULE = re.compile(r" {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
QUOTE = re.compile(r"\A {0,3}(?:>[ \t]?)+")
DEFINITION = re.compile(r" {0,3}\[(?!\^)[^\]\n]{1,200}\]:[ \t]*\S")
ABBREVIATION = re.compile(r"\*\[[^\[\]\n]{1,60}\]:[ \t]*\S")
NOTE = re.compile(r" {0,3}\[\^[^\]\n]{1,100}\]:")
SIGNS = frozenset("=*_->[+#|:!?")
"""With one of these, or with a digit, every line begins that is more than words or code."""
FENCE_SIGNS = frozenset("`~{")
"""With these, code."""
BLANK_LINES = re.compile(r"\n{4,}")
GAP = "\ue004"
"""A private character that stands where something was left out, until it is known whether it was a whole line."""
BULLETS = ("-", "*", "+")
LIST_OF_CONTENTS = re.compile(r"[ \t]*\{:[ \t]*toc\b")
"""What kramdown puts in place of the item above it."""
CONTENTS_HERE = re.compile(r"[ \t]*(?:\[\[?_?toc_?\]\]?|\$\{toc\})[ \t]*$", re.I)
EXPLANATION = re.compile(r" {0,3}:[ \t]{1,4}(?=\S)")
"""The mark before what explains the line above it."""
TASK = re.compile(r"([ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+)\[[ xX/-]\][ \t]+")
CALLOUT = re.compile(r"[ \t]*\[![\w-]{1,30}(?:\|[^\]\n]{0,60})?\][+-]?[ \t]*")
"""The kind of a box, at the beginning of a quotation, in Obsidian and on GitHub."""
BOX = re.compile(
    r" {0,3}(?::{3,}+[ \t]*+\{?+[.\w-]{0,30}+\}?+[ \t]*+\[?+([^\[\]\n]*+)\]?+"
    r"|(?:!{3}|\?{3}\+?)[ \t]+[\w-]{1,30}(?:[ \t]+\"([^\"\n]*)\")?)[ \t]*$"
)
"""The beginning and the end of one, in MkDocs and Docusaurus, and its title."""
IMPORT = re.compile(r"^import [^\n]{1,200} from [\"'][^\"'\n]+[\"'];?[ \t]*$", re.M)
"""In MDX, at the beginning."""
TAGS = re.compile(r"[ \t]*(?:#[^\W\d_][\w/-]*[ \t]*)+$")
"""A line of Obsidian's tags."""
TABLE_RULE = re.compile(r" {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)+\|?[ \t]*$")

# Of what may be left open, each pattern stops where the next one could begin, so that no text takes quadratic time.
# Each begins with a character, not with what stands before it: then Python finds where to begin in a tenth of the time.
ADDRESS = r"(?:\([^()\n]*(?:\([^()\n]*\)[^()\n]*){0,4}\)|\[[^\[\]\n]*\])"
PROGRAM = re.compile(r"<(script|style|pre(?=[^<>]*>\s*<code))\b[^<>]*>(?:(?!</\1|<\1).)*</\1\s*>", re.S | re.I)
"""Program text in HTML: a script, a style, or code that is shown."""
COMMENT = re.compile(r"<!--(?:(?!-->|<!--).)*-->", re.S)
TEMPLATE = re.compile(r"\{%[^{}\n]*%\}|\{\{[^{}\n]*\}\}|\{:[^{}\n]*\}|\{#[\w-]+\}")
"""Jekyll's, Hugo's, and attributes of kramdown and of headings."""
REMARK = re.compile(r"%%(?<!\S%%)(?:[^%\n]+|[ \t]*\n(?:[^%]|%(?!%)){0,5000}\n[ \t]*)%%")
HIGHLIGHT = re.compile(r"==(?=\S)([^=\n]+)(?<=\S)==")
STRUCK = re.compile(r"~~(?=\S)([^~\n]+(?:\n[^~\n]+)*)(?<=\S)~~")
EMOJI = re.compile(r":(?<!\S:)[a-z][a-z0-9_+-]{1,30}:(?!\S)")
BLOCK_ID = re.compile(r"\^(?<=[ \t]\^)[A-Za-z0-9-]{4,40}$", re.M)
AUTHORS = re.compile(r"^authors?[ \t]*[:=][ \t]*([^\n]*)((?:\n[ \t]*-[^\n]*|\n[ \t]+[^\n]*)*)", re.M | re.I)
"""Names in the same line, or in the lines under it, which are a list or have fields of their own."""
NAME = re.compile(r"^[ \t]*+(?:-[ \t]*+)?+(?:name[ \t]*+:)?[ \t]*+([^:\n]+)$", re.M | re.I)
IMAGE = re.compile(rf"!\[([^\[\]\n]*(?:\[[^\[\]\n]*\][^\[\]\n]*){{0,4}})\]{ADDRESS}|!\[\[([^\[\]\n]+)\]\]")
LINK = re.compile(rf"\[(?<!!\[)([^\[\]\n]*(?:\n[^\[\]\n]+)?)\]{ADDRESS}")
WIKI = re.compile(r"\[\[(?:[^\[\]|\n]+\|)?([^\[\]|\n]+)\]\]")
NOTE_MARK = re.compile(r"\[\^[^\[\]\n]+\]")
AUTOLINK = re.compile(r"<((?:https?|ftp)://[^<>\s]+|mailto:[^<>\s]+)>")
BREAK = re.compile(r"<br[ \t]*/?>[ \t]*\n?", re.I)
TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9-]{0,30}(?:[ \t\n][^<>]*)?/?>")
STRONG = re.compile(r"\*\*(?=\S)((?:[^*\n]|\*(?!\*))+)(?<=\S)\*\*|__(?<!\w__)(?=\S)((?:[^_\n]|_(?!_))+)(?<=\S)__(?!\w)")
ITALIC = re.compile(r"\*(?<![*\w\\]\*)(?=[^\s*])([^*\n]*(?:\n[^*\n]+)*)(?<=[^\s\\])\*(?![*\w])")
CODE = re.compile(r"(`(?<!``)`{0,2})(?!`)([^`\n]+)(?<!`)\1(?!`)")
ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
HARD_BREAK = re.compile(r"  $|\\$", re.M)


def recognise(beginning: Beginning) -> bool:
    """By its name: nothing in Markdown says for certain that a text is Markdown."""
    return beginning.suffix in MARKDOWN.suffixes


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one document of a file. Its lines stay as they are."""
    text = context.decode(context.limits.read_part(file))
    fields, found = dict[str, str](), ""
    if matter := FRONT_MATTER.match(text):
        found = matter[1] or matter[2] or ""
        context.drops.add("front matter", found)
        fields = {name.lower(): _without_quotes(value) for name, value in FIELD.findall(found)}
        text = text[matter.end() :]
    yield ParsedDocument(
        text=strip_markdown(text, context.drops, keep_code=context.settings.code == "keep"),
        title=fields.get("title", ""),
        author=_find_author(found),
        date=fields.get("date", ""),
    )


def _find_author(matter: str) -> str:
    found = AUTHORS.search(matter)
    if found is None:
        return ""
    line, under = found[1].partition(" #")[0].strip(), found[2]
    names = line[1:].split(",") if line.startswith("[") else [line] if line else NAME.findall(under)
    return ", ".join(filter(None, map(_without_quotes, names)))


def _without_quotes(value: str) -> str:
    return value.strip(" \t\"'[]")


MARKDOWN = Format(
    name="markdown",
    title="Markdown",
    suffixes=(".md", ".markdown", ".mdown", ".mkd", ".mdx"),
    recognise=recognise,
    read=read,
)


def strip_markdown(text: str, drops: DropLog, *, keep_code: bool = False) -> str:
    """The words of a Markdown text in the lines that it has, with _italics_ in underscores."""
    text = drop_invisible(text)
    text = _drop(COMMENT, "comments", text, drops) if "<!--" in text else text
    if "<" in text and not keep_code:
        text = _drop(PROGRAM, "scripts and styles", text, drops)
    text = IMPORT.sub(GAP, text) if text.lstrip().startswith("import ") else text
    lines = _Lines(drops, keep_code=keep_code)
    lines.add_all(text.split("\n"))
    text = "\n".join(lines.finish())
    text = close_gaps(text) if GAP in text else text
    text = (BLANK_LINES.sub("\n\n\n", text) if "\n\n\n\n" in text else text).strip("\n")
    return text + "\n" if text.strip() else ""


def close_gaps(text: str) -> str:
    """The text without the marks of lines that were left out, and with the blank lines of one side of each."""
    found, n_newlines = list[str](), 0
    for part in text.split(GAP):
        n_newlines = max(n_newlines, len(part) - len(part.lstrip("\n")))
        if body := part.strip("\n"):
            found += "\n" * n_newlines, body
            n_newlines = len(part) - len(part.rstrip("\n"))
    return "".join(found)


class _Lines:
    """Reads line after line: code and tables are left out, marks of headings and quotations are removed."""

    def __init__(self, drops: DropLog, *, keep_code: bool) -> None:
        self.drops, self.keep_code = drops, keep_code
        self.kept: list[str] = []
        self._text: list[str] = []
        self._fence, self._code = "", list[str]()
        self._is_quoted = self._in_note = False
        """Whether the code that has begun is in a quotation; whether a footnote may go on."""
        self._table: list[str] | None = None

    def add_all(self, lines: Iterable[str]) -> None:
        """The next lines."""
        for line in lines:
            if (not line or line[0].isalpha()) and not (self._fence or self._table or self._in_note):
                self._text.append(line)  # most lines
            elif self._fence:
                self._add_code(QUOTE.sub("", line, count=1) if self._is_quoted else line)
            elif not (self._in_note and self._goes_on(line)):
                self._add(line)

    def _add(self, line: str, *, is_quoted: bool = False) -> None:
        first = line.lstrip(" \t")[:1]
        if first == "{" and LIST_OF_CONTENTS.match(line) and self._text[-1:] and self._text[-1].lstrip()[:1] in BULLETS:
            self._text[-1] = GAP
        elif first == ">" and not is_quoted and (bare := QUOTE.sub("", line, count=1)) != line:
            self._add(CALLOUT.sub("", bare, count=1) or GAP if "[!" in bare else bare, is_quoted=True)
        elif first in FENCE_SIGNS and (FENCE.match(line) or TEMPLATE_FENCE.match(line)):
            self._is_quoted = is_quoted
            self._add_code(line)
        elif self._table is not None and "|" in line:
            self._table.append(line)
        else:
            self._end_table()
            if first in SIGNS or first.isdecimal():
                self._add_text(line, first)
            else:
                self._text.append(line)

    def _goes_on(self, line: str) -> bool:
        """Whether a line belongs to the footnote before it: directly under it, or indented."""
        if not line.strip():
            self._text.append("")
            return True
        self._in_note = line.startswith(("  ", "\t")) or (self._text[-1] == GAP and not NOTE.match(line))
        if self._in_note:
            self.drops.add("footnotes", line, 0)
            self._text.append(GAP)
        return self._in_note

    def finish(self) -> list[str]:
        """The lines that are kept, after the last one."""
        self._end_table()
        if self._fence:  # never closed, so it may be anything
            self.kept += [*self._end_text(), *self._code]
        return [*self.kept, *self._end_text()]

    def _add_code(self, line: str) -> None:
        if not self._fence:
            self._end_table()
            self.kept += self._end_text()
            self.kept.append(GAP)
            found = FENCE.match(line) or TEMPLATE_FENCE.match(line)
            self._fence = found[1] if found else ""
        elif self._ends_code(line):
            if self.keep_code:
                self.kept += self._code
            else:
                self.drops.add("code blocks", "\n".join(self._code))
            self._fence, self._code = "", []
        else:
            self._code.append(line)

    def _ends_code(self, line: str) -> bool:
        shown = line.strip()
        if self._fence.isalpha():
            return shown.startswith("{") and bool(
                re.match(rf"[ \t]*\{{(?:%|\{{<|\{{%)[ \t]*(?:end|/[ \t]*){self._fence}\b", line)
            )
        return shown.startswith(self._fence) and not shown.strip(self._fence[0])

    def _add_text(self, line: str, first: str) -> None:
        """The next line, which begins with this sign: what it may be is looked for only where it begins so."""
        above = self._text[-1] if self._text else ""
        if "|" in above and TABLE_RULE.match(line):
            self._table = [self._text.pop(), line]
        elif first in "=-" and UNDERLINE.match(line) and above.strip():
            return
        elif first in "*-_" and RULE.match(line):
            self._text.append("")
        elif what := self._name_dropped(line, first):
            self.drops.add(what, line)
            self._in_note = what == "footnotes"
            self._text.append(GAP)
        elif first in ":!?" and line.lstrip(" ").startswith((":::", "!!!", "???")) and (box := BOX.match(line)):
            self._text.append(box[1] or box[2] or GAP)
        elif first == "#" and (heading := HEADING.match(line)):
            self._text.append(line[heading.end() :].rstrip(" \t#"))
        else:
            line = EXPLANATION.sub("", line, count=1) if ":" in line[:4] else line
            self._text.append(TASK.sub(r"\1", line) if "[" in line else GAP if line.strip() in BULLETS else line)

    def _name_dropped(self, line: str, first: str) -> str:
        """What a line is that is left out, in the plural; "" if it is not. `first`: the sign that it begins with."""
        if first == "[":
            if DEFINITION.match(line):
                return "addresses of links"
            if NOTE.match(line):
                return "footnotes"
            return "tables of contents" if line[0] == "[" and CONTENTS_HERE.match(line) else ""
        if "](#" in line and CONTENTS.match(line):
            return "tables of contents"
        if first == "*" and line.startswith("*[") and ABBREVIATION.match(line):
            return "abbreviations"
        return "tags" if first == "#" and TAGS.match(line) else ""

    def _end_table(self) -> None:
        if self._table is not None:
            self.drops.add("tables", "\n".join(self._table))
            self._table = None
            self._text.append(GAP)

    def _end_text(self) -> list[str]:
        text, self._text = "\n".join(self._text), []
        found = strip_inline(text, self.drops) if text else ""
        lines = [line.rstrip() for line in found.split("\n")] if text else []
        return [_without_gaps(line) if GAP in line else line for line in lines] if GAP in found else lines


def _without_gaps(line: str) -> str:
    """A line without what was left out in it; the mark alone where nothing else is on it."""
    rest = line.replace(f" {GAP} ", " ").replace(GAP, "").rstrip()
    bare = rest.strip()
    return rest if bare and bare not in BULLETS and not (bare[-1] in ".)" and bare[:-1].isdecimal()) else GAP


@dataclass(frozen=True, slots=True)
class _Counted:
    """A replacement that notes what is dropped by it."""

    what: str
    drops: DropLog
    kept: Callable[[re.Match[str]], str]

    def __call__(self, match: re.Match[str]) -> str:
        self.drops.add(self.what, match[0])
        return self.kept(match)


def _drop(pattern: re.Pattern[str], what: str, text: str, drops: DropLog) -> str:
    return pattern.sub(_Counted(what, drops, lambda match: GAP), text)


def strip_inline(text: str, drops: DropLog) -> str:
    """Text without the marks of links, images, code, emphasis and HTML in it."""
    code: list[str] = []
    if "`" in text:  # nothing in code is a mark

        def hold(match: re.Match[str]) -> str:
            code.append(match[2])
            return f"\ue002{len(code) - 1}\ue003"

        text = CODE.sub(hold, text)
    if "{" in text:
        text = _drop(TEMPLATE, "templates", text, drops)
    if "[" in text:  # one character is found in a twentieth of the time that two take
        text = _strip_links(text, drops)
    if "<" in text:
        text = TAG.sub(GAP, BREAK.sub("\n", AUTOLINK.sub(r"\1", text)))
    text = _strip_marks_of_programs(text, drops)
    text = HARD_BREAK.sub("", text) if "  \n" in text or ("\\" in text and "\\\n" in text) else text
    if ("*" in text and "**" in text) or ("_" in text and "__" in text):
        text = STRONG.sub(lambda match: match[1] or match[2], text)
    if "*" in text:
        text = ITALIC.sub(r"_\1_", text)
    text = unescape(ESCAPE.sub(r"\1", text) if "\\" in text else text)
    return re.sub("\ue002(\\d+)\ue003", lambda match: code[int(match[1])], text) if code else text


def _strip_links(text: str, drops: DropLog) -> str:
    """Text without images, marks of footnotes, and addresses of links."""
    if "![" in text:
        text = _drop(IMAGE, "images", text, drops)
    if "[^" in text:
        text = _drop(NOTE_MARK, "footnote marks", text, drops)
    if "](" in text or "][" in text:
        text = LINK.sub(_Counted("addresses of links", drops, lambda match: match[1]), text)
    return WIKI.sub(r"\1", text) if "[[" in text else text


def _strip_marks_of_programs(text: str, drops: DropLog) -> str:
    """Text without what Obsidian and GitHub add: remarks, marks of marked and struck words, emoji, names of blocks."""
    if "%" in text and "%%" in text:
        text = _drop(REMARK, "comments", text, drops)
    if ":" in text:
        text = _drop(EMOJI, "names of emoji", text, drops)
    if "^" in text:
        text = BLOCK_ID.sub("", text)
    if "=" in text and "==" in text:
        text = HIGHLIGHT.sub(r"\1", text)
    return STRUCK.sub(r"\1", text) if "~" in text and "~~" in text else text
