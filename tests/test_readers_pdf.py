"""PDF gives paragraphs and verse as they were before they were printed, and its process can do no harm."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from epigone.corpus.corpus import Corpus, read_corpus
from epigone.corpus.readers import limits, pdf
from epigone.corpus.readers.layout import ITALIC, ITALIC_END, join_blocks
from epigone.corpus.readers.print_layout import Run, build_lines, drop_furniture, join_pages
from epigone.corpus.readers.reader import DropLog
from epigone.errors import TextUnreadable, quote_command
from epigone.settings import ReadSettings

needs_pdf = pytest.mark.skipif(find_spec("pypdfium2") is None, reason="pypdfium2 is not installed")

SIZE, LETTER = 10.0, 6.0
"""As of Courier: each letter is six tenths of the size wide."""
MARGIN, WIDTH, TOP, SPACING = 72.0, 60, 720.0, 12.0
PROSE = (
    "It was the best of rooms, and the worst of mornings; the kettle had been singing to itself for an hour before "
    "anyone came down, and nobody had thought of the cat. When she did come in she said nothing at all.",
    "He looked up from the letter. There was, he thought, a well-known way of saying such things, and it was not this "
    "one; but he had forgotten it, as he forgot everything that he had been taught with care.",
    "And so they went on, the two of them, with the window open and the rain coming in over the sill, until the "
    "evening came and it was time to light the lamp.",
)


def typeset(text: str, x: float = MARGIN, y: float = TOP, size: float = SIZE) -> Run:
    """One line, its letters as wide as Courier's."""
    letter = 0.6 * size
    word = len(text.split(" ")[0])
    return Run(x, x + letter * len(text.rstrip()), x + letter * word, x + letter * (word + 1), y, size, text)


def typeset_lines(lines: Iterable[str], y: float = TOP, x: float = MARGIN) -> list[Run]:
    """Lines under each other; leading spaces indent, an empty line is a gap."""
    found = []
    for number, line in enumerate(lines):
        if line.strip():
            n_spaces = len(line) - len(line.lstrip())
            found.append(typeset(line.lstrip(), x + LETTER * n_spaces, y - SPACING * number))
    return found


def wrap(*paragraphs: str, indent: str = "   ", gap: bool = False, width: int = WIDTH) -> list[str]:
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += textwrap.wrap(paragraph, width, initial_indent=indent, break_on_hyphens=False) + [""] * gap
    return lines


def read_pages(*pages: Sequence[Run], drops: DropLog | None = None) -> str:
    drops = drops or DropLog()
    found = [build_lines(page, number, drops) for number, page in enumerate(pages)]
    drop_furniture(found, drops)
    return join_blocks(join_pages(found, [2 * MARGIN + LETTER * WIDTH] * len(pages)))


def list_dropped(drops: DropLog) -> dict[str, tuple[int, str]]:
    return {part.what: (part.count, part.example) for part in drops.list()}


def test_without_the_package_it_says_how_to_read_this_very_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "find_spec", lambda name: None)
    (tmp_path / "my book.pdf").write_bytes(b"%PDF-1.4\n" + b"1 0 obj\n" * 400)
    with pytest.raises(TextUnreadable) as caught:
        read_corpus([str(tmp_path / "my book.pdf")], ReadSettings())
    assert caught.value.hint.endswith(quote_command("pdftotext", "my book.pdf"))


# -- lines to paragraphs and verse


@pytest.mark.parametrize(("indent", "gap"), [("   ", False), ("", True), ("   ", True)])
def test_paragraphs_are_found_by_indents_and_by_gaps(indent: str, gap: bool) -> None:
    assert read_pages(typeset_lines(wrap(*PROSE, indent=indent, gap=gap))) == "\n\n".join(PROSE) + "\n"


def test_paragraphs_without_either_are_found_by_their_short_last_lines() -> None:
    assert read_pages(typeset_lines(wrap(*PROSE, indent=""))) == "\n\n".join(PROSE) + "\n"


def test_a_paragraph_goes_on_over_the_end_of_a_page() -> None:
    lines = wrap(*PROSE, *PROSE)
    pages = [typeset_lines(lines[:6]), typeset_lines(lines[6:11]), typeset_lines(lines[11:])]
    assert read_pages(*pages) == "\n\n".join((*PROSE, *PROSE)) + "\n"


