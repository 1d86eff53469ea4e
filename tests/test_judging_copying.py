"""Copying: planted passages are found and nothing else is, how much is too much, and memorization is noticed."""

from __future__ import annotations

import json
import random
import time
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epigone.evaluation.copying import PASSAGE_CHARACTERS, find_copied, judge_copying, probe_memorization
from epigone.evaluation.verdict import Verdict
from epigone.text_reuse.hashing import normalise
from epigone.text_reuse.matches import find_matches
from helpers_copies import parrot
from helpers_front import SONNETS, shared_run, sonnets
from helpers_tokens import DATA, NOVELS, needs_data


@cache
def read_novel(name: str) -> str:
    """Without the publisher's pages at either end."""
    text = (DATA / "gutenberg" / f"{name}.txt").read_text("utf-8", "replace")
    return text[len(text) // 20 : -len(text) // 10]


def make_noise(chance: random.Random, n_characters: int) -> str:
    """Words that are in no other text."""
    return "".join(chance.choices("qxzvjkw ", k=n_characters))


def disguise(chance: random.Random, passage: str) -> str:
    """The same in other cases, and with other white space where it has some."""
    spaces = ("\n", "\t", "  ", " \n ", "\u00a0")
    return "".join(
        chance.choice(spaces) if character == " " else chance.choice((character.upper(), character))
        for character in passage
    )


def plant(chance: random.Random, original: str, count: int) -> tuple[str, list[tuple[int, int, str]]]:
    """A text with passages of 50 to 500 characters, and where each begins and ends in it."""
    parts, planted, n_before = [], [], 0
    for _ in range(count):
        size = chance.randint(PASSAGE_CHARACTERS + 2, 500)
        start = chance.randrange(len(original) - size)
        noise = make_noise(chance, chance.randint(10, 60)) + "#"
        passage = disguise(chance, original[start : start + size].strip())
        planted.append((n_before + len(noise), n_before + len(noise) + len(passage), passage))
        parts += [noise, passage + "#"]
        n_before += len(noise) + len(passage) + 1
    return "".join(parts), planted


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_every_planted_passage_is_found_at_its_full_length(seed: int) -> None:
    chance = random.Random(seed)
    original = normalise(SONNETS.read_text("utf-8"))
    text, planted = plant(chance, original, 1_000)
    documents = [original[:40_000], "nothing of it", original[39_000:]]
    found = find_copied(text, documents)
    spans = [(passage.start, passage.end, passage.n_characters) for passage in found.passages]
    expected = [(start, end, len(normalise(passage))) for start, end, passage in planted]
    assert spans == expected
    assert found.n_covered == sum(n_characters for _, _, n_characters in expected)
    for passage, (start, end, _) in zip(found.passages, planted, strict=True):
        assert normalise(text[start:end]).startswith(documents[passage.document][passage.offset :][:40])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 49))
def test_a_shorter_passage_does_not_count_but_is_shown(seed: int, size: int) -> None:
    chance, original = random.Random(seed), normalise(sonnets(20_000))
    start = chance.randrange(len(original) - size)
    text = make_noise(chance, 500) + "#" + original[start : start + size] + "#" + make_noise(chance, 500)
    found = find_copied(text, [original])
    assert found.share == 0 and not found.passages
    assert found.longest is not None and found.longest.n_characters >= size


@needs_data
def test_nothing_is_found_in_another_author_s_text() -> None:
    judged = (SONNETS.read_text("utf-8") + read_novel("dickens-98"))[:1_000_000]
    found = find_copied(judged, [read_novel("austen-1342")])
    assert len(judged) > 700_000
    by_chance = [judged[one.start : one.end] for one in found.passages]
    assert found.share < 0.000_2, by_chance
    assert all(normalise(one).strip() in normalise(read_novel("austen-1342")) for one in by_chance)


