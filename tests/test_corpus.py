"""A corpus: documents, each with a receipt that adds up, and one fingerprint of their content."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epigone.corpus.corpus import SMALLEST_CORPUS, FileReceipt, read_corpus, read_document
from epigone.corpus.sources import Source
from epigone.errors import TextNotFound, TextTooShort, TextUnreadable
from epigone.report.views import describe_files
from epigone.settings import ReadSettings

DATA = Path(os.environ.get("EPIGONE_TEST_DATA", Path(__file__).parents[1] / "../shared/data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no texts at EPIGONE_TEST_DATA")

PROSE = "Der Mond ist aufgegangen, die goldnen Sternlein prangen am Himmel hell und klar; schön ist's, früh.\n" * 25
HEADER = "The Project Gutenberg EBook of Ö\n\n*** START OF THE PROJECT GUTENBERG EBOOK Ö ***\n\n"
LICENCE = "\n\n*** END OF THE PROJECT GUTENBERG EBOOK Ö ***\n\nProject Gutenberg’s licence\n"
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write text or bytes to a file and return its path."""

    def write(name: str, content: str | bytes = PROSE) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def read_bytes(data: bytes, encoding: str = "auto") -> tuple[str, FileReceipt]:
    document = read_document(Source(name="poem.txt", read=lambda: data), ReadSettings(encoding=encoding))
    return document.text, document.receipt


def assert_adds_up(receipt: FileReceipt) -> None:
    parts = receipt.n_bytes_bom, receipt.n_bytes_newlines, receipt.n_bytes_cut, receipt.n_bytes_kept
    assert sum(parts) == receipt.n_bytes
    assert receipt.n_bytes_cut == sum(cut.n_bytes for cut in receipt.cuts)


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "cp850", "utf-7", "iso2022_jp_2"]


@given(
    text=st.text(st.sampled_from("aß, \n\n\t."), min_size=1).filter(lambda text: not text.isspace()),
    newline=st.sampled_from(["\n", "\r", "\r\n"]),
    encoding=st.sampled_from(ENCODINGS),
    framed=st.booleans(),
)
def test_a_receipt_adds_up_in_every_encoding(text: str, newline: str, encoding: str, framed: bool) -> None:
    text = f"{HEADER}{text}{LICENCE.replace('’', '')}" if framed else text
    data = text.replace("\n", newline).encode(encoding)
    kept, receipt = read_bytes(data, encoding)
    assert_adds_up(receipt)
    assert len(receipt.cuts) == 2 * framed
    assert receipt.n_bytes == len(data)
    if encoding not in ("utf-7", "iso2022_jp_2"):  # in the others a text's bytes are the same wherever it stands
        assert receipt.n_bytes_kept == len(kept.encode(receipt.encoding))


@given(st.lists(st.sampled_from([b"x", "é".encode(), b"\x92", b"\n", b"\r\n"]), max_size=20))
def test_a_receipt_adds_up_when_the_encoding_is_mixed(pieces: list[bytes]) -> None:
    book = "é".encode() * 300 + b"".join(pieces) + b"x"
    data = (HEADER.encode() + book + LICENCE.encode("cp1252")).replace(b"\n", b"\r\n")
    _, receipt = read_bytes(data)
    assert_adds_up(receipt)
    header, licence = receipt.cuts
    assert header.n_bytes == len(HEADER.encode())
    assert licence.n_bytes == len(LICENCE.encode("cp1252")) - 1  # its first newline ends the book's last line


def test_a_receipt_describes_the_file() -> None:
    _, receipt = read_bytes(b"\n  One\r\n\r\nTwo <|endoftext|>\r\n" + b"3" * 100 + b"\r\nFour")
    assert receipt.first_lines == ("One", "Two <|endoftext|>", "3" * 80)
    assert (receipt.n_lines, receipt.longest_line, receipt.n_end_of_text) == (6, 100, 1)
    assert (receipt.encoding, receipt.reason, receipt.warning) == ("utf-8", "valid UTF-8", "")
    assert receipt.n_bytes_newlines == 4


def test_a_receipt_is_json(write: Write) -> None:
    corpus = read_corpus([write("a.txt", HEADER + PROSE + LICENCE)])
    receipt = json.loads(json.dumps(dataclasses.asdict(corpus.documents[0].receipt)))
    assert receipt["cuts"][0]["what"] == "Project Gutenberg's header"


