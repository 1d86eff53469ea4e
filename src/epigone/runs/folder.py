"""The folder of a run: its files, its lock, and how they are written and read.

Nothing in it refers to files outside, so that it can be moved.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import AcquireReturnProxy, FileLock, Timeout

from epigone.corpus.large_text import Text
from epigone.errors import (
    BaseError,
    FileUnreadable,
    OutputError,
    RunDamaged,
    RunExists,
    RunIncompatible,
    RunLocked,
    RunNotFound,
    first_line,
    quote_command,
)
from epigone.files import (
    MISSING,
    TEMPORARY,
    check_room,
    exists,
    flush,
    hash_file,
    is_link,
    is_special,
    list_names,
    make_folder,
    name_temporary,
    read_bytes,
    reading,
    remove,
    walk,
    write_bytes,
    write_json,
    write_text,
)
from epigone.model.hub import GENERATION, WEIGHTS
from epigone.runs.checkpoints import (
    MOST_AT_ONCE,
    find_checkpoint,
    find_fault,
    list_checkpoints,
    load_checkpoint,
    read_step,
    save_checkpoint,
)
from epigone.runs.listing import RUNS, VOICES
from epigone.runs.records import (
    FORMAT,
    Manifest,
    ModelFacts,
    R,
    Receipt,
    SamplingRecord,
    ShowcaseRecord,
    append_event,
    newer_format,
    other_version,
    read_events,
    read_format,
    read_model_facts,
    read_record,
)
from epigone.runs.repair import Checksums, list_copied, repair
from epigone.settings import TrainSettings, make_settings, read_settings, write_toml
from epigone.tokens.dataset import TokenDataset, decode_documents, decode_sample, load_tokens, spread_part
from epigone.tokens.tokenizer import BPETokenizer, load_tokenizer
from epigone.training.events import Evaluated, Event, Sampled
from epigone.training.state import TrainerState

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

    from epigone.corpus.corpus import FileReceipt


OWN = {".lock", ".processes", "sums.json", "samples", VOICES}
"""Files that may exist before the settings are written."""
MOST_SEARCHED = 1 << 26
"""Tokens of a training text that a judgement searches for copies, about 250 MB."""
NAMES = (
    *(
        ".lock",
        ".processes",
        "settings.toml",
        "run.json",
        "receipt.json",
        "metrics.jsonl",
        "sums.json",
        "sampling.json",
    ),
    *("judgement.json", "showcase.json", "report.html", "curves.png", "curves.svg", "card.png"),
    *("model", "checkpoints", "samples", "tokens", "teacher"),
)
"""Everything that belongs to a run. What else lies in its folder is the user's, and is not looked at."""
BEFORE = {"unwrap": "no"}
"""Settings that the runs of earlier versions do not have, as it was then: their text has to stay the same."""
OLD_MANIFEST = "plan.json"
"""Of format 1."""
MOST_BEFORE_A_CHECKPOINT = 2
"""Evaluations after which a run can be without any checkpoint, because of a crash or a damaged disk at its start."""


NEW_RUN = "To make a run: epigone train TEXT --out FOLDER"


