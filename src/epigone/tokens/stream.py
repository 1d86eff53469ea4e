"""Stretches of text in; one stream of ids to learn from and one to test on out, in memory-mapped files.

Each document begins with the end-of-text token, so there are as many of these as documents, and each token of the text
has a token before it to be predicted from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from epigone.errors import OutputError, RunDamaged
from epigone.files import flush, make_folder, write_json
from epigone.tokens.vocabulary import Vocabulary, encode_blocks, end_of_text_id, list_token_bytes

Ids = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
Stretches = Sequence[Sequence[str]]
"""For each document the stretches of its text."""
PIECE_TOKENS, OVERLAP_TOKENS = 1 << 18, 256
LONGEST_TOKEN = 16
"""Characters; hardly a text has more for each token on average."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A stream of ids: int [time], the documents one after another, each behind an end-of-text token."""

    ids: Ids
    n_tokens: int
    """Tokens of the text itself."""
    n_documents: int
    n_characters: int
    n_bytes: int
    """Bytes of the text in UTF-8."""

    @property
    def bytes_per_token(self) -> float:
        """How much text a token stands for."""
        return self.n_bytes / max(1, self.n_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """What is learned from and what is tested on. `key` names the content: texts and vocabulary."""

    train: Part
    validation: Part
    key: str


def encode_parts(train: Stretches, validation: Stretches, vocabulary: Vocabulary, folder: Path) -> Tokens:
    """Encode both parts into `folder`/KEY, or find them there: equal texts and vocabulary have equal keys."""
    key = _name_content(train, validation, vocabulary)
    place = folder / key
    if not (place / "tokens.json").exists():
        try:
            make_folder(place)
            facts = {
                name: _write_part(part, vocabulary, place / f"{name}.npy")
                for name, part in (("train", train), ("validation", validation))
            }
        except OSError as error:
            raise OutputError(f"{place} cannot be written: {error}.", hint="Is there room?") from None
        write_json(place / "tokens.json", facts)  # last: it vouches for the others
    return load_tokens(place)


def load_tokens(place: Path) -> Tokens:
    """Open what `encode_parts` wrote. Raises RunDamaged."""
    try:
        facts = json.loads((place / "tokens.json").read_text("utf-8"))
        parts = {name: _open_part(place / f"{name}.npy", facts[name]) for name in ("train", "validation")}
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise RunDamaged(f"The tokens in {place} cannot be read: {error}.", hint="Train again from the text.") from None
    return Tokens(**parts, key=place.name)


def make_part(text: str, vocabulary: Vocabulary, n_most: int) -> Part:
    """The beginning of a text, of at most so many tokens, as a part."""
    ids = islice(chain.from_iterable(encode_blocks(text[: LONGEST_TOKEN * n_most], vocabulary)), n_most)
    return _measure_part(np.array([end_of_text_id(vocabulary), *ids], np.uint32), vocabulary)


def cut_part(part: Part, first: int, n_most: int, vocabulary: Vocabulary) -> Part:
    """At most so many tokens of a part, behind its id number `first`."""
    return _measure_part(part.ids[first : first + n_most + 1], vocabulary)


def _measure_part(ids: Ids, vocabulary: Vocabulary) -> Part:
    """The ids as a part; the first is only there for the others to follow it."""
    pieces, own = list_token_bytes(vocabulary), ids[1:].tolist()
    raw, n_ends = b"".join(map(pieces.__getitem__, own)), own.count(end_of_text_id(vocabulary))
    return Part(
        ids=ids,
        n_tokens=len(own) - n_ends,
        n_documents=1 + n_ends,
        n_characters=len(raw.decode("utf-8", "replace")),
        n_bytes=len(raw),
    )


def spell_documents(part: Part, vocabulary: Vocabulary) -> list[str]:
    """The texts of a part's documents, as they were encoded."""
    pieces, end = list_token_bytes(vocabulary), end_of_text_id(vocabulary)
    starts = np.flatnonzero(part.ids == end)
    stretches = np.split(np.asarray(part.ids), starts) if len(starts) else []
    raw = (b"".join(map(pieces.__getitem__, ids[1:].tolist())) for ids in stretches[1:])
    return [text.decode("utf-8", "replace") for text in raw]


def spell_pieces(part: Part, vocabulary: Vocabulary) -> Iterator[str]:
    """The same text piece by piece, whatever its length. Where a document is cut, a little is spelled twice."""
    pieces, end = list_token_bytes(vocabulary), end_of_text_id(vocabulary)
    for first in range(0, len(part.ids), PIECE_TOKENS):
        ids = np.asarray(part.ids[first : first + PIECE_TOKENS + OVERLAP_TOKENS])
        for stretch in np.split(ids, np.flatnonzero(ids == end)):
            yield b"".join(map(pieces.__getitem__, stretch.tolist())).decode("utf-8", "replace")


def _name_content(train: Stretches, validation: Stretches, vocabulary: Vocabulary) -> str:
    content = hashlib.sha256(vocabulary.tokenizer.to_str().encode())
    for part in (train, validation):
        for document in part:
            for stretch in document:
                content.update(hashlib.sha256(stretch.encode("utf-8", "surrogatepass")).digest())
            content.update(b"document")
        content.update(b"part")
    return content.hexdigest()[:16]


def _write_part(part: Stretches, vocabulary: Vocabulary, path: Path) -> dict[str, int | str]:
    kind = np.uint16 if len(vocabulary) <= 2**16 else np.uint32
    pieces = []
    for document in part:
        pieces.append(np.array([end_of_text_id(vocabulary)], kind))
        pieces += [np.array(ids, kind) for stretch in document for ids in encode_blocks(stretch, vocabulary)]
    ids = np.concatenate(pieces) if pieces else np.zeros(0, kind)
    np.save(path, ids)
    flush(path)
    stretches = [stretch for document in part for stretch in document]
    return {
        "n_tokens": len(ids) - len(part),
        "n_documents": len(part),
        "n_characters": sum(map(len, stretches)),
        "n_bytes": sum(len(stretch.encode("utf-8", "surrogatepass")) for stretch in stretches),
        "sha256": hashlib.sha256(ids.tobytes()).hexdigest(),
    }


def _open_part(path: Path, facts: dict[str, int | str]) -> Part:
    ids = np.load(path, mmap_mode="r", allow_pickle=False)
    if hashlib.sha256(ids.data).hexdigest() != facts["sha256"]:
        raise ValueError(f"{path.name} is not what was written")
    return Part(ids=ids, **{name: int(value) for name, value in facts.items() if name != "sha256"})
