"""Bytes become text without losing one, and the reason for the encoding is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from epigone.corpus.encoding import DecodedText, decode, measure_bytes
from epigone.errors import TextTooShort, TextUnreadable

DATA = Path(os.environ.get("EPIGONE_TEST_DATA", Path(__file__).parents[1] / "../shared/data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no texts at EPIGONE_TEST_DATA")

GERMAN = "Über allen Gipfeln ist Ruh, in allen Wipfeln spürest du kaum einen Hauch; die Vögelein schweigen im Walde.\n"
FRENCH = "L’été où elle était née, à l’orée d’une forêt, il gelait déjà : « Ça alors ! » s’écria le père.\n"
RUSSIAN = "Мороз и солнце; день чудесный! Ещё ты дремлешь, друг прелестный, пора, красавица, проснись.\n"
CHINESE = "床前明月光，疑是地上霜。举头望明月，低头思故乡。\n"
JAPANESE = "　古池や、蛙飛びこむ水の音。閑さや、岩にしみ入る蝉の声。\n"
BOMS = {
    "utf-8": b"\xef\xbb\xbf",
    "utf-16-le": b"\xff\xfe",
    "utf-16-be": b"\xfe\xff",
    "utf-32-le": b"\xff\xfe\0\0",
    "utf-32-be": b"\0\0\xfe\xff",
}
CODECS = ("ascii", "cp1252", "iso8859-15", "cp1251", "cp037", "utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-7")
CODECS += ("shift_jis", "euc_jp", "iso2022_jp", "iso2022_kr", "gb18030", "big5", "hz", "johab")


def read(data: bytes, encoding: str = "auto") -> DecodedText:
    return decode(data, name="poem.txt", encoding=encoding)


@pytest.mark.parametrize("encoding", BOMS)
@pytest.mark.parametrize("text", [GERMAN, CHINESE], ids=["German", "Chinese"])
def test_a_byte_order_mark_decides_and_is_not_text(encoding: str, text: str) -> None:
    decoded = read(BOMS[encoding] + text.encode(encoding))
    assert (decoded.text, decoded.encoding, decoded.reason) == (text, encoding, "byte-order mark")
    assert decoded.n_bytes_bom == len(BOMS[encoding])


@pytest.mark.parametrize("encoding", BOMS)
@pytest.mark.parametrize(
    "text", ["Plain words, no accents.\n" * 3, GERMAN, RUSSIAN, CHINESE, CHINESE.replace("\n", ""), JAPANESE * 3]
)
def test_unicode_is_detected_without_a_mark(encoding: str, text: str) -> None:
    decoded = read(text.encode(encoding))
    assert (decoded.text, decoded.encoding, decoded.warning) == (text, encoding, "")


def test_the_sample_may_end_within_a_character() -> None:
    text = "\U0001f600 " * 40_000
    assert read(("x" + text).encode("utf-16-le")).text == "x" + text


@pytest.mark.parametrize("text", [FRENCH, GERMAN, "Señor, ¿qué pasó en el año pasado?\n", "Åsa såg på en ö.\n"])
@pytest.mark.parametrize("times", [1, 100])
def test_western_european_text_is_read_as_cp1252(text: str, times: int) -> None:
    decoded = read((text * times).encode("cp1252"))
    assert (decoded.text, decoded.encoding) == (text * times, "cp1252")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
        (CHINESE, "gb18030"),
        (JAPANESE, "shift_jis"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n", "euc_jp"),
        ("Litwo! Ojczyzno moja! ty jesteś jak zdrowie. Ile cię cenić, ten się dowie, kto cię stracił.\n", "cp1250"),
    ],
)
def test_other_encodings_are_guessed_from_enough_text_and_the_user_is_warned(text: str, encoding: str) -> None:
    decoded = read((text * 50).encode(encoding))
    assert decoded.text == text * 50
    assert "guess" in decoded.warning


def test_stray_cp1252_bytes_in_utf8_are_read_counted_and_shown() -> None:
    decoded = read(FRENCH.encode() * 5 + b"It\x92s a \x93caf\xe9\x94, it\x92s.\n")
    assert decoded.text == FRENCH * 5 + "It’s a “café”, it’s.\n"
    assert decoded.encoding == "utf-8"
    assert "5 bytes" in decoded.warning and "0x92 (’) 2×" in decoded.warning


def test_one_stray_byte_in_a_long_ascii_text_is_cp1252() -> None:
    decoded = read(b"All is well that ends well. " * 200 + b"It\x92s over.")
    assert decoded.text.endswith("It’s over.")
    assert decoded.encoding == "cp1252" and "0x92" in decoded.warning


def test_a_book_in_cp1252_is_not_called_nearly_utf8() -> None:
    assert "UTF-8 except for" not in read((FRENCH * 200).encode("cp1252")).reason


def test_bytes_that_cp1252_leaves_undefined_are_kept_and_counted() -> None:
    decoded = read(b"\x81\x8d\x8f\x90\x9d \xe9\xe8")
    assert decoded.text == "\x81\x8d\x8f\x90\x9d éè"
    assert decoded.encoding == "cp1252" and "5 bytes that cp1252 leaves undefined" in decoded.warning


def test_every_line_end_becomes_one_newline_and_nothing_else_changes() -> None:
    decoded = read("  a\r\nb\rc\n\r\n\fd\u2028e\x85f \u0301 \n\n".encode())
    assert decoded.text == "  a\nb\nc\n\n\fd\u2028e\x85f \u0301 \n\n"
    assert decoded.n_bytes_newlines == 2


def test_newlines_removed_from_utf16_count_two_bytes_each() -> None:
    assert read("\ufeffone, two\r\nthree\r\n".encode("utf-16-le")).n_bytes_newlines == 4


@given(
    text=st.text(st.characters(codec="utf-8"), max_size=60),
    newline=st.sampled_from(["\n", "\r", "\r\n"]),
    encoding=st.sampled_from(CODECS),
    bom=st.booleans(),
)
@example(text="a\n\r\nb", newline="\r\n", encoding="iso2022_kr", bom=False)
@example(text="b", newline="\n", encoding="iso2022_jp", bom=False)
def test_every_byte_is_accounted_for_in_any_encoding(text: str, newline: str, encoding: str, bom: bool) -> None:
    assume(not (encoding.startswith("iso2022") and set(text) & set("\x0e\x0f\x1b")))  # it shifts with these itself
    data = BOMS.get(encoding, b"") * bom + ("a" + text).replace("\n", newline).encode(encoding, "ignore")
    decoded = read(data, encoding)
    middle = decoded.text.find("\n") + 1  # a whole number of lines
    parts = measure_bytes(data, decoded, 0, middle), measure_bytes(data, decoded, middle, len(decoded.text))
    assert sum(parts) + decoded.n_bytes_bom + decoded.n_bytes_newlines == len(data) == decoded.n_bytes
    assert "\r" not in decoded.text


@given(st.lists(st.sampled_from([b"word ", "é’".encode(), b"\x92", b"\xe9t\xe9", b"\x81", b"\r\n", b"\n"])))
def test_every_byte_is_accounted_for_in_mixed_encodings(pieces: list[bytes]) -> None:
    data = b"begin " + b"".join(pieces)
    decoded = read(data)
    middle = decoded.text.find("\n") + 1
    first, second = measure_bytes(data, decoded, 0, middle), measure_bytes(data, decoded, middle, len(decoded.text))
    assert first == len(data.replace(b"\r\n", b"\n").split(b"\n")[0]) + 1 if middle else first == 0
    assert first + second + decoded.n_bytes_newlines == len(data)


@given(st.binary(min_size=1, max_size=300))
@settings(max_examples=200)
def test_any_bytes_are_read_or_refused_in_words(data: bytes) -> None:
    try:
        decoded = read(data)
    except TextUnreadable as error:
        assert error.hint
    else:
        assert "\ufffd" not in decoded.text or "\ufffd" in data.decode(decoded.encoding, "ignore")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "PNG"),
        (b"PK\x03\x04\x14\0\0\0\x08\0word/document.xml", "Word"),
        (b"PK\x03\x04\x14\0\0\0\0\0mimetypeapplication/epub+zip", "epub"),
        (b"PK\x03\x04\x14\0\0\0\x08\0poem.txt", "zip"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        (b"%PDF-1.7\n1 0 obj", "PDF"),
        (b"\x7fELF\x02\x01\x01" + bytes(9), "program"),
        (b"MZ\x90\0\x03\0\0\0\x04\0", "program"),
        (bytes(range(32)) * 20, "control characters"),
    ],
)
def test_binary_files_are_named_and_refused(data: bytes, kind: str) -> None:
    with pytest.raises(TextUnreadable, match=kind) as caught:
        read(data)
    assert "poem.txt" in str(caught.value) and ".txt" in caught.value.hint


def test_a_text_may_begin_like_a_program() -> None:
    assert read(b"MZ was her name.\n").text == "MZ was her name.\n"


def test_an_empty_file_is_too_short() -> None:
    with pytest.raises(TextTooShort, match=r"poem\.txt is empty"):
        read(b"")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "UTF8", "utf-8-sig", "utf_16_be", "cp437"])
def test_the_given_encoding_is_used(encoding: str) -> None:
    text = "Café déjà vu\r\n"
    decoded = read(text.encode(encoding), encoding)
    assert decoded.text == "Café déjà vu\n"
    assert decoded.reason.startswith("asked for")


def test_a_given_utf16_reads_the_same_on_every_machine() -> None:
    assert read("Ruh’ im Walde.".encode("utf-16-be"), "utf-16").text == "Ruh’ im Walde."


def test_an_unknown_encoding_suggests_a_similar_one() -> None:
    with pytest.raises(TextUnreadable, match="no such encoding") as caught:
        read(b"words", "windows1252")
    assert caught.value.hint == 'Did you mean "windows-1252"?'


@pytest.mark.parametrize("encoding", ["hex", "rot13", "", "utf\0", "undefined", "idna", "unicode_escape"])
def test_codecs_that_do_not_decode_bytes_to_text_are_refused(encoding: str) -> None:
    with pytest.raises(TextUnreadable, match="no such encoding"):
        read(b"words", encoding)


@pytest.mark.parametrize(
    ("data", "encoding", "byte"),
    [
        (b"caf\xe9", "utf-8", "byte 3 (0xE9)"),
        (b"\xef\xbb\xbfcaf\xe9!", "utf-8", "byte 6 (0xE9)"),
        (b"ab\x81", "cp1252", "byte 2 (0x81)"),
        ("Some words.".encode("utf-16-le") + b"x", "auto", "byte 22 (0x78)"),
    ],
)
def test_the_error_gives_the_place_of_a_wrong_byte(data: bytes, encoding: str, byte: str) -> None:
    with pytest.raises(TextUnreadable) as caught:
        read(data, encoding)
    assert byte in str(caught.value) and caught.value.hint


def test_half_a_character_is_refused() -> None:
    with pytest.raises(TextUnreadable, match=r"half a character \(U\+D800\)"):
        read(b"+2AA-", "utf-7")


@needs_data
@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("encoding", ["cp1252", *BOMS])
@pytest.mark.parametrize("bom", [False, True])
def test_a_french_book_reads_the_same_in_every_encoding(newline: str, encoding: str, bom: bool) -> None:
    book = (DATA / "gutenberg/french-44157-8.txt").read_bytes().decode("iso8859-1").replace("\r\n", "\n")
    mark = BOMS.get(encoding, b"") if bom else b""
    decoded = read(mark + book.replace("\n", newline).encode(encoding))
    assert (decoded.text, decoded.encoding, decoded.warning) == (book, encoding, "")


@needs_data
def test_every_available_text_is_read_without_a_warning() -> None:
    files = sorted([*DATA.glob("*.txt"), *DATA.glob("gutenberg/*.txt"), *DATA.glob("unseen/*.txt")])
    assert files
    assert {file.name: decode(file.read_bytes(), name=file.name).warning for file in files} == {
        file.name: "" for file in files
    }
