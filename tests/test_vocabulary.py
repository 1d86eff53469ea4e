"""The tokenizer is a stock GPT-2 tokenizer without loss, and dividing a text into blocks changes no token."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

from epigone.corpus.corpus import read_corpus
from epigone.corpus.split import split_corpus
from epigone.errors import BaseUnusable
from epigone.tokens import tokenizer as room
from epigone.tokens.dataset import tokenize
from epigone.tokens.tokenizer import (
    END_OF_TEXT,
    BPETokenizer,
    cut_into_blocks,
    encode,
    list_token_bytes,
    load_tokenizer,
    train_tokenizer,
)
from helpers_front import sonnets
from helpers_tokens import DATA, gpt2_tokenizer, needs_data, small_tokenizer

TEXTS = {
    "verse": sonnets(3_000),
    "emoji": "Ahoy 🏴‍☠️! 👩🏽‍🚀👩🏽‍🚀 🙂\n",
    "chinese": "春天的早晨，老人从山上慢慢走下来。\n",
    "marks apart from their letters": "e\u0301a\u0308 \u200f\u202e\ufeff",
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x85\xa0\xad\u2028",
    "the last planes": "\U000f0000\U0010ffff\U0001d11e",
    "nothing": "",
}


def decode(ids: list[int], tokenizer: BPETokenizer) -> str:
    text = tokenizer.backend.decode(ids, skip_special_tokens=False)
    assert isinstance(text, str)
    return text


# -- learning one


def test_it_is_a_stock_fast_gpt2_tokenizer() -> None:
    tokenizer = small_tokenizer()
    stock = tokenizer.as_stock()
    assert type(stock) is GPT2Tokenizer and stock.is_fast and len(stock) == len(tokenizer)
    assert stock.get_vocab().keys() >= set(pre_tokenizers.ByteLevel.alphabet())
    assert stock.eos_token == stock.bos_token == END_OF_TEXT
    assert encode(f"a{END_OF_TEXT}", tokenizer)[1] == tokenizer.end_of_text_id == stock.eos_token_id
    assert stock("".join(TEXTS.values()))["input_ids"] == encode("".join(TEXTS.values()), tokenizer)


@pytest.mark.parametrize("size", [257, 258, 400, 1_000])
def test_the_size_is_as_asked(size: int) -> None:
    tokenizer = train_tokenizer([sonnets(20_000)], size)
    assert len(tokenizer) == size
    assert sorted(tokenizer.backend.get_vocab().values()) == list(range(size))


@pytest.mark.parametrize(("text", "size"), [("", 257), ("a", 257), ("abab", 259), ("xyz xyz xyz", 260)])
def test_a_short_text_gives_fewer_tokens(text: str, size: int) -> None:
    """In "abab" the pairs ab and abab can be merged; in "xyz xyz xyz" xy, xyz, and the latter with its space."""
    assert len(train_tokenizer([text], 1_000)) == size


def test_frequent_words_become_tokens() -> None:
    tokenizer = train_tokenizer(["O Romeo, Romeo! wherefore art thou Romeo?\n" * 9], 300)
    assert len(encode("Romeo", tokenizer)) <= 2 and len(encode("Q", tokenizer)) == 1
    assert len(encode("oemoR", tokenizer)) > len(encode("Romeo", tokenizer))


def test_equal_texts_give_equal_tokenizers() -> None:
    first, again = (train_tokenizer(iter([sonnets(9_000), "tail"]), 350) for _ in range(2))
    assert first.backend.to_str() == again.backend.to_str()
    other = train_tokenizer([sonnets(9_000).swapcase(), "tail"], 350)
    assert other.backend.get_vocab() != first.backend.get_vocab()


def test_a_very_long_text_is_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LEARNING_CHARACTERS", 6_000)
    monkeypatch.setattr(room, "SAMPLE_CHARACTERS", 1_000)
    texts = [character * 4_000 for character in "abcdef"]
    assert "".join(room._sample_evenly(texts)) == "".join(character * 1_000 for character in "abcdef")
    assert list(room._sample_evenly(["abc", "def"])) == ["abc", "def"]
    many = ["x" * 100 for _ in range(1_000)]  # a place in a short text gives no more than the text has
    assert 0 < sum(map(len, room._sample_evenly(many))) <= 6_000
    text = sonnets(9_000)
    monkeypatch.setattr(room, "LEARNING_CHARACTERS", 5_000)
    assert train_tokenizer([text], 350).backend.get_vocab() != train_tokenizer([text[:5_000]], 350).backend.get_vocab()


def test_a_long_run_without_white_space_is_learned_quickly() -> None:
    """Time quadratic in its length would be a minute here."""
    run = sonnets(90_000).replace(" ", "").replace("\n", "") + "x" * 50_000
    began = time.perf_counter()
    tokenizer = train_tokenizer([run], 600)
    assert time.perf_counter() - began < 10
    assert len(encode(run, tokenizer)) < 0.5 * len(run)
    pieces = list_token_bytes(tokenizer)
    assert b"x" * 64 in pieces and max(map(len, pieces)) <= 256, "an entry is no longer than a few lines"
    assert not [piece for piece in pieces if b"\0" in piece and len(piece) > 1], "no mark is left where a run was cut"


# -- there and back


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_every_text_is_decoded_as_it_was(text: str) -> None:
    for tokenizer in (small_tokenizer(), train_tokenizer([text * 5], 300)):
        assert decode(encode(text, tokenizer), tokenizer) == text


@settings(deadline=None)  # the first text also waits for the vocabulary
@given(st.text())
def test_any_text_is_decoded_as_it_was_and_its_tokens_are_its_bytes(text: str) -> None:
    tokenizer = small_tokenizer()
    ids = encode(text, tokenizer)
    assert decode(ids, tokenizer) == text
    pieces = list_token_bytes(tokenizer)
    assert b"".join(pieces[i] for i in ids) == text.replace(END_OF_TEXT, "").encode()


def test_every_byte_has_a_token_and_the_end_of_text_no_bytes() -> None:
    pieces = list_token_bytes(small_tokenizer())
    assert len(pieces) == 400
    assert {piece[0] for piece in pieces if len(piece) == 1} == set(range(256))
    assert [i for i, piece in enumerate(pieces) if not piece] == [small_tokenizer().end_of_text_id]


@needs_data
def test_the_tokens_of_gpt2_are_the_bytes_of_the_text() -> None:
    tokenizer, text = gpt2_tokenizer(), "".join(TEXTS.values())
    pieces = list_token_bytes(tokenizer)
    assert b"".join(pieces[i] for i in encode(text, tokenizer)) == text.encode()
    assert pieces[15_496] == b"Hello" and pieces[995] == b" world" and pieces[50_256] == b""


# -- cutting


@settings(deadline=None)
@given(st.text(st.sampled_from("ab '!é中🙂\n\t\r\x0b\x1c\x85\u00a0\u2003\u2028"), max_size=80), st.integers(1, 30))
def test_blocks_are_the_text_and_not_too_long(text: str, size: int) -> None:
    blocks = list(cut_into_blocks(text, size))
    assert "".join(blocks) == text
    assert all(0 < len(block) <= size for block in blocks)


odd_pieces = st.text(st.sampled_from("ab1 's!é中🙂\n \t\r\x0b\x1c\x1f\x85\u00a0\u2003\u2028"), max_size=8)


@settings(deadline=None, max_examples=300)
@given(st.lists(odd_pieces, min_size=3, max_size=12), st.sampled_from(["z ", "z\n", "!\n", "'s "]))
def test_the_tokens_of_the_blocks_are_the_tokens_of_the_whole(pieces: list[str], edge: str) -> None:
    """If a block has a place to cut at: a blank or a line's end after something else."""
    text, tokenizer = edge.join(pieces), small_tokenizer()
    whole = tokenizer.backend.encode(text, add_special_tokens=False).ids
    assert [i for block in cut_into_blocks(text, 24) for i in encode(block, tokenizer)] == whole


