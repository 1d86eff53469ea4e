"""Detects a file's encoding, says why, and decodes it in pieces, with an account of every byte.

No byte is dropped or replaced by "�": what cannot be decoded is an error, or is read as cp1252 and counted. Only
byte-order marks and line ends change; nothing is stripped or normalised.
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

from epigone.errors import TextTooShort, TextUnreadable, pluralize

PIECE_BYTES = 1 << 22
"""Bytes of a file that are decoded at once: most texts in one piece, and little of a large one."""
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like that of UTF-16, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
NOTATIONS = ("idna", "punycode", "unicode-escape", "raw-unicode-escape")
"""Python codecs for names and source code, not for texts."""
CHECK_FIRST_LINES = "Check the first lines. If they look wrong, name the encoding (--encoding)."
STRAY = re.compile("[\udc80-\udcff]")
"""What the "surrogateescape" handler makes of a byte that cannot be decoded: U+DC00 plus the byte."""
SAMPLE_BYTES = 1 << 16
"""Enough to tell encodings apart, and a multiple of four, so that no UTF-16 or UTF-32 unit is cut."""
SMALLEST_GUESS_BYTES = 2_000
"""charset-normalizer mistakes one line of gb18030 for cp949, and the like; from about this size it is reliable."""

PAGES, KINDLE = "an Apple Pages document", "a Kindle book"
KINDLE_MARK, KINDLE_PLACE = (b"BOOKMOBI", b"TPZ3"), slice(60, 68)
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
BINARY_MARKS = tuple(mark for mark, _ in BINARIES)
MARKS = tuple(mark for mark, _ in BYTE_ORDER_MARKS)
TEXTLIKE_MAGIC = (b"MZ", b"BZh", b"RIFF", b"ID3", b"GIF8", b"OggS", b"fLaC")
"""File marks that a text could begin with: they count only together with control characters."""
ZIPPED = (
    (b"word/", "a Word document (docx)"),
    (b"application/epub+zip", "an e-book (epub)"),
    (b"opendocument.text", "an OpenDocument text (odt)"),
    (b"xl/", "an Excel sheet (xlsx)"),
    (b"ppt/", "a PowerPoint presentation (pptx)"),
    (b"Index/Document.iwa", PAGES),
)

CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\v\f\r\x1a")) + b"\x7f"
"""Bytes that are rare in every text in UTF-8 or an 8-bit encoding. 0x1A ended text files under CP/M and DOS."""

WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
WIDE_EVIDENCE = re.compile("[ \t\n\r,.\u3000、。，！？]")
"""Frequent characters whose UTF-16 form has a byte of 0 to 2, which no text in another encoding has."""

UNDEFINED_IN_CP1252 = b"\x81\x8d\x8f\x90\x9d"

LETTER = r"[^\W\d_]"
FOREIGN = re.compile(
    rf"(?<={LETTER})[^\w\s\x00-\x7f\xad´·‘’“”–—…](?={LETTER})|(?<={LETTER})[²º](?={LETTER})|(?<={LETTER})[¹³¿¼¾¢£¥¦¬¯±¶¸]"
    "|[ŠšŽžŸÐðÝýÞþ\x81\x8d\x8f\x90\x9d]"
)
"""What letters of other encodings look like when read as cp1252: symbols inside words, and letters that are rare in the
languages of Western Europe (except Icelandic, which is left to charset-normalizer)."""


# -- detecting: the strongest evidence first


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectedEncoding:
    """How to read a file, and why."""

    encoding: str
    """Python's name for it, such as "utf-8", "utf-16-le" or "cp1252"."""
    reason: str
    """Why this encoding."""
    warning: str = ""
    """What the user should check; "" if nothing."""
    mark: bytes = b""
    """The byte-order mark that the file begins with."""
    how: Literal["strictly", "as asked", "with stray bytes", "as cp1252"] = "strictly"
    """With stray bytes: UTF-8 except for some bytes, which are read as cp1252."""
    n_bytes_stray: int = 0


