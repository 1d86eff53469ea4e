"""Hostile input: any bytes, names, links, prompts and settings are read, or refused with one error."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Counting
from epigone.cli.terminal import print_piece
from epigone.corpus.corpus import ReceiptBuilder, join_near_boilerplate, read_corpus
from epigone.corpus.encoding import decode, measure_bytes, read_pieces
from epigone.corpus.gutenberg import GutenbergCleaner, strip_boilerplate
from epigone.corpus.large_text import DiskText, TextSpooler, read_blocks, slice_text
from epigone.errors import EpigoneError, OutputError, TextNotFound, TextUnreadable
from epigone.runs.folder import RunFolder
from epigone.settings import ReadSettings, TrainSettings, make_settings, read_settings
from helpers_front import command, shared_run, sonnets, write_sonnets

START = "The Project Gutenberg EBook of Ö\n\n*** START OF THE PROJECT GUTENBERG EBOOK Ö ***\n\n"
END = "\n\n*** END OF THE PROJECT GUTENBERG EBOOK Ö ***\n\nProject Gutenberg's licence\n"
WORDS = ["word ", "é", "’", "\n", "\r\n", "\r", "\n\n", "<|endoftext|>", "\u3042", "\U0001f600", "\0"]
ENCODINGS = ["auto", "utf-8", "utf-16", "utf-16-be", "cp1252", "shift_jis", "gb18030", "utf-7", "iso2022_jp_2"]


# -- bytes


@given(data=st.binary(min_size=1, max_size=400), encoding=st.sampled_from(ENCODINGS), size=st.integers(1, 60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_in_pieces_are_the_same_text_or_the_same_error(data: bytes, encoding: str, size: int) -> None:
    assert _read_in_pieces(data, encoding, size) == _read_in_pieces(data, encoding, 1_000)


@given(
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=60),
    encoding=st.sampled_from(["utf-8", "utf-16", "cp1252", "gb18030", "utf-8-sig"]),
    size=st.integers(1, 60),
)
@settings(max_examples=300, deadline=None)
def test_any_text_in_pieces_is_the_same_text(words: list[str], encoding: str, size: int) -> None:
    data = ("a" + "".join(words)).encode(encoding, "ignore")
    assert _read_in_pieces(data, encoding, size) == _read_in_pieces(data, encoding, 10_000)


def _read_in_pieces(data: bytes, encoding: str, size: int) -> tuple[str, ...]:
    try:
        pieces = list(read_pieces(io.BytesIO(data), name="x", encoding=encoding, size=size))
    except EpigoneError as error:
        assert error.hint
        return (type(error).__name__, str(error))
    assert b"".join(raw for raw, _ in pieces) == data
    decoded = [piece for _, piece in pieces]
    assert sum(piece.n_bytes for piece in decoded) == len(data)
    counts = [sum(getattr(piece, name) for piece in decoded) for name in ("n_bytes_bom", "n_bytes_newlines")]
    text = "".join(piece.text for piece in decoded)
    return (text, decoded[0].encoding, decoded[0].reason, decoded[0].warning, *map(str, counts))


@pytest.mark.slow
def test_very_many_bytes_give_a_text_whose_bytes_add_up_or_an_error(counting: Counting) -> None:
    with counting("any bytes as a text") as tries:

        @given(st.binary(max_size=5_000))
        @settings(
            max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
        )
        def read(data: bytes) -> None:
            with suppress(EpigoneError), tries.one():
                decoded = decode(data, name="x")
                middle = decoded.text.find("\n") + 1
                parts = [measure_bytes(data, decoded, *span) for span in ((0, middle), (middle, len(decoded.text)))]
                assert sum(parts) + decoded.n_bytes_bom + decoded.n_bytes_newlines == len(data)

        read()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252", "shift_jis", "gb18030", "utf-7", "cp037", "rot13"])
def test_a_text_with_a_wrong_encoding_is_read_or_refused(tmp_path: Path, counting: Counting, encoding: str) -> None:
    with counting("a text said to be in another encoding than its own") as tries:
        for own in ("utf-8", "utf-16", "cp1252", "latin-1", "shift_jis"):
            (tmp_path / "text.txt").write_bytes((sonnets(3_000) + "Größe, naïve, 120 €").encode(own, "ignore"))
            with suppress(EpigoneError), tries.one():
                read_corpus([str(tmp_path / "text.txt")], ReadSettings(encoding=encoding))
        assert tries.n_read + tries.n_refused == tries.n_tried == 5


@pytest.mark.parametrize("size", [110_000, 250_000])
@pytest.mark.parametrize(
    "text",
    [
        START + sonnets(90_000) * 3 + END,
        (START + sonnets(90_000) * 3 + END) * 3,
        sonnets(90_000) * 3 + END + "and this goes on behind it\n" * 40_000,
        START + sonnets(90_000) * 2 + END + "and this goes on behind it\n" * 40_000,
        sonnets(90_000) * 4,
    ],
)
def test_boilerplate_is_cut_from_pieces_as_from_the_whole(text: str, size: int) -> None:
    data = text.encode()
    builder = ReceiptBuilder(GutenbergCleaner())
    pieces = list(join_near_boilerplate(read_pieces(io.BytesIO(data), name="x", size=size)))
    kept = "".join(builder.add(piece) for piece in pieces)
    whole, cuts = strip_boilerplate(text)
    assert kept == whole and builder.cuts == cuts
    assert len(pieces) > 1
    receipt = builder.finish("x")
    assert receipt.n_bytes_cut + receipt.n_bytes_kept == len(data) and receipt.n_bytes_kept == len(whole.encode())


@given(
    text=st.text(st.sampled_from("aé\u3042\U0001f600\n"), max_size=200).map(lambda text: text * 300),
    sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=5),
    spans=st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 60_000)), min_size=1),
)
@settings(max_examples=50, deadline=None)
def test_a_text_on_disk_equals_the_string(text: str, sizes: list[int], spans: list[tuple[int, int]]) -> None:
    store, place = TextSpooler(held_characters=0), 0
    store.add("x" * 50_000)
    before = store.finish()
    for number in range(10_000):
        size = sizes[number % len(sizes)]
        store.add(text[place : place + size])
        place += size
        if place >= len(text):
            break
    stored = store.finish()
    assert isinstance(before, DiskText) and str(before) == "x" * 50_000
    assert len(stored) == len(text) and str(stored) == text
    for start, end in (sorted(min(place, len(text)) for place in span) for span in spans):
        stretch = slice_text(stored, start, end)
        assert stored[start:end] == str(stretch) == "".join(read_blocks(stretch, 777)) == text[start:end]


def test_texts_stay_in_memory_up_to_a_limit() -> None:
    store = TextSpooler(held_characters=10)
    kinds = []
    for text in ("12345", "1234567890", "12345", "1"):
        store.add(text)
        kinds.append(type(store.finish()))
    assert kinds == [str, DiskText, str, DiskText]


def test_a_full_disk_is_one_of_our_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = TextSpooler(tmp_path / "file" / "below", held_characters=0)
    with pytest.raises(OutputError, match="cannot be stored in"):
        store.add("text")


# -- pipes, devices and circular links


def test_a_pipe_or_a_device_is_refused_without_waiting(tmp_path: Path, counting: Counting) -> None:
    os.mkfifo(tmp_path / "pipe")
    devices = (tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "a device"), (Path("/dev/null"), "a device")
    with counting("a pipe or a device as a text") as tries:
        for path, kind in devices:
            with pytest.raises(TextUnreadable, match=kind), tries.one():
                read_corpus([str(path)])


def test_circular_links_are_not_followed(tmp_path: Path, counting: Counting) -> None:
    write_sonnets(tmp_path)
    for name in ("a", "b", "c"):
        (tmp_path / name).symlink_to(tmp_path)
    with counting("links in circles") as tries:
        for pattern in ("", "/**/*.txt", "/**", "/*"):
            with tries.one():
                assert len(read_corpus([f"{tmp_path}{pattern}"]).documents) == 1
        (tmp_path / "self").symlink_to("self")
        with pytest.raises(TextNotFound, match="broken link"), tries.one():
            read_corpus([str(tmp_path / "self")])


@pytest.mark.parametrize(("inner", "kind"), [("word/document.xml", "document type"), ("mimetype", "e-book")])
def test_a_hostile_zipped_document_is_named_and_never_unpacked(
    tmp_path: Path, counting: Counting, inner: str, kind: str
) -> None:
    with zipfile.ZipFile(tmp_path / "book.txt", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(inner, "application/epub+zip" if kind == "e-book" else "<!DOCTYPE x [<!ENTITY a 'b'>]>" * 100)
    with counting("an archive as a text") as tries, pytest.raises(TextUnreadable, match=kind), tries.one():
        read_corpus([str(tmp_path / "book.txt")])


# -- names


def test_control_characters_in_a_name_are_not_printed(tmp_path: Path) -> None:
    path = tmp_path / "evil\x1b]0;owned\x07\x1b[31m.txt"
    path.write_bytes(b"")
    outcome = command("plan", path)
    assert outcome.code == 2 and "\x1b" not in outcome.err and "␛" in outcome.err


def test_a_name_may_be_any_bytes(tmp_path: Path, counting: Counting) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    with open(path, "w") as file:  # noqa: PTH123  # the name is bytes
        file.write(sonnets(5_000))
    with counting("a name that is not UTF-8") as tries:
        with tries.one():
            document = read_corpus([os.fsdecode(path)]).documents[0]
            assert document.name == "caf\\udce9.txt" == document.receipt.name.encode().decode()
        with pytest.raises(OutputError, match="not a valid UTF-8 name"), tries.one():
            RunFolder.create(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")))


# -- prompts


def test_any_prompt_is_followed_or_refused(counting: Counting) -> None:
    with counting("any prompt") as tries:

        @given(st.text(st.characters(codec=None), max_size=40))
        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        def follow(prompt: str) -> None:
            try:
                with tries.one():
                    (text,) = shared_run().write(prompt, length=2)
            except TextUnreadable as error:
                assert any("\ud800" <= letter <= "\udfff" for letter in prompt) and error.hint
            else:
                assert isinstance(text, str)

        follow()


@pytest.mark.parametrize("prompt", ["\x1b]0;x\x07", "\0\0", "a" * 1_000_000, "\udcff", "\u202e", "<|endoftext|>" * 99])
def test_odd_prompts_are_continued(counting: Counting, prompt: str) -> None:
    def follow() -> int:
        outcome = command("write", shared_run().path, "--length", "3", "--prompt", prompt, "--json")
        assert outcome.code == (2 if prompt == "\udcff" else 0), outcome.err
        assert "Traceback" not in outcome.err
        return outcome.code

    with counting("any prompt") as tries:
        tries.end(follow)


def test_control_characters_from_a_model_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    print_piece("red \x1b[31m and a bell\x07\nnext\tline")
    assert sys.stdout.getvalue() == "red ␛[31m and a bell␇\nnext\tline"


# -- settings


FILES = st.binary(max_size=300) | st.text(max_size=100).map(lambda text: f"epochs = {text}".encode("utf-8", "replace"))


def test_any_settings_file_is_read_or_refused(tmp_path: Path, counting: Counting) -> None:
    path = tmp_path / "odd.toml"
    with counting("any bytes as a settings file") as tries:

        @given(FILES)
        @settings(max_examples=200, deadline=None)
        def read(data: bytes) -> None:
            path.write_bytes(data)
            try:
                with tries.one():
                    make_settings(TrainSettings, read_settings(path, TrainSettings))
            except EpigoneError as error:
                assert error.hint and len(str(error)) < 1_000

        read()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_any_values_are_settings_or_refused(counting: Counting) -> None:
    names = st.sampled_from(sorted(TrainSettings.model_fields)) | st.text(max_size=9)
    with counting("any names and values as settings") as tries:

        @given(st.dictionaries(names, VALUES, max_size=4))
        @settings(max_examples=300, deadline=None)
        def take(values: dict[str, object]) -> None:
            try:
                with tries.one():
                    make_settings(TrainSettings, values, source="a file")
            except EpigoneError as error:
                assert error.hint

        take()


# -- size


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: b"a" * (1 << 20), lambda: b"word " * (1 << 18)], ids=["a run", "words"])
def test_a_line_of_a_gigabyte_is_read_in_little_memory(
    tmp_path: Path, counting: Counting, make: Callable[[], bytes]
) -> None:
    path, block = tmp_path / "line.txt", make()
    with path.open("wb") as file:
        for _ in range((1 << 30) // len(block)):
            file.write(block)
    before = _read_anonymous_mib()
    with counting("a line of a gigabyte, in less than 200 MiB") as tries, tries.one():
        corpus = read_corpus([str(path)], folder=tmp_path)
        assert corpus.documents[0].receipt.longest_line == corpus.n_characters > 1_000_000_000
        assert _read_anonymous_mib() - before < 200


def _read_anonymous_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))
