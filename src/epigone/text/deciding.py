"""An open file in; in which encoding it is to be read, and why, out. No more than a piece of it is held at once."""

from __future__ import annotations

import codecs
import difflib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from encodings.aliases import aliases
from typing import BinaryIO, Literal

from epigone.errors import TextTooShort, TextUnreadable
from epigone.text import guessing

PIECE_BYTES = 1 << 22
"""Of a file that are looked at or decoded at once: most texts whole, and of a large one little."""
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like UTF-16's, so it is looked for first
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
NOTATIONS = ("idna", "punycode", "unicode-escape", "raw-unicode-escape")
"""Codecs of Python's that are for names and source code, not for texts."""
CHECK_FIRST_LINES = "Check the first lines; if they look wrong, name the encoding with --encoding."
STRAY = re.compile("[\udc80-\udcff]")
"""What the "surrogateescape" handler makes of a byte that cannot be decoded: U+DC00 plus the byte."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How a file is to be read."""

    encoding: str
    """Python's name for it, such as "utf-8", "utf-16-le" or "cp1252"."""
    reason: str
    """Why this encoding."""
    warning: str = ""
    """What the user should check; "" if nothing."""
    mark: bytes = b""
    """The byte-order mark that the file begins with."""
    how: Literal["strictly", "as asked", "with stray bytes", "as cp1252"] = "strictly"
    """With stray bytes: UTF-8 but for some, which are read as cp1252."""
    n_bytes_stray: int = 0


def find_way(file: BinaryIO, *, name: str, encoding: str = "auto") -> Way:
    """The way to read a file, which can be rewound; `name` is used in messages.

    Raises TextTooShort if it is empty, TextUnreadable if it is no text.
    """
    file.seek(0)
    beginning = file.read(guessing.SAMPLE_BYTES + 8)
    if not beginning:
        raise TextTooShort(f"{name} is empty.", hint="Give a file with text in it.")
    if kind := guessing.name_binary(beginning):
        raise _not_a_text(name, f"looks like {kind}")
    mark, marked = next((pair for pair in BYTE_ORDER_MARKS if beginning.startswith(pair[0])), (b"", ""))
    if encoding == "auto":
        return _find_out(Opened(file, beginning[len(mark) :], mark), marked, name)
    codec = find_codec(encoding)
    if not marked.startswith(codec):
        mark, marked = b"", ""
    reason = "asked for" + (", with a byte-order mark" if marked else "")
    if codec in ("utf-16", "utf-32"):
        # Python would take this machine's byte order, and the same file would read differently on another.
        wide = marked or guessing.find_wide_encoding(beginning[len(mark) :])
        codec = wide if wide.startswith(codec) else f"{codec}-le"
    return Way(encoding=codec, reason=reason, mark=mark, how="as asked")


@dataclass(frozen=True, slots=True)
class Opened:
    """A file, and its beginning behind the byte-order mark."""

    file: BinaryIO
    beginning: bytes
    mark: bytes

    def read(self) -> Iterator[bytes]:
        """All of it behind the mark, in pieces."""
        self.file.seek(len(self.mark))
        while piece := self.file.read(PIECE_BYTES):
            yield piece

    def decode(self, codec: str, errors: str = "strict") -> Iterator[str]:
        """The same as text. Raises UnicodeDecodeError."""
        decoder = codecs.getincrementaldecoder(codec)(errors)
        for piece in self.read():
            yield decoder.decode(piece)
        yield decoder.decode(b"", True)

    def is_valid(self, codec: str) -> bool:
        """Whether all of it can be decoded so."""
        try:
            for _ in self.decode(codec):
                pass
        except UnicodeDecodeError:
            return False
        return True

    @property
    def n_bytes(self) -> int:
        """Behind the mark."""
        return self.file.seek(0, 2) - len(self.mark)


def _find_out(opened: Opened, marked: str, name: str) -> Way:
    """Decide by the first evidence that holds, strongest first. `marked` is what a byte-order mark says, or ""."""
    if marked.startswith(("utf-16", "utf-32")):
        return Way(encoding=marked, reason="byte-order mark", mark=opened.mark)
    if not marked and (wide := guessing.find_wide_encoding(opened.beginning)):  # before UTF-8: NULs are valid there
        return Way(encoding=wide, reason="no byte-order mark, but bytes in the pattern of " + wide[:6].upper())
    if guessing.has_many_controls(opened.beginning):
        raise _not_a_text(name, "is full of control characters")
    if opened.is_valid("utf-8"):
        return Way(encoding="utf-8", reason="byte-order mark" if marked else "valid UTF-8", mark=opened.mark)
    return _as_nearly_utf8(opened) or _as_8_bit(opened)


