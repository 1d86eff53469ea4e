"""bytes → `Decoded`: the text with "\\n" line ends, its encoding, why that one, and where every byte went.

No byte is dropped and none is replaced by "�": what cannot be read is an error, or is read as cp1252 and counted.
Only byte-order marks and line ends change; nothing is stripped or normalised.
"""

from __future__ import annotations

import codecs
import difflib
import re
from collections import Counter
from dataclasses import dataclass
from encodings.aliases import aliases

from epigone.errors import TextTooShort, TextUnreadable
from epigone.text import guessing

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
class Decoded:
    """A text and how it was read."""

    text: str
    encoding: str
    """Python's name for it, such as "utf-8", "utf-16-le" or "cp1252"."""
    reason: str
    """Why this encoding."""
    warning: str
    """What the user should check; "" if nothing."""
    n_bytes: int
    n_bytes_bom: int
    n_bytes_newlines: int
    """Bytes that newline conversion removed, in the source encoding."""
    n_bytes_stray: int = 0
    """Bytes that did not fit the encoding and were read as cp1252."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A text with its own line ends, and why it is read so."""

    text: str
    encoding: str
    reason: str
    warning: str = ""
    n_bytes_stray: int = 0


def decode(data: bytes, *, name: str, encoding: str = "auto") -> Decoded:
    """The text in `data`; `name` is used in messages. Raises TextTooShort if empty, TextUnreadable if it is no text."""
    if not data:
        raise TextTooShort(f"{name} is empty.", hint="Give a file with text in it.")
    if kind := guessing.name_binary(data):
        raise _not_a_text(name, f"looks like {kind}")
    mark, marked = next((pair for pair in BYTE_ORDER_MARKS if data.startswith(pair[0])), (b"", ""))
    if encoding == "auto":
        reading = _find_out(data[len(mark) :], marked, name)
    else:
        codec = find_codec(encoding)
        if not marked.startswith(codec):
            mark, marked = b"", ""
        reading = _read_as_asked(data[len(mark) :], codec, marked, name)
    return _convert_newlines(reading, n_bytes=len(data), n_bytes_bom=len(mark))


def _convert_newlines(reading: Reading, *, n_bytes: int, n_bytes_bom: int) -> Decoded:
    text = reading.text
    n_pairs = text.count("\r\n")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return Decoded(
        text=text,
        encoding=reading.encoding,
        reason=reading.reason,
        warning=reading.warning,
        n_bytes=n_bytes,
        n_bytes_bom=n_bytes_bom,
        n_bytes_newlines=n_pairs * _width_of_return(reading.encoding),
        n_bytes_stray=reading.n_bytes_stray,
    )


def _width_of_return(encoding: str) -> int:
    """Bytes of one more "\\r": some encodings begin every string with an escape sequence, which does not count."""
    return len("\r\r".encode(encoding)) - len("\r".encode(encoding))


def _find_out(data: bytes, marked: str, name: str) -> Reading:
    """Decide by the first evidence that holds, strongest first. `marked` is what a byte-order mark says, or ""."""
    if marked.startswith(("utf-16", "utf-32")):
        return Reading(text=_decode_strictly(data, marked, name, marked), encoding=marked, reason="byte-order mark")
    if not marked and (wide := guessing.find_wide_encoding(data)):  # before UTF-8: NULs are valid there
        reason = "no byte-order mark, but bytes in the pattern of " + wide[:6].upper()
        return Reading(text=_decode_strictly(data, wide, name), encoding=wide, reason=reason)
    if guessing.has_many_controls(data):
        raise _not_a_text(name, "is full of control characters")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return _read_as_nearly_utf8(data) or _read_as_8_bit(data)
    return Reading(text=text, encoding="utf-8", reason="byte-order mark" if marked else "valid UTF-8")


def _read_as_nearly_utf8(data: bytes) -> Reading | None:
    """UTF-8, or ASCII, in which a few bytes of cp1252 went astray; None if the stray ones are not few.

    A whole book in cp1252 is no such text: hardly one of its accents happens to be valid UTF-8.
    """
    escaped = data.decode("utf-8", "surrogateescape")
    stray = Counter(STRAY.findall(escaped))
    n_stray = stray.total()
    n_valid = len(escaped) - len(escaped.encode("ascii", "ignore")) - n_stray
    if n_stray * 10 > n_valid and n_stray * 2_000 > len(data):
        return None
    shown = ", ".join(f"0x{ord(c) - 0xDC00:02X} ({_as_cp1252(c)}) {n:,}×" for c, n in stray.most_common(5))
    return Reading(
        text=STRAY.sub(lambda match: _as_cp1252(match[0]), escaped),
        encoding="utf-8" if n_valid else "cp1252",
        reason=f"{'UTF-8' if n_valid else 'ASCII'} but for {n_stray:,} bytes, which are read as cp1252",
        warning=f"{n_stray:,} bytes are not UTF-8 and were read as cp1252: {shown}. {CHECK_FIRST_LINES}",
        n_bytes_stray=n_stray,
    )


