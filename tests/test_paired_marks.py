"""Quotation marks and brackets are opened and closed in turn where the author does so, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from epigone.generation.generator import TextGenerator
from epigone.generation.paired_marks import MarkGuard, MarkUse, Pairing, find_mark_use, find_pairings, is_paired
from epigone.model.decoder import ReferenceDecoder, make_decoder
from epigone.settings import WriteSettings
from epigone.tokens.tokenizer import BPETokenizer, encode, list_token_bytes
from helpers_writing import Parrot, bytes_only, make_random_model, random_tokenizer  # noqa: F401

NOVEL = "\n\n".join(f'"I saw {n} of them," he said. "And you?" (He knew.)' for n in range(12))
POEM = "\n\n".join(f"And she said “my {n} sisters,\nwhere are they?” and then\nno more [of this]." for n in range(12))
ITALIC = "\n\n".join(
    f"He had _{n}_ of them, or so “_she_ said”—_la belle, le beau_—and “_no more_”." for n in range(12)
)
CARELESS = "\n\n".join(f'a 5" board, and {n}) "so' for n in range(12))


@pytest.mark.parametrize(
    ("text", "pair", "expected"),
    [
        ('"Yes," he said. "No--"', '""', True),
        ('"Yes," he said. "No.', '""', False),
        ('Yes," he said.', '""', False),
        ('"One "two" three"', '""', False),
        ('He said--"Come"--and went.', '""', True),
        ("“One” and “two”", "“”", True),
        ("“One “two”", "“”", False),
        ("„Ja“, sagte er", "„“", True),
        ("« Oui », dit-il", "«»", True),
        ("a (b) c", "()", True),
        ("a) b", "()", False),
        ("He _never_ came to the _rue de Rivoli_.", "__", True),
        ("“_Never!_” he said—_bon_—and “oh, _no_”.", "__", True),
        ("the word __Tour de Bain_", "__", False),
        ("the _rue de Rivoli. She went.", "__", False),
        ("the rue de Rivoli_. She went.", "__", False),
    ],
)
def test_pairs_are_told_from_marks_that_are_alone(text: str, pair: str, expected: bool) -> None:
    assert is_paired(text, *pair) == expected


def test_the_author_s_text_says_what_stands_in_pairs() -> None:
    assert find_pairings([NOVEL]) == (Pairing('"', '"', "line"), Pairing("(", ")", "line"))
    assert find_pairings([POEM]) == (Pairing("“", "”", "paragraph"), Pairing("[", "]", "line"))
    assert find_pairings([ITALIC]) == (Pairing("“", "”", "line"), Pairing("_", "_", "line"))
    assert find_pairings(["\n\n".join(f"def find_{n}_all_one: pass" for n in range(12))]) == ()
    assert find_pairings([CARELESS]) == find_pairings([NOVEL[:200]]) == find_pairings([]) == ()


def say(script: str, own: str, tokenizer: BPETokenizer, prompt: str = "", **how: object) -> str:
    """What a model writes that says this again and again, where it may; without that, a mark, a letter or a stop."""
    parrot = Parrot(encode(script, tokenizer), len(tokenizer))
    decoder = ReferenceDecoder(parrot)  # type: ignore[arg-type]
    generator = TextGenerator(decoder, tokenizer, read_documents=lambda: [own])
    length = len(encode(script, tokenizer))
    settings = WriteSettings(**{"length": length, "stop_at": "anywhere", "loop_guard": "off"} | how)
    return generator.write(prompt, settings)[0]


def test_a_quotation_is_closed_before_its_paragraph_ends(bytes_only: BPETokenizer) -> None:  # noqa: F811
    written = say('He said, "I know.\n\nShe went.\n\n', NOVEL, bytes_only)
    assert written.startswith('He said, "I know."') and "\n\n" not in written[:18]
    assert say('He said, "I know.\n\nShe', NOVEL, bytes_only, marks="any") == 'He said, "I know.\n\nShe'
    assert say('He said, "I know.\n\nShe', CARELESS, bytes_only) == 'He said, "I know.\n\nShe'


def test_italics_are_not_begun_twice_and_end_before_their_paragraph(bytes_only: BPETokenizer) -> None:  # noqa: F811
    written = say("He saw __Le Bain_. ", ITALIC, bytes_only)
    assert "__" not in written and is_paired(written, "_", "_")
    written = say("He saw _Le Bain.\n\nShe went.\n\n", ITALIC, bytes_only)
    assert written.startswith("He saw _Le Bain._") and is_paired(written.split("\n\n")[0], "_", "_")


def test_words_are_finished_before_a_quotation_is_closed(bytes_only: BPETokenizer) -> None:  # noqa: F811
    """The guard for words allows no mark behind half a word, and the one for marks no other token: neither waits."""
    guard = MarkGuard(MarkUse((Pairing('"', '"', "line"),)), list_token_bytes(bytes_only))
    for token in encode('"I kno', bytes_only):
        guard.advance(token)
    newline, letter, mark = (encode(text, bytes_only)[0] for text in ("\n", "w", '"'))
    guard.refuse(newline)
    assert guard.forbids(newline) and not guard.forbids(letter) and not guard.forbids(mark)
    for token in encode("w.", bytes_only):
        guard.advance(token)
    guard.refuse(newline)
    assert guard.forbids(newline) and guard.forbids(letter) and not guard.forbids(mark)


def test_a_sentence_that_has_ended_gets_no_second_stop() -> None:
    pieces = [b'"I know.', b"\n", b'."', b'"', b'"\n\nHe']
    guard = MarkGuard(MarkUse((Pairing('"', '"', "line"),)), pieces)
    guard.advance(0)
    assert [guard.forbids(token) for token in (1, 2, 3, 4)] == [True, False, False, False]
    guard.refuse(1)  # only the token that was drawn says that the paragraph was to end
    assert [guard.forbids(token) for token in (1, 2, 3, 4)] == [True, True, False, False]


def test_a_quotation_of_verse_may_go_on_in_the_next_line(bytes_only: BPETokenizer) -> None:  # noqa: F811
    script = "And “my\nsisters.\n\nNo"
    assert say(script, POEM, bytes_only).startswith("And “my\nsisters.\n")
    assert not say(script, POEM, bytes_only).startswith("And “my\nsisters.\n\n")


def test_nothing_is_closed_that_was_not_opened(bytes_only: BPETokenizer) -> None:  # noqa: F811
    written = say('I know." She (or) he) went', NOVEL, bytes_only)
    assert written.startswith("I know.") and written[7] != '"' and "he) " not in written
    assert say(' know." She', NOVEL, bytes_only, prompt='"I') == ' know." She'


def test_a_text_does_not_end_in_the_middle_of_a_quotation(bytes_only: BPETokenizer) -> None:  # noqa: F811
    script = 'He said, "I know. I saw." Then he went. And came.'
    for marks, expected in (("auto", 'He said, "I know. I saw."'), ("any", 'He said, "I know.')):
        assert say(script, NOVEL, bytes_only, stop_at="sentence", length=12, marks=marks) == expected


def test_marks_that_the_author_never_uses_are_not_written(bytes_only: BPETokenizer) -> None:  # noqa: F811
    assert find_mark_use([NOVEL]).never == set("“”„«»") and find_mark_use(["No marks."]).never == set()
    assert "“" not in say("He said “I know”", NOVEL, bytes_only)
    assert say("I know” he said", NOVEL, bytes_only, prompt="“And ”").startswith("I know")
    assert "“" in say("He said “I know”", NOVEL, bytes_only, prompt="“And” ")


def test_a_pair_that_is_never_closed_does_not_keep_a_text_from_its_end(bytes_only: BPETokenizer) -> None:  # noqa: F811
    script = 'He said, "' + "I know. " * 99
    written = say(script, NOVEL, bytes_only, stop_at="sentence", length=40)
    assert 70 <= len(written) < 90 and written.endswith("I know.")


def test_whatever_a_model_writes_stands_in_pairs(random_tokenizer: BPETokenizer) -> None:  # noqa: F811
    """A random model that likes marks and line breaks, with a text that has the marks in pairs."""
    liked = [token for mark in '"() \n' for token in encode(mark, random_tokenizer)]

    def like(_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores.index_add(1, torch.tensor(liked), torch.full((len(scores), len(liked)), 3.0))

    decoder = make_decoder(make_random_model(random_tokenizer, initializer_range=0.05))
    generator = TextGenerator(decoder, random_tokenizer, read_documents=lambda: [NOVEL])
    settings = WriteSettings(length=300, count=3, seed=2, top_p=1.0)
    guarded, free = (
        generator.write("", settings.model_copy(update={"marks": marks}), [like]) for marks in ("auto", "any")
    )
    lines, others = ([line for text in texts for line in text.split("\n")[:-1]] for texts in (guarded, free))
    assert sum('"' in line for line in lines) > 10 and sum("(" in line for line in lines) > 10
    assert all(is_paired(line, *pair) for line in lines for pair in ('""', "()"))
    assert not any(all(is_paired(line, *pair) for line in others) for pair in ('""', "()"))


def test_a_guard_reads_characters_that_are_divided_between_tokens(bytes_only: BPETokenizer) -> None:  # noqa: F811
    guard = MarkGuard(MarkUse((Pairing("“", "”", "line"),)), list_token_bytes(bytes_only))
    for token in encode("“Yes.", bytes_only):
        assert not guard.forbids(token)
        guard.advance(token)
    assert guard.forbids(encode("\n", bytes_only)[0]) and not guard.may_end()
    guard.refuse(encode("\n", bytes_only)[0])
    for token in encode("”", bytes_only):
        assert not guard.forbids(token)
        guard.advance(token)
    assert guard.may_end() and not guard.forbids(encode("\n", bytes_only)[0])