def test_a_folder_is_read_in_order_and_other_files_are_named(write: Write, tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt"):
        write(name)
    for name, content in (("c", b"\x89PNG\r\n\x1a\n\0"), ("d.txt", b""), ("e.txt", b" \n"), ("f.xls", b"PK\x03\x04")):
        write(name, content)
    corpus = read_corpus([str(tmp_path)])
    assert [document.name for document in corpus.documents] == ["a.txt", "b.txt"]
    assert [line.split(" ")[0] for line in corpus.skipped] == ["f.xls", "c", "d.txt", "e.txt"]
    assert "PNG" in corpus.skipped[1] and "empty" in corpus.skipped[2] and "white space" in corpus.skipped[3]


@pytest.mark.parametrize(("content", "error"), [(b"\x89PNG\r\n\x1a\n\0", TextUnreadable), (b"", TextTooShort)])
def test_a_file_that_was_named_must_be_text(write: Write, content: bytes, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"bad\.txt"):
        read_corpus([write("good.txt"), write("bad.txt", content)])


def test_a_folder_of_empty_files_is_an_error(write: Write, tmp_path: Path) -> None:
    write("a.txt", "")
    write("b.txt", "\n\n")
    with pytest.raises(TextNotFound, match=r"No text was found\. a\.txt is empty"):
        read_corpus([str(tmp_path)])


def test_an_unknown_encoding_is_an_error_in_a_folder_too(write: Write, tmp_path: Path) -> None:
    write("a.txt")
    with pytest.raises(TextUnreadable, match="no such encoding"):
        read_corpus([str(tmp_path)], ReadSettings(encoding="windows1252"))


def test_too_little_text_is_an_error_with_the_amount(write: Write) -> None:
    with pytest.raises(TextTooShort, match="1,999 bytes; at least 2,000") as caught:
        read_corpus([write("a.txt", "é" * 499 + "x" * 1_001)])
    assert "Give more text" in caught.value.hint
    assert read_corpus([write("b.txt", "x" * SMALLEST_CORPUS)]).n_bytes == SMALLEST_CORPUS
    with pytest.raises(TextTooShort, match="The text in 2 files is too short"):
        read_corpus([write("c.txt", "x"), write("d.txt", "y")])


def test_boilerplate_can_be_kept(write: Write) -> None:
    file = write("a.txt", HEADER + PROSE + LICENCE)
    assert read_corpus([file]).documents[0].text == PROSE
    kept = read_corpus([file], ReadSettings(keep_boilerplate=True)).documents[0]
    assert kept.text == HEADER + PROSE + LICENCE
    assert kept.receipt.cuts == ()


def test_a_text_of_boilerplate_alone_is_too_short(write: Write) -> None:
    with pytest.raises(TextTooShort, match="only Project Gutenberg"):
        read_corpus([write("a.txt", HEADER + LICENCE)])


def test_sizes_are_those_of_the_remaining_text(write: Write) -> None:
    corpus = read_corpus([write("a.txt", PROSE.encode("utf-16")), write("b.txt", PROSE.replace("\n", "\r\n"))])
    assert corpus.n_characters == 2 * len(PROSE)
    assert corpus.n_bytes == 2 * len(PROSE.encode())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(encoding=st.sampled_from(ENCODINGS), newline=st.sampled_from(["\n", "\r", "\r\n"]), name=st.sampled_from("ab"))
def test_the_fingerprint_is_that_of_the_content(write: Write, encoding: str, newline: str, name: str) -> None:
    plain = read_corpus([write("plain.txt")]).fingerprint
    assert read_corpus(
        [write(name, PROSE.replace("\n", newline).encode(encoding))], ReadSettings(encoding=encoding)
    ).fingerprint == (plain)


def test_different_content_order_or_division_changes_the_fingerprint(write: Write) -> None:
    a, b, joined = write("a.txt", PROSE + "a"), write("b.txt", "b" + PROSE), write("c.txt", PROSE + "ab" + PROSE)
    moved = [write("d.txt", PROSE + "ab"), write("e.txt", PROSE)]
    corpora = [read_corpus(texts) for texts in ([a, b], [b, a], [joined], moved, [a])]
    assert len({corpus.fingerprint for corpus in corpora}) == len(corpora)


def test_the_sonnets_are_read_whole() -> None:
    corpus = read_corpus(["sample:sonnets"])
    assert corpus.documents[0].receipt.cuts == ()
    assert corpus.n_bytes > 90_000


@needs_data
def test_a_french_book_has_one_fingerprint_in_every_encoding(write: Write) -> None:
    book = (DATA / "gutenberg/french-44157-8.txt").read_bytes().decode("iso8859-1").replace("\r\n", "\n")
    fingerprints = set()
    for newline in ("\n", "\r", "\r\n"):
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "iso8859-1"):
            corpus = read_corpus([write("book.txt", book.replace("\n", newline).encode(encoding))])
            assert_adds_up(corpus.documents[0].receipt)
            assert len(corpus.documents[0].receipt.cuts) == 3
            fingerprints.add(corpus.fingerprint)
    assert len(fingerprints) == 1


@needs_data
def test_the_receipt_of_every_available_text_adds_up() -> None:
    texts = [str(DATA / "*.txt"), str(DATA / "gutenberg"), str(DATA / "unseen")]
    corpus = read_corpus(texts, ReadSettings(furniture="keep"))
    assert corpus.skipped == ()
    for document in corpus.documents:
        assert_adds_up(document.receipt)
        assert document.receipt.n_bytes_kept == len(document.text.encode(document.receipt.encoding))
        assert "*** START OF" not in document.text and "*** END OF" not in document.text


def test_a_text_without_line_breaks_is_told_that_it_has_none(tmp_path: Path) -> None:
    paragraph = "It rained again, and nobody went out. " * 30

    def note(text: str) -> list[str]:
        (tmp_path / "a.txt").write_text(text, "utf-8")
        rows = describe_files(read_corpus([str(tmp_path / "a.txt")]).files, ())
        return [row.value for row in rows if row.name.strip() == "note"]

    assert note(paragraph * 20) == ["hardly any line breaks: one line has 22,800 characters"]
    assert note((paragraph * 20 + "\n") * 3)  # a chapter is a line
    assert not note((paragraph + "\n\n") * 20)
    assert not note(paragraph * 20 + "\n\n" + (paragraph + "\n") * 20)  # one long paragraph
    assert not note(paragraph * 3)  # a short text


def test_a_folder_of_programs_is_told_the_pattern_that_reads_them(write: Write, tmp_path: Path) -> None:
    for name in ("a.py", "b.py", "c.js"):
        write(name, "x = 1\n" * 1_000)
    with pytest.raises(TextNotFound) as error:
        read_corpus([str(tmp_path)], ReadSettings())
    assert error.value.hint.endswith(f'or all of them: "{tmp_path}/**/*.py".')
    assert [one.name for one in read_corpus([f"{tmp_path}/**/*.py"], ReadSettings()).documents] == ["a.py", "b.py"]
