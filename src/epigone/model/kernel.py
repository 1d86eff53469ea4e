"""The C kernel of a decoding step (`kernel.c`): compiled once by the machine's own compiler, cached, called by ctypes.

At the sizes of the bundled bases the calls of a step cost more than its arithmetic; one call for all of it takes a
quarter of the time (docs/dev/findings.md). The draws of all texts' tokens are one call, too. Where there is no
compiler, torch computes the same.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import local
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from epigone.files import cache_folder
from epigone.model.weights import PREFIX, Weights, quantize_rows

PackedFormat = Literal["int8", "bf16"]
FORMATS: tuple[PackedFormat, ...] = ("int8", "bf16")
BLOCK = 64
"""Outputs that lie side by side in a packed matrix."""
SOURCE = Path(__file__).with_name("kernel.c")
VARIANTS = (("-march=native", "-fopenmp"), ("-march=native",), ("-mcpu=native",), ())
"""Options that not every compiler knows; the first ones that work are taken."""
SECONDS = 60
"""For the compiler; it takes about one."""
MOST_HELD = 1 << 16
"""Scores from which tokens are drawn, some 40 µs, while Python's lock is kept: another thread that got it meanwhile
would keep it for longer, and two threads that each give it away once a step, for the model, seldom wait for it."""


class _Share(local):
    n_threads = 0


_share = _Share()


def use_threads(count: int) -> None:
    """Let steps that the calling thread takes be computed by so many threads; 0, as it is at first: by torch's number.

    Their bits do not depend on it, so it may change from step to step.
    """
    _share.n_threads = count


class _Matrix(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "scales", "bias")),
        *((name, ctypes.c_int32) for name in ("n_in", "n_out", "format", "unused")),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _Matrix) for name in ("attention", "out", "widen", "narrow")),
        *((name, ctypes.c_void_p) for name in ("norm_1", "shift_1", "norm_2", "shift_2")),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("layers", "tokens", "positions", "norm", "shift")),
        ("head", _Matrix),
        *((name, ctypes.c_int32) for name in ("n_layer", "width", "n_head", "n_inner", "n_tokens")),
        ("epsilon", ctypes.c_float),
    )


class _Row(ctypes.Structure):
    _fields_ = (
        ("cache", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("layer_step", "pair_step", "head_step", "slot_step", "slot")),
    )


class Slots(NamedTuple):
    """Where the next token of each text of one KV cache goes."""

    cache: torch.Tensor
    """bf16 [layers, 2, count, heads, slots, width of a head], in any order in memory but for the last."""
    slot: int


class CompiledModel:
    """A GPT-2's packed weights, and the kernel's step with them. Used by any number of threads at the same time."""

    def __init__(self, library: ctypes.CDLL, weights: Weights, form: PackedFormat) -> None:
        """The weights are copied. They are on the processor, and the model is a plain one (`is_plain`)."""
        config, tensors = weights
        self._library, self._form = library, form
        self._kept: list[Any] = []
        """What the structures point to."""
        self.n_vocabulary = len(weights.head)
        layers = (_Layer * config.n_layer)(*(self._make_layer(tensors, number) for number in range(config.n_layer)))
        self._kept.append(layers)
        tokens, positions = (tensors[f"{PREFIX}{name}.weight"] for name in ("wte", "wpe"))
        self._model = _Model(
            ctypes.addressof(layers),
            *(self._keep(tensor) for tensor in (tokens, positions, *_find(tensors, "ln_f"))),
            self._pack(weights.head.t(), None),
            *(config.n_layer, config.n_embd, config.n_head, len(_find(tensors, "h.0.mlp.c_proj")[0]), len(tokens)),
            config.layer_norm_epsilon,
        )

    def step(self, texts: Sequence[Slots], ids: torch.Tensor) -> torch.Tensor:
        """Read one token of each row of these texts: the logits of the next, fp32 [rows, vocabulary].

        ids: int64 [rows]. Keys and values are put into the caches. A row's bits do not depend on the rows beside it.
        Raises IndexError where a token is not in the vocabulary.
        """
        return self._compute((_Row * len(ids))(*_list_rows(texts)), ids, max(text.slot for text in texts) + 1)

    def read(self, text: Slots, ids: torch.Tensor) -> torch.Tensor:
        """Read tokens of one text from its slot on: the logits of the next, [1, vocabulary]. As one after another."""
        texts = [Slots(text.cache, text.slot + place) for place in range(len(ids))]
        return self._compute((_Row * len(ids))(*_list_rows(texts)), ids, text.slot + len(ids), is_one_text=True)

    def _compute(
        self, rows: ctypes.Array[_Row], ids: torch.Tensor, most_slots: int, *, is_one_text: bool = False
    ) -> torch.Tensor:
        n_threads = _share.n_threads or torch.get_num_threads()
        model = ctypes.byref(self._model)
        n_scratch = self._library.epigone_count_scratch(model, len(ids), most_slots, n_threads)
        # numpy's memory: torch's calls give Python's lock away, and other threads may keep it for long
        scratch = np.empty(n_scratch, np.float32)
        logits = torch.from_numpy(np.empty((1 if is_one_text else len(ids), self.n_vocabulary), np.float32))
        ids = ids.contiguous()
        room = logits.data_ptr(), scratch.ctypes.data, most_slots
        if self._library.epigone_step(model, rows, ids.data_ptr(), len(ids), *room, n_threads, is_one_text):
            raise IndexError(f"A token of {ids.tolist()} is not in a vocabulary of {self._model.n_tokens:,}.")
        return logits

    def _make_layer(self, tensors: Mapping[str, torch.Tensor], number: int) -> _Layer:
        names = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
        matrices = [self._pack(*_find(tensors, f"h.{number}.{name}")) for name in names]
        norms = [tensor for name in ("ln_1", "ln_2") for tensor in _find(tensors, f"h.{number}.{name}")]
        return _Layer(*matrices, *map(self._keep, norms))

    def _pack(self, weight: torch.Tensor, bias: torch.Tensor | None) -> _Matrix:
        """A matrix [in, out] in the kernel's order."""
        packed, scales = pack_matrix(weight.detach(), self._form)
        pointers = self._keep(packed), None if scales is None else self._keep(scales)
        return _Matrix(
            *pointers, None if bias is None else self._keep(bias), *weight.shape, FORMATS.index(self._form), 0
        )

    def _keep(self, tensor: torch.Tensor) -> int:
        tensor = tensor.detach().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def draw_tokens(
    library: ctypes.CDLL,
    scores: torch.Tensor,
    how: Sequence[tuple[float, float, float]],
    numbers: Sequence[int],
    most: int,
) -> tuple[list[int], list[int]]:
    """A token for each row of scores, fp32 [rows, vocabulary], and how many of its random numbers were used for it.

    `how`: temperature, top_p and min_p of each row; `numbers`: where its random numbers lie in memory, fp64 [`most`].
    -1 in place of a token: all of them were used in vain, or none where there are no probabilities.
    """
    n_rows, n_tokens = scores.shape
    room = np.empty(n_tokens + 2 * BLOCK + n_tokens // BLOCK, np.float32)
    found = (ctypes.c_int32 * (2 * n_rows))()
    settings = (ctypes.c_float * (3 * n_rows))(*(value for row in how for value in row))
    places = (ctypes.c_void_p * n_rows)(*numbers)
    start = ctypes.addressof(found)
    scores = scores.contiguous()  # kept until the end of the call
    given = scores.data_ptr(), n_rows, n_tokens, settings, places, most
    draw = (_hold(library) if n_rows * n_tokens <= MOST_HELD else library).epigone_draw
    draw(*given, room.ctypes.data, start, start + 4 * n_rows)
    return found[:n_rows], found[n_rows:]


@cache
def _hold(library: ctypes.CDLL) -> ctypes.PyDLL:
    """The same library, whose calls keep Python's lock."""
    held = ctypes.PyDLL(library._name)
    _declare(held)
    return held


def pack_matrix(weight: torch.Tensor, form: PackedFormat) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A matrix, fp32 [in, out], as `kernel.c` reads it, [blocks, in, BLOCK], and its scales, [out], for int8."""
    n_in, n_out = weight.shape
    n_blocks = -(-n_out // BLOCK)
    padded = functional.pad(weight.float(), (0, n_blocks * BLOCK - n_out))
    if form == "bf16":
        words = padded.bfloat16().view(n_in, n_blocks, 2, 2, 16)
        return words.permute(1, 0, 2, 4, 3).contiguous(), None
    rows, scales = quantize_rows(padded.t())
    words = rows.t().reshape(n_in, n_blocks, 4, 16)
    return words.permute(1, 0, 3, 2).contiguous(), scales[:n_out]


def _find(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    return tensors[f"{PREFIX}{name}.weight"], tensors[f"{PREFIX}{name}.bias"]


def _list_rows(texts: Sequence[Slots]) -> Iterator[_Row]:
    for cache_, slot in texts:
        layer, pair, row, head, step, _ = cache_.stride()
        start = cache_.data_ptr()
        for number in range(cache_.shape[2]):
            yield _Row(start + row * number * cache_.itemsize, layer, pair, head, step, slot)


# -- compiling


@cache
def load_kernel() -> ctypes.CDLL | None:
    """The compiled kernel; None where it is switched off, cannot be compiled or is not trusted.

    EPIGONE_KERNEL=off switches it off.
    """
    if os.environ.get("EPIGONE_KERNEL") == "off" or os.name != "posix":
        return None
    with suppress(OSError, RuntimeError, subprocess.SubprocessError):  # then torch does it
        compiler = _find_compiler()
        if compiler is None:
            return None
        folder = cache_folder() / "kernel"
        path = folder / f"{_describe(compiler)}.so"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_own(folder):
            return None
        if path.exists() and _is_own(path):
            with suppress(OSError):  # damaged: it is compiled again
                return _load(path)
        _compile(compiler, path)
        return _load(path)
    return None


def _find_compiler() -> str | None:
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    return next(filter(None, map(shutil.which, names)), None)


def _describe(compiler: str) -> str:
    """A name that changes with everything that the compiled kernel depends on: a home may be shared by machines."""
    found = Path(compiler).resolve().stat()
    parts = [SOURCE.read_text("utf-8"), VARIANTS, compiler, found.st_size, found.st_mtime_ns, _find_openmp()]
    return hashlib.sha256(json.dumps([*parts, platform.platform(), _list_features()]).encode()).hexdigest()[:32]


def _list_features() -> str:
    """What the processor can do."""
    with suppress(OSError):
        found = re.search(r"^(?:flags|Features)\s*:(.*)", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
        return found[1] if found else platform.processor()
    return platform.processor()


def _find_openmp() -> str | None:
    """The OpenMP library that torch has loaded: with another one there would be twice as many threads."""
    with suppress(OSError):
        found = re.search(r"/.*/libgomp[^/\n]*", Path("/proc/self/maps").read_text("utf-8"))
        return found[0] if found else None
    return None


def _compile(compiler: str, path: Path) -> None:
    """Raises SubprocessError, OSError."""
    openmp = _find_openmp()
    for options in VARIANTS:
        if "-fopenmp" in options and not openmp:
            continue
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder, path.name)
            # Compiled and linked apart: a compiler that is told of OpenMP links its own.
            first = [compiler, "-O3", "-fPIC", *options, "-c", str(SOURCE), "-o", f"{made}.o"]
            libraries = [openmp] if "-fopenmp" in options and openmp else []
            second = [compiler, "-shared", f"{made}.o", *libraries, "-lm", "-o", str(made)]
            with suppress(subprocess.CalledProcessError, OSError):
                for command in (first, second):
                    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS)
                ctypes.CDLL(str(made))
                made.replace(path)
                return
    raise subprocess.SubprocessError(f"{compiler} does not compile {SOURCE}")


def _is_own(path: Path) -> bool:
    """Whether no other user could have put it there: what it contains is run."""
    found = path.stat()
    return found.st_uid in (os.getuid(), 0) and not found.st_mode & 0o022


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    _declare(library)
    return library


def _declare(library: ctypes.CDLL) -> None:
    """Say what its functions take and return."""
    library.epigone_count_scratch.restype = ctypes.c_int64
    pointer, whole, long = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    library.epigone_count_scratch.argtypes = [pointer, whole, long, whole]
    library.epigone_step.argtypes = [pointer, pointer, pointer, whole, pointer, pointer, long, whole, whole]
    library.epigone_draw.argtypes = [pointer, whole, long, pointer, pointer, whole, pointer, pointer, pointer]
    library.epigone_draw.restype = None
