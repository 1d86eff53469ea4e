"""With known words only, every word that is written is one of the training text, the prompt or the base."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from epigone.errors import SettingsError
from epigone.generation.generator import TextGenerator, WriteDefaults
from epigone.generation.known_words import (
    KnownWords,
    WordGuard,
    WordStates,
    gather_words,
    list_mixed_words,
    list_words,
    read_words,
)
from epigone.generation.sampling import TokenSampler, _pick_one_by_one, _pick_together, _Redraw, pick_tokens
from epigone.generation.whole_characters import CharacterGuard, list_beginnings
from epigone.model.base_profile import BASES
from epigone.model.decoder import make_decoder
from epigone.model.kernel import load_kernel
from epigone.run import open_generator
from epigone.settings import WriteSettings
from epigone.tokens.tokenizer import list_token_bytes, load_tokenizer
from helpers_front import shared_run
from helpers_writing import random_model, random_tokenizer

NEEDS_COMPILER = pytest.mark.skipif(load_kernel() is None, reason="there is no C compiler here")

__all__ = ["random_model", "random_tokenizer"]

PIECES = [b"the", b" cat", b" c", b"at", b"s", b" ", b"1", b"nth", b"\xc3", b"\xa9", b".", b"'", b"t", b"\xe7\x8c\xab"]
KNOWN = KnownWords(("cat", "don"), {"the", "caté", "t"})


def make_guard(known: KnownWords, pieces: list[bytes], prompt: str = "") -> WordGuard:
    return WordGuard(WordStates(known, pieces).add(prompt), prompt)


def follow(text: list[bytes], prompt: str = "") -> WordGuard:
    guard = make_guard(KNOWN, PIECES, prompt)
    for piece in text:
        guard.advance(PIECES.index(piece))
    return guard


def forbidden(guard: WordGuard) -> set[bytes]:
    return {piece for token, piece in enumerate(PIECES) if guard.forbids(token)}


def test_words_are_runs_of_letters_whatever_their_case() -> None:
    assert list_words("Don't, mother-in-law! 7th STRASSE straße") == {
        *("don", "t", "mother", "in", "law", "th", "strasse")
    }


def test_a_word_is_known_from_any_list_and_so_is_its_beginning() -> None:
    assert KNOWN.has("cat") and KNOWN.has("the") and not KNOWN.has("ca") and not KNOWN.has("cats")
    assert KNOWN.has_beginning("ca") and KNOWN.has_beginning("caté") and not KNOWN.has_beginning("cats")
    assert not KnownWords((), set()).has("") and not KnownWords().has_beginning("a")


def test_only_what_makes_or_begins_a_word_may_follow() -> None:
    assert forbidden(follow([])) == {b"at", b"s", b"nth"}, (
        "any character may begin, and is looked at when it is complete"
    )
    assert forbidden(follow([b"the"])) == {b"the", b"at", b"s", b"nth", b"t"}
    assert forbidden(follow([b" c"])) >= {b" cat", b" ", b".", b"'", b"the", b"s"}, "c is not a word"
    assert b"at" not in forbidden(follow([b" c"]))


def test_a_letter_whose_bytes_are_several_tokens_is_read_when_it_is_complete() -> None:
    guard = follow([b" cat", b"\xc3"])
    assert b"\xa9" not in forbidden(guard)
    guard.advance(PIECES.index(b"\xa9"))
    assert forbidden(guard) == {b"the", b"at", b"s", b"nth", b"t"}


def test_a_letter_may_begin_only_where_a_word_ends_or_has_such_a_letter() -> None:
    assert b"\xc3" not in forbidden(follow([b" cat"])), "the word may end here"
    assert b"\xc3" in forbidden(follow([b" c"])), "no word has a letter of several bytes after c"


def test_scripts_without_spaces_are_not_looked_at() -> None:
    assert "猫".encode() not in forbidden(follow([b" cat"]))
    assert not forbidden(follow(["猫".encode()])) & {b" cat", b"the"}


def test_the_prompt_s_own_words_are_known_and_its_last_one_may_go_on() -> None:
    assert b"at" not in forbidden(follow([], "My Zcats c"))
    guard = follow([b" c", b"at"], "cats")
    assert b"s" not in forbidden(guard)


def test_capitals_inside_a_word_are_those_of_the_author() -> None:
    pieces = [b"cat", b"CAT", b"C", b"at", b"AT", b"aT", b"s", b"S", b" ", b"\xc3\x89"]
    known = KnownWords({"cat", "cats", "caté", "mccat"}, mixed={"McCAT"})

    def allowed(*text: bytes, prompt: str = "") -> set[bytes]:
        guard = make_guard(known, pieces, prompt)
        for piece in text:
            guard.advance(pieces.index(piece))
        return {piece for token, piece in enumerate(pieces) if not guard.forbids(token)}

    assert allowed(b"C") == {b"at", b"AT"}
    assert allowed(b"cat") == {b"s", b" "} and allowed(b"CAT") == {b"S", b" ", b"\xc3\x89"}
    assert allowed(b" ", prompt="catS cat") == {b"cat", b"CAT", b"C", b" "}
    assert b"S" in allowed(b"cat", prompt="catS ")
    assert not make_guard(known, pieces, "Mc").forbids(pieces.index(b"CAT"))


def test_words_with_capitals_inside_are_listed_as_they_are_written() -> None:
    assert list_mixed_words("McAllister, JavaScript: DON'T I read iPhone Straße XIV at ROME?") == {
        *("McAllister", "JavaScript", "iPhone")
    }


def test_a_base_s_list_is_left_out_for_texts_in_another_language() -> None:
    """English words are no help in a French text, of whose words few are in the list."""
    english = gather_words(["She walked slowly down the garden and thought of nothing."], "small")
    french = gather_words(
        ["Elle marchait lentement, songeuse, parmi les jardins mouillés qu'entouraient des maisons grisâtres."], "small"
    )
    assert english.has("ship") and english.has("garden") and not english.has("mouillés")
    assert french.has("mouillés") and not french.has("ship")
    assert gather_words([], "small").has("ship")


def test_everything_that_is_written_is_a_known_word() -> None:
    run = shared_run()
    generator = open_generator(run.path)
    settings = WriteSettings(length=300, count=4, temperature=1.3, top_p=1.0, stop_at="anywhere")
    known = set().union(*map(list_words, map(str, generator.documents)), {"zyx"})

    def list_unknown(words: str) -> set[str]:
        texts = generator.write("Zyx ", settings.model_copy(update={"words": words}))
        # The last word may be cut off.
        return {word for text in texts for word in list_words(text.rpartition(" ")[0])} - known

    assert list_unknown("any"), "the negative control: this model misspells"
    assert list_unknown("known") == set() == list_unknown("auto")


def test_a_model_whose_words_are_not_known_says_so(random_model: object, random_tokenizer: object) -> None:
    generator = TextGenerator(make_decoder(random_model), random_tokenizer)  # type: ignore[arg-type]
    assert generator.resolve_auto(WriteSettings()).words == "any"
    with pytest.raises(SettingsError, match="not known which words"):
        generator.write("a", WriteSettings(words="known"))


def test_defaults_are_the_model_s_and_settings_win(random_model: object, random_tokenizer: object) -> None:
    defaults = WriteDefaults(temperature=0.5, stop_at="line")
    generator = TextGenerator(make_decoder(random_model), random_tokenizer, defaults)  # type: ignore[arg-type]
    asked = generator.resolve_auto(WriteSettings(temperature=0.7))
    assert (asked.temperature, asked.stop_at, asked.words) == (0.7, "line", "any")


@pytest.mark.parametrize("name", BASES)
def test_each_bundled_base_brings_its_words_sorted_and_case_folded(name: str, tmp_path: Path) -> None:
    words = read_words(BASES[name].folder)
    assert list(words) == sorted(set(words)) and len(words) > 20_000
    assert all(list_words(word) == {word} for word in words)
    assert {"the", "whale", "computer", "november"} <= set(words) and "gailed" not in words
    assert read_words(tmp_path) == ()


class _ForbidsAllBut:
    """A guard that allows one token."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed

    def forbids(self, token: int) -> bool:
        """All but the one."""
        return token != self.allowed

    def select(self, tokens: np.ndarray) -> np.ndarray:
        """The one, if it is there."""
        return tokens[tokens == self.allowed]

    def refuse(self, token: int) -> None:
        """What was forbidden does not matter to it."""

    def may_end(self) -> bool:
        """It forbids no end."""
        return True

    def advance(self, token: int) -> None:
        """What was written does not matter to it."""


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), 1e38])
def test_scores_of_a_damaged_model_keep_no_guard_asking_for_ever(temperature: float, wrong: float) -> None:
    settings = WriteSettings(temperature=temperature)
    for n_wrong in (1, 5, 8):
        scores = torch.zeros(1, 8)
        scores[0, :n_wrong] = wrong
        for allowed in (3, 7, 99):
            sampler = TokenSampler(settings, [0], [], [[_ForbidsAllBut(allowed)]])
            [token] = sampler.sample(scores.clone(), torch.zeros(1, 0, dtype=torch.int64))
            assert 0 <= token < 8 and (token == allowed or allowed == 99 or n_wrong > allowed)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_where_guards_forbid_everything_together_the_last_one_is_kept(temperature: float) -> None:
    """A limit to copies holds where the only word that is known would be a copy."""
    settings, nothing = WriteSettings(temperature=temperature), torch.zeros(1, 0, dtype=torch.int64)
    for allowed in range(4):
        for guards in ([_ForbidsAllBut(9), _ForbidsAllBut(allowed)], [*map(_ForbidsAllBut, (9, 3 - allowed, allowed))]):
            sampler = TokenSampler(settings, [0], [], [guards])
            assert sampler.sample(torch.zeros(1, 4), nothing) == [allowed]


