"""The library's front door: texts in, a run out. The command is made of the same."""

from __future__ import annotations

import math
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import GPT2LMHeadModel

from epigone import __version__
from epigone.corpus.corpus import StageCallback, ignore_stages
from epigone.corpus.sources import ADDRESS, PIPE, SAMPLE, hide_password
from epigone.errors import (
    RunExists,
    TrainingDiverged,
)
from epigone.evaluation.sample_checks import SampleChecker, SampleWriter, choose_temperature
from epigone.files import hash_file, write_json
from epigone.model.gpt2 import load_model
from epigone.model.weights import keep_temperature
from epigone.planning.plan import Plan
from epigone.preparation import PreparedRun, prepare
from epigone.report.publish import is_quick, publish, publish_curves, write_report
from epigone.run import PathOrName, Run
from epigone.runs.folder import RunFolder
from epigone.settings import TrainSettings, make_settings
from epigone.tokens.dataset import FACTS, TokenDataset
from epigone.tokens.tokenizer import BPETokenizer, load_tokenizer
from epigone.training.distributed import is_main_process
from epigone.training.events import BatchSplit, CheckpointDue, Evaluated, Event, Finished
from epigone.training.trainer import BaseWeights, Trainer

Stop = Callable[[], bool]


def _never() -> bool:
    return False


# -- training


def train(
    *texts: PathOrName,
    out: PathOrName | None = None,
    settings: TrainSettings | None = None,
    on_event: Callable[[Event], None] | None = None,
    **more: Any,
) -> Run:
    """Learn the style of `texts` (files, folders, globs, addresses) and return the run.

    `out` is the run's folder, runs/NAME by default. `more` are settings by name, such as epochs=3, and go before
    those in `settings`. `on_event` sees each event as it comes. Raises EpigoneError.
    """
    asked = make_settings(TrainSettings, {**(settings or TrainSettings()).model_dump(), **more}, source="train()")
    names = [str(text) for text in texts]
    folder = create_run(names, out)
    with lock_run(folder):
        preparation = prepare_run(folder, names, asked, progress=False)
        for event in run_training(folder, preparation):
            if on_event is not None:
                on_event(event)
    return Run(folder)


def plan(
    *texts: PathOrName, settings: TrainSettings | None = None, watch: StageCallback = ignore_stages, **more: Any
) -> PreparedRun:
    """Read and plan what `train` would do, and train nothing. Raises EpigoneError."""
    asked = make_settings(TrainSettings, {**(settings or TrainSettings()).model_dump(), **more}, source="plan()")
    with tempfile.TemporaryDirectory(prefix="epigone-", ignore_cleanup_errors=True) as folder:
        return prepare([str(text) for text in texts], asked, Path(folder), progress=False, watch=watch)


def lock_run(folder: RunFolder) -> AbstractContextManager[object]:
    """Keep others out of a run's folder; of several processes the first one does. Raises RunLocked, OutputError."""
    return folder.lock() if is_main_process() else nullcontext()


def create_run(texts: Sequence[str], out: PathOrName | None) -> RunFolder:
    """The new folder of a run: `out`, or one named after the first text. Raises RunExists, OutputError."""
    path = Path(out) if out is not None else Path("runs") / name_run(texts)
    return RunFolder.create(path) if is_main_process() else RunFolder(path)


def name_run(texts: Sequence[str]) -> str:
    """A folder's name from the first text's: "shakespeare" for a/shakespeare.txt, "stdin" for "-"."""
    first = texts[0].removeprefix("sample:").partition("?")[0].rstrip("/\\") if texts else ""
    path = Path(first)
    while path.name and any(mark in path.name for mark in "*?["):
        path = path.parent
    stem = path.stem.encode("utf-8", "replace").decode()  # a name on the disk may be any bytes
    return {"": "text", "-": "stdin"}.get(stem, stem)


def prepare_run(
    folder: RunFolder,
    texts: Sequence[str],
    settings: TrainSettings,
    *,
    progress: bool = True,
    watch: StageCallback = ignore_stages,
) -> PreparedRun:
    """Prepare in a run's folder and write down there what was asked, read and planned. Raises EpigoneError."""
    if is_main_process():
        if folder.is_run(folder.path):  # another process has begun and ended it since this one looked
            raise RunExists(f"{folder.path} already holds a run.", hint="Choose another folder with --out.")
        folder.write_settings(settings)
    preparation = prepare(texts, settings, folder.tokens, progress=progress, watch=watch)
    if is_main_process():
        model = preparation.build_model()
        folder.check_room(model)
        if preparation.teacher is not None:
            preparation.teacher.keep(folder)
        folder.write_receipt(preparation.receipt)
        folder.write_config_and_tokenizer(model, preparation.tokenizer)
        folder.write_plan(
            preparation.plan,
            estimate=asdict(preparation.estimate),
            tokens=preparation.tokens.key,
            tokens_sha256=hash_tokens(folder.tokens, preparation.tokens),
            texts=locate_texts(texts, settings, folder.path),
            versions=list_versions(),
        )
    return preparation


