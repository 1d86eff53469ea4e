"""Everything that can go wrong and that we expect to: one tree, each error saying what, where and what to do next.

EpigoneError
├── SettingsError          a flag, a key or a value that cannot be
├── TextError              the text
│   ├── TextNotFound       nothing there
│   ├── TextUnreadable     there, but not text, or not in the encoding that was asked for
│   └── TextTooShort       too little to learn from
├── BaseError              the checkpoint to start from
│   ├── BaseNotFound       neither in a folder, nor in the cache, nor on the hub
│   └── BaseUnusable       there, but not a GPT-2 in safetensors
├── RunError               a run's folder
│   ├── RunExists          somebody's work lies there already
│   ├── RunNotFound        no run lies there
│   ├── RunLocked          another process is at work in it
│   ├── RunDamaged         a file in it is missing or is not what was written
│   └── RunIncompatible    another version of epigone made it, in a format that this one does not read
├── OutputError            a place that cannot be written to
├── OutOfMemory            not even the smallest piece of work fits
└── TrainingDiverged       the loss, or a weight, is no longer a number
"""

from __future__ import annotations


class EpigoneError(Exception):
    """An expected failure: `str(error)` says what and where, `hint` what to do next; `exit_code` is the command's."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class SettingsError(EpigoneError):
    """A setting is unknown, of the wrong type or out of range."""


class TextError(EpigoneError):
    """The text cannot be used."""


class TextNotFound(TextError):
    """No such file, folder, glob or address, or nothing to read in it."""


class TextUnreadable(TextError):
    """The bytes are no text, or no text in the encoding that was asked for."""


class TextTooShort(TextError):
    """There is too little text to learn from."""


class BaseError(EpigoneError):
    """The checkpoint to start from cannot be used."""


class BaseNotFound(BaseError):
    """The checkpoint is neither a folder, nor in the cache, nor to be had from the hub."""


class BaseUnusable(BaseError):
    """The checkpoint is not a GPT-2 in safetensors with a tokenizer beside it."""


class RunError(EpigoneError):
    """A run's folder cannot be used."""


class RunExists(RunError):
    """The folder for a new run already holds something."""


class RunNotFound(RunError):
    """There is no run in the folder."""


class RunLocked(RunError):
    """Another process is at work in the run."""


class RunDamaged(RunError):
    """A file of the run is missing or is not what was written."""


class RunIncompatible(RunError):
    """The run is in a format of another version of epigone."""


class OutputError(EpigoneError):
    """A file or folder cannot be written."""


class OutOfMemory(EpigoneError):
    """Memory ran out, and to do less at once does not help."""

    exit_code = 1


class TrainingDiverged(EpigoneError):
    """The loss or a weight became infinite or not a number."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """What a library says went wrong, short enough to stand in a line of ours."""
    return f"{next(iter(str(error).splitlines()), '') or type(error).__name__:.200}"
