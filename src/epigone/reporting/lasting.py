"""A stream in; the same out, on which nothing fails when its reader, or the terminal behind it, is gone."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


class _Lasting:
    """Passes everything on. What cannot be written any more is lost, and so is all that comes after it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._outlive():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._outlive():
            self._stream.flush()

    @contextmanager
    def _outlive(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # a broken pipe, or the end of a terminal
            with suppress(OSError):  # from here on nobody reads, and Python may flush what is left when it ends
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


def outlast(stream: TextIO) -> TextIO:
    """The stream as one that ends no run: not by its own end, nor by a letter that its encoding lacks ("?" then)."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return cast(TextIO, _Lasting(stream))