def detect_encoding(file: BinaryIO, *, name: str, encoding: str = "auto") -> DetectedEncoding:
    """Detect the encoding of a file that can be rewound; `name` is used in messages.

    Raises TextTooShort if it is empty, TextUnreadable if it is not text.
    """
    file.seek(0)
    beginning = file.read(SAMPLE_BYTES + 8)
    if not beginning:
        raise TextTooShort(f"{name} is empty.", hint="Give a file with text in it.")
    if kind := identify_binary(beginning):
        raise _not_a_text(name, f"looks like {kind}", HINTS.get(kind, UNKNOWN_KIND))
    mark, marked = next((pair for pair in BYTE_ORDER_MARKS if beginning.startswith(pair[0])), (b"", ""))
    if encoding == "auto":
        return _detect(OpenedFile(file, beginning[len(mark) :], mark), marked, name)
    codec = find_codec(encoding)
    if not marked.startswith(codec):
        mark, marked = b"", ""
    reason = "asked for" + (", with a byte-order mark" if marked else "")
    if codec in ("utf-16", "utf-32"):
        # Python would take this machine's byte order, and the same file would read differently on another.
        wide = marked or detect_wide_encoding(beginning[len(mark) :])
        codec = wide if wide.startswith(codec) else f"{codec}-le"
    return DetectedEncoding(encoding=codec, reason=reason, mark=mark, how="as asked")


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file, and its beginning after the byte-order mark."""

    file: BinaryIO
    beginning: bytes
    mark: bytes

    def read(self) -> Iterator[bytes]:
        """Everything after the mark, in pieces."""
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
        """Whether all of it can be decoded with the codec."""
        try:
            for _ in self.decode(codec):
                pass
        except UnicodeDecodeError:
            return False
        return True

    @property
    def n_bytes(self) -> int:
        """After the mark."""
        return self.file.seek(0, 2) - len(self.mark)


def _detect(opened: OpenedFile, marked: str, name: str) -> DetectedEncoding:
    """Decide by the strongest evidence. `marked` is the encoding that a byte-order mark names, or ""."""
    if marked.startswith(("utf-16", "utf-32")):
        return DetectedEncoding(encoding=marked, reason="byte-order mark", mark=opened.mark)
    if not marked and (wide := detect_wide_encoding(opened.beginning)):  # before UTF-8, in which NULs are valid
        return DetectedEncoding(
            encoding=wide, reason="no byte-order mark, but bytes in the pattern of " + wide[:6].upper()
        )
    if has_many_controls(opened.beginning):
        raise _not_a_text(
            name, "is full of control characters", f"{UNKNOWN_KIND} If it is one, name its encoding (--encoding)."
        )
    if opened.is_valid("utf-8"):
        return DetectedEncoding(
            encoding="utf-8", reason="byte-order mark" if marked else "valid UTF-8", mark=opened.mark
        )
    return _as_nearly_utf8(opened) or _as_8_bit(opened)


def _as_nearly_utf8(opened: OpenedFile) -> DetectedEncoding | None:
    """UTF-8, or ASCII, with a few stray bytes of cp1252; None if they are not few.

    A book in cp1252 is not such a text: hardly any of its accents happens to be valid UTF-8.
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
    count = pluralize(n_stray, "byte")
    return DetectedEncoding(
        encoding="utf-8" if n_valid else "cp1252",
        reason=f"{'UTF-8' if n_valid else 'ASCII'} except for {count} read as cp1252",
        warning=f"Not UTF-8, so read as cp1252: {count}, {shown}. {CHECK_FIRST_LINES}",
        mark=opened.mark,
        how="with stray bytes",
        n_bytes_stray=n_stray,
    )


def as_cp1252(stray: str) -> str:
    """The cp1252 character for a byte that `STRAY` stands for."""
    return read_cp1252(bytes([ord(stray) - 0xDC00]))


def _as_8_bit(opened: OpenedFile) -> DetectedEncoding:
    """cp1252 if the text looks Western European, else charset-normalizer's guess, else cp1252 as a last resort."""
    if looks_western(opened.beginning):
        return _choose_cp1252(opened, "not UTF-8; accents as in a Western European language", "")
    if guess := guess_encoding(opened.beginning):
        if not opened.is_valid(guess):
            return _choose_cp1252(opened, "not UTF-8, and no guess fits all", "Its encoding could not be detected.")
        return DetectedEncoding(
            encoding=codecs.lookup(guess).name,
            reason=f"not UTF-8; charset-normalizer's best guess over {opened.n_bytes:,} bytes",
            warning=f"The encoding is a guess. {CHECK_FIRST_LINES}",
            mark=opened.mark,
        )
    reason, warning = "not UTF-8, and too little evidence for a guess", "Its encoding could not be detected."
    return _choose_cp1252(opened, reason, warning)


