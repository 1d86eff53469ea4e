"""The bundled sonnets are all there, in one layout, and word for word as printed but for the places listed here."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from helpers_front import SONNETS

DATA = Path(os.environ.get("EPIGONE_TEST_DATA", Path(__file__).parents[1] / "../shared/data"))
PRINTED = DATA / "sonnets-check.txt"
needs_data = pytest.mark.skipif(not PRINTED.is_file(), reason="no sonnets-check.txt at EPIGONE_TEST_DATA")

N_LINES = {99: 15, 126: 12}
"""Those of 1609; all others have fourteen."""
SPELLINGS = {
    "an other": "another",
    "bless'd": "blest",
    "burthen": "burden",
    "debarre'd": "debarred",
    "distills": "distils",
    "dulness": "dullness",
    "every where": "everywhere",
    "fulness": "fullness",
    "impannelled": "impanelled",
    "judgement": "judgment",
    "my self": "myself",
    "over plus": "overplus",
    "rime": "rhyme",  # codespell:ignore
    "thy self": "thyself",
    "three fold": "threefold",
    "to day": "today",
    "to morrow": "tomorrow",
    "where through": "wherethrough",
    "wrack'd": "wreck'd",
    "your self": "yourself",
}
"""One word in two spellings; so are "lov'd" and "loved" everywhere. Which one stands in the text is editorial."""
QUARTO = "the Quarto's reading; the other is a later emendation"
ELIDED = "elided in the Quarto, as the metre asks"
MISPRINT = "a misprint in that edition"
DEPARTURES = [
    (10, 5, "murd'rous", "murderous", ELIDED),
    (11, 11, "the", "thee", QUARTO),
    (16, 7, "your", "you", QUARTO),
    (19, 5, "fleet'st", "fleets", QUARTO + ", for the rhyme with sweets"),
    (23, 2, "besides", "beside", QUARTO),
    (23, 9, "books", "looks", QUARTO),
    (27, 2, "repose", "respose", MISPRINT),  # codespell:ignore
    (30, 8, "th", "the", ELIDED),
    (34, 4, "brav'ry", "bravery", ELIDED),
    (34, 11, "th", "the", ELIDED),
    (52, 6, "the", "that", QUARTO),
    (58, 10, "privilege", "privilage", MISPRINT),  # codespell:ignore
    (
        59,
        11,
        "whether",
        "wh'r",
        "in full in the Quarto; the metre asks for one short word only, the second",
    ),
    (59, 11, "whe'er", "wh'r", 'the usual modern form of the short word, which the Quarto prints as "where"'),
    (67, 6, "steal", "steel", QUARTO + ", of a word that the Quarto spells steale"),
    (67, 6, "seeing", "seeming", QUARTO),
    (77, 3, "the", "these", QUARTO),
    (83, 4, "the", "that", QUARTO),
    (85, 5, "other", "others", QUARTO + "; other was a plural too"),
    (91, 10, "cost", "costs", QUARTO),
    (91, 11, "or", "and", QUARTO),
    (91, 14, "wretched", "wretchcd", MISPRINT),
    (102, 8, "his", "her", QUARTO),
    (110, 9, "have", "save", QUARTO),
    (118, 1, "appetites", "appetite", QUARTO),
    (119, 14, "ills", "ill", QUARTO),
    (126, 2, "sickle", "fickle", "the Quarto's word; f was read for its long s"),
    (135, 3, "vex", "vexed", QUARTO),
    (146, 2, "that thee", "", "the Quarto's line is kept whole, with the words that its printer repeated"),
    (146, 13, "shalt", "shall", QUARTO),
    (152, 13, "eye", "i", QUARTO + ", and the pun with it"),
    (153, 7, "seething", "seeting", MISPRINT),  # codespell:ignore
]
"""Sonnet, line, the words here, the words of the edition that they were checked against, and why they differ."""


@cache
def read_sample() -> dict[int, list[str]]:
    """The lines of each sonnet, from a file in exactly the layout that PROVENANCE.md describes."""
    sonnets: dict[int, list[str]] = {}
    for part in SONNETS.read_text("ascii").removesuffix("\n").split("\n\n"):
        if part.isdecimal():
            number = int(part)
        else:
            assert number not in sonnets, f"a second text under {number}"
            sonnets[number] = part.split("\n")
    return sonnets


def read_printed(text: str) -> dict[int, list[str]]:
    """The lines of each sonnet in an edition with Roman numbers, two spaces before each line, four in the couplet."""
    sonnets: list[list[str]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if re.fullmatch("[IVXLC]+", line):
            sonnets.append([])
        else:
            sonnets[-1].append(line)
    return dict(enumerate(sonnets, 1))


def list_words(line: str) -> list[str]:
    """Words without case, punctuation and choice of spelling: apostrophes stay within a word, hyphens do not."""
    line = " ".join(word.strip("'") for word in re.findall("[a-z']+", line.lower()))
    for one, other in SPELLINGS.items():
        line = re.sub(rf"\b{one}(?![\w'])", other, line)
    return re.sub(r"'d\b", "ed", line).split()


def compare(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """The words at which two lines differ; words in a row that each have a counterpart come one by one."""
    a, b = list_words(ours), list_words(theirs)
    for what, start, end, other_start, other_end in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if what == "replace" and end - start == other_end - other_start:
            yield from zip(a[start:end], b[other_start:other_end], strict=True)
        elif what != "equal":
            yield " ".join(a[start:end]), " ".join(b[other_start:other_end])


# -- the layout


def test_it_is_plain_ascii_with_plain_line_ends() -> None:
    content = SONNETS.read_bytes()
    assert content.isascii() and b"\r" not in content and b"\t" not in content
    assert content.startswith(b"1\n\nFrom fairest creatures") and content.endswith(b"water cools not love.\n")
    assert not re.search(rb"[ ]\n|\n\n\n|\S  ", content)


def test_there_are_all_154_in_order() -> None:
    assert list(read_sample()) == list(range(1, 155))


def test_each_has_the_lines_that_were_printed_in_1609() -> None:
    assert {number: len(lines) for number, lines in read_sample().items()} == {
        number: N_LINES.get(number, 14) for number in range(1, 155)
    }


def test_the_couplet_and_nothing_else_is_indented() -> None:
    for number, lines in read_sample().items():
        indents = [len(line) - len(line.lstrip()) for line in lines]
        assert indents == [0] * (len(lines) - 2) + [2, 2], number


def test_each_ends_with_a_sentence() -> None:
    assert not [lines[-1] for lines in read_sample().values() if not re.search(r"[.!?]'?$", lines[-1])]


# -- the words


@needs_data
def test_every_word_is_as_printed_but_for_the_places_listed() -> None:
    printed = read_printed(PRINTED.read_text("utf-8"))
    assert {number: len(lines) for number, lines in printed.items()} == {
        number: len(lines) for number, lines in read_sample().items()
    }
    found = [
        (number, i, *words)
        for number, lines in read_sample().items()
        for i, (ours, theirs) in enumerate(zip(lines, printed[number], strict=True), 1)
        for words in compare(ours, theirs)
    ]
    assert found == [place[:4] for place in DEPARTURES]


def test_every_listed_place_is_in_the_sample_and_is_more_than_a_spelling() -> None:
    for number, i, ours, theirs, _ in DEPARTURES:
        line = " ".join(list_words(read_sample()[number][i - 1]))
        assert re.search(rf"(^| ){' '.join(list_words(ours))}( |$)", line), (number, i)
        assert list_words(ours) != list_words(theirs)


@needs_data
def test_no_spelling_is_listed_in_vain() -> None:
    texts = [re.sub("[^a-z']+", " ", path.read_text("utf-8").lower()) for path in (PRINTED, SONNETS)]
    assert not [one for one in SPELLINGS if not any(f" {one} " in text for text in texts)]


@pytest.mark.parametrize(
    ("ours", "theirs", "differences"),
    [
        ("Thyself thy foe, to thy sweet self;", "Thy self thy foe, to thy sweet-self", []),
        ("And deserved 'praise'", "and deserv'd praise!", []),
        ("The world's due", "The worlds due", [("world's", "worlds")]),
        ("by the grave", "by grave", [("the", "")]),
        ("Th' offender's sorrow", "The offender's sorrow", [("th", "the")]),
        ("to steal dead seeing of", "to steel dead seeming of", [("steal", "steel"), ("seeing", "seeming")]),
    ],
)
def test_a_difference_of_words_is_found_and_one_of_dress_is_not(
    ours: str, theirs: str, differences: list[tuple[str, str]]
) -> None:
    assert list(compare(ours, theirs)) == differences
