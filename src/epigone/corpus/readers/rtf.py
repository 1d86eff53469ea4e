"""RTF: the text of the body, without fonts, styles, heads, feet, notes, pictures and deleted text; in linear time."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from epigone.corpus.readers.layout import join_blocks
from epigone.corpus.readers.paragraphs import ParagraphLook, ParagraphText
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext

TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?[0-9]{1,9})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z'])|([{}])|[\r\n]+|([^\\{}\r\n]+)|\\'?", re.S
)
TEXT_BOXES = "text boxes"
SKIPPED = {
    "fonttbl": "",
    "colortbl": "",
    "stylesheet": "",
    "filetbl": "",
    "listtable": "",
    "listoverridetable": "",
    "revtbl": "",
    "rsidtbl": "",
    "info": "",
    "pict": "images",
    "object": "images",
    "shppict": "images",
    "nonshppict": "",
    "shp": TEXT_BOXES,
    "header": "running heads",
    "headerl": "running heads",
    "headerr": "running heads",
    "headerf": "running heads",
    "footer": "running heads",
    "footerl": "running heads",
    "footerr": "running heads",
    "footerf": "running heads",
    "footnote": "footnotes",
    "annotation": "comments",
    "atnid": "",
    "atnauthor": "",
    "chatn": "footnote marks",
    "fldinst": "",
    "bkmkstart": "",
    "bkmkend": "",
    "xe": "",
    "tc": "",
    "listtext": "",
    "pntext": "",
    "pntxta": "",
    "pntxtb": "",
    "themedata": "",
    "colorschememapping": "",
    "datastore": "",
    "latentstyles": "",
    "generator": "",
    "userprops": "",
    "upr": "",
    "template": "",
}
"""Groups that are left out, and what they count as; "" is not counted."""
SIGNS = {
    "emdash": "—",
    "endash": "–",
    "lquote": "‘",
    "rquote": "’",
    "ldblquote": "“",
    "rdblquote": "”",
    "bullet": "•",
    "emspace": " ",
    "enspace": " ",
    "qmspace": " ",
}
CHARSETS = {
    0: "cp1252",
    77: "mac-roman",
    128: "cp932",
    129: "cp949",
    134: "gbk",
    136: "cp950",
    161: "cp1253",
    162: "cp1254",
    163: "cp1258",
    177: "cp1255",
    178: "cp1256",
    186: "cp1257",
    204: "cp1251",
    222: "cp874",
    238: "cp1250",
}
"""Encodings by the number of a font's character set."""
ABOUT = ("title", "author")
DEEPEST_GROUPS = 1_000


