"""Generated texts as records that can be written as JSON, and .jsonl files of them that can be continued."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from epigone.errors import OutputError
from epigone.files import append_text, write_bytes
from epigone.settings import WriteSettings
from epigone.text_reuse.matches import Match

FIRST_BYTES = b'{"prompt": '
"""Of every line of a .jsonl file."""


class GeneratedText(BaseModel):
    """A text and what is known of it."""

    model_config = ConfigDict(frozen=True)

    prompt: str
    text: str
    """Without the prompt."""
    seed: int
    n_tokens: int
    log_probability: float
    """Of its tokens under the model alone, in nats."""
    longest_shared: Match | None
    """The longest passage that stands in the training text; None if there is none, or if that text is not known."""


class GeneratedLine(GeneratedText):
    """A line of a .jsonl file: a text, and the settings that it was asked for with but for the number of texts.

    What else is known of the text, such as the scores of the candidates that it is the best of, follows.
    """

    model_config = ConfigDict(extra="allow")

    settings: WriteSettings

    def __str__(self) -> str:
        """As it stands in the file, with its newline."""
        values = self.model_dump(mode="json", exclude={"settings": {"count"}})
        return json.dumps(values, ensure_ascii=False) + "\n"


def append_record(out: Path, record: GeneratedText, settings: WriteSettings) -> None:
    """Put a text at the end of a .jsonl file. Raises OutputError."""
    append_text(out, str(GeneratedLine(**dict(record), settings=settings)))


def count_written(out: Path, prompt: str, settings: WriteSettings) -> int:
    """Texts that a .jsonl file already holds of those that are asked for; a line that was cut short is dropped.

    Raises OutputError where the file holds something else.
    """
    if not out.exists():
        return 0
    try:
        whole, end, torn = out.read_bytes().rpartition(b"\n")
        lines = [GeneratedLine.model_validate_json(line) for line in whole.split(b"\n") if line]
    except (OSError, ValidationError):
        raise _not_records(out) from None
    if torn and not lines and not torn.startswith(FIRST_BYTES):
        raise _not_records(out)
    asked = settings.model_copy(update={"count": 1})
    for number, line in enumerate(lines):
        candidate = (line.seed - (settings.seed + number) * settings.best_of) % 2**32
        if (line.prompt, line.settings) != (prompt, asked) or candidate >= settings.best_of:
            raise OutputError(
                f"{out} contains texts that were written with other settings.", hint="Choose another name with --out."
            )
    if torn:  # the last line was cut short when a call was stopped
        write_bytes(out, whole + end)
    return len(lines)


def _not_records(out: Path) -> OutputError:
    return OutputError(f"{out} exists and does not contain texts by epigone.", hint="Choose another name with --out.")