def _choose_cp1252(opened: OpenedFile, reason: str, warning: str) -> DetectedEncoding:
    undefined = UNDEFINED_IN_CP1252
    n_undefined = sum(len(piece) - len(piece.translate(None, undefined)) for piece in opened.read())
    if n_undefined:
        warning += f" Kept as control characters: {pluralize(n_undefined, 'byte')} that cp1252 leaves undefined."
    if warning:
        warning = f"It was read as cp1252: {warning.strip()} {CHECK_FIRST_LINES}"
    return DetectedEncoding(encoding="cp1252", reason=reason, warning=warning, mark=opened.mark, how="as cp1252")


MEANT = {
    "unicode": 'Files in Unicode are mostly "utf-8", or "utf-16" if Windows made them.',
    "ansi": 'What Windows calls ANSI is "cp1252" in Western Europe.',
    "dos": 'Texts of DOS are mostly "cp437" or "cp850".',
    "windows": 'Texts of Windows are mostly "utf-8" or "cp1252".',
    "mac": 'Old texts of the Mac are mostly "mac-roman".',
}
"""What to say of names that people use."""


def find_codec(encoding: str) -> str:
    """Python's name of the encoding. Raises TextUnreadable, which suggests a similar name."""
    try:
        "".encode(encoding)  # also refuses codecs from bytes to bytes, such as "hex"
        codec = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        codec = ""
    if codec and codec not in NOTATIONS:
        return codec.removesuffix("-sig")
    if meant := MEANT.get(encoding.lower()):
        raise TextUnreadable(f'"{encoding}" is not the name of one encoding.', hint=meant)
    of_texts = (pair for pair in aliases.items() if not pair[1].endswith(("_codec", "rot_13")))
    known = {alias.replace("_", "-") for pair in of_texts for alias in pair}
    alike = difflib.get_close_matches(encoding.lower().replace("_", "-"), sorted(known), n=1)
    raise TextUnreadable(
        f'The text cannot be read as "{encoding}": there is no such encoding.',
        hint=f'Did you mean "{alike[0]}"?' if alike else 'Use "auto", or a name such as "cp1252".',
    )


NO_TEXT = "A style is learned from text. Give a file with text in it, such as a .txt or a .docx."
HINTS = {
    PAGES: "In Pages: File > Export To > Word, and give that file.",
    "a PDF": "Save its text as .txt: pdftotext novel.pdf",
    "an Excel sheet (xlsx)": "In Excel: save it as CSV.",
    **dict.fromkeys(("a PNG image", "a JPEG image", "a GIF image"), NO_TEXT),
    **dict.fromkeys(("a sound", "a sound, a film or an image"), NO_TEXT),
    KINDLE: "Convert it to EPUB with Calibre (without DRM), and give that file.",
    "an old Word or Office document": "Open it in Word or LibreOffice, and save it as .docx.",
}
"""What to do with what cannot be read."""
UNKNOWN_KIND = "Save its text as a plain .txt file."


def _not_a_text(name: str, what: str, hint: str = UNKNOWN_KIND) -> TextUnreadable:
    return TextUnreadable(f"{name} {what}, so it is not read as text.", hint=hint)


# -- evidence


def identify_binary(data: bytes) -> str:
    """The kind of binary file that begins like this, such as "a PNG image", or ""."""
    kind = ""
    if data.startswith(BINARY_MARKS):
        kind = next((kind for mark, kind in BINARIES if _begins_like(data, mark)), "")
    if kind == "a zip archive":
        return next((inner for mark, inner in ZIPPED if mark in data[:SAMPLE_BYTES]), kind)
    if data[KINDLE_PLACE] in KINDLE_MARK:
        return KINDLE
    if data[257:262] == b"ustar":
        return "a tar archive"
    return kind


def _begins_like(data: bytes, mark: bytes) -> bool:
    return data.startswith(mark) and (mark not in TEXTLIKE_MAGIC or has_many_controls(data))


def has_many_controls(data: bytes) -> bool:
    """Whether more than one byte in a hundred (of the first 64 KB) is a control character that text does not use."""
    sample = data[:SAMPLE_BYTES]
    n_controls = len(sample) - len(sample.translate(None, CONTROLS))
    return n_controls * 100 > len(sample)


def detect_wide_encoding(data: bytes) -> str:
    """UTF-16 or UTF-32 without a byte-order mark: its name, or "".

    Alphabetic text has NUL bytes; Chinese and Japanese are recognised by their punctuation (。 is the bytes 02 30).
    """
    if data[:SAMPLE_BYTES].translate(None, CONTROLS) == data[:SAMPLE_BYTES]:
        return ""
    shares = {encoding: _share_of_evidence(data[:SAMPLE_BYTES], encoding) for encoding in WIDE}
    best = max(WIDE, key=lambda encoding: shares[encoding])
    return best if shares[best] >= 0.01 else ""


