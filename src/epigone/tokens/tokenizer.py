"""Byte-level BPE tokenizer: trained on a text or loaded from a checkpoint; transformers' stock GPT-2 tokenizer."""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache
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
"""Encoding one long string takes about 180 bytes of memory per byte; blocks of this size take none and are faster."""
BLOCKS_AT_ONCE = min(64, max(16, 4 * (os.cpu_count() or 1)))
"""Enough to keep all cores busy; the result takes some megabytes a block."""
LONGEST_RUN = 256
"""Training takes time quadratic in the longest run without white space, so longer runs are cut."""
LEARNING_CHARACTERS = 100_000_000
"""A tokenizer is trained on at most this much text; more would change few merges and take gigabytes."""
SAMPLE_CHARACTERS = 1 << 14
"""From a longer text, samples of this size are taken at many places."""
FILES = ("tokenizer.json", "tokenizer_config.json", "config.json", "vocab.json", "merges.txt")
"""Of a checkpoint's folder, those that a tokenizer is read from or checked against."""
MOST_KEPT = 4
"""Tokenizers that stay in memory: judging a run asks for one six times, 5 to 10 ms each."""


class BPETokenizer:
    """A byte-level BPE, and its token that separates documents."""

    def __init__(self, tokenizer: Tokenizer, end_of_text: str = END_OF_TEXT) -> None:
        """Raises ValueError if there is no such token."""
        number = tokenizer.token_to_id(end_of_text)
        if number is None:
            raise ValueError(f"it has no token {end_of_text}")
        self.backend, self.end_of_text, self.end_of_text_id = tokenizer, end_of_text, int(number)

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def as_stock(self) -> GPT2Tokenizer:
        """The same as a tokenizer of transformers, to be saved with a model."""
        from transformers import GPT2Tokenizer  # takes a second to import, and writing does not need it

        merges = [tuple(pair) for pair in _list_merges(json.loads(self.backend.to_str()))]
        names = dict.fromkeys(("unk_token", "bos_token", "eos_token"), self.end_of_text)
        return GPT2Tokenizer(vocab=self.backend.get_vocab(), merges=merges, **names)  # type: ignore[arg-type]


def _list_merges(values: dict[str, Any]) -> list[Any]:
    """The merges as pairs; older files have strings."""
    merges = values["model"]["merges"]
    return [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]


def train_tokenizer(texts: Iterable[Text], size: int) -> BPETokenizer:
    """Train a byte-level BPE of at most `size` tokens, including the 256 bytes and the end-of-text token.

    A short text may have too few repeated pairs for that many. Of a very long one, evenly spread samples are read.
    """
    backend = _make_byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_training_pieces(texts), trainer)
    return BPETokenizer(backend)


