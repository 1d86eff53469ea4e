"""Work that may not fit into memory in; what it gives with as much at once as fits, or an error in our words, out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from epigone.errors import OutOfMemory

SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""In torch's complaints about memory that have no class of their own: of a processor, of MPS and of cuBLAS."""
SHORTAGES = (RuntimeError, MemoryError)
"""Among these are all errors that `is_shortage` may know."""
T = TypeVar("T")


def is_shortage(error: BaseException | None) -> bool:
    """Whether memory ran out: torch's own error, one of those that are known by their words, or one under another."""
    if error is None:
        return False
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS):
        return True
    inner = getattr(error, "inner_exception", None)  # torch.compile's errors hide theirs there
    return is_shortage(inner if isinstance(inner, BaseException) else error.__cause__)


def free_memory() -> None:
    """Give back what nobody holds any more. To be called when the error itself, which holds much, is gone."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def halve_until_it_fits(work: Callable[[int], T], most: int, *, what: str, hint: str) -> tuple[T, int]:
    """What `work` gives for the most things at once that fit into memory, and how many these are.

    Raises OutOfMemory where one of them, named by `what`, does not fit alone.
    """
    at_once = most
    while True:
        try:
            return work(at_once), at_once
        except SHORTAGES as error:
            if not is_shortage(error):
                raise
        if at_once <= 1:
            raise OutOfMemory(f"Memory ran out: {what} does not fit by itself.", hint=hint)
        at_once = -(-at_once // 2)
        free_memory()


@contextmanager
def explain_shortage(what: str, hint: str) -> Iterator[None]:
    """Raises OutOfMemory where what is done within needs more memory than there is."""
    try:
        yield
    except SHORTAGES as error:
        if not is_shortage(error):
            raise
        raise OutOfMemory(f"Memory ran out: {what}.", hint=hint) from error