def test_a_speech_begins_at_the_top_of_a_page_though_the_last_line_before_is_full() -> None:
    full = "Jack. " + "rain " * 10 + "too."
    assert len(full) == WIDTH
    speeches = [f"Ann. {PROSE[0]}", f"Jack. {PROSE[2]}"] * 5
    for following in ("Ann. Why not, if I may ask?", "Perhaps. Nobody could tell."):
        pages = [
            typeset_lines(wrap(*part, indent="", gap=True)) for part in ([*speeches, full], [following, *speeches])
        ]
        between = "\n\n" if following.startswith("Ann") else " "  # "Perhaps" speaks nowhere else
        expected = "\n\n".join([*speeches, f"{full}{between}{following}", *speeches])
        assert read_pages(*pages) == f"{expected}\n"


def test_verse_keeps_its_lines_stanzas_and_indents() -> None:
    stanza = ["Tyger Tyger, burning bright,", "  In the forests of the night;", "What immortal hand or eye,"]
    verse = [*stanza, "", *reversed(stanza), "", *stanza]
    assert read_pages(typeset_lines(verse)) == "\n".join(verse) + "\n"
    first, second = typeset_lines(verse[:6]), typeset_lines(verse[6:], y=TOP)  # a page ends in the second stanza
    assert read_pages(first, second) == "\n".join(verse) + "\n"


def test_a_scene_break_is_a_larger_gap() -> None:
    lines = [*wrap(*PROSE[:2]), "", "", *wrap(PROSE[2])]
    assert read_pages(typeset_lines(lines)) == f"{PROSE[0]}\n\n{PROSE[1]}\n\n\n{PROSE[2]}\n"


def test_a_divided_word_is_joined_and_a_hyphen_stays() -> None:
    lines = ["   The window was open and the rain came in, and then the eve-"]
    lines += ["ning went, and she put out the light that had been so well-", "known.", "   A well-known evening."]
    text = "The window was open and the rain came in, and then the evening went, and she put out the light that had "
    assert read_pages(typeset_lines(lines)) == f"{text}been so well-known.\n\nA well-known evening.\n"


def test_italics_are_marked() -> None:
    words = [
        typeset("He said "),
        typeset(f"{ITALIC}never{ITALIC_END}", MARGIN + 8 * LETTER),
        typeset(" again.", MARGIN + 13 * LETTER),
    ]
    assert read_pages(words) == "He said _never_ again.\n"


# -- what is around the text


def test_heads_feet_and_page_numbers_are_dropped_and_counted() -> None:
    drops, pages = DropLog(), []
    for number in range(6):
        head = "THE KETTLE" if number % 2 else "Chapter One"
        page = [
            typeset(head, 200.0, 760.0),
            *typeset_lines(wrap(PROSE[number % 3])),
            typeset(f"- {number + 7} -", 250.0, 40.0),
        ]
        pages.append(page)
    assert read_pages(*pages, drops=drops) == "\n\n".join((*PROSE, *PROSE)) + "\n"
    assert list_dropped(drops) == {"page numbers": (6, "- 7 -"), "running heads": (6, "Chapter One")}


def test_numbers_that_count_no_pages_and_lines_that_repeat_in_the_text_stay() -> None:
    pages = [[*typeset_lines(wrap(PROSE[i])), typeset(str(number), y=600.0)] for i, number in enumerate((1812, 4, 77))]
    assert [word for word in ("1812", "4", "77") if f"\n{word}\n" in read_pages(*pages)] == ["1812", "4", "77"]
    refrain = [
        typeset_lines([f"{word} went down to the sea,", "And the sea came in again."]) for word in ("He", "She", "They")
    ]
    assert read_pages(*refrain).count("And the sea came in again.") == 3


def test_a_short_line_of_dialogue_at_the_edge_of_pages_stays() -> None:
    answer, drops = "“Yes, sir.”", DropLog()
    pages = [
        typeset_lines(wrap("A SUITOR", *PROSE[:number], answer, answer, answer, indent="", gap=True), y=TOP + 40)
        for number in (1, 2, 3)
    ]
    assert read_pages(*pages, drops=drops).count(answer) == 9
    assert list_dropped(drops) == {"running heads": (3, "A SUITOR")}