def _make_byte_level(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _training_pieces(texts: Iterable[Text]) -> Iterator[str]:
    for text in _sample_evenly(list(texts)):
        for block in cut_into_blocks(text):
            yield from re.sub(rf"(\S{{{LONGEST_RUN}}})(?=\S)", "\\1\0", block).split("\0")


def _sample_evenly(texts: list[Text]) -> Iterator[Text]:
    """The texts or, if they are too long, samples at even distances in them."""
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
    """Load the tokenizer in a checkpoint's folder, once while its files stay the same. Raises BaseUnusable."""
    try:
        return _load_checked(folder, tuple(map(_identify, (folder / name for name in FILES))))
    except Exception as error:  # noqa: BLE001  # tokenizers raises nothing more specific
        raise BaseUnusable(
            f"{folder} has no complete byte-level BPE tokenizer with an end-of-text token: {first_line(error)}",
            hint="Put the tokenizer.json that belongs to the weights into the same folder.",
        ) from None


@lru_cache(maxsize=MOST_KEPT)
def _load_checked(folder: Path, _files: tuple[object, ...]) -> BPETokenizer:
    """Raises whatever is wrong with the files, which `_files` identifies."""
    tokenizer = BPETokenizer(_read_tokenizer(folder), _read_end_of_text(folder))
    _check_ids(tokenizer, _read_n_model(folder))
    return tokenizer


def _identify(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is written again; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _check_ids(tokenizer: BPETokenizer, n_model: int) -> None:
    """Raises ValueError if there are no tokens, or more than the model has."""
    n_tokens, largest = len(tokenizer), max(tokenizer.backend.get_vocab().values())
    if n_tokens < 2:
        raise ValueError("it has no tokens")
    if largest >= min(n_tokens, n_model or n_tokens):
        raise ValueError(f"it has {n_tokens:,} tokens with ids up to {largest:,}, but the model has {n_model:,}")


def _read_n_model(folder: Path) -> int:
    """The vocabulary size of the model in the same folder; 0 if there is none."""
    try:
        n_model = json.loads((folder / "config.json").read_text("utf-8"))["vocab_size"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
    return n_model if isinstance(n_model, int) else 0


def _read_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.exists():
        tokenizer = _make_byte_level(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        tokenizer.add_special_tokens([END_OF_TEXT])
        return tokenizer
    return _rebuild(json.loads(path.read_text("utf-8")))


def _rebuild(values: dict[str, Any]) -> Tokenizer:
    """A tokenizer with the file's vocabulary, merges and added tokens, but with GPT-2's pre-tokenizer.

    So no regular expression from an untrusted file is run, and nothing is truncated or padded; transformers does the
    same. Raises ValueError.
    """
    if values["model"].get("type", "BPE") != "BPE" or "ByteLevel" not in json.dumps(values["pre_tokenizer"]):
        raise ValueError("tokenizer.json is not a byte-level BPE")
    merges = [tuple(pair) for pair in _list_merges(values)]
    tokenizer = _make_byte_level(models.BPE(vocab=values["model"]["vocab"], merges=merges))
    for added in sorted(values["added_tokens"], key=lambda added: added["id"]):
        add = tokenizer.add_special_tokens if added["special"] else tokenizer.add_tokens
        add([AddedToken(added["content"], special=added["special"])])
        if tokenizer.token_to_id(added["content"]) != added["id"]:
            raise ValueError(f"token {added['id']} does not have the id that tokenizer.json gives it")
    return tokenizer


def _read_end_of_text(folder: Path) -> str:
    """The end-of-text token in tokenizer_config.json, or GPT-2's."""
    path = folder / "tokenizer_config.json"
    found = json.loads(path.read_text("utf-8")).get("eos_token") if path.exists() else None
    found = found.get("content") if isinstance(found, dict) else found
    return found if isinstance(found, str) else END_OF_TEXT


def cut_into_blocks(text: Text, size: int = BLOCK_CHARACTERS) -> Iterator[str]:
    """The text in blocks of about `size` characters whose tokens, joined, are the tokens of the whole.

    GPT-2's pattern never looks back across white space that follows something else, so blocks are cut there. A block
    without such a place (one long run) is cut at its end.
    """
    rest = ""
    for more in read_blocks(text):
        rest, start = rest + more, 0
        while len(rest) - start > size:
            end = start + size
            match = _LAST_CUT.match(rest, start + 1, end)  # `search` would retry from every character of a long run
            edge = match.start(1) if match else end
            yield rest[start:edge]
            start = edge
        rest = rest[start:]
    if rest:
        yield rest


_LAST_CUT = re.compile(r"(?s:.*)(?<=\S)([ \n])")


def encode(text: Text, tokenizer: BPETokenizer) -> list[int]:
    """The ids of a text, without added tokens."""
    return [token for ids in encode_blocks(text, tokenizer) for token in ids]


def encode_blocks(text: Text, tokenizer: BPETokenizer) -> Iterator[list[int]]:
    """The ids of a text of any length, block by block, on all cores."""
    return (ids for ids, _ in encode_each(cut_into_blocks(text), tokenizer))


def encode_each(blocks: Iterable[str], tokenizer: BPETokenizer) -> Iterator[tuple[list[int], str]]:
    """Each block with its ids, encoded on all cores. Raises TextUnreadable if there is half a character."""
    blocks = iter(blocks)
    while some := list(islice(blocks, BLOCKS_AT_ONCE)):
        try:
            encoded = tokenizer.backend.encode_batch_fast(some, add_special_tokens=False)
        except TypeError:
            half = next((letter for block in some for letter in block if "\ud800" <= letter <= "\udfff"), "?")
            raise TextUnreadable(
                f"The text contains half a character (U+{ord(half):04X}).",
                hint="It was not valid UTF-8. Save the text again, or type it again.",
            ) from None
        yield from zip((encoding.ids for encoding in encoded), some, strict=True)


@lru_cache(maxsize=4)
def list_token_bytes(tokenizer: BPETokenizer) -> list[bytes]:
    """The bytes of each id; b"" for end-of-text and for ids without a token."""
    byte_of = _byte_of_character()
    code_of = {character: byte[0] for character, byte in byte_of.items()}
    pieces = [b""] * len(tokenizer)
    special = {number for number, token in tokenizer.backend.get_added_tokens_decoder().items() if token.special}
    for token, number in tokenizer.backend.get_vocab().items():
        if number not in special and number < len(pieces):
            try:
                pieces[number] = bytes(map(code_of.__getitem__, token))
            except KeyError:  # not all characters stand for bytes
                pieces[number] = b"".join(byte_of.get(c, c.encode()) for c in token)
    return pieces


def _byte_of_character() -> dict[str, bytes]:
    """GPT-2 writes each byte as a printable character: itself, or the next one from U+0100 on (Radford et al. 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {chr(byte): bytes([byte]) for byte in printable}
    return shown | {chr(0x100 + number): bytes([byte]) for number, byte in enumerate(others)}
