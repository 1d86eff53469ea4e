"""The best sentences are whole, new and do not repeat themselves; what is best is what was said."""

from __future__ import annotations

from epigone.evaluation.best_sentences import LONGEST_COPY, choose_sentences, list_sentences
from epigone.text_reuse.hashing import normalise
from epigone.text_reuse.matches import measure_longest

LEARNED = "The old grey harbour slept under its heavy snow while the bells rang out over the silent town at night."
KNOWN = [LEARNED + " The ships lay still. " + "The the the bells bells. " * 20]


def choose(text: str, count: int = 5) -> list[str]:
    return choose_sentences([text], KNOWN, count)


def test_a_sentence_begins_where_another_has_ended() -> None:
    assert list(list_sentences("and so on. This is one. Two! And a rest")) == ["This is one.", "Two!"]


def test_what_is_copied_is_not_chosen() -> None:
    fresh = "The bells lay under the silent ships."
    assert choose(f"It was. {LEARNED} {fresh}") == [fresh]


def test_fragments_and_repetitions_are_not_chosen() -> None:
    for bad in ("The town slept.", "the ships slept under the heavy snow.", "The bells rang and the bells rang out."):
        assert choose(f"It was. {bad}") == []
    assert choose("It was. " + "The town " + "and ship " * 40 + "slept.") == []
    assert choose("") == []


def test_known_words_go_before_invented_ones_and_rare_before_common() -> None:
    rare = "Heavy snow slept under grey ships."
    common = "The bells rang over its old town."
    invented = "Qwx snow slept under zzyx ships."
    assert choose(f"It was. {invented} {common} {rare}") == [rare, common, invented]
    assert choose(f"It was. {invented} {common} {rare}", 1) == [rare]


def test_a_run_of_fifty_characters_is_a_copy_and_one_of_forty_nine_is_not() -> None:
    known = [normalise("x" + "".join(chr(97 + i * 7 % 26) + str(i) for i in range(60)))]
    for start in range(3, 40):
        run = known[0][start : start + 50]
        texts = ["§" * start + run + "§" * 9, "§" * start + run[:49] + "§" * 9]
        assert measure_longest(texts, known, LONGEST_COPY) == [LONGEST_COPY, 0]