def recognise(beginning: Beginning) -> bool:
    """By its first characters."""
    return beginning.head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{\\rt")


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one document of a file."""
    body = _Body(context)
    body.read(context.limits.read_part(file))
    yield ParsedDocument(
        text=join_blocks(body.paragraphs.blocks),
        title=body.about.get("title", ""),
        author=body.about.get("author", ""),
    )


RTF = Format(name="rtf", title="an RTF document", suffixes=(".rtf",), begins="{", recognise=recognise, read=read)


@dataclass(slots=True)
class _Group:
    """What holds until a group ends."""

    skipped: str | None = None
    """What the group counts as if it is left out."""
    field_name: str = ""
    """The field of the document's description that it is."""
    italic: bool = False
    hidden: bool = False
    deleted: bool = False
    n_after_unicode: int = 1
    """Bytes after a character by number that stand for it in old programs."""
    encoding: str = ""


@dataclass(slots=True)
class _Body:
    """Reads control words and text."""

    context: ReadContext
    paragraphs: ParagraphText = field(default_factory=ParagraphText)
    about: dict[str, str] = field(default_factory=dict)
    _group: _Group = field(default_factory=_Group)
    _outer: list[_Group] = field(default_factory=list)
    _fonts: dict[int, str] = field(default_factory=dict)
    _font: int = 0
    _encoding: str = "cp1252"
    _bytes: bytearray = field(default_factory=bytearray)
    """Of characters that are not decoded yet."""
    _n_to_skip: int = 0
    _skipped_text: list[str] = field(default_factory=list)
    _high: int = 0
    """First half of a character that RTF writes in two."""
    _is_optional: bool = False
    _look: ParagraphLook = field(default_factory=ParagraphLook)
    _in_fonts: bool = False
    _style: str = ""

    def read(self, data: bytes) -> None:
        position, n_tokens = 0, 0
        while match := TOKEN.match(data, position):
            position = match.end()
            n_tokens += 1
            if not n_tokens % 65_536:
                self.context.limits.check_time()
            word, number, *others = match.groups()
            if word == b"bin" and number:
                position += max(0, int(number))
            elif word:
                self._read_word(word.decode(), int(number) if number else None)
            else:
                self._read_other(*others)
        while self._outer:
            self._close()
        self._flush()
        if self.paragraphs.has_text():
            self.paragraphs.end(replace(self._look, style=self._style))

    def _read_other(self, code: bytes | None, symbol: bytes | None, brace: bytes | None, text: bytes | None) -> None:
        if code:
            self._add_byte(int(code, 16))
        elif symbol:
            self._read_symbol(symbol)
        elif brace:
            self._open() if brace == b"{" else self._close()
        elif text:
            self._add_bytes(text)

    # -- groups

    def _open(self) -> None:
        self._flush()
        self.context.limits.check_depth(len(self._outer), DEEPEST_GROUPS)
        self._outer.append(self._group)
        self._group = replace(self._group)
        self._is_optional = False

    def _close(self) -> None:
        self._flush()
        if not self._outer:
            return
        inner, self._group = self._group, self._outer.pop()
        self._n_to_skip = 0
        if inner.field_name and not self._group.field_name:
            self.about.setdefault(inner.field_name, " ".join("".join(self._skipped_text).split())[:200])
        if inner.skipped is not None and self._group.skipped is None:
            text = "".join(self._skipped_text)
            if inner.skipped and (text.strip() or inner.skipped != TEXT_BOXES):  # a line that was drawn has no text
                self.context.drops.add(inner.skipped, text)
            self._in_fonts, self._skipped_text = False, []
        if self._group.skipped is None:
            self.paragraphs.set_italic(self._group.italic)

    def _skip(self, what: str) -> None:
        if self._group.skipped is None:
            self._group.skipped, self._skipped_text = what, []

    # -- words

    def _read_word(self, word: str, number: int | None) -> None:
        if word == "u" and number is not None:
            self._add_character(number)
            return
        self._flush()
        if word in ABOUT and self._group.skipped == "" and not self._group.field_name:
            self._group.field_name, self._skipped_text = word, []
        elif word == "sp" and self._group.skipped:
            self._group.skipped = ""  # a property of a shape, not its text
        elif word in SKIPPED or self._is_optional:
            self._in_fonts |= word == "fonttbl" and self._group.skipped is None
            if self._group.skipped is None:
                self._skip(SKIPPED.get(word, ""))
        elif word in ("ansicpg", "f", "fcharset", "mac", "pc", "pca", "deff", "uc"):
            self._set_encoding(word, number)
        elif self._group.skipped is None:
            self._act(word, number)
        elif word in SIGNS:
            self._skipped_text.append(SIGNS[word])
        self._is_optional = False

    def _act(self, word: str, number: int | None) -> None:
        if word in ("par", "cell", "row", "sect"):
            self.paragraphs.end(replace(self._look, style=self._style))
            self.paragraphs.set_italic(self._group.italic)
        elif word == "line":
            self.paragraphs.break_line()
        elif word == "tab":
            self.paragraphs.add_tab()
        elif word in SIGNS:
            self._add_text(SIGNS[word])
        elif word in ("i", "plain", "v", "deleted"):
            self._set_letters(word, number != 0)
        else:
            self._set_paragraph(word, number)

    def _set_paragraph(self, word: str, number: int | None) -> None:
        if word == "pard":
            self._look, self._style = ParagraphLook(), ""
        elif word == "sb":
            self._look = replace(self._look, before=(number or 0) / 240)
        elif word == "sa":
            self._look = replace(self._look, after=(number or 0) / 240)
        elif word == "contextualspace":
            self._look = replace(self._look, joins_like=True)
        elif word == "s":
            self._style = f"s{number}"

    def _set_letters(self, word: str, is_on: bool) -> None:
        group = self._group
        if word in ("i", "plain"):
            group.italic = word == "i" and is_on
            self.paragraphs.set_italic(group.italic)
        group.hidden = is_on if word == "v" else group.hidden and word != "plain"
        group.deleted = is_on if word == "deleted" else group.deleted and word != "plain"

    def _read_symbol(self, symbol: bytes) -> None:
        if symbol == b"*":
            self._is_optional = True
        elif symbol in b"\r\n":
            self._read_word("par", None)
        elif symbol in b"\\{}":
            self._add_bytes(symbol)
        elif symbol == b"~":
            self._flush()
            self._add_text("\xa0")
        elif symbol == b"_":
            self._flush()
            self._add_text("-")

    # -- characters

    def _set_encoding(self, word: str, number: int | None) -> None:
        if word == "uc":
            self._group.n_after_unicode = min(max(0, 1 if number is None else number), 16)
        elif word == "ansicpg":
            self._encoding = _find_codec(f"cp{number}") or self._encoding
        elif word in ("mac", "pc", "pca"):
            self._encoding = {"mac": "mac-roman", "pc": "cp437", "pca": "cp850"}[word]
        elif word == "fcharset" and self._in_fonts:
            if number in CHARSETS and number != 0:
                self._fonts[self._font] = CHARSETS[number]
        elif word == "f" and number is not None:
            self._font = number
            if not self._in_fonts:
                self._group.encoding = self._fonts.get(number, "")

    def _add_byte(self, byte: int) -> None:
        if self._n_to_skip:
            self._n_to_skip -= 1
        else:
            self._bytes.append(byte)

    def _add_bytes(self, data: bytes) -> None:
        n = min(self._n_to_skip, len(data))
        self._n_to_skip -= n
        self._bytes += data[n:]

    def _add_character(self, number: int) -> None:
        self._flush()
        number %= 1 << 16
        self._n_to_skip = self._group.n_after_unicode
        if 0xD800 <= number < 0xDC00:
            self._high = number
        elif 0xDC00 <= number < 0xE000:
            if self._high:
                self._add_text(chr(0x10000 + ((self._high - 0xD800) << 10) + number - 0xDC00))
            self._high = 0
        else:
            self._add_text(chr(number))
            self._high = 0

    def _flush(self) -> None:
        """Decode the bytes that have come together."""
        if self._bytes:
            data, self._bytes = bytes(self._bytes), bytearray()
            self._add_text(data.decode(self._group.encoding or self._encoding, "replace"))

    def _add_text(self, text: str) -> None:
        if self._group.skipped is not None:
            if self._group.skipped or self._group.field_name:
                self._skipped_text.append(text)
        elif self._group.hidden or self._group.deleted:
            self.context.drops.add("hidden parts" if self._group.hidden else "deleted text", text)
        else:
            self.paragraphs.add(text)


def _find_codec(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "utf-8" if name == "cp65001" else ""