@pytest.mark.parametrize("between", [" ", "\n\n", " \t ", "\r\n", " \u00a0", "\x85 "])
def test_a_text_of_many_blocks_has_the_tokens_of_the_whole(between: str) -> None:
    text, tokenizer = sonnets(70_000).replace(" ", between) * 2, small_tokenizer()
    assert len(list(cut_into_blocks(text))) > 2
    assert encode(text, tokenizer) == tokenizer.backend.encode(text, add_special_tokens=False).ids


def test_a_long_run_is_cut_quickly() -> None:
    """So many letters have no place to cut at, and it is not searched for again and again."""
    run = "a" * 100_000
    began = time.perf_counter()
    assert "".join(cut_into_blocks(run)) == run
    assert time.perf_counter() - began < 5


# -- keeping and loading


def test_a_saved_tokenizer_is_loaded_by_transformers_alone(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    tokenizer.as_stock().save_pretrained(tmp_path)
    text = "".join(TEXTS.values()) + END_OF_TEXT
    stock, ours = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    assert stock(text)["input_ids"] == encode(text, ours) == encode(text, tokenizer)
    assert stock.decode(stock(text)["input_ids"]) == decode(encode(text, ours), ours) == text
    assert len(stock) == len(ours) == 400
    assert stock.eos_token_id == ours.end_of_text_id == tokenizer.end_of_text_id


def test_a_tokenizer_with_truncation_does_not_truncate(tmp_path: Path) -> None:
    small_tokenizer().as_stock().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    values["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values), "utf-8")
    assert encode(sonnets(500), load_tokenizer(tmp_path)) == encode(sonnets(500), small_tokenizer())


def test_the_default_end_of_text_is_gpt2_s(tmp_path: Path) -> None:
    small_tokenizer().as_stock().save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    assert load_tokenizer(tmp_path).end_of_text_id == small_tokenizer().end_of_text_id


def damage_by(folder: Path, name: str) -> None:
    """Damage a folder in one of several ways."""
    tokenizer = folder / "tokenizer.json"
    if name == "nothing there":
        [path.unlink() for path in folder.iterdir()]
    elif name == "cut short":
        tokenizer.write_bytes(tokenizer.read_bytes()[:-100])
    elif name == "no JSON":
        tokenizer.write_bytes(b"\xff\xfe\0")
    elif name == "other JSON":
        tokenizer.write_text("[]", "utf-8")
    elif name == "an empty object":
        tokenizer.write_text("{}", "utf-8")
    elif name == "no model in it":
        tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text("utf-8")) | {"model": None}), "utf-8")
    elif name == "only its configuration":
        tokenizer.unlink()
    elif name == "no end of text":
        (folder / "tokenizer_config.json").write_text('{"eos_token": "<end>"}', "utf-8")


