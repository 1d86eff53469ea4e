"""Project Gutenberg's own text is removed, counted and quoted; the author's is not touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epigone.corpus.corpus import read_corpus
from epigone.corpus.gutenberg import GutenbergCleaner, strip_boilerplate
from epigone.settings import ReadSettings

DATA = Path(os.environ.get("EPIGONE_TEST_DATA", Path(__file__).parents[1] / "../shared/data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no texts at EPIGONE_TEST_DATA")

HEADER = "The Project Gutenberg EBook of A Walk, by A. Nobody\n\nTitle: A Walk\n\n"
START = "*** START OF THE PROJECT GUTENBERG EBOOK A WALK ***"
BOOK = "  A WALK\n\nIt was raining.\n\nI went out.\n"
END = "*** END OF THE PROJECT GUTENBERG EBOOK A WALK ***"
LICENCE = "\n\nUpdated editions will replace the previous one. Project Gutenberg is a registered trademark.\n"


def whole(start: str = START, credits: str = "", book: str = BOOK, end: str = END) -> str:
    return f"{HEADER}{start}\n\n\n{credits}{book}\n\n\n{end}{LICENCE}"


@pytest.mark.parametrize(
    "start",
    [
        START,
        START.replace("THE PROJECT", "THIS PROJECT"),
        START.replace("*** ", "***").replace(" ***", "***"),
        "*** START OF THE PROJECT GUTENBERG EBOOK A VERY LONG WALK IN THE\nRAIN, WITH AN UMBRELLA ***",
        "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
        "*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*",
        "**END THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.08.01*END**",
    ],
)
def test_the_header_is_removed_in_all_its_forms(start: str) -> None:
    text, (header, _) = strip_boilerplate(whole(start=start))
    assert text == BOOK
    assert header.what == "Project Gutenberg's header"
    assert header.reason == start.split("\n")[0]
    assert header.first_line == HEADER.split("\n")[0]


@pytest.mark.parametrize(
    "end",
    [
        END,
        END.replace("*** END", "***END"),
        "End of the Project Gutenberg EBook of A Walk, by A. Nobody",
        "End of Project Gutenberg's A Walk, by A. Nobody\n\n" + END,
        "End of The Project Gutenberg Etext of A Walk,\nby A. Nobody",
        "End of this Project Gutenberg Etext of A Walk",
        "End Project Gutenberg's A Walk",
        "*** END OF THE PROJECT GUTENBERG EBOOK A VERY LONG WALK IN THE\nRAIN ***",
    ],
)
def test_the_licence_is_removed_in_all_its_forms(end: str) -> None:
    text, (_, licence) = strip_boilerplate(whole(end=end))
    assert text == BOOK
    assert (licence.what, licence.reason) == ("Project Gutenberg's licence", end.split("\n")[0])


@pytest.mark.parametrize(
    "credit",
    [
        "Produced by Jane Doe and the Online\nDistributed Proofreading Team\n\n\n",
        "E-text prepared by Jane Doe\n\n",
        "This eBook was produced by Jane Doe\n\n",
        "Transcribed from the 1911 edition by Jane Doe\n\n",
        "[Transcriber's Note: spelling was kept.\n\nItalics stand _so_.]\n\n",
        "Transcriber’s note: spelling was kept.\n\n",
        "Produced by Jane Doe\n\n\nTranscriber's Note: spelling was kept.\n\n",
    ],
)
def test_the_volunteers_notes_after_the_header_are_removed(credit: str) -> None:
    text, cuts = strip_boilerplate(whole(credits=credit))
    assert text == BOOK
    assert cuts[1].first_line == credit.split("\n")[0]


def test_a_note_without_an_end_is_kept() -> None:
    book = "[Transcriber's note: " + BOOK + "Prose.\n\n" * 400
    assert strip_boilerplate(whole(book=book))[0].rstrip() == book.rstrip()


def test_each_cut_is_counted_with_the_blank_lines_around_it() -> None:
    text = whole(credits="Produced by Zoë\n\n")
    kept, cuts = strip_boilerplate(text)
    assert [cut.n_characters for cut in cuts] == [len(HEADER + START) + 3, 17, len(END + LICENCE) + 3]
    assert [cut.n_bytes for cut in cuts] == [len(HEADER + START) + 3, 18, len(END + LICENCE) + 3]
    assert len(kept) + sum(cut.n_characters for cut in cuts) == len(text)


def test_the_given_function_counts_the_bytes() -> None:
    cleaner = GutenbergCleaner()
    cleaner.clean(whole(), lambda start, end: 2 * (end - start))
    assert [cut.n_bytes for cut in cleaner.cuts] == [2 * cut.n_characters for cut in cleaner.cuts]


def test_joined_books_are_cleaned_of_what_is_between_them() -> None:
    text, cuts = strip_boilerplate(whole() + whole(credits="Produced by Jane Doe\n\n", book="Two.\n") + whole())
    assert text == BOOK + "Two.\n" + BOOK
    assert [cut.what.removeprefix("Project Gutenberg's ") for cut in cuts] == [
        "header",
        "licence and the next book's header",
        "a note by Project Gutenberg's volunteers",
        "licence and the next book's header",
        "licence",
    ]


def test_a_text_without_a_header_goes_on_behind_the_licence_of_the_one_before() -> None:
    second = "A SAIL\n\n" + "It was blowing.\n\n" * 400
    text, (_, licence) = strip_boilerplate(whole() + "\n" + second)
    assert text == BOOK + second
    assert licence.n_characters == len(END + LICENCE) + 4
    third = "\n\n".join((second + END + LICENCE, second))
    assert strip_boilerplate(whole() + "\n" + third)[0] == BOOK + second[:-1] + second


@pytest.mark.parametrize("after", ["", "\n\n" + whole(), "\nA SAIL\n\n" + "It was blowing.\n\n" * 400])
def test_a_licence_that_the_end_of_a_piece_divides_is_removed_whole(after: str) -> None:
    long = LICENCE + "".join(f"\nOf Project Gutenberg, paragraph {n},\nin two lines.\n" for n in range(9))
    text = whole().removesuffix(LICENCE) + long + after
    expected = strip_boilerplate(text)[0]
    place = text.index(END) + len(END) + 1
    while place < text.index(long) + len(long):
        cleaner = GutenbergCleaner()
        assert cleaner.clean(text[:place]) + cleaner.clean(text[place:]) == expected, text[place - 40 : place]
        assert sum(cut.n_characters for cut in cleaner.cuts) == len(text) - len(expected)
        place = text.find("\n", place) + 1 or len(text)


def test_a_licence_without_a_header_is_removed() -> None:
    assert strip_boilerplate(BOOK + "\n\n" + END + LICENCE)[0] == BOOK
    assert strip_boilerplate(BOOK + "\n\n" + END + "\n")[0] == BOOK


def test_a_header_without_a_licence_is_removed() -> None:
    assert strip_boilerplate(HEADER + START + "\n\n" + BOOK)[0] == BOOK


@pytest.mark.parametrize(
    "text",
    [
        BOOK,
        "",
        "He read Project Gutenberg all night.\n\nEnd of Project Gutenberg, he thought, and went to bed.\n",
        f"She typed {START} and laughed.\n\n{BOOK}",
        f"She loved Project Gutenberg. She typed:\n{START}\nand laughed.\n\n{BOOK}",
        f"Project Gutenberg says\n\n*** START OF THE PROJECT GUTENBERG EBOOK in each file, she said.\n\n{BOOK}",
        f"It ends with {END}, she said.\n\n{BOOK}" * 3,
        f"It ends so:\n{END}\nand then she slept.\n\n" + BOOK * 200,
        "Produced by nobody, the play failed.\n\n" + BOOK,
        "End of the Project Gutenberg era, some said.\n\n" + BOOK * 200,
    ],
)
def test_a_text_that_mentions_project_gutenberg_is_not_touched(text: str) -> None:
    assert strip_boilerplate(text) == (text, ())


@pytest.mark.parametrize(
    ("said", "title", "author"),
    [
        ("Title: A Walk\n\n\nAuthor: A. Nobody\n", "A Walk", "A. Nobody"),
        ("Title: A Walk\n       and  Tales\n\nAuthor: A. Nobody\nTranslator: B.\n", "A Walk and Tales", "A. Nobody"),
        ("Author: \n\nTitle:\n\nLanguage: English\n", "", ""),
        ("Title: " + "x" * 300, "x" * 200, ""),
    ],
)  # fmt: skip
def test_the_header_says_what_the_book_is_called_and_whose_it_is(said: str, title: str, author: str) -> None:
    cleaner = GutenbergCleaner()
    cleaner.clean(
        "The Project Gutenberg eBook of A Walk\n\n" + said + "\n\n" + START + "\n\n" + BOOK + "\n\nTitle: no\n"
    )
    assert (cleaner.title, cleaner.author) == (title, author)


@pytest.mark.parametrize("is_of_gutenberg", [True, False])
def test_a_run_of_such_a_book_is_called_after_it(tmp_path: Path, *, is_of_gutenberg: bool) -> None:
    (tmp_path / "pg1.txt").write_text(f"{HEADER}Author: A. Nobody\n\n{START if is_of_gutenberg else ''}\n\n{BOOK * 80}")
    (document,) = read_corpus([str(tmp_path / "pg1.txt")], ReadSettings()).documents
    known = ("A Walk", "A. Nobody") if is_of_gutenberg else ("", "")
    assert (document.receipt.title, document.receipt.author) == known and document.author == known[1]


def test_endless_blank_lines_are_searched_quickly() -> None:
    text = HEADER + START + "\n" + (" " * 50_000 + "\n") * 20 + "Produced" + " " * 100_000 + BOOK
    assert strip_boilerplate(text)[0].startswith("Produced")


@needs_data
def test_a_real_file_begins_with_its_title_and_ends_with_its_last_sentence() -> None:
    text = (DATA / "gutenberg/bierce-972-with-licence.txt").read_text("ascii")
    kept, cuts = strip_boilerplate(text)
    assert [cut.what.split(" ")[-1] for cut in cuts] == ["header", "volunteers", "licence"]
    assert kept.startswith("THE DEVIL'S DICTIONARY\n\nby Ambrose Bierce\n")
    assert kept.endswith("every two years.\n")
    assert "Gutenberg" not in kept
    following = "It was raining. I went out.\n\n" * 100
    assert strip_boilerplate(f"{text}\n{following}")[0] == kept + following  # as `cat` joins several


@needs_data
@pytest.mark.parametrize("name", ["gutenberg/austen-1342.txt", "tinyshakespeare.txt", "unseen/ibsen-drama.txt"])
def test_a_real_text_without_a_licence_is_not_touched(name: str) -> None:
    text = (DATA / name).read_text("utf-8")
    assert strip_boilerplate(text) == (text, ())
