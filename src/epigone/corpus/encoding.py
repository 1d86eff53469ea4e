"""bytes → `DecodedText`: the text with "\\n" line ends, its encoding, why that one, and where every byte went.

No byte is dropped and none is replaced by "�": what cannot be read is an error, or is read as cp1252 and counted.
Only byte-order marks and line ends change; nothing is stripped or normalised. A large file comes in pieces.
"""

from __future__ import annotations

import codecs
import difflib
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from encodings.aliases import aliases
from typing import BinaryIO, Literal

import charset_normalizer

from epigone.errors import TextTooShort, TextUnreadable

SAMPLE_BYTES = 1 << 16
"""Enough to tell encodings apart; a multiple of four, so that no UTF-16 or UTF-32 unit is cut."""
SMALLEST_GUESS_BYTES = 2_000
"""charset-normalizer takes one-liners in gb18030 for cp949, and the like; from about this size it is reliable."""

BINARIES = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"\xd0\xcf\x11\xe0", "an old Word or Office document"),
    (b"{\\rtf", "an RTF document"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"RIFF", "a sound, a film or an image"),
    (b"OggS", "a sound"),
    (b"ID3", "a sound"),
    (b"fLaC", "a sound"),
)
CALLED_LIKE_WORDS = (b"MZ", b"BZh", b"RIFF", b"ID3", b"GIF8", b"OggS", b"fLaC")
"""Marks that a text could begin with: they count only beside control characters."""
ZIPPED = (
    (b"word/", "a Word document (docx)"),
    (b"application/epub+zip", "an e-book (epub)"),
    (b"opendocument.text", "an OpenDocument text (odt)"),
    (b"xl/", "an Excel sheet (xlsx)"),
)

CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\v\f\r\x1a")) + b"\x7f"
"""Bytes that no text in an 8-bit encoding or UTF-8 has many of. 0x1A ended text files under CP/M and DOS."""

WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
WIDE_EVIDENCE = re.compile("[ \t\n\r,.\u3000、。，！？]")
"""Frequent characters whose UTF-16 form holds a byte (0 to 2) that is in no text of any other encoding."""

UNDEFINED_IN_CP1252 = b"\x81\x8d\x8f\x90\x9d"

LETTER = r"[^\W\d_]"
FOREIGN = re.compile(
    rf"(?<={LETTER})[^\w\s\x00-\x7f\xad´·‘’“”–—…](?={LETTER})|(?<={LETTER})[²º](?={LETTER})|(?<={LETTER})[¹³¿¼¾¢£¥¦¬¯±¶¸]"
    "|[ŠšŽžŸÐðÝýÞþ\x81\x8d\x8f\x90\x9d]"
)
"""What other encodings' letters look like when they are read as cp1252: symbols inside words, and letters that are
rare in the languages of Western Europe (Icelandic excepted, which is left to charset-normalizer)."""


def identify_binary(data: bytes) -> str:
    """The kind of file that these bytes begin like, such as "a PNG image", or ""."""
    kind = next((kind for mark, kind in BINARIES if _begins_like(data, mark)), "")
    if kind == "a zip archive":
        return next((inner for mark, inner in ZIPPED if mark in data[:SAMPLE_BYTES]), kind)
    if data[257:262] == b"ustar":
        return "a tar archive"
    return kind


def _begins_like(data: bytes, mark: bytes) -> bool:
    return data.startswith(mark) and (mark not in CALLED_LIKE_WORDS or has_many_controls(data))


def has_many_controls(data: bytes) -> bool:
    """Whether more than one byte in a hundred (of the first 64 KB) is a control character that text does not use."""
    sample = data[:SAMPLE_BYTES]
    n_controls = len(sample) - len(sample.translate(None, CONTROLS))
    return n_controls * 100 > len(sample)


def find_wide_encoding(data: bytes) -> str:
    """UTF-16 or UTF-32 without a byte-order mark: its name, or "".

    Alphabetic text shows itself by NUL bytes, Chinese and Japanese by their punctuation (。 is the bytes 02 30).
    """
    if data[:SAMPLE_BYTES].translate(None, CONTROLS) == data[:SAMPLE_BYTES]:
        return ""
    shares = {encoding: _share_of_evidence(data[:SAMPLE_BYTES], encoding) for encoding in WIDE}
    best = max(WIDE, key=lambda encoding: shares[encoding])
    return best if shares[best] >= 0.01 else ""