def test_what_is_remembered_does_not_change_what_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts share it, unless their prompts have other words, and it does not grow for ever."""
    monkeypatch.setattr("epigone.generation.known_words.MOST_FOUND", 20)
    states = WordStates(KNOWN, PIECES)
    assert states.add("The cat.") is states is not states.add("nth times")
    for text in ([], [b" c"], [b" cat", b"\xc3"], [b"the", b" ", b"1"], []):
        for prompt in ("", "nth times", "A c"):
            shared, alone = WordGuard(states.add(prompt), prompt), make_guard(KNOWN, PIECES, prompt)
            for piece in text:
                shared.advance(PIECES.index(piece))
                alone.advance(PIECES.index(piece))
            assert forbidden(shared) == forbidden(alone) == forbidden(shared)
            assert sum(map(len, states._steps.values())) <= 20


def list_nonsense(words: set[str], before: str, pieces: list[str]) -> list[bool]:
    """For each piece whether letters would be no word: read from the whole text."""
    beginnings = {word[:end] for word in words for end in range(1, len(word) + 1)}
    found = []
    for piece in pieces:
        text = before + piece
        *whole, last = re.split(r"[^a-z]+", text)
        found.append(bool(set(whole) - words - {""}) or bool(last and last not in beginnings))
    return found


def test_what_is_forbidden_is_what_the_whole_text_says() -> None:
    words, chance = {"a", "at", "cat", "the", "then", "hat"}, random.Random(0)
    pieces = [b"a", b"t", b"c", b"h", b"e", b"n", b" ", b" c", b"at", b" the", b".", b"n ", b"t a", b"1", b"ca"]
    for _ in range(20):
        guard, ids = make_guard(KnownWords(words), pieces), list[int]()
        for _ in range(12):
            before = b"".join(pieces[token] for token in ids).decode()
            expected = list_nonsense(words, before, [piece.decode() for piece in pieces])
            assert [guard.forbids(token) for token in range(len(pieces))] == expected
            allowed = [token for token, is_forbidden in enumerate(expected) if not is_forbidden]
            assert guard.select(np.arange(len(pieces))).tolist() == allowed
            ids.append(chance.choice(allowed))
            guard.advance(ids[-1])


def test_all_tokens_are_looked_at_at_once_as_one_by_one() -> None:
    """With a bundled base's words and tokens, behind letters, capitals, marks, digits and parts of characters."""
    folder = BASES["small"].folder
    pieces = list_token_bytes(load_tokenizer(folder))
    known = KnownWords(read_words(folder), {"zyxt"}, mixed={"McZyxt"})
    every = np.arange(len(pieces))
    for text in ("gre", "Th", "McZ", "OL", "caf\u00e9", "don't wh", "7th and x"):
        guard = make_guard(known, pieces, text)
        assert guard.select(every).tolist() == [token for token in every.tolist() if not guard.forbids(token)], text
    guard.advance(pieces.index(b"\xc3"))
    assert guard.select(every).tolist() == [token for token in every.tolist() if not guard.forbids(token)]


