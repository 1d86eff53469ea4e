"""Text or a checkpoint's folder in; a byte-level BPE out, which transformers knows as a stock GPT-2 tokenizer."""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from epigone.corpus.large_text import Text, read_blocks, slice_text
from epigone.errors import BaseUnusable, TextUnreadable, first_line

if TYPE_CHECKING:
    from transformers import GPT2Tokenizer


END_OF_TEXT = "<|endoftext|>"
BLOCK_CHARACTERS = 65_536
"""One long string costs about 180 bytes of memory per byte to encode; blocks of this size cost none and are faster."""
BLOCKS_AT_ONCE = min(64, max(16, 4 * (os.cpu_count() or 1)))
"""Enough to keep all cores at work; what comes of them takes some megabytes a block."""
LONGEST_RUN = 256
"""Learning a vocabulary takes time quadratic in the longest run without white space, so longer ones are cut."""
LEARNING_CHARACTERS = 100_000_000
"""A vocabulary is learned from at most this much text; more changes few merges and costs gigabytes."""
SAMPLE_CHARACTERS = 1 << 14
"""Of a longer text so much is taken from each of many places."""


class BPETokenizer:
    """A byte-level BPE, and which of its tokens stands between documents."""

    def __init__(self, tokenizer: Tokenizer, end_of_text: str = END_OF_TEXT) -> None:
        """Raises ValueError where there is no such token."""
        number = tokenizer.token_to_id(end_of_text)
        if number is None:
            raise ValueError(f"it has no token {end_of_text}")
        self.backend, self.end_of_text, self.end_of_text_id = tokenizer, end_of_text, int(number)

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def as_stock(self) -> GPT2Tokenizer:
        """The same as transformers has it, to be saved beside a model."""
        from transformers import GPT2Tokenizer  # it takes a second to load, and writing does without

        merges = [tuple(pair) for pair in _list_merges(json.loads(self.backend.to_str()))]
        names = dict.fromkeys(("unk_token", "bos_token", "eos_token"), self.end_of_text)
        return GPT2Tokenizer(vocab=self.backend.get_vocab(), merges=merges, **names)  # type: ignore[arg-type]


def _list_merges(values: dict[str, Any]) -> list[Any]:
    """Pairs; older files hold each as one string."""
    merges = values["model"]["merges"]
    return [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]


def train_tokenizer(texts: Iterable[Text], size: int) -> BPETokenizer:
    """A byte-level BPE of at most `size` entries, the 256 bytes and the end-of-text token among them.

    A short text may have too few repeated pairs to fill it. Of very long ones a part is read, evenly spread.
    """
    learner = _make_byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(_pieces_to_learn_from(texts), trainer)
    return BPETokenizer(learner)