def _share_of_evidence(sample: bytes, encoding: str) -> float:
    """The share of characters that speak for the encoding; 0 where it cannot be."""
    try:
        text = codecs.getincrementaldecoder(encoding)("strict").decode(sample)
    except UnicodeDecodeError:
        return 0.0
    n_odd = sum(unicodedata.category(character) in ("Cn", "Co", "Cc") for character in re.sub(r"[\t-\r]", "", text))
    if not text or n_odd * 200 > len(text):
        return 0.0
    return len(WIDE_EVIDENCE.findall(text)) / len(text)


def looks_western(data: bytes) -> bool:
    """Whether bytes above 0x7F stand where letters and marks of Western European languages stand in cp1252.

    charset-normalizer is not asked about these: it takes a French novel for Baltic and a German one for Korean.
    """
    text = read_cp1252(data[:SAMPLE_BYTES])
    n_high = len(text) - len(text.encode("ascii", "ignore"))
    n_foreign = len(FOREIGN.findall(text))
    return n_high * 5 <= len(text) and n_foreign * 50 <= n_high


def guess_encoding(data: bytes) -> str:
    """charset-normalizer's best guess, where there is enough text for one and all of it can be read so; else ""."""
    if len(data) < SMALLEST_GUESS_BYTES:
        return ""
    sample = data[: data.rfind(b"\n", 0, SAMPLE_BYTES) + 1] if len(data) > SAMPLE_BYTES else data
    # johab and the 7-bit encodings read nearly anything; EBCDIC has not been seen in the wild for decades.
    never = ["johab", "hz", "utf_7", "cp037", "cp273", "cp424", "cp500", "cp875", "cp1026", "cp1140"]
    best = charset_normalizer.from_bytes(sample or data[:SAMPLE_BYTES], cp_exclusion=never).best()
    return best.encoding if best else ""


def read_cp1252(data: bytes) -> str:
    """cp1252 as browsers read it: its five undefined bytes are the control characters of the same number."""
    text = data.decode("cp1252", "surrogateescape")
    for byte in UNDEFINED_IN_CP1252:
        text = text.replace(chr(0xDC00 + byte), chr(byte))
    return text


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
class DetectedEncoding:
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


def detect_encoding(file: BinaryIO, *, name: str, encoding: str = "auto") -> DetectedEncoding:
    """The way to read a file, which can be rewound; `name` is used in messages.

    Raises TextTooShort if it is empty, TextUnreadable if it is no text.
    """
    file.seek(0)
    beginning = file.read(SAMPLE_BYTES + 8)
    if not beginning:
        raise TextTooShort(f"{name} is empty.", hint="Give a file with text in it.")
    if kind := identify_binary(beginning):
        raise _not_a_text(name, f"looks like {kind}")
    mark, marked = next((pair for pair in BYTE_ORDER_MARKS if beginning.startswith(pair[0])), (b"", ""))
    if encoding == "auto":
        return _find_out(OpenedFile(file, beginning[len(mark) :], mark), marked, name)
    codec = find_codec(encoding)
    if not marked.startswith(codec):
        mark, marked = b"", ""
    reason = "asked for" + (", with a byte-order mark" if marked else "")
    if codec in ("utf-16", "utf-32"):
        # Python would take this machine's byte order, and the same file would read differently on another.
        wide = marked or find_wide_encoding(beginning[len(mark) :])
        codec = wide if wide.startswith(codec) else f"{codec}-le"
    return DetectedEncoding(encoding=codec, reason=reason, mark=mark, how="as asked")


@dataclass(frozen=True, slots=True)
class OpenedFile:
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


def _find_out(opened: OpenedFile, marked: str, name: str) -> DetectedEncoding:
    """Decide by the first evidence that holds, strongest first. `marked` is what a byte-order mark says, or ""."""
    if marked.startswith(("utf-16", "utf-32")):
        return DetectedEncoding(encoding=marked, reason="byte-order mark", mark=opened.mark)
    if not marked and (wide := find_wide_encoding(opened.beginning)):  # before UTF-8: NULs are valid there
        return DetectedEncoding(
            encoding=wide, reason="no byte-order mark, but bytes in the pattern of " + wide[:6].upper()
        )
    if has_many_controls(opened.beginning):
        raise _not_a_text(name, "is full of control characters")
    if opened.is_valid("utf-8"):
        return DetectedEncoding(
            encoding="utf-8", reason="byte-order mark" if marked else "valid UTF-8", mark=opened.mark
        )
    return _as_nearly_utf8(opened) or _as_8_bit(opened)


