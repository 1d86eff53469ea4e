"""Token files: one stream of ids per part, keyed by content, reused, and never trusted when damaged."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import GPT2Tokenizer

from epigone.errors import RunDamaged
from epigone.tokens.dataset import TokenDataset, load_tokens, tokenize
from epigone.tokens.tokenizer import END_OF_TEXT, BPETokenizer, encode, train_tokenizer
from helpers_front import sonnets
from helpers_tokens import small_tokenizer

TRAIN = [[sonnets(900), "Ein schöner Tag.\n"], ["second"]]
VALIDATION = [["held out: 春天\n"]]


def encode_into(folder: Path, train: list[list[str]] = TRAIN, validation: list[list[str]] = VALIDATION) -> TokenDataset:
    return tokenize(train, validation, small_tokenizer(), folder)


def expected_ids(part: list[list[str]], tokenizer: BPETokenizer) -> list[int]:
    """The end of text before each document, then its spans one after another."""
    ids: list[int] = []
    for document in part:
        ids += [tokenizer.end_of_text_id, *(i for stretch in document for i in encode(stretch, tokenizer))]
    return ids


def make_wide_tokenizer(size: int) -> BPETokenizer:
    """Every byte, unused entries up to the size, and the end of text last, as in GPT-2."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*letters, *(f"idle{i}" for i in range(size - len(letters) - 1)), END_OF_TEXT]
    stock = GPT2Tokenizer(vocab={entry: i for i, entry in enumerate(entries)}, merges=[])
    return BPETokenizer(stock.backend_tokenizer)


# -- what is in it


def test_each_document_follows_one_end_of_text(tmp_path: Path) -> None:
    tokens, tokenizer = encode_into(tmp_path), small_tokenizer()
    assert tokens.train.ids.tolist() == expected_ids(TRAIN, tokenizer)
    assert tokens.validation.ids.tolist() == expected_ids(VALIDATION, tokenizer)
    assert (tokens.train.ids == tokenizer.end_of_text_id).sum() == 2


def test_validation_text_is_nowhere_in_training_tokens(tmp_path: Path) -> None:
    tokens = encode_into(tmp_path)
    for part, texts in ((tokens.train, TRAIN), (tokens.validation, VALIDATION)):
        text = small_tokenizer().backend.decode(part.ids.tolist(), skip_special_tokens=False)
        assert text == "".join(END_OF_TEXT + "".join(document) for document in texts)


def test_the_counts_are_those_of_the_text_itself(tmp_path: Path) -> None:
    part = encode_into(tmp_path).train
    text = "".join(stretch for document in TRAIN for stretch in document)
    assert (part.n_documents, part.n_characters, part.n_bytes) == (2, len(text), len(text.encode()))
    assert part.n_bytes == part.n_characters + 1  # an umlaut has two bytes
    assert part.n_tokens == len(part.ids) - 2
    assert part.bytes_per_token == pytest.approx(len(text.encode()) / part.n_tokens)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    train=st.lists(st.lists(st.text(max_size=9), min_size=1, max_size=3), min_size=1, max_size=3),
    validation=st.lists(st.lists(st.text(max_size=9), min_size=1, max_size=3), min_size=1, max_size=2),
)
def test_any_documents_are_counted_and_stored(
    tmp_path: Path, train: list[list[str]], validation: list[list[str]]
) -> None:
    tokens = encode_into(tmp_path, train, validation)
    for part, documents in ((tokens.train, train), (tokens.validation, validation)):
        assert part.ids.tolist() == expected_ids(documents, small_tokenizer())
        assert part.n_documents == len(documents) and part.n_tokens == len(part.ids) - len(documents)
        assert part.n_bytes == sum(len(stretch.encode()) for document in documents for stretch in document)


# -- on the disk