@pytest.mark.parametrize("how", [{}, {"top_p": 0.5}, {"min_p": 0.05}, {"top_p": 1.0}, {"top_p": 0.9, "min_p": 0.01}])
def test_rows_are_drawn_one_by_one_as_together_and_alone_as_among_others(how: dict[str, float]) -> None:
    """The ways for processors and for GPUs give the same tokens from the same random numbers."""
    probabilities = (3 * torch.randn(3, 500, generator=torch.Generator().manual_seed(1))).softmax(-1)
    one, other, alone = (TokenSampler(WriteSettings(**how), seeds, []) for seeds in ([7, 8, 9], [7, 8, 9], [7]))
    drawn = [_pick_one_by_one(probabilities, one.rows) for _ in range(300)]
    assert drawn == [_pick_together(probabilities, other.rows) for _ in range(300)]
    assert [tokens[0] for tokens in drawn] == [_pick_together(probabilities[:1], alone.rows)[0] for _ in range(300)]
    assert len({tokens[0] for tokens in drawn}) > 3


@NEEDS_COMPILER
@pytest.mark.parametrize(
    "how", [{}, {"top_p": 0.5, "temperature": 0.7}, {"min_p": 0.05}, {"top_p": 1.0}, {"top_p": 0.9, "min_p": 0.01}]
)
@pytest.mark.parametrize("n_tokens", [3, 64, 500])
def test_the_kernel_draws_the_same_tokens(how: dict[str, float], n_tokens: int) -> None:
    scores = 3 * torch.randn(3, n_tokens, generator=torch.Generator().manual_seed(1))
    scores[1, 1:3] = -torch.inf
    ours, theirs = (TokenSampler(WriteSettings(**how), [7, 8, 9], []).rows for _ in range(2))
    probabilities = (scores / ours[0].temperature).softmax(-1)
    for _ in range(300):
        assert pick_tokens(scores, ours) == _pick_one_by_one(probabilities, theirs)


