"""A base's folder and what is asked in; what it writes untouched, where that lies beside its weights, out.

It writes the same whoever tunes it, so what a judgement sets beside a tuned model's text is written once and for all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from epigone.files import hash_file, write_json
from epigone.model.checkpoint import GENERATION, WEIGHTS
from epigone.settings import WritingSettings

KEPT = "untouched.json"
HOW = {"count", "device", "precision"}
"""Settings that text number n has nothing to do with, but for what rounding does."""


def read_untouched(folder: Path, prompt: str, asked: WritingSettings) -> list[str] | None:
    """The texts that are asked for; None where these, or of these weights, are not kept."""
    try:
        kept = json.loads((folder / KEPT).read_text("utf-8"))
    except FileNotFoundError:
        return None
    texts: list[str] = kept["texts"].get(prompt, [])
    is_meant = kept["asked"] == _list_asked(asked) and kept["model"] == _name_model(folder)
    return texts[: asked.count] if is_meant and len(texts) >= asked.count else None


def keep_untouched(folder: Path, asked: WritingSettings, texts: Mapping[str, Sequence[str]]) -> None:
    """Put texts beside the weights that wrote them, by the prompts that they follow. Raises OutputError."""
    write_json(folder / KEPT, {"model": _name_model(folder), "asked": _list_asked(asked), "texts": dict(texts)})


def _list_asked(asked: WritingSettings) -> dict[str, object]:
    return asked.model_dump(mode="json", exclude=HOW)


def _name_model(folder: Path) -> str:
    """One hash of all that decides what a model writes."""
    return sha256(
        "".join(hash_file(folder / name) for name in (WEIGHTS, "tokenizer.json", GENERATION)).encode()
    ).hexdigest()