def run_training(folder: RunFolder, preparation: PreparedRun, *, should_stop: Stop = _never) -> Iterator[Event]:
    """Train what was prepared, and keep in the folder what comes of it. Raises EpigoneError."""
    sampler = SampleWriter(preparation.tokenizer, preparation.settings, preparation.plan.start_text)
    learner = Trainer(
        preparation.build_model(),
        preparation.tokens,
        preparation.plan,
        sample=_make_sample_checker(sampler, preparation.tokens, preparation.plan),
        origin=base_weights_loader(preparation.plan, preparation.build_model),
        teacher=preparation.teacher.load() if preparation.teacher else None,
        should_stop=should_stop,
    )
    learner.add_elapsed(preparation.estimate.compile_seconds)
    yield from _record_events(folder, learner, preparation.tokenizer)


def base_weights_loader(plan: Plan, build: Callable[[], GPT2LMHeadModel]) -> BaseWeights | None:
    """What loads the untouched base once more, where one is tuned as a whole."""
    return None if plan.fresh or plan.lora is not None else lambda: build().state_dict()


def _make_sample_checker(sampler: SampleWriter, tokens: TokenDataset, plan: Plan) -> SampleChecker:
    return SampleChecker(sampler, tokens, n_tokens_between=plan.n_blocks * plan.block_size / plan.evaluations_per_epoch)


def _record_events(folder: RunFolder, learner: Trainer, tokenizer: BPETokenizer) -> Iterator[Event]:
    """Pass on what the learner tells, and keep in the folder what each event calls for."""
    try:
        for event in learner.learn():
            if is_main_process():
                _record(folder, learner, event)
            yield event
    except TrainingDiverged as error:
        error.hint += f" To go on from the last good checkpoint: epigone resume {folder.path} --learning-rate …"
        raise


def _record(folder: RunFolder, learner: Trainer, event: Event) -> None:
    folder.check_place()
    folder.record(event)
    if isinstance(event, Evaluated) and event.best:
        folder.keep_best(learner.model)
    elif isinstance(event, CheckpointDue):
        folder.save_checkpoint(event.step, learner.pack())
        publish(folder)
    elif isinstance(event, BatchSplit):
        _remember_parts(folder, event)
    elif isinstance(event, Finished):
        save_temperature(folder, event)
        publish_curves(folder)
        write_report(folder, with_sentences=is_quick(folder))


def _remember_parts(folder: RunFolder, event: BatchSplit) -> None:
    """In the plan, so that the run begins with them when it goes on, wherever it stopped."""
    plan, more = folder.read_plan()
    reason = f"in parts since memory ran out in step {event.step:,}"
    folder.write_plan(replace(plan, parts=event.parts, reasons=plan.reasons | {"batch_size": reason}), **more)


def save_temperature(folder: RunFolder, finished: Finished) -> None:
    """Find the temperature at which the best model writes like its author, and keep it beside the model."""
    if finished.reason == "interrupted" or not math.isfinite(finished.best_loss):
        return
    plan, _ = folder.read_plan()
    tokenizer = load_tokenizer(folder.model)
    tuning = choose_temperature(
        load_model(folder.model), tokenizer, folder.read_some_held_out(), plan.start_text, plan.seed
    )
    if tuning is not None:
        keep_temperature(folder.model, tuning.temperature)
        write_json(folder.sampling, asdict(tuning))


def list_versions() -> dict[str, str]:
    """What a run was made with."""
    packages = {name: version(name) for name in ("torch", "transformers", "tokenizers", "accelerate")}
    return {"epigone": __version__, "python": platform.python_version(), **packages}


# -- what is noted while there is nothing wrong


def hash_tokens(folder: Path, tokens: TokenDataset) -> str:
    """The sha256 of the file that vouches for the others: what is made anew is held against it."""
    return hash_file(folder / tokens.key / FACTS)


def locate_texts(texts: Sequence[str], settings: TrainSettings, run: Path) -> dict[str, list[str]]:
    """How the texts are found again: places as they are seen from the run's folder, anything else as it was named."""
    held_out = [] if isinstance(settings.validation, float) else [settings.validation]
    return {
        "learned": [_name_from(run, text) for text in texts],
        "held_out": [_name_from(run, text) for text in held_out],
    }


def _name_from(run: Path, text: str) -> str:
    if text == PIPE or text.startswith(SAMPLE) or ADDRESS.match(text):
        return hide_password(text)
    path = Path(text).expanduser()
    with suppress(ValueError):  # on Windows there is no way from one drive to another
        return Path(os.path.relpath(path.parent.resolve() / path.name, run.resolve())).as_posix()
    return path.absolute().as_posix()