def _make_byte_level(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pieces_to_learn_from(texts: Iterable[Text]) -> Iterator[str]:
    for text in _spread(list(texts)):
        for block in cut_into_blocks(text):
            yield from re.sub(rf"(\S{{{LONGEST_RUN}}})(?=\S)", "\\1\0", block).split("\0")


def _spread(texts: list[Text]) -> Iterator[Text]:
    """The texts, or where they are too long a part of what stands at even distances in them."""
    n_characters = sum(map(len, texts))
    if n_characters <= LEARNING_CHARACTERS:
        yield from texts
        return
    n_samples = -(-LEARNING_CHARACTERS // SAMPLE_CHARACTERS)
    places, start = [n_characters * number // n_samples for number in range(n_samples)], 0
    for text in texts:
        end = start + len(text)
        for place in places[bisect_left(places, start) : bisect_left(places, end)]:
            size = min(SAMPLE_CHARACTERS, LEARNING_CHARACTERS, end - place)
            yield slice_text(text, place - start, place - start + size)
        start = end


def load_tokenizer(folder: Path) -> BPETokenizer:
    """The tokenizer in a checkpoint's folder. Raises BaseUnusable."""
    try:
        tokenizer = BPETokenizer(_read_tokenizer(folder), _read_end_of_text(folder))
        _check_numbers(tokenizer, _read_n_known(folder))
    except Exception as error:  # noqa: BLE001  # tokenizers raises nothing more special
        raise BaseUnusable(
            f"{folder} holds no whole byte-level BPE with an end-of-text token: {first_line(error)}",
            hint="Put the tokenizer.json that belongs to the weights beside them.",
        ) from None
    return tokenizer


def _check_numbers(tokenizer: BPETokenizer, n_known: int) -> None:
    """Raises ValueError where there are no tokens, or more than the model knows."""
    n_tokens, largest = len(tokenizer), max(tokenizer.backend.get_vocab().values())
    if n_tokens < 2:
        raise ValueError("it has no tokens")
    if largest >= min(n_tokens, n_known or n_tokens):
        raise ValueError(f"it has {n_tokens:,} tokens, the last with number {largest:,}; the model knows {n_known:,}")


def _read_n_known(folder: Path) -> int:
    """Tokens that the model beside a tokenizer knows; 0 where there is none."""
    try:
        n_known = json.loads((folder / "config.json").read_text("utf-8"))["vocab_size"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
    return n_known if isinstance(n_known, int) else 0


def _read_tokenizer(folder: Path) -> Tokenizer:
    whole = folder / "tokenizer.json"
    if not whole.exists():
        tokenizer = _make_byte_level(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        tokenizer.add_special_tokens([END_OF_TEXT])
        return tokenizer
    return _rebuild(json.loads(whole.read_text("utf-8")))


def _rebuild(values: dict[str, Any]) -> Tokenizer:
    """As transformers does it: entries, merges and added tokens are the file's, and how a text is cut is GPT-2's.

    So no pattern of a stranger's is ever searched for, and nothing is cut off or filled up. Raises ValueError.
    """
    if values["model"].get("type", "BPE") != "BPE" or "ByteLevel" not in json.dumps(values["pre_tokenizer"]):
        raise ValueError("tokenizer.json is of another kind")
    merges = [tuple(pair) for pair in _list_merges(values)]
    tokenizer = _make_byte_level(models.BPE(vocab=values["model"]["vocab"], merges=merges))
    for added in sorted(values["added_tokens"], key=lambda added: added["id"]):
        add = tokenizer.add_special_tokens if added["special"] else tokenizer.add_tokens
        add([AddedToken(added["content"], special=added["special"])])
        if tokenizer.token_to_id(added["content"]) != added["id"]:
            raise ValueError(f"token {added['id']} is not where tokenizer.json has it")
    return tokenizer


def _read_end_of_text(folder: Path) -> str:
    """What tokenizer_config.json calls it, or GPT-2's own name."""
    path = folder / "tokenizer_config.json"
    found = json.loads(path.read_text("utf-8")).get("eos_token") if path.exists() else None
    found = found.get("content") if isinstance(found, dict) else found
    return found if isinstance(found, str) else END_OF_TEXT


def cut_into_blocks(text: Text, size: int = BLOCK_CHARACTERS) -> Iterator[str]:
    """The text in blocks of about `size` characters whose tokens, joined, are the tokens of the whole.

    GPT-2's pattern never looks behind a white space that follows something else, so the cut goes there. Where a block
    has no such place (one long run), it is cut at its end.
    """
    rest = ""
    for more in read_blocks(text):
        rest, start = rest + more, 0
        while len(rest) - start > size:
            end = start + size
            match = _LAST_EDGE.match(rest, start + 1, end)  # search would try again from every character of a long run
            edge = match.start(1) if match else end
            yield rest[start:edge]
            start = edge
        rest = rest[start:]
    if rest:
        yield rest


_LAST_EDGE = re.compile(r"(?s:.*)(?<=\S)([ \n])")


def encode(text: Text, tokenizer: BPETokenizer) -> list[int]:
    """The ids of a text, without any token added."""
    return [token for ids in encode_blocks(text, tokenizer) for token in ids]


def encode_blocks(text: Text, tokenizer: BPETokenizer) -> Iterator[list[int]]:
    """The ids of a text of any length, block by block, on all cores."""
    return (ids for ids, _ in encode_each(cut_into_blocks(text), tokenizer))


def encode_each(blocks: Iterable[str], tokenizer: BPETokenizer) -> Iterator[tuple[list[int], str]]:
    """The ids of each block, beside the block, on all cores. Raises TextUnreadable where half a character stands."""
    blocks = iter(blocks)
    while some := list(islice(blocks, BLOCKS_AT_ONCE)):
        try:
            encoded = tokenizer.backend.encode_batch_fast(some, add_special_tokens=False)
        except TypeError:
            half = next((letter for block in some for letter in block if "\ud800" <= letter <= "\udfff"), "?")
            raise TextUnreadable(
                f"The text holds half a character (U+{ord(half):04X}).",
                hint="It was not UTF-8 when it came here: save it anew, or type it in again.",
            ) from None
        yield from zip((encoding.ids for encoding in encoded), some, strict=True)


def list_token_bytes(tokenizer: BPETokenizer) -> list[bytes]:
    """The bytes that each id stands for; b"" for the end of text and for ids without a token."""
    byte_of = _byte_of_character()
    pieces = [b""] * len(tokenizer)
    special = {number for number, token in tokenizer.backend.get_added_tokens_decoder().items() if token.special}
    for token, number in tokenizer.backend.get_vocab().items():
        if number not in special and number < len(pieces):
            pieces[number] = b"".join(byte_of.get(c, c.encode()) for c in token)
    return pieces


def _byte_of_character() -> dict[str, bytes]:
    """GPT-2 writes each byte as a printable character: itself, or the next one from U+0100 on (Radford et al. 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {chr(byte): bytes([byte]) for byte in printable}
    return shown | {chr(0x100 + number): bytes([byte]) for number, byte in enumerate(others)}
