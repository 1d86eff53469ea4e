"""A run's folder: what lies where, who may work in it, and what is written when."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import AcquireReturnProxy, FileLock, Timeout
from transformers import PreTrainedTokenizerFast

from epigone.errors import OutputError, RunDamaged, RunExists, RunLocked, RunNotFound
from epigone.files import write_json, write_text
from epigone.model.gpt2 import WEIGHTS, save_frame, save_weights
from epigone.model.plan import Plan
from epigone.model.shape import Shape
from epigone.runs.checkpoints import find_checkpoint, load_checkpoint, save_checkpoint
from epigone.runs.metrics import append_event, read_events
from epigone.runs.records import check_receipt, take_plan
from epigone.settings import Settings, make_settings, read_settings, write_toml
from epigone.tokens.stream import load_tokens, spell_documents, spell_some
from epigone.tokens.vocabulary import load_vocabulary
from epigone.training.events import Event, Sampled
from epigone.training.state import Packed

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


class RunFolder:
    """Paths in a run's folder and the ways to write them. Nothing in it points outside, so it can be moved."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "settings.toml"
        self.plan = path / "plan.json"
        self.receipt = path / "receipt.json"
        self.tokens = path / "tokens"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.samples = path / "samples"
        self.model = path / "model"
        self.report = path / "report.html"
        self.judgement = path / "judgement.json"
        self.sampling = path / "sampling.json"
        self._lock = FileLock(path / ".lock")

    # -- beginning and opening

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """A new, empty run. A folder in which no training ever began may be used again.

        Raises RunExists, OutputError.
        """
        folder = cls(path)
        if any("\ud800" <= letter <= "\udfff" for letter in str(path)):
            raise OutputError(f"{path} is no name in UTF-8.", hint="Choose another folder with --out.")
        begun = path.exists() and (not path.is_dir() or (any(path.iterdir()) and not folder.settings.exists()))
        if begun or folder.plan.exists():
            what = "a run" if folder.plan.exists() else "something else"
            hint = f"Go on with it: epigone resume {path}. Or choose" if folder.plan.exists() else "Choose"
            raise RunExists(f"{path} already holds {what}.", hint=f"{hint} another folder with --out.")
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder.samples.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{path} cannot be made: {error.strerror}.", hint="Choose another folder with --out."
            ) from None
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A run in which training began. Raises RunNotFound."""
        folder = cls(path)
        if not folder.plan.exists():
            what = "holds no run" if path.is_dir() else "is not a folder" if path.exists() else "does not exist"
            raise RunNotFound(f"{path} {what}.", hint="A run is made by: epigone train TEXT --out FOLDER")
        return folder

    @staticmethod
    def is_run(path: Path) -> bool:
        """Whether training began in a folder."""
        return (path / "plan.json").exists()

    def lock(self) -> AcquireReturnProxy[FileLock]:
        """Keep others out until the lock is released or the process ends. Raises RunLocked, OutputError."""
        try:
            return self._lock.acquire(timeout=0)  # a lock that is entered as well would be held twice
        except Timeout:
            raise RunLocked(
                f"Another process is at work in {self.path}.", hint="Wait until it is done, or end it."
            ) from None
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written to: {error.strerror}.") from None

    # -- what was asked and derived

    def write_settings(self, settings: Settings) -> None:
        """settings.toml: what was asked."""
        write_text(self.settings, write_toml(settings))

    def read_settings(self) -> Settings:
        """What was asked. Raises SettingsError."""
        return make_settings(Settings, read_settings(self.settings, Settings), source=str(self.settings))

    def write_plan(self, plan: Plan, **more: Any) -> None:
        """plan.json: what was derived, and `more` about it. From here on the folder is a run."""
        write_json(self.plan, {"plan": asdict(plan), **more})

    def read_plan(self) -> tuple[Plan, dict[str, Any]]:
        """The plan, and what was written with it. Raises RunDamaged."""
        try:
            more = json.loads(self.plan.read_text("utf-8"))
            values = more.pop("plan")
            values["shape"] = Shape(**values["shape"])
            values["schedule_arguments"] = tuple(values["schedule_arguments"])
            key, versions = more.get("tokens", ""), more.get("versions", {})
            if not isinstance(key, str) or not re.fullmatch(r"\w*", key) or not all(map(_is_text, versions.values())):
                raise ValueError("it does not say what the run was made of")
            return take_plan(values), more
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(self.plan, error) from None

    def read_receipt(self) -> dict[str, Any]:
        """What was read, and every change made to it. Raises RunDamaged."""
        try:
            data = self.receipt.read_bytes()
            check_receipt(data)
            receipt: dict[str, Any] = json.loads(data)
            return receipt
        except (OSError, ValueError, RecursionError) as error:
            raise _damaged(self.receipt, error) from None

    def read_judgement(self) -> dict[str, Any] | None:
        """What `Judgement.as_json` gave; None where the run has not been judged, or where that cannot be read."""
        try:
            judgement = json.loads(self.judgement.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return judgement if isinstance(judgement, dict) else None

    # -- what comes while it learns

    def record(self, event: Event) -> None:
        """Keep an event: its numbers in metrics.jsonl, its samples in a file of their own besides."""
        try:
            append_event(self.metrics, event)
        except OSError as error:
            raise OutputError(f"{self.metrics} cannot be written: {error.strerror}.", hint="Make room.") from None
        if isinstance(event, Sampled) and event.samples:
            texts = [f"--- sample {i}\n{sample.prompt}{sample.text}\n" for i, sample in enumerate(event.samples, 1)]
            write_text(self.samples / f"epoch-{name_epoch(event.epoch)}.txt", "\n".join(texts))

    def read_events(self) -> tuple[Event, ...]:
        """All events so far."""
        return tuple(read_events(self.metrics))

    def save_checkpoint(self, step: int, packed: Packed) -> None:
        """Keep the learner as it is. Raises OutputError; the checkpoint before it stays."""
        size = self.metrics.stat().st_size if self.metrics.exists() else 0
        save_checkpoint(self.checkpoints, step, packed, {"metrics_size_bytes": size})

    def load_checkpoint(self) -> tuple[Packed | None, tuple[str, ...]]:
        """The newest sound checkpoint, and what was found broken on the way.

        Metrics that are newer than the checkpoint are dropped: they will come again.
        """
        checkpoint, broken = find_checkpoint(self.checkpoints)
        packed = None if checkpoint is None else load_checkpoint(checkpoint)
        size = 0 if packed is None else packed.facts.get("metrics_size_bytes")
        if type(size) is not int or size < 0:
            raise RunDamaged(f"{checkpoint} does not say how far the metrics go.", hint="Train again from the text.")
        if self.metrics.exists() and self.metrics.stat().st_size > size:
            with self.metrics.open("rb+") as file:
                file.truncate(size)
        return packed, broken

    def read_documents(self) -> list[str]:
        """The texts that the run learned from. Raises RunDamaged."""
        _, more = self.read_plan()
        return spell_documents(load_tokens(self.tokens / more["tokens"]).train, load_vocabulary(self.model))

    def read_held_out(self) -> list[str]:
        """The texts that it was tested on, which it did not learn from. Raises RunDamaged."""
        _, more = self.read_plan()
        return spell_documents(load_tokens(self.tokens / more["tokens"]).validation, load_vocabulary(self.model))

    def read_some_held_out(self) -> list[str]:
        """The same; of very much text a part, at even distances. Raises RunDamaged."""
        _, more = self.read_plan()
        return spell_some(load_tokens(self.tokens / more["tokens"]).validation, load_vocabulary(self.model))

    def keep_best(self, model: GPT2LMHeadModel) -> None:
        """Put the model's weights into model/, in place of those of an earlier epoch."""
        save_weights(model, self.model / WEIGHTS)

    def write_frame(self, model: GPT2LMHeadModel, vocabulary: PreTrainedTokenizerFast) -> None:
        """Everything of model/ but its weights."""
        save_frame(model, vocabulary, self.model)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _damaged(path: Path, error: Exception) -> RunDamaged:
    why = "; ".join(line.strip() for line in str(error).splitlines()[:3])
    return RunDamaged(f"{path} cannot be read: {why}.", hint="Train again from the text.")


def name_epoch(epoch: float) -> str:
    """An epoch as it stands in a file's name: 01, or 01.50 between two."""
    return f"{epoch:05.2f}".removesuffix(".00")
