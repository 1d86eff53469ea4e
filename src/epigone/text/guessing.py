"""Bytes → what they look like: a PNG, UTF-16 without a mark, a Western European language. Nothing here decides.

Each function answers one question about bytes and says "" or False when the evidence is thin; `reading` asks them in
order and tells the user what was decided and why.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

import charset_normalizer

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


def name_binary(data: bytes) -> str:
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