def test_ids_stay_on_disk_and_are_read_only(tmp_path: Path) -> None:
    for part in (encode_into(tmp_path).train, encode_into(tmp_path).validation):
        assert isinstance(part.ids, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            part.ids[0] = 1


@pytest.mark.parametrize(("size", "kind"), [(400, np.uint16), (65_536, np.uint16), (65_537, np.uint32)])
def test_ids_are_as_wide_as_the_tokenizer_needs(tmp_path: Path, size: int, kind: type) -> None:
    tokenizer = make_wide_tokenizer(size)
    assert len(tokenizer) == size
    ids = tokenize([["ab"]], [["c"]], tokenizer, tmp_path).train.ids
    assert ids.dtype == kind
    assert ids.tolist() == [size - 1, *encode("ab", tokenizer)]


def test_tokens_are_loaded_as_they_were_written(tmp_path: Path) -> None:
    written = encode_into(tmp_path)
    loaded = load_tokens(tmp_path / written.key)
    assert loaded.key == written.key
    for part, other in ((loaded.train, written.train), (loaded.validation, written.validation)):
        assert part.ids.tolist() == other.ids.tolist() and part.n_bytes == other.n_bytes


def test_tokens_can_be_moved(tmp_path: Path) -> None:
    key = encode_into(tmp_path / "here").key
    (tmp_path / "here").rename(tmp_path / "there")
    assert load_tokens(tmp_path / "there" / key).train.ids.tolist() == expected_ids(TRAIN, small_tokenizer())


# -- the key


def test_equal_content_has_an_equal_key_in_any_folder(tmp_path: Path) -> None:
    relearned = train_tokenizer([sonnets(20_000)], 400)
    keys = {
        encode_into(tmp_path / "one").key,
        encode_into(tmp_path / "another" / "deep").key,
        tokenize(tuple(map(tuple, TRAIN)), VALIDATION, relearned, tmp_path / "third").key,
    }
    assert len(keys) == 1


def test_different_content_has_a_different_key(tmp_path: Path) -> None:
    """Also if the same words are divided differently among documents and parts."""
    contents = [
        ([["ab"], ["cd"]], [["ef"]]),
        ([["ab"], ["cD"]], [["ef"]]),
        ([["ab"], ["cd"]], [["eF"]]),
        ([["cd"], ["ab"]], [["ef"]]),
        ([["ab", "cd"]], [["ef"]]),
        ([["abcd"]], [["ef"]]),
        ([["ab"]], [["cd"], ["ef"]]),
        ([["ab"]], [["cd", "ef"]]),
        ([["ef"]], [["ab"], ["cd"]]),
    ]
    assert len({encode_into(tmp_path, *content).key for content in contents}) == len(contents)
    one, other = (train_tokenizer([text * 9], 300) for text in ("ab cd", "xy zw"))
    assert len({tokenize(*contents[0], tokenizer, tmp_path).key for tokenizer in (one, other)}) == 2


def test_another_text_in_the_same_folder_is_never_mistaken_for_the_first(tmp_path: Path) -> None:
    first, second = encode_into(tmp_path, [["ab"]], VALIDATION), encode_into(tmp_path, [["cd"]], VALIDATION)
    assert encode_into(tmp_path, [["ab"]], VALIDATION).train.ids.tolist() == first.train.ids.tolist()
    assert first.train.ids.tolist() != second.train.ids.tolist()


# -- found again


def test_existing_tokens_are_not_encoded_again(tmp_path: Path) -> None:
    place = tmp_path / encode_into(tmp_path).key
    for path in place.iterdir():
        os.utime(path, (0, 0))
    again = encode_into(tmp_path)
    assert [path.stat().st_mtime for path in place.iterdir()] == [0, 0, 0]
    assert again.train.ids.tolist() == expected_ids(TRAIN, small_tokenizer())


def test_incomplete_tokens_are_encoded_again(tmp_path: Path) -> None:
    """tokens.json is written last: without it the ids may be incomplete."""
    place = tmp_path / encode_into(tmp_path).key
    (place / "tokens.json").unlink()
    (place / "train.npy").write_bytes((place / "train.npy").read_bytes()[:-9])
    (place / "validation.npy").unlink()
    assert encode_into(tmp_path).train.ids.tolist() == expected_ids(TRAIN, small_tokenizer())


# -- damage


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_facts(path: Path, **more: object) -> None:
    facts = json.loads((path.parent / "tokens.json").read_text("utf-8"))
    facts[path.stem] |= more
    (path.parent / "tokens.json").write_text(json.dumps(facts), "utf-8")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "one bit": flip_last_byte,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: np.save(path, np.append(np.load(path), np.uint16(7))),
    "emptied": lambda path: path.write_bytes(b""),
    "no array": lambda path: path.write_bytes(b"once upon a time"),
    "a pickle": lambda path: np.save(path, np.array([{}]), allow_pickle=True),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "exchanged": lambda path: shutil.copy(path.parent / "validation.npy", path.parent / "train.npy"),
    "another sum": lambda path: change_facts(path, sha256="0" * 64),
    "a count that is not a number": lambda path: change_facts(path, n_tokens="many"),
    "a fact that is unknown": lambda path: change_facts(path, n_pages=3),
    "no facts": lambda path: (path.parent / "tokens.json").unlink(),
    "facts of one part": lambda path: (path.parent / "tokens.json").write_text('{"train": {}}', "utf-8"),
    "facts that are a list": lambda path: (path.parent / "tokens.json").write_text("[]", "utf-8"),
    "facts cut short": lambda path: (path.parent / "tokens.json").write_text("{", "utf-8"),
    "facts that are no text": lambda path: (path.parent / "tokens.json").write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_an_error_with_the_place_and_a_hint(
    tmp_path: Path, damage: Callable[[Path], object], part: str
) -> None:
    place = tmp_path / encode_into(tmp_path).key
    damage(place / f"{part}.npy")
    with pytest.raises(RunDamaged, match="cannot be read") as caught:
        load_tokens(place)
    assert str(place) in str(caught.value) and "train again" in caught.value.hint


def test_an_empty_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunDamaged):
        load_tokens(tmp_path / "nothing")