def _as_cp1252(stray: str) -> str:
    return guessing.read_cp1252(bytes([ord(stray) - 0xDC00]))


def _read_as_8_bit(data: bytes) -> Reading:
    """Western European cp1252 where it looks so, else charset-normalizer's guess, else cp1252 for want of better."""
    if guessing.looks_western(data):
        return _read_as_cp1252(data, "not UTF-8; accents as in a Western European language", "")
    if guess := guessing.guess_encoding(data):
        try:
            text = data.decode(guess)
        except UnicodeDecodeError:
            return _read_as_cp1252(data, "not UTF-8, and no guess held", "Its encoding could not be found out.")
        return Reading(
            text=text,
            encoding=codecs.lookup(guess).name,
            reason=f"not UTF-8; charset-normalizer's best guess over {len(data):,} bytes",
            warning=f"The encoding is a guess. {CHECK_FIRST_LINES}",
        )
    return _read_as_cp1252(data, "not UTF-8, and too little evidence for a guess", "Its encoding could not be found.")


def _read_as_cp1252(data: bytes, reason: str, warning: str) -> Reading:
    n_undefined = len(data) - len(data.translate(None, guessing.UNDEFINED_IN_CP1252))
    if n_undefined:
        warning += f" {n_undefined:,} bytes that cp1252 leaves undefined were kept as control characters."
    if warning:
        warning = f"It was read as cp1252: {warning.strip()} {CHECK_FIRST_LINES}"
    return Reading(text=guessing.read_cp1252(data), encoding="cp1252", reason=reason, warning=warning)


def _read_as_asked(data: bytes, codec: str, marked: str, name: str) -> Reading:
    reason = "asked for" + (", with a byte-order mark" if marked else "")
    if codec in ("utf-16", "utf-32"):
        # Python would take this machine's byte order, and the same file would read differently on another.
        wide = marked or guessing.find_wide_encoding(data)
        codec = wide if wide.startswith(codec) else f"{codec}-le"
    text = _decode_strictly(data, codec, name, marked)
    if surrogate := re.search("[\ud800-\udfff]", text):
        raise TextUnreadable(
            f"{name} read as {codec} holds half a character (U+{ord(surrogate[0]):04X}).",
            hint='Leave the encoding to "auto", or name another one with --encoding.',
        )
    return Reading(text=text, encoding=codec, reason=reason)


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


def _decode_strictly(data: bytes, codec: str, name: str, marked: str = "") -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        offset = error.start + (len("\ufeff".encode(marked)) if marked else 0)
        raise TextUnreadable(
            f"{name} is not {codec} throughout: byte {offset:,} (0x{data[error.start]:02X}) cannot be decoded "
            f"({error.reason}).",
            hint='The file may be damaged or cut off. Or leave the encoding to "auto", or name another one.',
        ) from None


def _not_a_text(name: str, what: str) -> TextUnreadable:
    return TextUnreadable(
        f"{name} {what}, so it is not read as text.",
        hint="Save its text as a plain .txt file, or name the encoding with --encoding if it is text after all.",
    )


def measure_bytes(data: bytes, decoded: Decoded, start: int, end: int) -> int:
    """Bytes that the whole lines `decoded.text[start:end]` take in `data`, without newline bytes that were removed.

    Encoding them again is exact in Unicode's encodings and where a newline is not the byte 0x0A (EBCDIC). It would not
    do for a text in two encodings, nor for one with escape sequences: there the lines are counted off in the bytes.
    """
    text, encoding = decoded.text, decoded.encoding
    is_exact = encoding in {codec for _, codec in BYTE_ORDER_MARKS} and not decoded.n_bytes_stray
    if is_exact or "a\n".encode(encoding)[-2:] != b"a\n":
        return len(text[start:end].encode(encoding))
    body = data[decoded.n_bytes_bom :].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    first, n_lines = text.count("\n", 0, start), text.count("\n", start, end)
    *lines, rest = body.split(b"\n", first + n_lines)[first:]
    return sum(map(len, lines)) + n_lines + (len(rest) if end == len(text) else 0)