def _as_nearly_utf8(opened: Opened) -> Way | None:
    """UTF-8, or ASCII, in which a few bytes of cp1252 went astray; None if the stray ones are not few.

    A whole book in cp1252 is no such text: hardly one of its accents happens to be valid UTF-8.
    """
    stray, n_valid = Counter[str](), 0
    for text in opened.decode("utf-8", "surrogateescape"):
        found = STRAY.findall(text)
        stray.update(found)
        n_valid += len(text) - len(text.encode("ascii", "ignore")) - len(found)
    n_stray = stray.total()
    if n_stray * 10 > n_valid and n_stray * 2_000 > opened.n_bytes:
        return None
    shown = ", ".join(f"0x{ord(c) - 0xDC00:02X} ({as_cp1252(c)}) {n:,}×" for c, n in stray.most_common(5))
    return Way(
        encoding="utf-8" if n_valid else "cp1252",
        reason=f"{'UTF-8' if n_valid else 'ASCII'} but for {n_stray:,} bytes, which are read as cp1252",
        warning=f"{n_stray:,} bytes are not UTF-8 and were read as cp1252: {shown}. {CHECK_FIRST_LINES}",
        mark=opened.mark,
        how="with stray bytes",
        n_bytes_stray=n_stray,
    )


def as_cp1252(stray: str) -> str:
    """What cp1252 makes of a byte that `STRAY` stands for."""
    return guessing.read_cp1252(bytes([ord(stray) - 0xDC00]))


def _as_8_bit(opened: Opened) -> Way:
    """Western European cp1252 where it looks so, else charset-normalizer's guess, else cp1252 for want of better."""
    if guessing.looks_western(opened.beginning):
        return _choose_cp1252(opened, "not UTF-8; accents as in a Western European language", "")
    if guess := guessing.guess_encoding(opened.beginning):
        if not opened.is_valid(guess):
            return _choose_cp1252(opened, "not UTF-8, and no guess held", "Its encoding could not be found out.")
        return Way(
            encoding=codecs.lookup(guess).name,
            reason=f"not UTF-8; charset-normalizer's best guess over {opened.n_bytes:,} bytes",
            warning=f"The encoding is a guess. {CHECK_FIRST_LINES}",
            mark=opened.mark,
        )
    reason, warning = "not UTF-8, and too little evidence for a guess", "Its encoding could not be found."
    return _choose_cp1252(opened, reason, warning)


def _choose_cp1252(opened: Opened, reason: str, warning: str) -> Way:
    undefined = guessing.UNDEFINED_IN_CP1252
    n_undefined = sum(len(piece) - len(piece.translate(None, undefined)) for piece in opened.read())
    if n_undefined:
        warning += f" {n_undefined:,} bytes that cp1252 leaves undefined were kept as control characters."
    if warning:
        warning = f"It was read as cp1252: {warning.strip()} {CHECK_FIRST_LINES}"
    return Way(encoding="cp1252", reason=reason, warning=warning, mark=opened.mark, how="as cp1252")


def find_codec(encoding: str) -> str:
    """Python's name of the encoding. Raises TextUnreadable that names the nearest one."""
    try:
        "".encode(encoding)  # refuses codecs between bytes and bytes, such as "hex", which a look-up does not
        codec = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        codec = ""
    if codec and codec not in NOTATIONS:
        return codec.removesuffix("-sig")
    known = {alias.replace("_", "-") for pair in aliases.items() for alias in pair}
    alike = difflib.get_close_matches(encoding.lower().replace("_", "-"), sorted(known), n=1)
    raise TextUnreadable(
        f'The text cannot be read as "{encoding}": there is no such encoding.',
        hint=f'Did you mean "{alike[0]}"?' if alike else 'Leave it to "auto", or name one such as "cp1252".',
    )


def _not_a_text(name: str, what: str) -> TextUnreadable:
    return TextUnreadable(
        f"{name} {what}, so it is not read as text.",
        hint="Save its text as a plain .txt file, or name the encoding with --encoding if it is text after all.",
    )