DAMAGES = [
    "nothing there",
    "cut short",
    "no JSON",
    "other JSON",
    "an empty object",
    "no model in it",
    "only its configuration",
    "no end of text",
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_without_a_valid_tokenizer_is_an_error(tmp_path: Path, damage: str) -> None:
    small_tokenizer().as_stock().save_pretrained(tmp_path)
    damage_by(tmp_path, damage)
    with pytest.raises(BaseUnusable) as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value) and "tokenizer.json" in caught.value.hint


def test_another_kind_of_tokenizer_is_refused(tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(tmp_path)
    with pytest.raises(BaseUnusable, match="end-of-text token"):
        load_tokenizer(tmp_path)


# -- GPT-2's own


@needs_data
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world", [15496, 995]),
        ("Hello, I'm a language model,", [15496, 11, 314, 1101, 257, 3303, 2746, 11]),
        (END_OF_TEXT, [50256]),
    ],
)
def test_gpt2_has_its_published_ids(text: str, ids: list[int]) -> None:
    assert len(gpt2_tokenizer()) == 50_257
    assert encode(text, gpt2_tokenizer()) == ids


@needs_data
def test_tinyshakespeare_has_the_published_number_of_gpt2_tokens(tmp_path: Path) -> None:
    """As published with nanoGPT: 301,966 for training and 36,059 for validation."""
    corpus = read_corpus([str(DATA / "tinyshakespeare.txt")])
    split = split_corpus(corpus, how="tail", share=0.1, seed=0)
    parts = [list(split.train_texts(corpus))], [list(split.validation_texts(corpus))]
    tokens = tokenize(*parts, gpt2_tokenizer(), tmp_path)
    assert (tokens.train.n_tokens, tokens.validation.n_tokens) == (301_966, 36_059)