def test_footnotes_and_their_marks_are_dropped_and_counted() -> None:
    drops, lines = DropLog(), typeset_lines(wrap(*PROSE))
    end = next(run for run in lines if run.text.endswith("letter. There was,") or "letter." in run.text)
    mark = Run(end.right, end.right + 3, end.right + 3, end.right + 3, end.y + 4, 6.0, "1")
    note = [
        Run(MARGIN, MARGIN + 3, MARGIN + 3, MARGIN + 3, 104.0, 6.0, "1"),
        typeset("Of her aunt.", MARGIN + 4, 100.0, 8.0),
    ]
    assert read_pages([*lines, mark, *note], drops=drops) == "\n\n".join(PROSE) + "\n"
    assert list_dropped(drops) == {"footnote marks": (2, "1"), "footnotes": (1, "Of her aunt.")}


def test_tables_of_contents_with_dots_are_dropped() -> None:
    drops = DropLog()
    contents = typeset_lines(
        ["CONTENTS", "The Kettle ......................... 3", "The Lamp . . . . . . . . . . . xii"]
    )
    assert read_pages(contents, typeset_lines(wrap(*PROSE)), drops=drops) == "\n\n".join(("CONTENTS", *PROSE)) + "\n"
    assert list_dropped(drops)["tables of contents"][0] == 2


def test_columns_are_read_one_after_the_other() -> None:
    left, right = wrap(*PROSE, width=30), wrap(*reversed(PROSE), width=30)
    runs = typeset_lines(left) + typeset_lines(right, x=MARGIN + 34 * LETTER)
    mixed = sorted(runs, key=lambda run: -run.y)
    title = typeset("A title that goes across both of the columns of the page", y=TOP + 40)
    expected = "\n\n".join((title.text, *PROSE, *reversed(PROSE))) + "\n"
    assert read_pages([title, *mixed]) == expected


def test_a_large_first_letter_belongs_to_its_line() -> None:
    lines = [
        "T WAS the best of rooms, and the worst of mornings; the cat",
        "slept on the sill, and nobody came down to see the rain, or",
    ]
    runs = [*typeset_lines(lines, x=MARGIN + 24), typeset("heard it.", MARGIN, TOP - 2 * SPACING)]
    capital = Run(MARGIN, MARGIN + 22, MARGIN + 22, MARGIN + 22, TOP - SPACING, 30.0, "I")
    assert read_pages([capital, *runs]).startswith(
        "IT WAS the best of rooms, and the worst of mornings; the cat slept on"
    )


def test_pages_of_nonsense_take_linear_time() -> None:
    seconds = []
    for n in (500, 4_000):
        runs = [
            Run(i % 97, i % 97 + 3, i % 97 + 3, 0.0, i % 89, 1 + i % 31, "I" if i % 3 else "." * 50) for i in range(n)
        ]
        long = Run(0.0, 9.0, 9.0, 9.0, 5.0, 9.0, "a" * 50 * n + "-")
        start = time.process_time()
        read_pages(runs, [long, long], typeset_lines(["x-"] * n))
        seconds.append(time.process_time() - start)
    assert seconds[1] < 40 * seconds[0] + 0.5


# -- files


def make_pdf(*pages: Iterable[tuple[float, float, float, str, str]], more: str = "", trailer: str = "") -> bytes:
    """Pages with texts (x, y, size, font, text); the fonts are F (Times), I (Times italic) and C (Courier)."""
    fonts = {"F": "Times-Roman", "I": "Times-Italic", "C": "Courier"}
    objects = ["<</Type/Catalog/Pages 2 0 R>>", ""]
    objects += [f"<</Type/Font/Subtype/Type1/BaseFont/{name}>>" for name in fonts.values()]
    kids = []
    for page in pages:
        content = more + "".join(f"BT /{font} {size} Tf {x} {y} Td ({text}) Tj ET\n" for x, y, size, font, text in page)
        objects.append(f"<</Length {len(content)}>>stream\n{content}\nendstream")
        resources = "<</Font<</F 3 0 R/I 4 0 R/C 5 0 R>>>>"
        box = "/MediaBox[0 0 612 792]"
        objects.append(f"<</Type/Page/Parent 2 0 R{box}/Contents {len(objects)} 0 R/Resources{resources}>>")
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<</Type/Pages/Count {len(kids)}/Kids[{' '.join(kids)}]>>"
    objects.append("<</Title(The Kettle)/Author(Ann)/CreationDate(D:20200102030405Z)>>")
    data, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    data += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    data += f"trailer<</Size {len(objects) + 1}/Root 1 0 R/Info {len(objects)} 0 R{trailer}>>\n"
    return (data + f"startxref\n{data.index('xref')}\n%%EOF\n").encode()