class RunFolder:
    """Paths in a run's folder, and methods to read and write them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "settings.toml"
        self.manifest = path / "run.json"
        self.receipt = path / "receipt.json"
        self.tokens = path / "tokens"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.samples = path / "samples"
        self.model = path / "model"
        self.report = path / "report.html"
        self.judgement = path / "judgement.json"
        self.sampling = path / "sampling.json"
        self.showcase = path / "showcase.json"
        self.card = path / "card.png"
        self.processes = path / ".processes"
        self.first = path / "first"
        """Where the first of two runs is, which the second learns from."""
        self.checksums = Checksums(path)
        self._lock = FileLock(path / ".lock")
        self._identity: tuple[int, int] | None = None
        self._made: list[Path] = []
        """Folders that `create` has made, the innermost first."""

    # -- creating and opening

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """A new, empty run in a folder in which no training was started. Raises RunExists, OutputError."""
        folder = cls(path)
        if any("\ud800" <= letter <= "\udfff" for letter in str(path)):
            raise OutputError(f"{path} is not a valid UTF-8 name.", hint="Choose another folder with --out.")
        try:
            folder._made = [place for place in (path, *path.parents) if not place.exists()]
        except OSError as error:  # a name that is too long
            raise _not_created(path, error) from None
        begun = cls.is_run(path) or cls.is_in_first(path)
        if begun or (exists(path) and not exists(folder.settings) and _holds_something(path)):
            if path.is_file():
                raise RunExists(f"{path} is a file; a run is a folder.", hint="Choose another folder with --out.")
            what = "a run" if begun else "something else"
            command = quote_command("epigone", "resume", path)
            hint = f"Continue it with {command} or choose" if begun else "Choose"
            raise RunExists(f"{path} already holds {what}.", hint=f"{hint} another folder with --out.")
        try:
            make_folder(folder.samples)
        except OSError as error:
            raise _not_created(path, error) from None
        return folder

    @contextmanager
    def removed_unless_begun(self) -> Iterator[None]:
        """Where the block ends before the plan is written, remove what was put here, and the folders made for it."""
        try:
            yield
        finally:
            with suppress(OSError):
                if {path.name for path in self.path.iterdir()} <= {*OWN, self.settings.name, self.tokens.name}:
                    self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self.tokens, ignore_errors=True)
        for file in (self.settings, self.checksums.path, self.processes, self.path / ".lock"):
            file.unlink(missing_ok=True)
        for folder in (self.samples, *self._made):
            with suppress(OSError):  # it holds something
                folder.rmdir()

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A run in which training was started. Raises RunNotFound, RunIncompatible, FileUnreadable."""
        folder = cls.find(path)
        folder._check_format()
        return folder

    @classmethod
    def find(cls, path: Path) -> RunFolder:
        """The same, whatever version of epigone made it: its model can be used. Raises RunNotFound, FileUnreadable."""
        folder = cls(path)
        if not cls.is_run(path):
            what = "holds no run" if path.is_dir() else "is not a folder" if path.exists() else "does not exist"
            hint = f"Did you mean {RUNS / path}?" if cls.is_run(RUNS / path) else NEW_RUN
            hint = f"Use the run itself: {path.parent}" if cls.is_run(path.parent) else hint
            raise RunNotFound(f"{path} {what}.", hint=hint)
        folder._check_stays_inside()
        return folder

    @staticmethod
    def is_run(path: Path) -> bool:
        """Whether training was started in a folder. Raises FileUnreadable."""
        begun = exists(path / "run.json") or exists(path / OLD_MANIFEST)
        return begun or any(list_checkpoints(path / "checkpoints"))

    @classmethod
    def is_in_first(cls, path: Path) -> bool:
        """Whether a folder has the first of two runs in it, and the second was not yet begun."""
        folder = cls(path)
        return exists(folder.settings) and not cls.is_run(path) and cls.is_run(folder.first)

    def _check_format(self) -> None:
        """Raise RunIncompatible if the run has the format of another version of epigone."""
        if not exists(self.manifest):
            if exists(self.path / OLD_MANIFEST):
                raise RunIncompatible(
                    f"{self.path} was made by an older version of epigone, in a format that is no longer read.",
                    hint="Train again from the text, into another folder. Its model/ still loads with transformers.",
                )
            return
        found = read_format(read_bytes(self.manifest))
        if found is not None and found[0] > FORMAT:
            raise newer_format(self.path, *found)

    def _list_files(self) -> Iterator[Path]:
        """Everything that belongs to the run, however deep."""
        names = (*NAMES, self.first.name) if self.is_run(self.first) else NAMES
        for name in names:
            yield self.path / name
            if not is_link(self.path / name):
                yield from walk(self.path / name)

    def _check_stays_inside(self) -> None:
        """Raise FileUnreadable if a link leads out of the run, or where reading would wait for another process."""
        inside = self.path.resolve()
        for path in self._list_files():
            if is_special(path):
                raise FileUnreadable(f"{path} is a pipe or a device, not a file.", hint="Delete it.")
            if is_link(path) and not _resolve(path).is_relative_to(inside):
                raise FileUnreadable(
                    f"{path} is a link to something outside the run, which is not read.",
                    hint="Replace it with a copy of what it names if it belongs to the run, else delete it.",
                )

    def check_no_links(self) -> None:
        """Raise OutputError if anything that belongs to the run is a link: writing would change something else."""
        for path in self._list_files():
            if is_link(path):
                raise _is_link(path)

    def lock(self) -> AcquireReturnProxy[FileLock]:
        """Keep others out until the lock is released or the process ends. Raises RunLocked, OutputError.

        What an earlier process was writing when it was killed is deleted.
        """
        self.check_no_links()
        try:
            held = self._lock.acquire(timeout=0)  # as a context manager it would be acquired twice
            self._identity = _identify(self.path)
            self._remove_left_over()
            return held
        except Timeout:
            raise RunLocked(
                f"Another process is working in {self.path}.", hint="Wait until it is done, or end it."
            ) from None
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written to: {error.strerror}.") from None

    def _remove_left_over(self) -> None:
        for path in [*self.path.iterdir(), *self._list_files()]:
            if TEMPORARY.fullmatch(path.name):
                remove(path)

    def check_place(self) -> None:
        """Raise OutputError if the folder was moved or deleted since the lock, even if another has its name now.

        Also if one of its own folders has become a link since then.
        """
        for path in (self.metrics, self.samples, self.checkpoints, self.model, self.model / "samples"):
            if is_link(path):
                raise _is_link(path)
        try:
            if _identify(self.path) == (self._identity or _identify(self.path)):
                return
        except OSError:
            pass
        raise OutputError(
            f"{self.path} is no longer the folder of this run: it was moved or deleted.",
            hint="If it was moved, epigone resume NEW_PLACE continues from the last checkpoint.",
        )

    def check_room(self, model: GPT2LMHeadModel) -> None:
        """Raise OutputError if there is no space for all that training keeps at a time."""
        weights = sum(parameter.nbytes for parameter in model.parameters())
        learned = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
        n_missing = MOST_AT_ONCE - len(list_checkpoints(self.checkpoints))
        check_room(self.path, max(1, n_missing) * (weights + 2 * learned) + 2 * weights, "This run")

    def write_known(self, path: Path, content: bytes) -> None:
        """Write a file and record its checksum."""
        self.checksums.record_checksum(path, sha256(content).hexdigest())
        write_bytes(path, content)

    # -- settings, manifest and receipt

    def write_settings(self, settings: TrainSettings) -> None:
        """settings.toml: the settings as the user gave them."""
        self.write_known(self.settings, write_toml(settings).encode())

    def read_settings(self) -> TrainSettings:
        """The settings as the user gave them. Raises SettingsError, RunDamaged."""
        if fault := self.checksums.find_damage(self.settings):
            raise _damaged(self.path, fault)
        values = BEFORE | read_settings(self.settings, TrainSettings)
        return make_settings(TrainSettings, values, source=str(self.settings))

    def write_manifest(self, manifest: Manifest) -> None:
        """run.json: the plan and what the run is made from. Once it is written the folder is a run."""
        self.write_known(self.manifest, manifest.encode())

    def read_manifest(self) -> Manifest:
        """The plan and what the run is made from. Raises RunDamaged."""
        return self._read(Manifest, self.manifest)

    def write_receipt(self, receipt: Receipt) -> None:
        """receipt.json: what was read, and every change made to it."""
        self.write_known(self.receipt, receipt.encode())

    def read_receipt(self) -> Receipt:
        """What was read, and every change made to it. Raises RunDamaged."""
        return self._read(Receipt, self.receipt)

    def _read(self, kind: type[R], path: Path) -> R:
        if fault := self.checksums.find_damage(path):
            raise _damaged(self.path, fault)
        self._check_format()
        try:
            return read_record(kind, read_bytes(path))
        except (*MISSING, ValueError, RecursionError) as error:
            why = first_line(error)
            _, version = (read_format(read_bytes(self.manifest)) if exists(self.manifest) else None) or (0, "")
            misfit = other_version(self.path, version, f"{path.name} has {why}")
            raise misfit or _damaged(self.path, f"{path} cannot be read: {why}") from None

    def read_model_facts(self) -> ModelFacts:
        """What is needed to use the model, whatever the rest of the manifest is. Raises FileUnreadable."""
        try:
            facts = read_model_facts(read_bytes(self.manifest))
        except MISSING:
            return ModelFacts()
        if Path(facts.base).is_absolute() and not exists(Path(facts.base)):  # both runs were moved together
            near = (self.path.parent / Path(facts.base).name, self.path.resolve().parent.parent)
            return facts.model_copy(update={"base": next((str(one) for one in near if self.is_run(one)), facts.base)})
        return facts

    def write_sampling(self, record: SamplingRecord) -> None:
        """sampling.json: how the temperature was chosen. Raises OutputError."""
        write_bytes(self.sampling, record.encode())

    def hash_model(self) -> str:
        """The sha256 of the best model's weights; "" if there are none yet."""
        weights = self.model / WEIGHTS
        return hash_file(weights) if exists(weights) else ""

    def write_judgement(self, judgement: Mapping[str, Any], model: str) -> None:
        """judgement.json: the result of `Judgement.as_json`, and the hash of the model that was judged."""
        write_json(self.judgement, {**judgement, "model_sha256": model})

    def read_judgement(self) -> dict[str, Any] | None:
        """The judgement of the current model; None if it was not judged or the file cannot be read."""
        try:
            judgement = json.loads(self.judgement.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(judgement, dict) or judgement.pop("model_sha256", None) != self.hash_model():
            return None  # a better model has replaced the one that was judged
        return judgement

    def write_showcase(self, showcase: ShowcaseRecord) -> None:
        """showcase.json: the best of what the model wrote. Raises OutputError."""
        write_bytes(self.showcase, showcase.encode())

    def read_showcase(self) -> ShowcaseRecord | None:
        """The showcase of the current model; None if there is none or the file cannot be read."""
        try:
            showcase = read_record(ShowcaseRecord, self.showcase.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return showcase if showcase.format <= FORMAT and showcase.model_sha256 == self.hash_model() else None

    # -- during training

    def record(self, event: Event) -> None:
        """Record an event: its numbers in metrics.jsonl, its samples also in a file of their own."""
        try:
            append_event(self.metrics, event)
        except OSError as error:
            raise OutputError(f"{self.metrics} cannot be written: {error.strerror}.", hint="Free some space.") from None
        if isinstance(event, Sampled) and event.samples:
            texts = [f"--- sample {i}\n{sample.prompt}{sample.text}\n" for i, sample in enumerate(event.samples, 1)]
            write_text(self.samples / f"epoch-{name_epoch(event.epoch)}.txt", "\n".join(texts))

    def read_events(self) -> tuple[Event, ...]:
        """All events so far. Raises FileUnreadable, RunIncompatible."""
        try:
            with reading(self.metrics):
                return tuple(read_events(self.metrics))
        except MISSING:
            return ()

    def save_checkpoint(self, step: int, packed: TrainerState) -> None:
        """Save the trainer's state; where processes divide it, together. Raises OutputError; the previous one stays."""
        size = self.metrics.stat().st_size if packed.part == 0 and exists(self.metrics) else 0
        try:
            if size:
                flush(self.metrics)
        except OSError as error:
            raise OutputError(f"{self.metrics} cannot be written: {error.strerror}.", hint="Free some space.") from None
        save_checkpoint(self.checkpoints, step, packed, {"metrics_size_bytes": size}, list_copied(self.path))

    def load_checkpoint(self) -> tuple[TrainerState | None, tuple[str, ...]]:
        """The newest intact checkpoint, and a line about each damage that was found and repaired.

        Metrics newer than the checkpoint are removed: training will write them again. Raises RunDamaged, OutputError,
        FileUnreadable.
        """
        try:
            checkpoint, found = find_checkpoint(self.checkpoints)
            if checkpoint is None:
                self._require_little_lost()
                found += tuple(self._keep_model_aside())
            packed = None if checkpoint is None else load_checkpoint(checkpoint)
            size = 0 if packed is None else packed.facts.get("metrics_size_bytes")
            if type(size) is not int or size < 0:
                raise RunDamaged(
                    f"{checkpoint} does not say how long metrics.jsonl was.", hint="Train again from the text."
                )
            self._cut_metrics(size)
            if checkpoint is not None:
                found += tuple(repair(self.path, checkpoint, self.checksums))
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written to: {error}.") from None
        return packed, found

    def load_step(self, step: int) -> TrainerState | None:
        """The checkpoint of a step, if there is an intact one."""
        for checkpoint in list_checkpoints(self.checkpoints):
            if read_step(checkpoint) == step and find_fault(checkpoint) is None:
                return load_checkpoint(checkpoint)
        return None

    def _require_little_lost(self) -> None:
        """Raise RunDamaged if starting again would lose more than the few evaluations before a first checkpoint."""
        n_evaluations = sum(isinstance(event, Evaluated) for event in self.read_events())
        if n_evaluations > MOST_BEFORE_A_CHECKPOINT:
            raise RunDamaged(
                f"{self.path} had {n_evaluations} evaluations and has no checkpoint left.",
                hint="The best model is untouched: epigone write still works. "
                "To start again, train into another folder.",
            )

    def _keep_model_aside(self) -> Iterator[str]:
        """Copy the best model before training starts again over it because the only checkpoint was damaged."""
        aside = self.path / "model.old"
        was_damaged = any(".broken" in name for name in list_names(self.checkpoints))
        if was_damaged and exists(self.model / WEIGHTS) and not os.path.lexists(aside):
            beside = name_temporary(self.path)
            shutil.copytree(self.model, beside)
            beside.replace(aside)
            yield f"the model so far is kept in {aside}"

    def _cut_metrics(self, size: int) -> None:
        """Cut metrics.jsonl off at a size, as a new file: a backup may share the old one by a second name."""
        found = self.metrics.stat() if exists(self.metrics) else None
        if found is not None and (found.st_size > size or found.st_nlink > 1):
            write_bytes(self.metrics, read_bytes(self.metrics)[:size])

    def load_tokens(self) -> TokenDataset:
        """The tokens that it trains on and those held out. Raises RunDamaged."""
        return load_tokens(self.tokens / self.read_model_facts().tokens)

    def read_documents(self) -> list[Text]:
        """The training texts. Raises RunDamaged, OutputError."""
        return decode_documents(self.load_tokens().train, load_tokenizer(self.model))

    def read_searched(self) -> tuple[list[Text], float]:
        """The training texts or, of very long ones, stretches at even distances; and which share of them that is.

        Raises RunDamaged, OutputError.
        """
        train, tokenizer = self.load_tokens().train, load_tokenizer(self.model)
        spread = spread_part(train, tokenizer.end_of_text_id, MOST_SEARCHED)
        return decode_documents(spread, tokenizer), min(1.0, len(spread.ids) / len(train.ids))

    def read_before(self, own: Sequence[Text]) -> list[Text]:
        """The training texts of the runs that it was tuned from, without its own: it could copy them, too.

        What is missing or damaged of those runs is left out. Raises OutputError.
        """
        texts: list[Text] = []
        for run in self.list_before():
            with suppress(RunDamaged, BaseError, FileUnreadable):
                texts += [text for text in run.read_documents() if text not in own and text not in texts]
        return texts

    def list_files_before(self) -> list[FileReceipt]:
        """The files that the runs it was tuned from have read, without its own. Raises RunDamaged."""
        known = {file.sha256 for file in self.read_receipt().files}
        files: list[FileReceipt] = []
        for run in self.list_before():
            with suppress(RunDamaged, RunIncompatible, FileUnreadable):
                files += [file for file in run.read_receipt().files if file.sha256 not in known]
                known.update(file.sha256 for file in files)
        return files

    def list_before(self) -> list[RunFolder]:
        """The runs that it was tuned from, the nearest first, as far as they are on this machine."""
        found = [self]
        with suppress(RunDamaged, RunNotFound, FileUnreadable):
            while True:
                base = Path(found[-1].read_model_facts().base)
                base = base.parent if base.name == "model" and self.is_run(base.parent) else base
                if not base.is_absolute() or any(base == run.path for run in found):
                    break
                found.append(self.find(base))
        return found[1:]

    def read_held_out(self) -> list[Text]:
        """The held-out texts. Raises RunDamaged, OutputError."""
        return decode_documents(self.load_tokens().validation, load_tokenizer(self.model))

    def read_some_held_out(self) -> list[str]:
        """The held-out texts, or a sample taken evenly if they are very long. Raises RunDamaged."""
        return decode_sample(self.load_tokens().validation, load_tokenizer(self.model))

    def keep_best(self, model: GPT2LMHeadModel) -> None:
        """Save the model's weights in model/, in place of those of an earlier epoch. Raises OutputError."""
        from epigone.model.gpt2 import save_weights

        place = self.model / WEIGHTS
        save_weights(model, place, lambda partial: self.checksums.record_checksum(place, hash_file(partial)))

    def find_damage_of_best(self) -> str | None:
        """What is wrong with the weights in model/, or None. To be called only if there should be some.

        Raises FileUnreadable.
        """
        place = self.model / WEIGHTS
        if not exists(place):
            return f"model/{WEIGHTS} is missing"
        return self.checksums.find_damage(place)

    def write_config_and_tokenizer(self, model: GPT2LMHeadModel, tokenizer: BPETokenizer) -> None:
        """Write everything in model/ except the weights. Raises OutputError."""
        from epigone.model.gpt2 import save_config_and_tokenizer

        beside = name_temporary(self.path)
        try:
            beside.mkdir()
            save_config_and_tokenizer(model, tokenizer, beside)
            for file in sorted(beside.iterdir()):
                write = (
                    write_bytes if file.name == GENERATION else self.write_known
                )  # changed when the temperature is chosen
                write(self.model / file.name, file.read_bytes())
        except OSError as error:
            raise OutputError(f"{self.model} cannot be written: {error.strerror}.", hint="Free some space.") from None
        finally:
            remove(beside)


def name_epoch(epoch: float) -> str:
    """An epoch in a file's name: 01, or 01.50 between two."""
    return f"{epoch:05.2f}".removesuffix(".00")


def _not_created(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be created: {error.strerror}.", hint="Choose another folder with --out.")


def _is_link(path: Path) -> OutputError:
    return OutputError(
        f"{path} is a link, and nothing is written through a link inside a run.",
        hint="Replace it with a copy of what it names if it belongs to the run, else delete it.",
    )


def _damaged(run: Path, fault: str) -> RunDamaged:
    return RunDamaged(
        f"{run}: {fault}." if not fault.startswith(str(run)) else f"{fault}.",
        hint=f"{quote_command('epigone', 'resume', run)} restores it if a checkpoint has a copy that is intact. "
        "Otherwise, train again from the text.",
    )


def _holds_something(path: Path) -> bool:
    """Whether there is anything except what a run that was stopped at once may leave."""
    if not path.is_dir():
        return True
    names = {name for name in list_names(path) if not TEMPORARY.fullmatch(name)}
    return bool(names - OWN) or bool(list_names(path / "samples"))


def _resolve(link: Path) -> Path:
    """Where a link leads; one that leads in a circle leads nowhere."""
    nowhere = Path(link.anchor)
    try:
        found = link.resolve()
    except (OSError, RuntimeError):
        return nowhere
    return nowhere if is_link(found) else found  # since Python 3.13 a circle raises nothing


def _identify(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
