"""Shards: token ids in many memory-mapped files, named by the hash of their content and joined by a manifest.

Each process writes whole shards and none waits for another; a shard that is made again has the same name and the same
bits. Needs no torch, as the processes that only encode do not load it.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, overload

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from epigone.files import flush, list_names, make_folder, open_new, reading

IdArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
DTYPES = np.dtype(np.uint16), np.dtype(np.uint32)
"""Of ids on disk: the second one if there are more tokens than the first can number."""
FORMAT = 1
"""Of the manifest."""
IDS = "ids"
"""Folder of the shards."""
HASHED_BYTES = 1 << 20


class Shard(BaseModel):
    """A file of ids: a .npy that numpy opens as well."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Of the ids; its first half is the name of the file."""
    n_ids: Annotated[int, Field(ge=1)]
    n_documents: int
    """Documents that begin in it, each with an end-of-text token."""
    n_characters: int
    n_bytes: int
    """Of the text, in UTF-8."""

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.sha256[:32]}.npy"


class ShardManifest(BaseModel):
    """tokens.json of prepared texts: the shards of both parts, in the order in which they are one stream."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    format: int = FORMAT
    dtype: Literal["uint16", "uint32"]
    base: str
    """Whose tokenizer it is; "none" for one that was trained on the text."""
    tokenizer_sha256: str
    train: tuple[Shard, ...]
    validation: tuple[Shard, ...]


def read_manifest(data: bytes) -> ShardManifest:
    """The manifest in a file. Raises ValueError that names what does not fit."""
    try:
        found = ShardManifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if found.format != FORMAT:
        raise ValueError(f"it has format {found.format}, and this version of epigone reads format {FORMAT}")
    return found


def npy_header(dtype: np.dtype[Any], n_ids: int) -> bytes:
    """The header of a .npy file; numpy pads it, so that its length does not depend on the number of ids."""
    header = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n_ids,)}
    np.lib.format.write_array_header_1_0(header, facts)
    return header.getvalue()


# -- writing


class ShardWriter:
    """Writes ids into a file whose content it hashes on the way."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any]) -> None:
        self._file, self._dtype, self._digest = file, dtype, hashlib.sha256()
        self._n_bytes_ids = self.n_documents = self.n_characters = self.n_bytes = 0
        file.write(npy_header(dtype, 0))

    def begin_document(self, end_of_text_id: int) -> None:
        """The next text is another document."""
        self._write(np.array([end_of_text_id], self._dtype).tobytes())
        self.n_documents += 1

    def add(self, ids: bytes, text: str) -> None:
        """The next ids, and the text that they stand for."""
        self._write(ids)
        self.n_characters += len(text)
        self.n_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

    def _write(self, ids: bytes) -> None:
        self._file.write(ids)
        self._digest.update(ids)
        self._n_bytes_ids += len(ids)

    def finish(self) -> Shard | None:
        """Complete the header. None if there are no ids."""
        n_ids = self._n_bytes_ids // self._dtype.itemsize
        if not n_ids:
            return None
        self._file.seek(0)
        self._file.write(npy_header(self._dtype, n_ids))
        return Shard(
            sha256=self._digest.hexdigest(),
            n_ids=n_ids,
            n_documents=self.n_documents,
            n_characters=self.n_characters,
            n_bytes=self.n_bytes,
        )


def find_unfinished(folder: Path, number: int) -> list[Path]:
    """Files of shards that a process has begun for a task, and not finished. Raises FileUnreadable."""
    return [folder / name for name in list_names(folder) if name.startswith(f".epigone-{number:08x}")]


@contextmanager
def write_shard(folder: Path, dtype: np.dtype[Any], number: int) -> Iterator[tuple[ShardWriter, list[Shard]]]:
    """A writer; once it is done, the shard, unless it is empty, is in `folder` and in the list.

    `number`: of the task, by which the file is found if this process is lost before. Raises OSError.
    """
    make_folder(folder)
    beside = folder / f".epigone-{number:08x}{secrets.token_hex(4)}.tmp"
    found: list[Shard] = []
    try:
        with open_new(beside) as file:
            writer = ShardWriter(file, dtype)
            yield writer, found
            shard = writer.finish()
        if shard:
            flush(beside)
            beside.replace(folder / shard.name)
            found.append(shard)
    finally:
        beside.unlink(missing_ok=True)


# -- reading


class ShardedIds:
    """The ids of all shards as one array: `len`, slices and arrays of places work as for numpy's own."""

    def __init__(self, parts: Sequence[IdArray]) -> None:
        self._parts = list(parts)
        self._starts = [0, *accumulate(map(len, parts))]
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, key: slice) -> IdArray: ...
    @overload
    def __getitem__(self, key: npt.NDArray[np.int64]) -> IdArray: ...
    def __getitem__(self, key: slice | npt.NDArray[np.int64]) -> IdArray:
        """The ids in consecutive places, or those in the places of an array of any shape."""
        if isinstance(key, slice):
            return self._slice(*key.indices(len(self)))
        found = np.empty(key.shape, self.dtype)
        numbers = np.searchsorted(self._starts, key, side="right") - 1
        for number in np.unique(numbers).tolist():
            here = numbers == number
            found[here] = self._parts[number][key[here] - self._starts[number]]
        return found

    def _slice(self, start: int, end: int, step: int) -> IdArray:
        if step != 1:
            raise ValueError("Ids in shards can only be sliced with step 1.")
        first, pieces = bisect_right(self._starts, start) - 1, []
        for number in range(first, len(self._parts)):
            before = self._starts[number]
            if before >= end:
                break
            pieces.append(self._parts[number][max(0, start - before) : end - before])
        found: IdArray = pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, self.dtype), *pieces])
        return found


def open_shards(folder: Path, shards: Sequence[Shard], dtype: np.dtype[Any]) -> IdArray | ShardedIds:
    """The ids of shards in a folder, mapped and not read: only the sizes of the files are checked.

    Raises ValueError or OSError for one that is not what was written.
    """
    parts = [_open_ids(folder / shard.name, shard.n_ids, dtype) for shard in shards]
    return parts[0] if len(parts) == 1 else ShardedIds(parts) if parts else np.empty(0, dtype)


def _open_ids(path: Path, n_ids: int, dtype: np.dtype[Any]) -> IdArray:
    expected = npy_header(dtype, n_ids)
    with reading(path):
        with path.open("rb") as file:
            header = file.read(len(expected))
        if header != expected or path.stat().st_size != len(header) + n_ids * dtype.itemsize:
            raise ValueError(f"{path.name} is not what was written")  # reading a map of a shorter file ends a process
        found: IdArray = np.memmap(path, dtype, "r", len(header), (n_ids,))
        return found


def find_damaged(folder: Path, shards: Sequence[Shard], dtype: np.dtype[Any]) -> set[str]:
    """The names of the shards whose content is not what was written; reads all of them."""
    return {shard.name for shard in shards if not _is_sound(folder / shard.name, shard, dtype)}


def _is_sound(path: Path, shard: Shard, dtype: np.dtype[Any]) -> bool:
    try:
        with path.open("rb") as file:
            header = file.read(len(npy_header(dtype, 0)))
            return header == npy_header(dtype, shard.n_ids) and shard.sha256 == _hash_rest(file)
    except OSError:
        return False


def _hash_rest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := file.read(HASHED_BYTES):
        digest.update(piece)
    return digest.hexdigest()
