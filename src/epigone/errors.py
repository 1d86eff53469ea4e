"""All expected errors, in one tree. Each says what happened, where, and what to do next.

EpigoneError
├── SettingsError          a flag, key or value that is not allowed
├── TextError              the text
│   ├── TextNotFound       does not exist, or contains nothing to read
│   ├── TextUnreadable     not text, or not in the encoding that was asked for
│   ├── TextUnreachable    a store or a network that does not give it now
│   └── TextTooShort       too little text
├── BaseError              the checkpoint to start from
│   ├── BaseNotFound       not a folder, not in the cache and not on the hub
│   └── BaseUnusable       not a GPT-2 in safetensors
├── RunError               a run's folder
│   ├── RunExists          the folder is in use
│   ├── RunNotFound        there is no run
│   ├── RunLocked          another process is working in it
│   ├── RunDamaged         a file in it is missing or was changed
│   └── RunIncompatible    another version of epigone made it, in a format that this one does not read
├── FileUnreadable         a file that is there and cannot be read now, or that leads out of its folder
├── OutputError            a place that cannot be written to
├── PublishError           the hub does not take a model, or cannot be reached
├── OutOfMemory            not even the smallest batch fits
├── TrainingDiverged       the loss or a weight became infinite or NaN
└── ProcessFailed          another process of the same training failed or was lost
"""

from __future__ import annotations

import os
import shlex
from pathlib import PurePath


class EpigoneError(Exception):
    """An expected failure: its text says what and where, `hint` what to do next; a command exits with `exit_code`."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class SettingsError(EpigoneError):
    """A setting is unknown, of the wrong type or out of range."""


class TextError(EpigoneError):
    """The text cannot be used."""


class TextNotFound(TextError):
    """The file, folder, glob or address does not exist or has nothing to read in it."""


class TextUnreadable(TextError):
    """The bytes are not text, or not in the encoding that was asked for."""


class TextUnreachable(TextError):
    """A store or a network does not give the text now. It is never skipped: the rest would be another text."""


class TextTooShort(TextError):
    """There is too little text."""


class BaseError(EpigoneError):
    """The checkpoint to start from cannot be used."""


class BaseNotFound(BaseError):
    """The checkpoint is not a folder, not in the cache, and cannot be downloaded."""


class BaseUnusable(BaseError):
    """The checkpoint is not a GPT-2 in safetensors with a tokenizer."""


class RunError(EpigoneError):
    """A run's folder cannot be used."""


class RunExists(RunError):
    """The folder for a new run is not empty."""


class RunNotFound(RunError):
    """There is no run in the folder."""


class RunLocked(RunError):
    """Another process is working in the run."""


class RunDamaged(RunError):
    """A file of the run is missing or was changed."""


class RunIncompatible(RunError):
    """The run is in a format of another version of epigone."""


class FileUnreadable(EpigoneError):
    """A file is there and cannot be read now: no permission, a failing disk or network, or a link out of its folder.

    It may be intact, so nothing is restored or replaced because of it.
    """


class OutputError(EpigoneError):
    """A file or folder cannot be written."""


class PublishError(EpigoneError):
    """The Hugging Face Hub does not take a model, does not know its user, or cannot be reached."""


class OutOfMemory(EpigoneError):
    """Memory ran out, and smaller batches do not help."""

    exit_code = 1


class TrainingDiverged(EpigoneError):
    """The loss or a weight became infinite or not a number."""

    exit_code = 1


class ProcessFailed(EpigoneError):
    """Another process of the same training failed, ended or cannot be reached."""

    exit_code = 1


def quote_command(*words: str | PurePath) -> str:
    """A command as a user can paste it into a shell, whatever characters the names in it have."""
    return " ".join(map(_quote_word, words))


def _quote_word(word: str | PurePath) -> str:
    name = f".{os.sep}{word}" if isinstance(word, PurePath) and str(word).startswith("-") else str(word)
    if os.name == "nt":  # its names have no quotation marks and no control characters
        return f'"{name}"' if set(name) & set(" &()^;,=%!") else name
    if name.isprintable():
        return shlex.quote(name)
    return f"$'{''.join(map(_escape, name))}'"


def _escape(letter: str) -> str:
    if letter.isprintable():
        return f"\\{letter}" if letter in "\\'" else letter
    errors = "surrogateescape" if "\udc80" <= letter <= "\udcff" else "surrogatepass"  # a name may be any bytes
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", errors))


def pluralize(count: int, noun: str) -> str:
    """A number of things in words: "1 file", "2,000 files"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def first_line(error: BaseException) -> str:
    """The first line of a library's error, short enough to quote in a message."""
    return f"{next(iter(str(error).splitlines()), '') or type(error).__name__:.200}"