@needs_data
@pytest.mark.parametrize("name", NOVELS)
def test_an_author_s_own_text_hardly_copies(name: str) -> None:
    text = read_novel(name)
    cut = len(text) * 9 // 10
    assert find_copied(text[cut:], [text[:cut]]).share <= 0.000_5
    verdict = judge_copying(text[cut : cut + 50_000], [text[:cut]], [text[cut + 50_000 :]])
    assert verdict.grade == "good"


@needs_data
def test_fifty_thousand_characters_are_compared_with_a_megabyte_in_less_than_a_second() -> None:
    text, judged = (DATA / "tinyshakespeare.txt").read_text("utf-8"), SONNETS.read_text("utf-8")[:50_000]
    seconds = []
    for _ in range(3):
        start = time.process_time()
        find_copied(judged, [text])
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1


# -- endless repetition


@pytest.mark.parametrize(
    ("judged", "written", "n_longest"),
    [
        ("a" * 20_000, "a" * 300_000, 20_000),
        ("a" * 20_000, "a" * 700, 700),
        ("All work and no play. " * 1_000, "All work and no play. " * 20_000, 22_000),
    ],
    ids=["longer", "shorter", "sentences"],
)
def test_a_text_of_nothing_but_repetition_is_searched_quickly(judged: str, written: str, n_longest: int) -> None:
    start = time.process_time()
    found = find_copied(judged, [written])
    assert time.process_time() - start < 10
    assert found.share == 1 and found.longest is not None and found.longest.n_characters == n_longest


def test_sentences_that_recur_hundreds_of_times_are_searched_quickly() -> None:
    chance, text = random.Random(5), normalise(sonnets(50_000))
    sentences = [text[start : start + 100] for start in range(0, 49_000, 100)]
    written = "".join(chance.choices(sentences, k=20_000))
    start = time.process_time()
    assert find_copied("".join(chance.sample(sentences, 490)), [written]).share > 0.99
    assert time.process_time() - start < 20


# -- verdicts


def test_verdicts_on_texts_that_copy_more_and_less() -> None:
    poems, chance = normalise(sonnets(60_000)), random.Random(7)
    own = make_noise(chance, 20_000)
    held_out = [make_noise(chance, 30_000)]

    def judge(n_copied: int, n_times: int = 1) -> Verdict:
        copied = "#".join(poems[number * 1_000 :][:n_copied] for number in range(n_times))
        return judge_copying(own + "#" + copied, [poems], held_out)

    assert judge(80).grade == "good"
    assert judge(120).grade == "fair" and judge(80, 5).grade == "fair"
    assert judge(160).grade == "bad" and judge(80, 20).grade == "bad"
    facts = judge(160).facts
    assert facts["longest_characters"] >= 160 and facts["document"] == 0 and facts["line"] == 1
    assert normalise(facts["original"]) == normalise(facts["passage"]) and facts["floor_share"] == 0
    json.dumps(facts)


def test_a_short_text_is_a_copy_only_if_it_clearly_is() -> None:
    poems, chance = normalise(sonnets(30_000)), random.Random(7)
    noise = make_noise(chance, 500)
    assert judge_copying(noise + "#" + poems[:90], [poems], []).grade == "unsure"
    assert judge_copying(noise + "#" + poems[:160], [poems], []).grade == "bad"
    assert judge_copying(poems[:80], [poems], []).grade == "bad"
    assert judge_copying("", [poems], []).grade == "unsure"


def test_what_the_author_repeats_may_be_repeated() -> None:
    poems, chance = normalise(sonnets(60_000)), random.Random(9)
    refrain = poems[:200]
    held_out = make_noise(chance, 20_000) + refrain * 10
    text = make_noise(chance, 20_000) + "#" + refrain
    assert judge_copying(text, [poems], [held_out]).grade == "good"
    assert judge_copying(text, [poems], [make_noise(chance, 20_000)]).grade == "bad"


