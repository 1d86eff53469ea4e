"""The quick ways of reading give what the thorough ones give."""

from __future__ import annotations

import gc
import io
import random
import re
from collections.abc import Callable
from pathlib import PurePosixPath

import pytest

from epigone.corpus.corpus import collecting_seldom
from epigone.corpus.encoding import DecodedText, decode, read_pieces
from epigone.corpus.furniture.contents import find_listings, name_listing
from epigone.corpus.furniture.spans import Lines
from epigone.corpus.readers import formats, layout, markdown
from epigone.corpus.readers.formats import FORMATS, find_format
from epigone.corpus.readers.layout import ITALIC, ITALIC_END
from epigone.corpus.readers.markdown import MARKDOWN
from epigone.corpus.readers.reader import Beginning, find_suffix
from epigone.errors import TextError, TextUnreadable
from fuzz_seeds import make_seeds


def draw(generator: random.Random, signs: str, length: int = 12) -> str:
    """A short text of some signs."""
    return "".join(generator.choice(signs) for _ in range(generator.randrange(length)))


def test_whether_italics_are_well_placed_is_found_as_by_the_regular_expression() -> None:
    generator = random.Random(1)
    texts = [draw(generator, f"ab  {ITALIC}{ITALIC_END}\xa0\n\u200e") for _ in range(4_000)]
    assert len({layout._is_well_placed(text) for text in texts}) == 2
    for text in texts:
        if "\n" not in text:  # "$" also matches before the last one
            assert layout._is_well_placed(text) is not bool(layout.MISPLACED.search(text)), ascii(text)


def test_what_is_not_seen_is_removed_as_by_the_regular_expression() -> None:
    generator = random.Random(2)
    texts = [draw(generator, "aé \t\n\r\f\x01\x7f\xa0\xad\u200b\u200e\ufeff\ue001") for _ in range(2_000)]
    for text in texts:
        assert layout.drop_invisible(text) == layout.INVISIBLE.sub("", text), ascii(text)


SLOW_PATTERNS = {
    "LINK": re.compile(rf"(?<!!)\[([^\[\]\n]*(?:\n[^\[\]\n]+)?)\]{markdown.ADDRESS}"),
    "STRONG": re.compile(
        r"\*\*(?=\S)((?:[^*\n]|\*(?!\*))+)(?<=\S)\*\*|(?<!\w)__(?=\S)((?:[^_\n]|_(?!_))+)(?<=\S)__(?!\w)"
    ),
    "ITALIC": re.compile(r"(?<![*\w\\])\*(?=[^\s*])([^*\n]*(?:\n[^*\n]+)*)(?<=[^\s\\])\*(?![*\w])"),
    "CODE": re.compile(r"(?<!`)(`{1,3})(?!`)([^`\n]+)(?<!`)\1(?!`)"),
}


@pytest.mark.parametrize(
    ("name", "signs"), [("LINK", "ab![]]() \n"), ("STRONG", "a *_\n*_b"), ("ITALIC", "a *\\\n*_"), ("CODE", "a`\n` ")]
)
def test_what_markdown_marks_is_found_as_by_patterns_that_look_behind_first(name: str, signs: str) -> None:
    generator, quick, n_found = random.Random(3), getattr(markdown, name), 0
    for _ in range(3_000):
        text = draw(generator, signs, 16)
        found = [(match.span(), match.groups()) for match in SLOW_PATTERNS[name].finditer(text)]
        assert found == [(match.span(), match.groups()) for match in quick.finditer(text)], text
        n_found += len(found)
    assert n_found > 10


@pytest.mark.parametrize(
    "heading",
    ["CONTENTS", "_Contents._", "Inhaltsverzeichnis", "Table des Matières", "ÍNDICE", "СОДЕРЖАНИЕ", "LIST OF PLATES"],
)
@pytest.mark.parametrize("change", ["ss", "sſ", "iİ", "Iı"])
def test_a_heading_is_looked_at_however_it_is_written(heading: str, change: str) -> None:
    heading = heading.replace(*change)
    entries = "".join(f"{number}. Chapter {number} ..... {number * 10}\n" for number in range(1, 9))
    lines = Lines(f"A Book\n\n{heading}\n\n{entries}\nIt rained.\n")
    assert bool(name_listing(heading)) == bool(list(find_listings(lines)))


def test_a_small_file_is_decoded_as_a_large_one_is() -> None:
    samples = ["Über\r\nallen\rGipfeln\n".encode(name) for name in ("utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-32")]
    samples += [
        b"a\x00b\x00",
        b"MZ it is",
        b"MZ\x00\x01\x02",
        b"%PDF-1.4",
        b"a\x07" * 9,
        b"x" * 257 + b"ustar",
        b"a" * 60 + b"BOOKMOBI",
    ]

    def try_decoding(decode: Callable[[bytes], DecodedText], data: bytes) -> object:
        try:
            return decode(data)
        except TextError as error:
            return str(error), error.hint

    def decode_in_pieces(data: bytes) -> DecodedText:
        ((_, found),) = read_pieces(io.BytesIO(data), name="x", size=1_000)
        return found

    for data in samples:
        assert try_decoding(lambda data: decode(data, name="x"), data) == try_decoding(decode_in_pieces, data)


@pytest.mark.parametrize("name", ["a.TXT", "b/a.tar.gz", "b.md/a", ".hidden", "a.", "..a", "b/.a.md", "a b.Html", ""])
def test_the_ending_of_a_name_is_that_of_its_path(name: str) -> None:
    assert find_suffix(name) == PurePosixPath(name).suffix.lower()


@pytest.mark.parametrize("text", ["", "\n", " \n\t\n  a b \nc", "a", "\x0b\n\u2003x", "\n\na\r\nb"])
def test_the_first_line_is_the_first_of_the_lines(text: str) -> None:
    beginning = Beginning(io.BytesIO(text.encode()), "x")
    assert [beginning.first_line] == (beginning.lines[:1] or [""])


def test_the_format_is_found_that_is_found_if_all_are_tried() -> None:
    n_found = n_passed = 0
    for name, data in (document for found in make_seeds().values() for document in found):
        for before in (b"", b"\n \t", b"\xef\xbb\xbf"):
            beginning = Beginning(io.BytesIO(before + data), name)
            first = next((one for one in FORMATS if one.recognise(beginning)), None)
            assert find_format(io.BytesIO(before + data), name) is first, (name, before)
            n_found += first is not None
            n_passed += len(FORMATS) - len(formats._list_possible(beginning.first_sign, False))
    assert n_found > 60 and n_passed > 1_000


def test_a_post_about_a_format_is_a_post() -> None:
    about = b"The first part of every book says application/epub+zip, and this one has a <FictionBook> in it.\n" * 9
    assert find_format(io.BytesIO(about), "about.md") is MARKDOWN
    assert find_format(io.BytesIO(about), "about.txt") is None


@pytest.mark.parametrize("threshold", [0, 700, 50_000])
def test_memory_is_collected_as_before_once_a_text_is_read_or_refused(threshold: int) -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(threshold, 11, 12)
        with pytest.raises(TextUnreadable), collecting_seldom():
            assert gc.get_threshold() == (threshold and max(threshold, 20_000), 11, 12)
            raise TextUnreadable("no text", hint="none")
        assert gc.get_threshold() == (threshold, 11, 12)
    finally:
        gc.set_threshold(*before)