def read(tmp_path: Path, data: bytes, name: str = "novel.pdf") -> Corpus:
    (tmp_path / name).write_bytes(data)
    return read_corpus([str(tmp_path / name)], ReadSettings(), smallest_bytes=1)


@needs_pdf
def test_a_file_gives_its_text_its_title_and_what_was_dropped(tmp_path: Path) -> None:
    page = [(MARGIN, run.y, SIZE, "C", run.text) for run in typeset_lines(wrap(*PROSE, indent="", gap=True))]
    page += [(MARGIN, 300, SIZE, "F", "He said "), (MARGIN + 38, 300, SIZE, "I", "never"), (300, 40, SIZE, "F", "1")]
    corpus = read(tmp_path, make_pdf(page))
    (file,) = corpus.files
    assert str(corpus.documents[0].text).split("\n\n")[:3] == list(PROSE)
    assert "He said _never_" in str(corpus.documents[0].text)
    assert (file.format, file.title, file.author, file.date) == ("pdf", "The Kettle", "Ann", "2020-01-02")
    assert [(part.what, part.example) for part in file.dropped] == [("page numbers", "1")]


@needs_pdf
def test_a_scan_says_that_it_is_one(tmp_path: Path) -> None:
    picture = "q 100 0 0 100 100 100 cm BI /W 1 /H 1 /CS /G /BPC 8 ID x EI Q\n"
    with pytest.raises(TextUnreadable, match="pictures, as a scanner makes them") as raised:
        read(tmp_path, make_pdf([], more=picture))
    assert "ocrmypdf novel.pdf" in raised.value.hint


@needs_pdf
def test_protected_and_damaged_files_are_named_so(tmp_path: Path) -> None:
    key = "00" * 32
    encrypt = f"/Encrypt<</Filter/Standard/V 1/R 2/P -1/O<{key}>/U<{key}>>>/ID[<{key}><{key}>]"
    with pytest.raises(TextUnreadable, match="protected by a password"):
        read(tmp_path, make_pdf([(72, 700, 10, "F", "x")], trailer=encrypt))
    with pytest.raises(TextUnreadable, match="damaged PDF"):
        read(tmp_path, b"%PDF-1.7\nnothing of the kind")


def test_a_text_about_pdf_stays_a_text(tmp_path: Path) -> None:
    text = "A file begins with %PDF-1.4, they say.\n" * 3
    assert str(read(tmp_path, text.encode(), "about.txt").documents[0].text) == text


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "find_spec", lambda name: None)
    with pytest.raises(TextUnreadable, match="needs an extra") as raised:
        read(tmp_path, make_pdf([]))
    assert "pip install 'epigone[pdf]'" in raised.value.hint


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import time\nwhile True: time.sleep(1)", "takes too long"),
        ("import os\nos.abort()", "damaged, or needs too much memory"),
        ('print(\'{"error":"memory"}\')', "too much memory"),
        ("print('{\"about\":{},\"n_pages\":1}', end='')", "damaged PDF"),
    ],
)
def test_a_process_that_hangs_or_dies_ends_in_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(program, "utf-8")
    monkeypatch.setattr(pdf, "WORKER", worker)
    monkeypatch.setattr(pdf, "find_spec", lambda name: True)
    monkeypatch.setattr(limits, "SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(TextUnreadable, match=message):
        read(tmp_path, make_pdf([]) + b"x" * 100_000)
    assert time.monotonic() - start < 5