def _share_of_evidence(sample: bytes, encoding: str) -> float:
    """The share of characters that are evidence for the encoding; 0 if it is impossible."""
    try:
        text = codecs.getincrementaldecoder(encoding)("strict").decode(sample)
    except UnicodeDecodeError:
        return 0.0
    n_odd = sum(unicodedata.category(character) in ("Cn", "Co", "Cc") for character in re.sub(r"[\t-\r]", "", text))
    if not text or n_odd * 200 > len(text):
        return 0.0
    return len(WIDE_EVIDENCE.findall(text)) / len(text)


def looks_western(data: bytes) -> bool:
    """Whether the bytes above 0x7F, read as cp1252, are plausible letters and marks of Western European languages.

    charset-normalizer is not used for these: it mistakes a French novel for Baltic and a German one for Korean.
    """
    text = read_cp1252(data[:SAMPLE_BYTES])
    n_high = len(text) - len(text.encode("ascii", "ignore"))
    n_foreign = len(FOREIGN.findall(text))
    return n_high * 5 <= len(text) and n_foreign * 50 <= n_high


def guess_encoding(data: bytes) -> str:
    """charset-normalizer's best guess if there is enough text for one, else ""."""
    if len(data) < SMALLEST_GUESS_BYTES:
        return ""
    sample = data[: data.rfind(b"\n", 0, SAMPLE_BYTES) + 1] if len(data) > SAMPLE_BYTES else data
    # johab and the 7-bit encodings decode nearly anything; EBCDIC has not been seen in the wild for decades.
    never = ["johab", "hz", "utf_7", "cp037", "cp273", "cp424", "cp500", "cp875", "cp1026", "cp1140"]
    best = charset_normalizer.from_bytes(sample or data[:SAMPLE_BYTES], cp_exclusion=never).best()
    return best.encoding if best else ""


def read_cp1252(data: bytes) -> str:
    """cp1252 as browsers read it: the five undefined bytes become the control characters of the same number."""
    text = data.decode("cp1252", "surrogateescape")
    for byte in UNDEFINED_IN_CP1252:
        text = text.replace(chr(0xDC00 + byte), chr(byte))
    return text


# -- decoding


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedText:
    """A text, or a piece of one, and how it was decoded."""

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
    """Bytes removed by newline conversion, in the source encoding."""
    n_bytes_stray: int = 0
    """Bytes of the whole file that did not fit the encoding and were read as cp1252."""


DecodedPiece = tuple[bytes, DecodedText]
"""Some bytes of a file, and their text."""


def as_piece(text: str) -> DecodedPiece:
    """A text that needs no decoding, as if it came from a file in UTF-8."""
    raw = text.encode("utf-8", "surrogatepass")
    decoded = DecodedText(
        text=text, encoding="utf-8", reason="", warning="", n_bytes=len(raw), n_bytes_bom=0, n_bytes_newlines=0
    )
    return raw, decoded


def decode(data: bytes, *, name: str, encoding: str = "auto") -> DecodedText:
    """Decode `data`; `name` is used in messages. Raises TextTooShort if empty, TextUnreadable if it is not text."""
    if encoding == "auto" and (plain := _decode_plain(data)):
        return plain
    ((_, decoded),) = read_pieces(io.BytesIO(data), name=name, encoding=encoding, size=len(data) + 1)
    return decoded


def _decode_plain(data: bytes) -> DecodedText | None:
    """UTF-8 in which nothing asks for a closer look, as in nearly every text; None for what may be anything else."""
    head = data[:SAMPLE_BYTES]
    if not data or data.startswith(MARKS) or identify_binary(head) or head.translate(None, CONTROLS) != head:
        return None
    try:
        text, n_pairs = _convert_newlines(data.decode("utf-8"))
    except UnicodeDecodeError:
        return None
    return DecodedText(
        text=text,
        encoding="utf-8",
        reason="valid UTF-8",
        warning="",
        n_bytes=len(data),
        n_bytes_bom=0,
        n_bytes_newlines=n_pairs,
    )


