"""bytes → `Decoded`: the text with "\\n" line ends, its encoding, why that one, and where every byte went.

No byte is dropped and none is replaced by "�": what cannot be read is an error, or is read as cp1252 and counted.
Only byte-order marks and line ends change; nothing is stripped or normalised. A large file comes in pieces.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from epigone.errors import TextUnreadable
from epigone.text import guessing
from epigone.text.deciding import BYTE_ORDER_MARKS, PIECE_BYTES, STRAY, Way, as_cp1252, find_way


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """A text, or a piece of one, and how it was read."""

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
    """Bytes of the whole file that did not fit the encoding and were read as cp1252."""


Piece = tuple[bytes, Decoded]
"""Some bytes of a file, and their text."""


def decode(data: bytes, *, name: str, encoding: str = "auto") -> Decoded:
    """The text in `data`; `name` is used in messages. Raises TextTooShort if empty, TextUnreadable if it is no text."""
    ((_, decoded),) = read_pieces(io.BytesIO(data), name=name, encoding=encoding, size=len(data) + 1)
    return decoded


def read_pieces(file: BinaryIO, *, name: str, encoding: str = "auto", size: int = PIECE_BYTES) -> Iterator[Piece]:
    """A file that can be rewound, in pieces of about `size` bytes, each with its text; joined they are the whole.

    Pieces end with a line unless a line is longer than one. Raises as `decode` does.
    """
    way = find_way(file, name=name, encoding=encoding)
    width, decode_more, held = _width_of_return(way.encoding), _make_decoder(way, name), ""
    file.seek(len(way.mark))
    mark = way.mark
    for raw, is_last in _cut_pieces(file, size):
        text = held + decode_more(raw, is_last)
        held = "\r" if text.endswith("\r") and not is_last else ""  # it may be half a line end
        text, n_pairs = _convert_newlines(text.removesuffix(held) if held else text)
        decoded = Decoded(
            text=text,
            encoding=way.encoding,
            reason=way.reason,
            warning=way.warning,
            n_bytes=len(mark) + len(raw),
            n_bytes_bom=len(mark),
            n_bytes_newlines=n_pairs * width,
            n_bytes_stray=way.n_bytes_stray,
        )
        yield mark + raw, decoded
        mark = b""


def join_pieces(first: Piece, second: Piece) -> Piece:
    """Two pieces that follow one another, as one."""
    (raw, before), (more, after) = first, second
    joined = replace(
        before,
        text=before.text + after.text,
        n_bytes=before.n_bytes + after.n_bytes,
        n_bytes_newlines=before.n_bytes_newlines + after.n_bytes_newlines,
    )
    return raw + more, joined


def _cut_pieces(file: BinaryIO, size: int) -> Iterator[tuple[bytes, bool]]:
    """Each piece of the rest of a file, and whether it is the last."""
    held = file.read(size)
    while more := file.read(size):
        edge = held.rfind(b"\n") + 1 or len(held)
        yield held[:edge], False
        held = held[edge:] + more
    yield held, True


def _make_decoder(way: Way, name: str) -> Callable[[bytes, bool], str]:
    """Bytes, and whether they are the last, to text. Raises TextUnreadable."""
    if way.how == "as cp1252":
        return lambda data, is_last: guessing.read_cp1252(data)
    if way.how == "with stray bytes":
        escaping = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        return lambda data, is_last: STRAY.sub(lambda match: as_cp1252(match[0]), escaping.decode(data, is_last))
    decoder, n_read = codecs.getincrementaldecoder(way.encoding)(), len(way.mark)

    def decode_more(data: bytes, is_last: bool) -> str:
        nonlocal n_read
        n_read += len(data)
        try:
            text = decoder.decode(data, is_last)
        except UnicodeDecodeError as error:
            raise _miss_fit(name, way.encoding, error, n_read - len(error.object) + error.start) from None
        if way.how == "as asked" and (half := re.search("[\ud800-\udfff]", text)):
            raise TextUnreadable(
                f"{name} read as {way.encoding} holds half a character (U+{ord(half[0]):04X}).",
                hint='Leave the encoding to "auto", or name another one with --encoding.',
            )
        return text

    return decode_more


def _miss_fit(name: str, codec: str, error: UnicodeDecodeError, offset: int) -> TextUnreadable:
    return TextUnreadable(
        f"{name} is not {codec} throughout: byte {offset:,} (0x{error.object[error.start]:02X}) cannot be decoded "
        f"({error.reason}).",
        hint='The file may be damaged or cut off. Or leave the encoding to "auto", or name another one.',
    )


def _convert_newlines(text: str) -> tuple[str, int]:
    """The text with "\\n" line ends, and how many of its ends were two characters."""
    n_pairs = text.count("\r\n")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text, n_pairs


def _width_of_return(encoding: str) -> int:
    """Bytes of one more "\\r": some encodings begin every string with an escape sequence, which does not count."""
    return len("\r\r".encode(encoding)) - len("\r".encode(encoding))


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
