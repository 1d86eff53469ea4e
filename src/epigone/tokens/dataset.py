"""Token ids in memory-mapped files, and batches of them that depend only on the seed and the step."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import torch

from epigone.corpus.corpus import ProgressCallback
from epigone.corpus.large_text import Text, TextSpooler, read_blocks
from epigone.errors import OutputError, RunDamaged, first_line, quote_command
from epigone.files import (
    CANNOT_WRITE,
    MISSING,
    flush,
    hash_file,
    make_folder,
    name_temporary,
    open_new,
    read_bytes,
    reading,
    remove,
    write_json,
)
from epigone.tokens.shards import (
    DTYPES,
    IDS,
    IdArray,
    Shard,
    ShardedIds,
    ShardManifest,
    npy_header,
    open_shards,
    read_manifest,
)
from epigone.tokens.tokenizer import BPETokenizer, cut_into_blocks, encode_blocks, encode_each, list_token_bytes

Ids = IdArray | ShardedIds
DocumentSpans = Sequence[Sequence[Text]]
"""For each document, the texts of its spans."""
FACTS = "tokens.json"
"""Written last: if it exists, the files of ids are complete."""
POINTER = "at"
"""In the facts, where tokens lie that were prepared for several runs; relative to the facts."""
PERMUTED_BLOCKS = 1 << 20
"""An order of up to so many blocks is a permutation in memory, of 8 MB; more are ordered by arithmetic alone."""
PIECE_TOKENS, OVERLAP_TOKENS = 1 << 18, 256
"""Tokens that are decoded at once, and by how much consecutive pieces overlap."""
MOST_DECODED, PLACE_TOKENS = 1 << 20, 1 << 16
"""Tokens from which an author's style is measured, and from each place; more would be noticeably slow."""
STRETCH_TOKENS = 1 << 20
"""In one place of a text of which a part is searched for copies."""
INVALID = (EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
"""What reading a file of facts may raise that holds something else."""
LONGEST_TOKEN = 16
"""Characters; hardly any text has more per token on average."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSplit:
    """A stream of ids, int [time]: the documents one after another, each preceded by an end-of-text token."""

    ids: Ids
    n_tokens: int
    """Tokens of the text itself."""
    n_documents: int
    n_characters: int
    n_bytes: int
    """Bytes of the text in UTF-8."""

    @property
    def bytes_per_token(self) -> float:
        """The average length of a token."""
        return self.n_bytes / max(1, self.n_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenDataset:
    """The training and validation tokens. `key` identifies their content: the texts and the tokenizer."""

    train: TokenSplit
    validation: TokenSplit
    key: str


def tokenize(
    train: DocumentSpans,
    validation: DocumentSpans,
    tokenizer: BPETokenizer,
    folder: Path,
    watch: ProgressCallback = lambda n_done, n_all: None,
) -> TokenDataset:
    """Encode both parts into `folder`/KEY, or open them if they are there: equal texts and tokenizers have equal keys.

    `watch` is called with characters. Raises OutputError.
    """
    place = folder / content_key(train, validation, tokenizer)
    with suppress(RunDamaged):
        return load_tokens(place)
    n_train, n_all = _count(train), _count(train) + _count(validation)
    try:
        make_folder(place)
        facts = {
            "train": _write_part(train, tokenizer, place / "train.npy", lambda n: watch(n, n_all)),
            "validation": _write_part(
                validation, tokenizer, place / "validation.npy", lambda n: watch(n_train + n, n_all)
            ),
        }
    except OSError as error:
        raise OutputError(
            f"The tokens cannot be written into {place}: {error.strerror}.",
            hint=CANNOT_WRITE,
        ) from None
    write_json(place / FACTS, facts)
    return load_tokens(place)


def _count(part: DocumentSpans) -> int:
    return sum(len(span) for document in part for span in document)


def load_tokens(place: Path) -> TokenDataset:
    """Open what `tokenize` wrote. Raises RunDamaged, FileUnreadable."""
    try:
        data = read_bytes(place / FACTS)
        facts = json.loads(data)
        if POINTER in facts:
            return _follow(place, facts)
        if "dtype" in facts:
            return _open_shards(place, read_manifest(data))
        parts = {name: _open_part(place / f"{name}.npy", facts[name]) for name in ("train", "validation")}
    except (*MISSING, *INVALID) as error:
        why = f"{Path(error.filename).name} is missing" if isinstance(error, FileNotFoundError) else first_line(error)
        command = quote_command("epigone", "resume", place.parent.parent)
        raise RunDamaged(
            f"The tokens in {place} cannot be read: {why}.",
            hint=f"{command} encodes an unchanged text again. Otherwise, train again.",
        ) from None
    return TokenDataset(**parts, key=place.name)


def point_to(place: Path, prepared: Path) -> TokenDataset:
    """Make `place` stand for tokens that lie elsewhere, for any number of runs. Raises RunDamaged, OutputError."""
    load_tokens(prepared)
    make_folder(place)
    at = Path(os.path.relpath(prepared.resolve(), place.resolve())).as_posix()
    write_json(place / FACTS, {POINTER: at, "sha256": hash_file(prepared / FACTS)})
    return load_tokens(place)


def _follow(place: Path, facts: dict[str, str]) -> TokenDataset:
    prepared = place / facts[POINTER]
    if not (prepared / FACTS).exists():
        raise ValueError(f"what was prepared in {os.path.normpath(prepared.absolute())} is not there any more")
    if hash_file(prepared / FACTS) != facts["sha256"]:
        raise ValueError(f"what was prepared in {os.path.normpath(prepared.absolute())} is another text now")
    return replace(load_tokens(prepared), key=place.name)


def _open_shards(place: Path, manifest: ShardManifest) -> TokenDataset:
    def open_part(shards: Sequence[Shard]) -> TokenSplit:
        n_documents = sum(shard.n_documents for shard in shards)
        return TokenSplit(
            ids=open_shards(place / IDS, shards, np.dtype(manifest.dtype)),
            n_tokens=sum(shard.n_ids for shard in shards) - n_documents,
            n_documents=n_documents,
            n_characters=sum(shard.n_characters for shard in shards),
            n_bytes=sum(shard.n_bytes for shard in shards),
        )

    return TokenDataset(train=open_part(manifest.train), validation=open_part(manifest.validation), key=place.name)


def copy_tokens(place: Path, folder: Path) -> TokenDataset:
    """Copy what `tokenize` wrote into another folder for tokens, and open it there. Raises RunDamaged, OutputError."""
    load_tokens(place)
    facts = json.loads(read_bytes(place / FACTS))
    if POINTER in facts:
        return point_to(folder / place.name, place / facts[POINTER])
    try:
        make_folder(folder)
        beside = name_temporary(folder)
        shutil.copytree(place, beside)
        remove(folder / place.name)
        beside.replace(folder / place.name)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error}.", hint="Free some space.") from None
    return load_tokens(folder / place.name)


def encode_beginning(text: str, tokenizer: BPETokenizer, n_most: int) -> TokenSplit:
    """The first tokens of a text, at most `n_most`."""
    ids = islice(chain.from_iterable(encode_blocks(text[: LONGEST_TOKEN * n_most], tokenizer)), n_most)
    return _count_part(np.array([tokenizer.end_of_text_id, *ids], np.uint32), tokenizer)


def slice_part(part: TokenSplit, first: int, n_most: int, tokenizer: BPETokenizer) -> TokenSplit:
    """At most `n_most` tokens of a part, after its id number `first`."""
    return _count_part(part.ids[first : first + n_most + 1], tokenizer)


def _count_part(ids: Ids, tokenizer: BPETokenizer) -> TokenSplit:
    """The ids with their counts; the first one is only context."""
    pieces, own = list_token_bytes(tokenizer), ids[1:].tolist()
    raw, n_ends = b"".join(map(pieces.__getitem__, own)), own.count(tokenizer.end_of_text_id)
    return TokenSplit(
        ids=ids,
        n_tokens=len(own) - n_ends,
        n_documents=1 + n_ends,
        n_characters=len(raw.decode("utf-8", "replace")),
        n_bytes=len(raw),
    )


# -- the files of ids


def content_key(train: DocumentSpans, validation: DocumentSpans, tokenizer: BPETokenizer) -> str:
    """The key under which `tokenize` writes these."""
    content = hashlib.sha256(tokenizer.backend.to_str().encode())
    for part in (train, validation):
        for document in part:
            for span in document:
                digest = hashlib.sha256()
                for block in read_blocks(span):
                    digest.update(block.encode("utf-8", "surrogatepass"))
                content.update(digest.digest())
            content.update(b"document")
        content.update(b"part")
    return content.hexdigest()[:16]


def _write_part(
    part: DocumentSpans, tokenizer: BPETokenizer, path: Path, watch: Callable[[int], None]
) -> dict[str, int | str]:
    dtype, end = DTYPES[len(tokenizer) > 2**16], tokenizer.end_of_text_id
    digest, n_ids, n_characters, n_bytes = hashlib.sha256(), 0, 0, 0
    with open_new(path) as file:
        file.write(npy_header(dtype, 0))
        for ids, text in encode_each(_list_blocks(part), tokenizer):
            data = np.array(ids if text else [end], dtype).tobytes()
            file.write(data)
            digest.update(data)
            n_ids += len(data) // dtype.itemsize
            n_characters += len(text)
            n_bytes += len(text.encode("utf-8", "surrogatepass"))
            watch(n_characters)
        file.seek(0)
        file.write(npy_header(dtype, n_ids))
    flush(path)
    return {
        "n_tokens": n_ids - len(part),
        "n_documents": len(part),
        "n_characters": n_characters,
        "n_bytes": n_bytes,
        "sha256": digest.hexdigest(),
    }


def _list_blocks(part: DocumentSpans) -> Iterator[str]:
    """The blocks of all texts, with an empty one before each document."""
    for document in part:
        yield ""
        for span in document:
            yield from cut_into_blocks(span)


def _open_part(path: Path, facts: dict[str, int | str]) -> TokenSplit:
    counts = {name: int(value) for name, value in facts.items() if name != "sha256"}
    n_ids = counts["n_tokens"] + counts["n_documents"]
    with reading(path):
        with path.open("rb") as file:
            header = file.read(len(npy_header(np.dtype(np.uint16), 0)))
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # where reading a map fails, the process ends
        dtype = next((dtype for dtype in DTYPES if header == npy_header(dtype, n_ids)), None)
        if dtype is None or sha256 != facts["sha256"]:  # numpy itself would evaluate any header as Python
            raise ValueError(f"{path.name} is not what was written")
        return TokenSplit(ids=np.memmap(path, dtype, "r", len(header), (n_ids,)), **counts)


# -- back to text


def decode_documents(part: TokenSplit, tokenizer: BPETokenizer) -> list[Text]:
    """The texts of a part's documents, as they were encoded; long ones are on disk. Raises OutputError."""
    token_bytes, end, spooler = list_token_bytes(tokenizer), tokenizer.end_of_text_id, TextSpooler()
    texts: list[Text] = []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(ids: IdArray, *, is_last: bool) -> None:
        spooler.add(decoder.decode(b"".join(map(token_bytes.__getitem__, ids.tolist())), is_last))

    is_open = False
    for first in range(0, len(part.ids), PIECE_TOKENS):
        ids = np.asarray(part.ids[first : first + PIECE_TOKENS])
        before, *others = np.split(ids, np.flatnonzero(ids == end))
        for following in others:  # each begins with the end-of-text token of a new document
            if is_open:
                add(before, is_last=True)
                texts.append(spooler.finish())
            before, is_open = following[1:], True
        if is_open:
            add(before, is_last=False)
    if is_open:
        add(np.empty(0, np.uint16), is_last=True)
        texts.append(spooler.finish())
    return texts


class DecodedPieces(Sequence[str]):
    """The text of a part in pieces that are decoded on access, so that a part of any length takes no memory.

    Where a document is divided, the pieces overlap by OVERLAP_TOKENS.
    """

    def __init__(self, part: TokenSplit, tokenizer: BPETokenizer) -> None:
        self._ids, self._token_bytes, end = part.ids, list_token_bytes(tokenizer), tokenizer.end_of_text_id
        spans = []
        for first in range(0, len(part.ids), PIECE_TOKENS):
            last = min(first + PIECE_TOKENS + OVERLAP_TOKENS, len(part.ids))
            ends = first + np.flatnonzero(np.asarray(part.ids[first:last]) == end)
            spans.append(np.stack([np.append(first, ends), np.append(ends, last)], axis=1))
        self._spans = np.concatenate([np.zeros((0, 2), np.int64), *spans])

    def __len__(self) -> int:
        return len(self._spans)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[str]: ...
    def __getitem__(self, number: int | slice) -> str | Sequence[str]:
        """One piece, or several."""
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        first, last = self._spans[number].tolist()
        return b"".join(map(self._token_bytes.__getitem__, self._ids[first:last].tolist())).decode("utf-8", "replace")


def decode_sample(part: TokenSplit, tokenizer: BPETokenizer, n_most: int = MOST_DECODED) -> list[str]:
    """The texts of a part's documents; of more than `n_most` tokens, samples at even distances."""
    if len(part.ids) <= n_most:
        return list(map(str, decode_documents(part, tokenizer)))
    token_bytes = list_token_bytes(tokenizer)
    n_places = max(1, n_most // PLACE_TOKENS)
    n_each = n_most // n_places
    starts = [(len(part.ids) - n_each) * number // max(1, n_places - 1) for number in range(n_places)]
    raw = (b"".join(map(token_bytes.__getitem__, part.ids[start : start + n_each].tolist())) for start in starts)
    return [text.decode("utf-8", "replace") for text in raw]


def spread_part(part: TokenSplit, end_of_text_id: int, n_most: int) -> TokenSplit:
    """The part or, of one with more than `n_most` tokens, so many in stretches at even distances, a document each.

    The counts of what is returned are those of the whole part.
    """
    if len(part.ids) <= n_most:
        return part
    n_places = max(2, n_most // STRETCH_TOKENS)
    n_each = n_most // n_places
    starts = [(len(part.ids) - n_each) * number // (n_places - 1) for number in range(n_places)]
    pieces = [part.ids[start : start + n_each] for start in starts]
    end = np.array([end_of_text_id], part.ids.dtype)
    begun = [piece if piece[0] == end else np.concatenate([end, piece]) for piece in pieces]
    return replace(part, ids=np.concatenate(begun))


# -- batches

Batch = tuple[torch.Tensor, torch.Tensor]
"""Ids and their targets, the ids that follow: int64 [batch, time] both."""


Order = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]
"""From places in an epoch to the numbers of the blocks that are read there."""
ROUNDS = 8


class Permutation:
    """A permutation of any size that takes no memory: a Feistel network (Luby and Rackoff 1988).

    It permutes the numbers below a power of four; from one that is too large it goes on until one is small enough
    (cycle walking, Black and Rogaway 2002), four times at most on average.
    """

    def __init__(self, size: int, keys: npt.NDArray[np.uint64]) -> None:
        self.size, self.keys = size, keys
        self._half = np.uint64(max(1, -(-(size - 1).bit_length() // 2)))
        self._mask = np.uint64((1 << int(self._half)) - 1)

    def __call__(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where each of the places goes."""
        found = self._permute(places.astype(np.uint64))
        while (outside := found >= self.size).any():
            found[outside] = self._permute(found[outside])
        return found.astype(np.int64)

    def _permute(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = numbers >> self._half, numbers & self._mask
        for key in self.keys:
            mixed = (right + key) * np.uint64(0x9E3779B97F4A7C15)  # as splitmix64 mixes (Steele et al. 2014)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(31))) & self._mask)
        return (left << self._half) | right


class Batches:
    """Blocks of the stream in a new order and with a new offset in each epoch: a pure function of seed and step.

    The stream is a ring, so that every offset has the same number of blocks; its end is followed by the end-of-text
    token at its beginning. Epochs follow one another without a gap: a step may have the last blocks of one epoch and
    the first of the next, so every block is used once an epoch and every step is full.
    """

    def __init__(self, ids: Ids, *, block_size: int, blocks_per_step: int, seed: int) -> None:
        self.ids = ids
        self.block_size = block_size
        self.blocks_per_step = blocks_per_step
        self.n_blocks = len(ids) // block_size
        self._order_of_epoch = lru_cache(maxsize=2)(lambda number: self._shuffle_blocks(number, seed))

    def _shuffle_blocks(self, number: int, seed: int) -> tuple[int, Order]:
        """Where the first block of an epoch begins, and the order in which its blocks are read."""
        random = np.random.default_rng([seed, number])
        offset = int(random.integers(self.block_size))
        if self.n_blocks > PERMUTED_BLOCKS:
            return offset, Permutation(self.n_blocks, random.integers(1 << 63, size=ROUNDS, dtype=np.uint64))
        return offset, random.permutation(self.n_blocks).__getitem__

    def starts(self, step: int) -> npt.NDArray[np.int64]:
        """The starts of the blocks of a step, which is counted from 0: int64 [blocks per step]."""
        places = np.arange(step * self.blocks_per_step, (step + 1) * self.blocks_per_step)
        found = np.empty(len(places), np.int64)
        for number in np.unique(places // self.n_blocks).tolist():
            of_epoch = places // self.n_blocks == number
            offset, order = self._order_of_epoch(number)
            found[of_epoch] = (offset + order(places[of_epoch] % self.n_blocks) * self.block_size) % len(self.ids)
        return found

    def read(self, step: int, *, rows: slice = slice(None)) -> Batch:
        """The rows of a step's blocks that one process computes."""
        places = self.starts(step)[rows, None] + np.arange(self.block_size + 1)
        blocks = torch.from_numpy(self.ids[places % len(self.ids)].astype(np.int64))
        return blocks[:, :-1], blocks[:, 1:]


def read_in_order(ids: Ids, *, block_size: int, batch_size: int, part: int = 0, n_parts: int = 1) -> Iterator[Batch]:
    """The stream in consecutive blocks that do not overlap: each token but the first is a target exactly once.

    The last block is shorter and a batch of its own. With `n_parts`, every n-th batch from `part` on.
    """
    n_targets = len(ids) - 1
    n_full = n_targets // block_size
    edges = [(i, min(i + batch_size, n_full)) for i in range(0, n_full, batch_size)]
    for first, last in edges[part::n_parts]:
        chunk = ids[first * block_size : last * block_size + 1].astype(np.int64)
        yield _as_batch(chunk, (last - first, block_size))
    if n_targets % block_size and len(edges) % n_parts == part:
        yield _as_batch(ids[n_full * block_size :].astype(np.int64), (1, n_targets % block_size))


def _as_batch(chunk: npt.NDArray[np.int64], shape: tuple[int, int]) -> Batch:
    stream = torch.from_numpy(chunk)
    return stream[:-1].view(shape), stream[1:].view(shape)
