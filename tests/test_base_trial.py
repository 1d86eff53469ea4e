"""The bundled bases and a fresh model are tried on the text itself, and the same comes of it each time."""

from __future__ import annotations

import random
import re
import zipfile
from functools import cache
from pathlib import Path

import pytest
import torch

from epigone.model.base_profile import automatic_bases
from epigone.planning.choose_base import FITS, BaseTrial
from epigone.training.base_trial import BEHIND_AT_MOST, PIECE, SAMPLE, choose_best, sample_text, try_bases
from helpers_front import sonnets
from helpers_tokens import DATA

BROUGHT = DATA / "bring_dev"
needs_brought = pytest.mark.skipif(not BROUGHT.is_dir(), reason="no folder bring_dev at EPIGONE_TEST_DATA")
NEAR = "irc_rust.txt"
"""Of the English ones, that of which a trial says least clearly that it is the base's, but for the poems."""
OTHERS = (
    "poems_reitz",
    "blog_burntsushi",
    "play_rur.txt",
    "speeches_carter",
    "recipes_tacofancy",
    "bradbury_short_fiction.epub",
    "french_mirbeau.txt",
)
CHARACTERS = 120_000


def read(name: str) -> list[str]:
    """The beginning of a text of bring_dev: of a file, of a folder's files, or of the pages of an EPUB."""
    path = BROUGHT / name
    if path.suffix == ".epub":
        with zipfile.ZipFile(path) as book:
            pages = [book.read(page).decode() for page in sorted(book.namelist()) if page.endswith(".xhtml")]
        return ["\n".join(re.sub(r"<[^>]+>", "", page) for page in pages)[:CHARACTERS]]
    files = sorted(filter(Path.is_file, path.rglob("*"))) if path.is_dir() else [path]
    return [file.read_text("utf-8") for file in files]


NAMES = [base.name for base in automatic_bases()]
DOCS = Path(__file__).parents[1] / "docs"


@cache
def try_strange() -> BaseTrial:
    return try_bases([make_strange(12_000)], NAMES)


def make_strange(n_characters: int) -> str:
    """Words of an alphabet that the base has hardly ever seen, some more frequent than others."""
    drawn = random.Random(1)
    letters = [chr(number) for number in range(0x10D0, 0x10F0)]
    words = ["".join(drawn.choices(letters, k=drawn.randint(2, 7))) for _ in range(150)]
    chosen = drawn.choices(words, weights=[1 / (1 + rank) for rank in range(len(words))], k=n_characters // 3)
    return " ".join(chosen)[:n_characters]


# -- what is tried


def test_what_is_tested_on_is_not_learned_from_and_comes_from_all_of_the_text() -> None:
    texts = [f"{number:07d}|" * 25_000 for number in range(8)]
    learned, tested = sample_text(texts)
    assert 0.05 < sum(map(len, tested)) / sum(map(len, learned)) < 0.2
    assert sum(map(len, learned)) + sum(map(len, tested)) <= SAMPLE + PIECE
    assert {piece[:7] for piece in learned} == {text[:7] for text in texts}
    assert len({piece[:7] for piece in tested}) > 4
    numbers = "".join(f"{number:05d} " for number in range(2_000))
    learned, tested = sample_text([numbers])
    assert not set("".join(learned).split()) & {word for piece in tested for word in piece.split() if len(word) == 5}


@pytest.mark.parametrize("n_characters", [2, 9, 700, 2_000])
def test_there_is_something_to_test_on_in_the_shortest_text(n_characters: int) -> None:
    assert all("".join(part) for part in sample_text([sonnets(n_characters)]))


# -- what comes of it


def test_a_larger_base_is_taken_only_if_it_is_clearly_ahead() -> None:
    assert choose_best({"large": 1.7, "small": 2.0}, 0.84) == "small"
    assert choose_best({"large": 1.6, "small": 2.0}, 0.84) == "large"
    assert choose_best({"large": 1.99, "small": 2.0}) == "large" == choose_best({"large": 9.0})


def test_a_text_that_the_base_fits_is_not_tried() -> None:
    trial = try_bases([sonnets(20_000)], NAMES)
    assert (
        trial.best == "small"
        and trial.untouched[trial.best] <= FITS
        and not trial.compared
        and trial.tuned == trial.fresh == 0
        and not trial.for_fresh
    )


def test_an_alphabet_that_the_base_does_not_know_gets_a_fresh_model() -> None:
    trial = try_strange()
    assert trial.for_fresh and trial.fresh < trial.tuned < trial.untouched[trial.best]


def test_where_a_larger_base_leads_before_training_both_are_tuned() -> None:
    trial = try_bases(["\n".join(path.read_text("utf-8") for path in sorted(DOCS.glob("*.md")))[:30_000]], NAMES)
    assert trial.untouched["modern"] < 0.9 * trial.untouched["small"]
    assert trial.compared["modern"] < trial.untouched["modern"] and trial.compared["small"] < trial.untouched["small"]
    assert trial.best == choose_best(trial.compared, BEHIND_AT_MOST)


@pytest.mark.slow
@pytest.mark.trial
def test_an_unknown_alphabet_gets_a_fresh_model_after_all_steps_too() -> None:
    trial = try_bases([make_strange(40_000)], NAMES)
    assert trial.for_fresh and trial.fresh < trial.tuned < trial.untouched[trial.best]


def test_equal_texts_are_tried_equally_and_torch_is_left_as_it_was() -> None:
    before = try_strange()
    torch.manual_seed(7)
    state, is_strict = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    assert try_bases([make_strange(12_000)], NAMES) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.are_deterministic_algorithms_enabled() == is_strict


@needs_brought
@pytest.mark.slow
@pytest.mark.trial
@pytest.mark.parametrize("name", [NEAR, *OTHERS])
def test_what_people_bring_gets_a_bundled_base(name: str) -> None:
    assert not try_bases(read(name), NAMES).for_fresh


@needs_brought
@pytest.mark.slow
@pytest.mark.trial
def test_a_text_in_russian_gets_a_fresh_model() -> None:
    assert try_bases(read("russian_bulgakov.txt"), NAMES).for_fresh