def read_pieces(
    file: BinaryIO, *, name: str, encoding: str = "auto", size: int = PIECE_BYTES
) -> Iterator[DecodedPiece]:
    """Decode a file that can be rewound in pieces of about `size` bytes.

    A piece ends with a line, unless a line is longer than a piece. Raises as `decode` does.
    """
    detected = detect_encoding(file, name=name, encoding=encoding)
    width, decode_more, held = _width_of_return(detected.encoding), _make_decoder(detected, name), ""
    file.seek(len(detected.mark))
    mark = detected.mark
    for raw, is_last in _cut_pieces(file, size):
        text = held + decode_more(raw, is_last)
        held = "\r" if text.endswith("\r") and not is_last else ""  # this may be half of a line end
        text, n_pairs = _convert_newlines(text.removesuffix(held) if held else text)
        decoded = DecodedText(
            text=text,
            encoding=detected.encoding,
            reason=detected.reason,
            warning=detected.warning,
            n_bytes=len(mark) + len(raw),
            n_bytes_bom=len(mark),
            n_bytes_newlines=n_pairs * width,
            n_bytes_stray=detected.n_bytes_stray,
        )
        yield mark + raw, decoded
        mark = b""


def join_pieces(first: DecodedPiece, second: DecodedPiece) -> DecodedPiece:
    """Two consecutive pieces as one."""
    (raw, before), (more, after) = first, second
    joined = replace(
        before,
        text=before.text + after.text,
        n_bytes=before.n_bytes + after.n_bytes,
        n_bytes_newlines=before.n_bytes_newlines + after.n_bytes_newlines,
    )
    return raw + more, joined


def _cut_pieces(file: BinaryIO, size: int) -> Iterator[tuple[bytes, bool]]:
    """The rest of a file in pieces, each with whether it is the last."""
    held = file.read(size)
    while more := file.read(size):
        edge = held.rfind(b"\n") + 1 or len(held)
        yield held[:edge], False
        held = held[edge:] + more
    yield held, True


def _make_decoder(detected: DetectedEncoding, name: str) -> Callable[[bytes, bool], str]:
    """A function from bytes, and whether they are the last, to text. It raises TextUnreadable."""
    if detected.how == "as cp1252":
        return lambda data, is_last: read_cp1252(data)
    if detected.how == "with stray bytes":
        escaping = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        return lambda data, is_last: STRAY.sub(lambda match: as_cp1252(match[0]), escaping.decode(data, is_last))
    decoder, n_read = codecs.getincrementaldecoder(detected.encoding)(), len(detected.mark)

    def decode_more(data: bytes, is_last: bool) -> str:
        nonlocal n_read
        n_read += len(data)
        try:
            text = decoder.decode(data, is_last)
        except UnicodeDecodeError as error:
            raise _undecodable(name, detected.encoding, error, n_read - len(error.object) + error.start) from None
        if detected.how == "as asked" and (half := re.search("[\ud800-\udfff]", text)):
            raise TextUnreadable(
                f"{name} read as {detected.encoding} contains half a character (U+{ord(half[0]):04X}).",
                hint='Use the encoding "auto", or name another one (--encoding).',
            )
        return text

    return decode_more


def _undecodable(name: str, codec: str, error: UnicodeDecodeError, offset: int) -> TextUnreadable:
    return TextUnreadable(
        f"{name} is not {codec} throughout: byte {offset:,} (0x{error.object[error.start]:02X}) cannot be decoded "
        f"({error.reason}).",
        hint='The file may be damaged or incomplete. Otherwise use the encoding "auto", or name another one.',
    )


def _convert_newlines(text: str) -> tuple[str, int]:
    """The text with "\\n" line ends, and how many of them were two characters before."""
    n_pairs = text.count("\r\n")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text, n_pairs


def _width_of_return(encoding: str) -> int:
    """Bytes of one more "\\r"; some encodings begin every string with an escape sequence, which is not counted."""
    return len("\r\r".encode(encoding)) - len("\r".encode(encoding))


def measure_bytes(data: bytes, decoded: DecodedText, start: int, end: int) -> int:
    """Bytes of the whole lines `decoded.text[start:end]` in `data`, without the newline bytes that were removed.

    Encoding them again is exact for Unicode encodings, and if a newline is not the byte 0x0A (EBCDIC). It would be
    wrong for a text in two encodings or with escape sequences: there the lines are counted in the bytes.
    """
    text, encoding = decoded.text, decoded.encoding
    is_exact = encoding in {codec for _, codec in BYTE_ORDER_MARKS} and not decoded.n_bytes_stray
    if is_exact or "a\n".encode(encoding)[-2:] != b"a\n":
        return len(text[start:end].encode(encoding))
    body = data[decoded.n_bytes_bom :].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    first, n_lines = text.count("\n", 0, start), text.count("\n", start, end)
    *lines, rest = body.split(b"\n", first + n_lines)[first:]
    return sum(map(len, lines)) + n_lines + (len(rest) if end == len(text) else 0)
