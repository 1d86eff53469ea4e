"""Page numbers, running heads, notes and contents go, and are counted; nothing of an author's own goes with them."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from epigone.corpus.corpus import read_corpus
from epigone.corpus.furniture.cleaner import remove_furniture
from epigone.corpus.readers.reader import DropLog
from epigone.settings import ReadSettings

SENTENCE = "the sea was grey and every boat that lay upon it had turned her head to where a wind would come from"
WORDS = SENTENCE.split()
HEAD = "THE GREY SEA"


def make_prose(n_paragraphs: int = 60, *, seed: int = 1) -> list[str]:
    """Lines of paragraphs that were wrapped, with blank lines between."""
    random_words, lines = random.Random(seed), list[str]()
    for _ in range(n_paragraphs):
        n_sentences, words = random_words.randint(2, 7), list[str]()
        for _ in range(n_sentences):
            sentence = random_words.choices(WORDS, k=random_words.randint(6, 20))
            words += [sentence[0].capitalize(), *sentence[1:-1], sentence[-1] + "."]
        line = ""
        for word in words:
            if len(line) + len(word) > 64:
                lines.append(line.rstrip())
                line = ""
            line += word + " "
        lines += [line.rstrip(), ""]
    return lines


def put_on_pages(lines: list[str], dress: Callable[[int, list[str]], list[str]]) -> str:
    """Pages of 32 lines with what `dress` adds, from page 7 on."""
    pages = [dress(7 + first // 32, lines[first : first + 32]) for first in range(0, len(lines), 32)]
    return "\n".join(line for page in pages for line in page) + "\n"


def clean(text: str) -> tuple[str, dict[str, int]]:
    drops = DropLog()
    cleaned = remove_furniture(text, drops)
    return cleaned, {part.what: part.count for part in drops.list()}


def list_lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


# -- pages


@pytest.mark.parametrize(
    "dress",
    [
        lambda n, page: [*page, "", str(n), ""],
        lambda n, page: [*page, str(n)],
        lambda n, page: [*page, "", f"- {n} -", ""],
        lambda n, page: [f"{n}  {HEAD}" if n % 2 else f"{HEAD}  {n}", "", *page, ""],
        lambda n, page: [HEAD, "", *page, "", f"[{n}]", ""],
        lambda n, page: [*page, "", f"Page {n} of 19", ""],
        lambda n, page: [f"\f{HEAD}", "", *page, "", str(n)],
        lambda n, page: [f"\f{n}", "", *page],
    ],
    ids=["number", "within", "dashes", "head and number", "both", "of", "form feeds", "form feeds and numbers"],
)
def test_numbers_and_heads_of_pages_go_and_no_line_with_them(dress: Callable[[int, list[str]], list[str]]) -> None:
    lines = make_prose()
    cleaned, counts = clean(put_on_pages(lines, dress))
    left = Counter(list_lines(cleaned)) - Counter(list_lines("\n".join(lines)))
    assert list_lines(cleaned) == list_lines("\n".join(lines)) or left == {HEAD: 1}, "but for a title at the beginning"
    assert sum(counts.values()) >= 10 and set(counts) <= {"page numbers", "running heads", "page breaks"}


def test_the_halves_of_a_paragraph_are_one_again() -> None:
    lines = make_prose()
    cleaned, _ = clean(put_on_pages(lines, lambda n, page: [*page, "", str(n), ""]))
    n_before, n_after = (len(text.strip().split("\n\n")) for text in ("\n".join(lines), cleaned))
    assert n_before <= n_after <= n_before + 4, "a paragraph whose page ends with a sentence stays divided"


def test_in_lines_that_are_paragraphs_a_space_joins_them() -> None:
    halves = [" ".join(make_prose(1, seed=n))[:-40].rstrip(" .") for n in range(40)]
    paragraphs = [half + " that" if n % 2 else half[0].lower() + half[1:] for n, half in enumerate(halves, 1)]
    pairs = zip(paragraphs[::2], paragraphs[1::2], strict=True)
    text = "\n\n".join(f"{one}\n\n{n}\n\n{two}." for n, (one, two) in enumerate(pairs, 1))
    cleaned, counts = clean(text)
    assert counts == {"page numbers": 20} and f"{paragraphs[0]} {paragraphs[1]}." in cleaned


# -- what is an author's


def number_stanzas(n: int) -> str:
    return f"{n}\n\nThe sea is grey,\nthe boats are still\nand what will come\ncomes as it will\n"


def sing(n: int) -> str:
    return f"{n}\n\nall day the sea was grey\nand no one said a word\n\nat night the wind came up\nand boats went out\n"


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"CHAPTER {n}\n\n" + "\n".join(make_prose(3, seed=n)) for n in range(1, 20)),
        "\n".join(f"{n}\n\n" + "\n".join(make_prose(4, seed=n)) for n in range(1, 40)),
        "\n".join(f"{n}.\n\n" + "\n".join(make_prose(1, seed=n)) for n in range(1, 60)),
        "\n".join(map(number_stanzas, range(1, 40))),
        "\n".join(map(sing, range(1, 40))),
        "\n".join(f"- {n} -\n\n" + "\n".join(make_prose(3, seed=n)) for n in range(1, 20)),
        "\n".join(f"HAMLET\n{' '.join(make_prose(1, seed=n)[:2])}\n\nOPHELIA\nno, my lord\n" for n in range(40)),
        "\n".join(f"x[{n}] = values[{n}]  # element {n} of the array that was read" for n in range(1, 30)),
        "".join(f"See [the page {n}][{n}] of it all. " for n in range(9)) + "\n\n[1]: http://x.example\n",
        "CONTENTS\n\n" + "\n".join(make_prose(5)),
        "\n".join(make_prose(20)) + "\nAll that was in the\ncontents.\n\n" + "\n".join(make_prose(9, seed=2)),
        "\n".join(f"apples   {5 * n}\npears   {7 * n}" for n in range(1, 40)),
        "\n".join(make_prose(9)) + "\n12\n\n" + "\n".join(make_prose(9, seed=3)),
    ],
    ids=[
        *(
            "chapters",
            "chapter numbers",
            "aphorisms",
            "stanzas",
            "stanzas in small letters",
            "numbers in dashes",
            "speakers",
        ),
        *("code", "links", "a chapter", "a sentence", "a table", "one number"),
    ],
)
def test_what_an_author_wrote_stays_byte_for_byte(text: str) -> None:
    assert clean(text) == (text, {})


# -- brackets


def test_marks_of_footnotes_go_with_their_notes() -> None:
    body = ["The boats[1] lay still.", "They had come[2] from the north,[3] as boats do.", "Then it blew."]
    notes = ["FOOTNOTES:", "[1] Small ones.", "[2] In the night.\n\nSome say at noon.", "[3] See the map."]
    text = "\n\n".join([*make_prose(3), *body, *notes, "CHAPTER II", "It was day.\n"])
    cleaned, counts = clean(text)
    assert counts == {"footnotes": 3, "footnote marks": 3}
    assert cleaned.endswith("The boats lay still.\n\nThey had come from the north, as boats do.\n\nThen it blew.\n\n"
                            "CHAPTER II\n\nIt was day.\n")  # fmt: skip


def test_brackets_that_say_what_they_are_go() -> None:
    prose = "\n".join(make_prose(8))
    text = f"{prose}\n[Illustration: A boat,\nat sea]\n\nIt lay[Footnote 3: As [some] say.] still.\n\n"
    text += "[Illustration]\n\nEnd.\n"
    cleaned, counts = clean(text)
    assert counts == {"pictures": 2, "footnotes": 1} and cleaned == f"{prose}\nIt lay still.\n\nEnd.\n"


@pytest.mark.parametrize("mark", ["[Pg {}]", "{{{}}}", "[Page {}]", "[{}]"])
def test_marks_of_pages_go_where_they_count(mark: str) -> None:
    lines = make_prose(60)
    paragraphs = ["\n".join(lines[n : n + 18]).strip() for n in range(0, len(lines), 18)]
    marked = [p.replace(" and ", f" {mark.format(n)} and ", 1) for n, p in enumerate(paragraphs, 1)]
    cleaned, counts = clean("\n\n".join(marked))
    assert counts["page marks"] >= 15 and cleaned == "\n\n".join(paragraphs)
    assert clean("\n\n".join([marked[3], *paragraphs]))[1] == {}, "one alone may be the author's"


# -- what stands before and after the text


def test_contents_and_lists_of_pictures_go_and_headings_stay() -> None:
    chapters = ["The Boat", "The Night Wind", "What Came of It", "Home Again"]
    text = "THE GREY SEA\n\nCONTENTS\n\n" + "\n".join(f" {n}. {title}   {9 * n}" for n, title in enumerate(chapters, 1))
    text += "\n\nLIST OF ILLUSTRATIONS\n\nA boat   3\nThe north, from a drawing   17\nThe wind  . . . 40\n\n\n"
    body = "\n\n".join(f"{title}\n\n" + "\n".join(make_prose(4, seed=n)) for n, title in enumerate(chapters, 1))
    cleaned, counts = clean(text + body)
    assert counts == {"tables of contents": 1, "lists of pictures": 1}
    assert cleaned == "THE GREY SEA\n\n\n" + body
    unpaged = "CONTENTS\n\n" + "\n\n".join(f"CHAPTER {n}. {title}" for n, title in enumerate(chapters, 1)) + "\n\n\n"
    assert clean(unpaged + "THE GREY SEA\n\n" + body)[0] == "THE GREY SEA\n\n" + body


def test_notes_on_a_transcription_and_imprints_go() -> None:
    prose = "\n".join(make_prose(60))
    before = (
        "Copyright, 1905, by\nA PUBLISHER\n\nTranscriber's Note:\n\nPrinter errors were corrected. Hyphenation varies."
    )
    before += "\n\n"
    after = '\nTRANSCRIBER\'S NOTES\n\nPage 7: "wnid" changed to "wind".\n\nItalic text is in _underscores_.\n'
    cleaned, counts = clean(before + prose + after)
    assert counts == {"imprints": 1, "transcribers' notes": 2} and cleaned.strip() == prose.strip()
    story = "\n".join(make_prose(12, seed=4))
    assert clean(f"{prose}\nTRANSCRIBER'S NOTE\n\n{story}")[0].endswith(story), "a story that follows is not a note"


# -- margins


def test_numbers_of_verses_and_scenes_go() -> None:
    verse = [f"All {word} the sea lay grey and still as glass" for word in WORDS * 3]
    numbered = [f"{line}      {n}" if n % 5 == 0 else line for n, line in enumerate(verse, 1)]
    cleaned, counts = clean("\n".join(numbered) + "\n")
    assert cleaned == "\n".join(verse) + "\n" and counts == {"line numbers": len(verse) // 5}
    scenes = [f"INT. BOAT - {word.upper()}\n\nHe looks at the sea. 12 boats lie there." for word in WORDS]
    shot = [f"{n}   {scene.replace(chr(10), f'     {n}{chr(10)}', 1)}" for n, scene in enumerate(scenes, 1)]
    assert clean("\n\n".join(shot)) == ("\n\n".join(scenes), {"scene numbers": 2 * len(scenes)})


# -- a whole text


def test_the_receipt_counts_it_with_an_example_and_a_setting_keeps_it(tmp_path: Path) -> None:
    lines, path = make_prose(), tmp_path / "scan.txt"
    text = put_on_pages(lines, lambda n, page: [f"{n}  {HEAD}", "", *page, ""])
    path.write_text(text, "utf-8")
    corpus = read_corpus([str(path)])
    (file,) = corpus.files
    assert [(part.what, part.example) for part in file.dropped] == [("running heads", f"7 {HEAD}")]
    assert list_lines(str(corpus.documents[0].text)) == list_lines("\n".join(lines))
    assert file.n_bytes == file.n_bytes_kept == len(text) and file.n_characters == len(corpus.documents[0].text)
    kept = read_corpus([str(path)], ReadSettings(furniture="keep"))
    assert kept.documents[0].text == text and kept.files[0].dropped == ()


def test_what_a_documents_reader_does_not_know_goes_too(tmp_path: Path) -> None:
    paragraphs = [" ".join(make_prose(1, seed=n)).strip() for n in range(12)]
    marked = [f"{p} [Pg {n}]" for n, p in enumerate(paragraphs, 1)]
    path = tmp_path / "book.html"
    path.write_text(
        "<html><body><article>" + "".join(f"<p>{p}</p>" for p in marked) + "</article></body></html>", "utf-8"
    )
    corpus = read_corpus([str(path)])
    assert str(corpus.documents[0].text).strip() == "\n\n".join(paragraphs)
    assert [(part.what, part.count) for part in corpus.files[0].dropped] == [("page marks", 12)]


@pytest.mark.parametrize(
    ("part", "count"),
    [
        ("[", 10_000),
        ("[Footnote 1: ", 2_000),
        ("1\n", 5_000),
        ("CONTENTS\n\n", 2_000),
        ("CONTENTS\n\nthe sea\n\nthe wind\n\n", 900),
        ("[1] a\n", 3_000),
        (" \f\n1\n", 3_000),
        ("a[1] b\n[1] c\n", 2_000),
    ],
)
def test_time_grows_with_length_only(part: str, count: int) -> None:
    text = part * count
    once, twice = measure(text), measure(2 * text)
    assert twice < 4 * once + 0.2 and twice < 3


def test_a_line_of_many_signs_below_contents_takes_no_longer() -> None:
    contents = "CONTENTS\n\nI. One 1\nII. Two 2\n\n"
    assert measure(f"{contents}{'-->' * 600}a\n\nI. One\n\nIt rained.\n\nII. Two\n\nIt stopped.\n") < 1


def test_many_lines_that_begin_alike_below_contents_take_no_longer() -> None:
    assert measure("CONTENTS\n\nI. One 1\nII. Two 2\n\n" + "From a@b.c\n" * 16_000 + "\nII. Two\n\nIt rained.\n") < 3


def test_a_long_text_is_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = make_prose(300)
    text = put_on_pages(lines, lambda n, page: [*page, "", str(n), ""])
    monkeypatch.setattr("epigone.corpus.furniture.cleaner.MOST_CHARACTERS", len(text) // 3)
    cleaned, counts = clean(text)
    assert [line for line in list_lines(cleaned) if not line.isdigit()] == list_lines("\n".join(lines))
    assert counts["page numbers"] >= len(lines) // 32 - 3, "one between two parts may stay"
    assert clean("x" * len(text)) == ("x" * len(text), {})


def measure(text: str) -> float:
    begin = time.process_time()
    clean(text)
    return time.process_time() - begin