def test_a_verdict_says_how_little_held_out_text_there_is() -> None:
    noise = make_noise(random.Random(1), 3_000)
    assert "There is no held-out text" in judge_copying(noise, ["text"], []).sentence
    little = judge_copying(noise, ["text"], "one two three")
    assert "only 13 characters" in little.sentence and little.facts["floor_characters"] == 13
    assert judge_copying(noise, ["text"], []).measures[0].floor is None


def test_held_out_text_is_sampled_from_everywhere() -> None:
    chance, poems = random.Random(3), normalise(sonnets(30_000))
    held_out = make_noise(chance, 900_000) + poems[:2_000]
    verdict = judge_copying(make_noise(chance, 3_000), [poems], [held_out])
    assert verdict.facts["floor_characters"] <= 200_000 and verdict.facts["floor_longest_characters"] >= 2_000


# -- memorization


def test_an_overfitted_model_has_memorized_its_text() -> None:
    documents, held_out = parrot().folder.read_documents(), [sonnets(20_000)[8_000:]]
    continued, exact = probe_memorization(parrot().open_generator(), documents, held_out, n_probes=16)
    assert continued.value > 0.7 and exact.value > 0.5
    assert continued.floor is not None and continued.floor.value < 0.1
    assert exact.floor is not None and exact.floor.value == 0


def test_a_model_that_has_just_begun_has_memorized_nothing() -> None:
    continued, exact = probe_memorization(
        shared_run().open_generator(), shared_run().folder.read_documents(), [], n_probes=8
    )
    assert continued.value < 0.2 and exact.value == 0 and continued.floor is None


def test_documents_that_are_too_short_give_no_measure() -> None:
    assert probe_memorization(shared_run().open_generator(), ["short", ""], []) == ()
    assert probe_memorization(shared_run().open_generator(), [], []) == ()


@needs_data
@pytest.mark.slow
def test_the_floor_of_a_library_is_low(tmp_path: Path) -> None:
    """The last tenth of a book by each of eight authors against the rest of it, without its ends."""
    import tarfile

    authors = ("austen", "collins", "conrad", "doyle", "hardy", "henty", "james", "trollope")
    with tarfile.open(DATA / "library.tar.xz") as archive:
        names = [name for name in archive.getnames() if any(f"/{author}/01.txt" in name for author in authors)]
        assert len(names) == len(authors)
        archive.extractall(tmp_path, [archive.getmember(name) for name in names], filter="data")
    all_found = []
    for path in tmp_path.rglob("01.txt"):
        text = path.read_text("utf-8")
        text = text[len(text) // 20 : -len(text) // 20]
        cut = len(text) * 9 // 10
        all_found += find_matches([text[cut:]], [text[:cut]], PASSAGE_CHARACTERS)
    for found in all_found:
        print(f"{found.share:.4%} {found.longest.n_characters if found.longest else 0}")
    shares = [found.share for found in all_found]
    assert sum(shares) / len(shares) <= 0.000_5


def test_who_copies_as_the_author_repeats_is_not_said_not_to_copy() -> None:
    """As with files of code, each of which begins with the same licence."""
    chance, licence = random.Random(0), normalise(sonnets(400))
    files = [licence + make_noise(chance, 1_500) for _ in range(30)]
    learned, held_out = ["#".join(files[20:])], ["#".join(files[10:20])]

    def judge(n_characters: int) -> tuple[str, str]:
        verdict = judge_copying("#".join(one[n_characters:] for one in files[:10]), learned, held_out)
        return verdict.grade, verdict.sentence.partition(":")[0]

    assert judge(400) == ("good", "It does not copy")
    assert judge(100) == ("good", "It copies about as much as the author's other pages do")
    more = judge_copying("#".join(licence + one[:1_200] for one in files[:10]), learned, held_out)
    assert (more.grade, more.sentence.partition(":")[0]) == ("fair", "It copies, but so do the author's other pages")