@NEEDS_COMPILER
def test_where_no_number_gives_an_allowed_token_the_best_ones_are_sorted() -> None:
    """One token in a thousand is allowed, so that nearly always all tries fail."""
    scores, how = torch.arange(1000, 0, -1)[None] * 1e-6, WriteSettings(top_p=0.001, temperature=1)
    ours, theirs = (TokenSampler(how, [7], []).rows for _ in range(2))
    drawn = [pick_tokens(scores, ours) for _ in range(50)]
    assert drawn == [_pick_one_by_one(scores.softmax(-1), theirs) for _ in range(50)] and drawn[0] == [0]


@NEEDS_COMPILER
@pytest.mark.parametrize("spoilt", [torch.nan, torch.inf, -torch.inf])
def test_scores_without_probabilities_are_no_crash_and_no_other_row_s_matter(spoilt: float) -> None:
    scores = torch.randn(3, 70, generator=torch.Generator().manual_seed(1))
    scores[1] = spoilt
    ours, theirs = (TokenSampler(WriteSettings(), [7, 8, 9], []).rows for _ in range(2))
    drawn = [pick_tokens(scores, ours) for _ in range(40)]
    left = [pick_tokens(scores[[0, 2]], [theirs[0], theirs[2]]) for _ in range(40)]
    assert [[tokens[0], tokens[2]] for tokens in drawn] == left and all(0 <= tokens[1] < 70 for tokens in drawn)


@pytest.mark.parametrize("how", [{}, {"top_p": 0.6, "temperature": 1.3}, {"min_p": 0.02}, {"top_k": 40}], ids=str)
def test_what_is_drawn_in_place_of_forbidden_tokens_is_what_the_others_alone_would_give(how: dict[str, float]) -> None:
    """Each draw is that of all tokens whose forbidden ones have no score, as if none had been drawn before."""
    scores, settings = torch.randn(1, 500, generator=torch.Generator().manual_seed(0)) * 3, WriteSettings(**how)
    again, plain = (TokenSampler(settings, [7], ()).rows[0] for _ in range(2))
    redraw, left = _Redraw(scores, again), scores.clone()
    for _ in range(40):
        token = redraw.draw()
        assert [token] == pick_tokens(left, [plain])
        redraw.remove(token)
        left[0, token] = -torch.inf


def test_only_whole_characters_are_written_and_only_the_author_s_are_begun() -> None:
    pieces = [b"a", b"\xe2", b"\x80", b"\x99", b"\xe2\x80", b"\xc3", b"\xc3\xa9", "\ufffd".encode(), b"\x80 a"]

    def allowed(*text: bytes) -> set[bytes]:
        guard = CharacterGuard(list_beginnings(["It’s — fine"]), pieces)
        for piece in text:
            guard.advance(pieces.index(piece))
        assert guard.may_end() == (not text or text[-1] not in (b"\xe2", b"\x80", b"\xe2\x80"))
        return {piece for token, piece in enumerate(pieces) if not guard.forbids(token)}

    whole = {b"a", b"\xe2", b"\xe2\x80", b"\xc3\xa9", "\ufffd".encode()}
    assert allowed() == allowed(b"a") == allowed(b"\xe2\x80", b"\x99") == whole
    assert allowed(b"\xe2\x80") == allowed(b"\xe2", b"\x80") == {b"\x80", b"\x99", b"\x80 a"}
    assert list_beginnings(["plain"]) == frozenset()