def _as_nearly_utf8(opened: OpenedFile) -> DetectedEncoding | None:
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
    return DetectedEncoding(
        encoding="utf-8" if n_valid else "cp1252",
        reason=f"{'UTF-8' if n_valid else 'ASCII'} but for {n_stray:,} bytes, which are read as cp1252",
        warning=f"{n_stray:,} bytes are not UTF-8 and were read as cp1252: {shown}. {CHECK_FIRST_LINES}",
        mark=opened.mark,
        how="with stray bytes",
        n_bytes_stray=n_stray,
    )


def as_cp1252(stray: str) -> str:
    """What cp1252 makes of a byte that `STRAY` stands for."""
    return read_cp1252(bytes([ord(stray) - 0xDC00]))


def _as_8_bit(opened: OpenedFile) -> DetectedEncoding:
    """Western European cp1252 where it looks so, else charset-normalizer's guess, else cp1252 for want of better."""
    if looks_western(opened.beginning):
        return _choose_cp1252(opened, "not UTF-8; accents as in a Western European language", "")
    if guess := guess_encoding(opened.beginning):
        if not opened.is_valid(guess):
            return _choose_cp1252(opened, "not UTF-8, and no guess held", "Its encoding could not be found out.")
        return DetectedEncoding(
            encoding=codecs.lookup(guess).name,
            reason=f"not UTF-8; charset-normalizer's best guess over {opened.n_bytes:,} bytes",
            warning=f"The encoding is a guess. {CHECK_FIRST_LINES}",
            mark=opened.mark,
        )
    reason, warning = "not UTF-8, and too little evidence for a guess", "Its encoding could not be found."
    return _choose_cp1252(opened, reason, warning)


def _choose_cp1252(opened: OpenedFile, reason: str, warning: str) -> DetectedEncoding:
    undefined = UNDEFINED_IN_CP1252
    n_undefined = sum(len(piece) - len(piece.translate(None, undefined)) for piece in opened.read())
    if n_undefined:
        warning += f" {n_undefined:,} bytes that cp1252 leaves undefined were kept as control characters."
    if warning:
        warning = f"It was read as cp1252: {warning.strip()} {CHECK_FIRST_LINES}"
    return DetectedEncoding(encoding="cp1252", reason=reason, warning=warning, mark=opened.mark, how="as cp1252")


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


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedText:
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


DecodedPiece = tuple[bytes, DecodedText]
"""Some bytes of a file, and their text."""


def decode(data: bytes, *, name: str, encoding: str = "auto") -> DecodedText:
    """The text in `data`; `name` is used in messages. Raises TextTooShort if empty, TextUnreadable if it is no text."""
    ((_, decoded),) = read_pieces(io.BytesIO(data), name=name, encoding=encoding, size=len(data) + 1)
    return decoded


def read_pieces(
    file: BinaryIO, *, name: str, encoding: str = "auto", size: int = PIECE_BYTES
) -> Iterator[DecodedPiece]:
    """A file that can be rewound, in pieces of about `size` bytes, each with its text; joined they are the whole.

    Pieces end with a line unless a line is longer than one. Raises as `decode` does.
    """
    way = detect_encoding(file, name=name, encoding=encoding)
    width, decode_more, held = _width_of_return(way.encoding), _make_decoder(way, name), ""
    file.seek(len(way.mark))
    mark = way.mark
    for raw, is_last in _cut_pieces(file, size):
        text = held + decode_more(raw, is_last)
        held = "\r" if text.endswith("\r") and not is_last else ""  # it may be half a line end
        text, n_pairs = _convert_newlines(text.removesuffix(held) if held else text)
        decoded = DecodedText(
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


def join_pieces(first: DecodedPiece, second: DecodedPiece) -> DecodedPiece:
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


def _make_decoder(way: DetectedEncoding, name: str) -> Callable[[bytes, bool], str]:
    """Bytes, and whether they are the last, to text. Raises TextUnreadable."""
    if way.how == "as cp1252":
        return lambda data, is_last: read_cp1252(data)
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
            raise _undecodable(name, way.encoding, error, n_read - len(error.object) + error.start) from None
        if way.how == "as asked" and (half := re.search("[\ud800-\udfff]", text)):
            raise TextUnreadable(
                f"{name} read as {way.encoding} holds half a character (U+{ord(half[0]):04X}).",
                hint='Leave the encoding to "auto", or name another one with --encoding.',
            )
        return text

    return decode_more


def _undecodable(name: str, codec: str, error: UnicodeDecodeError, offset: int) -> TextUnreadable:
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


def measure_bytes(data: bytes, decoded: DecodedText, start: int, end: int) -> int:
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
