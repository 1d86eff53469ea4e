"""Training from texts to a finished run: the one path that the library and the command share."""

from __future__ import annotations

import math
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from epigone import __version__
from epigone.corpus.corpus import StageCallback, ignore_stages
from epigone.corpus.download import hide_password
from epigone.corpus.sources import ADDRESS, PIPE, SAMPLE
from epigone.distillation import check_two_runs, divide_settings, keep_teacher, plan_second
from epigone.errors import OutOfMemory, RunDamaged, RunExists, TrainingDiverged, quote_command
from epigone.evaluation.sample_checks import SampleChecker, SampleWriter, choose_temperature
from epigone.files import hash_file
from epigone.generation.generator import WriteDefaults
from epigone.generation.known_words import choose_words
from epigone.model.gpt2 import build_model, load_model
from epigone.model.hub import find_base
from epigone.model.weights import keep_temperature, read_weights
from epigone.planning.plan import Plan
from epigone.preparation import PreparedRun, fit_to_clock, prepare
from epigone.report.publish import publish_card, publish_curves, publish_share_card, write_report
from epigone.report.recorder import RunRecorder
from epigone.run import Run
from epigone.runs.folder import RunFolder
from epigone.runs.listing import VOICES
from epigone.runs.model_folder import PathOrName
from epigone.runs.records import Manifest, Receipt, SamplingRecord, TemperatureRecord, TextLocations
from epigone.settings import SELF, TrainSettings, WriteSettings, make_settings
from epigone.tokens.dataset import FACTS, TokenDataset, copy_tokens
from epigone.tokens.tokenizer import BPETokenizer, load_tokenizer
from epigone.training.distributed import (
    agree,
    check_launch,
    check_shared,
    count_processes,
    is_main_process,
    join_processes,
    set_hint,
)
from epigone.training.events import Event, Finished, Stage, effective_history
from epigone.training.trainer import BaseWeights, Trainer
from epigone.voices import PlannedRun, divide_voices, read_voices

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


Stop = Callable[[], bool]
Part = Literal["only", "first", "second", "voice"]
MOST_PARAMETERS = 200_000_000
"""For a larger model, choosing a temperature takes longer than it is worth."""


def never() -> bool:
    """Do not stop."""
    return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """The first of a run's events: the texts have been read and everything is planned; training comes next."""

    folder: RunFolder
    receipt: Receipt
    manifest: Manifest
    part: Part = "only"
    """Of two runs that one command makes, which this is; `folder` is that of the second, and has the first in it. Of
    several voices, the run of all texts is "only", and those that follow are "voice"."""


def run_training(
    texts: Sequence[str],
    settings: TrainSettings,
    out: PathOrName | None = None,
    *,
    should_stop: Stop = never,
    watch: StageCallback = ignore_stages,
    progress: bool = False,
) -> Iterator[Planned | Event | Stage]:
    """Train on texts into a new run's folder, event by event; what an event says is on the disk when it comes.

    `watch` hears of what takes long before the plan, `progress` draws bars for downloads. With the teacher "self" there
    are two runs, one after the other. Raises EpigoneError.
    """
    check_launch([*texts, str(settings.validation)])
    train_before = partial(run_training, should_stop=should_stop, watch=watch, progress=progress)
    if settings.by != "none":
        shared, *voices = divide_voices(texts, settings, choose_path(texts, out), watch)
        with _removed_unless_run(shared.folder):
            yield from train_before(shared.texts, shared.settings, shared.folder)
        if has_ended(shared.folder):
            yield from train_voices(voices, should_stop)
        return
    with _new_run(texts, settings, out) as run:
        if settings.teacher == SELF:
            first = train_before(texts, divide_settings(settings), run.first)
            yield from finish_two_runs(run, settings, first, should_stop)
            return
        prepared = prepare(texts, settings, run.tokens, is_shared=True, progress=progress, watch=watch)
        yield write_down(run, texts, prepared)
        parts = (prepared.tokenizer, prepared.model, prepared.tokens, prepared.plan)
        trainer = make_trainer(run, settings, *parts, teacher=prepared.teacher, should_stop=should_stop)
        trainer.add_elapsed(prepared.estimate.compile_seconds)
        del prepared  # with the text
        yield from train_to_end(run, trainer)


def train(
    *texts: PathOrName,
    out: PathOrName | None = None,
    settings: TrainSettings | None = None,
    on_event: Callable[[Event], None] | None = None,
    **more: Any,
) -> Run:
    """Learn the style of `texts` (files, folders, globs, addresses) and return the run.

    `out` is the run's folder, runs/NAME by default. `more` are settings by name, such as epochs=3, and take precedence
    over those in `settings`. `on_event` sees each event as it comes. Of several voices (`by`) it is the run of all
    texts, whose `voices` has the others. Raises EpigoneError.
    """
    asked = make_settings(TrainSettings, {**(settings or TrainSettings()).model_dump(), **more}, source="train()")
    events = run_training([str(text) for text in texts], asked, out)
    folder = next(item.folder for item in events if isinstance(item, Planned))
    for event in events:
        if on_event is not None and not isinstance(event, Planned | Stage):
            on_event(event)
    return Run(folder)


def train_voices(voices: Sequence[PlannedRun], should_stop: Stop) -> Iterator[Planned | Event | Stage]:
    """Train the runs of voices that are not there yet; ends where one is interrupted."""
    for voice in voices:
        if RunFolder.is_run(voice.folder):
            continue
        for event in run_training(voice.texts, voice.settings, voice.folder, should_stop=should_stop):
            yield replace(event, part="voice") if isinstance(event, Planned) else event
        if not has_ended(voice.folder):
            return


def finish_two_runs(
    run: RunFolder, settings: TrainSettings, first: Iterable[Planned | Event | Stage], should_stop: Stop
) -> Iterator[Planned | Event | Stage]:
    """What is left of the first of two runs, whose events `first` gives, and then the second one."""
    for event in first:
        yield replace(event, folder=run, part="first") if isinstance(event, Planned) else event
    ended = _find_end(RunFolder.open(run.first))
    if ended is None:
        return
    yield Stage(what="Planning the second run")
    planned, trainer = _begin_second(run, settings, ended, should_stop)
    yield planned
    yield from train_to_end(run, trainer)


def has_ended(run: Path) -> bool:
    """Whether there is nothing more to come of a run. Raises RunDamaged."""
    return _find_end(RunFolder.open(run)) is not None


def _find_end(first: RunFolder) -> Finished | None:
    """How a run ended; None where there is more of it to come."""
    history = effective_history(first.read_events())
    last = history[-1] if history else None
    return last if isinstance(last, Finished) and last.reason != "interrupted" else None


def _begin_second(
    run: RunFolder, settings: TrainSettings, ended: Finished, should_stop: Stop
) -> tuple[Planned, Trainer]:
    """Plan the second of two runs by the plan and from the tokens of the first, and write it down."""
    first = RunFolder.open(run.first)
    if fault := first.find_damage_of_best():
        raise RunDamaged(f"{first.path}: {fault}.", hint=f"{quote_command('epigone', 'resume', first.path)} mends it.")
    before, tokenizer, best = first.read_manifest(), load_tokenizer(first.model), Run(first).best
    tokens = copy_tokens(first.tokens / before.tokens, run.tokens)
    n_bytes, bits = tokens.train.n_bytes, best.bits_per_byte if best else math.inf
    plan = plan_second(before.plan, settings, n_bytes, ended.seconds, bits)
    base = None if plan.model.fresh else find_base(plan.model.base).folder
    model, teacher = build_model(plan.model, base, tokenizer.end_of_text_id, seed=plan.seed), load_model(first.model)
    plan, estimate = fit_to_clock(plan, settings, model, tokenizer, tokens, teacher)
    texts = {
        part: tuple(_move(name, first.path, run.path) for name in names) for part, names in asdict(before.texts).items()
    }
    manifest = before.model_copy(
        update={"plan": plan, "estimate": estimate, "texts": TextLocations(**texts), "versions": list_versions()}
    )
    run.check_room(model)
    keep_teacher(first, run)
    planned = _write_down(run, manifest, first.read_receipt(), model, tokenizer)
    trainer = make_trainer(run, settings, tokenizer, model, tokens, plan, teacher=teacher, should_stop=should_stop)
    trainer.add_elapsed(estimate.compile_seconds)
    return replace(planned, part="second"), trainer


def plan(
    *texts: PathOrName, settings: TrainSettings | None = None, watch: StageCallback = ignore_stages, **more: Any
) -> PreparedRun:
    """Read the texts and plan what `train` would do, without training. Raises EpigoneError."""
    asked = make_settings(TrainSettings, {**(settings or TrainSettings()).model_dump(), **more}, source="plan()")
    check_launch([*map(str, texts), str(asked.validation)])
    with (
        join_processes(asked.process_timeout),
        tempfile.TemporaryDirectory(prefix="epigone-", ignore_cleanup_errors=True) as folder,
    ):
        names, own, voices = [str(text) for text in texts], asked, None
        if asked.by != "none":
            shared = divide_voices(names, asked, Path(folder), watch)[0]
            names, own, voices = list(shared.texts), shared.settings, read_voices(Path(folder))
        own = own if own.teacher != SELF else divide_settings(own)
        check_two_runs(asked, count_processes())
        found = prepare(names, own, Path(folder), progress=False, watch=watch)
        found = replace(found, voices=voices)
    if asked.teacher != SELF:
        return found
    second = plan_second(found.plan, asked, found.tokens.train.n_bytes, found.estimate.seconds, math.inf).model.shape
    size = "of the same size" if second == found.plan.model.shape else f"{second.n_layer}x{second.n_embd}"
    why = {"teacher": f"this is the plan of the first of two runs; the second, {size}, learns from it"}
    return replace(found, plan=replace(found.plan, teacher=SELF, reasons=found.plan.reasons | why))


# -- the run's folder


@contextmanager
def lock_run(folder: RunFolder) -> Iterator[RunFolder]:
    """Keep other processes out of the folder; of several that train together the first one locks.

    Raises RunLocked, OutputError.
    """
    with folder.lock() if is_main_process() else nullcontext():
        yield folder


@contextmanager
def _new_run(texts: Sequence[str], settings: TrainSettings, out: PathOrName | None) -> Iterator[RunFolder]:
    """A new run's folder, locked, with what the user asked for.

    There is no trace of a run that ends before its plan is written, such as one of a text that cannot be read.
    """
    with join_processes(settings.process_timeout):
        check_two_runs(settings, count_processes())
        with lock_run(create_run(texts, out)) as run, _removed_unless_begun(run):
            check_shared(run.processes)
            agree(list_versions() | settings.model_dump())
            begin_run(run, settings)
            yield run


def _removed_unless_begun(run: RunFolder) -> AbstractContextManager[object]:
    return run.removed_unless_begun() if is_main_process() else nullcontext()


@contextmanager
def _removed_unless_run(folder: Path) -> Iterator[None]:
    """The same of the voices' texts, which are there before their run."""
    try:
        yield
    finally:
        if not RunFolder.is_run(folder):
            shutil.rmtree(folder / VOICES, ignore_errors=True)
            with suppress(OSError):  # it holds something else
                folder.rmdir()


def create_run(texts: Sequence[str], out: PathOrName | None) -> RunFolder:
    """The new folder of a run: `out`, or one named after the first text. Raises RunExists, OutputError."""
    path = choose_path(texts, out)
    return RunFolder.create(path) if is_main_process() else RunFolder(path)


def choose_path(texts: Sequence[str], out: PathOrName | None) -> Path:
    """The folder of a new run."""
    return Path(out) if out is not None else Path("runs") / name_run(texts)


def name_run(texts: Sequence[str]) -> str:
    """A folder's name from the first text's: "shakespeare" for a/shakespeare.txt, "stdin" for "-"."""
    first = texts[0].removeprefix(SAMPLE).partition("?")[0].rstrip("/\\") if texts else ""
    path = Path(first)
    while path.name and any(mark in path.name for mark in "*?["):
        path = path.parent
    stem = path.stem.encode("utf-8", "replace").decode()  # a name on the disk may be any bytes
    return {"": "text", "-": "stdin"}.get(stem, stem)


def begin_run(run: RunFolder, settings: TrainSettings) -> None:
    """Write down what the user asked for. Raises RunExists, OutputError."""
    if not is_main_process():
        return
    if run.is_run(run.path):  # another process began and ended it since this one looked
        raise RunExists(f"{run.path} already holds a run.", hint="Choose another folder with --out.")
    run.write_settings(settings)


def write_down(run: RunFolder, texts: Sequence[str], prepared: PreparedRun) -> Planned:
    """Put the receipt, config, tokenizer and manifest into the folder, which from here on is a run.

    Raises OutputError.
    """
    manifest = Manifest(
        plan=prepared.plan,
        estimate=prepared.estimate,
        tokens=prepared.tokens.key,
        tokens_sha256=hash_tokens(run.tokens, prepared.tokens),
        texts=locate_texts(texts, prepared.settings, run.path),
        versions=list_versions(),
    )
    if is_main_process():
        run.check_room(prepared.model)
        prepared.start.keep(run)
    return _write_down(run, manifest, prepared.receipt, prepared.model, prepared.tokenizer)


def _write_down(
    run: RunFolder, manifest: Manifest, receipt: Receipt, model: GPT2LMHeadModel, tokenizer: BPETokenizer
) -> Planned:
    if is_main_process():
        run.write_receipt(receipt)
        run.write_config_and_tokenizer(model, tokenizer)
        run.write_manifest(manifest)
    set_hint(explain_resuming(run))
    return Planned(folder=run, receipt=receipt, manifest=manifest)


def explain_resuming(run: RunFolder) -> str:
    """What to do if a process is lost."""
    command = quote_command("epigone", "resume", run.path)
    return f"To continue from the last checkpoint, with or without torchrun: {command}"


def list_versions() -> dict[str, str]:
    """Versions of epigone, Python and the libraries that the weights depend on."""
    packages = {name: version(name) for name in ("torch", "transformers", "tokenizers", "accelerate")}
    return {"epigone": __version__, "python": platform.python_version(), **packages}


def hash_tokens(folder: Path, tokens: TokenDataset) -> str:
    """sha256 of the file that has the hashes of the others; tokens that are made again are compared with it."""
    return hash_file(folder / tokens.key / FACTS)


def locate_texts(texts: Sequence[str], settings: TrainSettings, run: Path) -> TextLocations:
    """Where the texts can be found again."""
    held_out = [] if isinstance(settings.validation, float) else [settings.validation]
    return TextLocations(
        train=tuple(_locate(run, text) for text in texts), validation=tuple(_locate(run, text) for text in held_out)
    )


def _move(name: str, before: Path, after: Path) -> str:
    """The place of a text as seen from another folder."""
    return (
        name if name == PIPE or name.startswith(SAMPLE) or ADDRESS.match(name) else _locate(after, str(before / name))
    )


def _locate(run: Path, text: str) -> str:
    if text == PIPE or text.startswith(SAMPLE) or ADDRESS.match(text):
        return hide_password(text)
    path = Path(text).expanduser()
    with suppress(ValueError):  # on Windows no relative path leads from one drive to another
        return Path(os.path.relpath(path.parent.resolve() / path.name, run.resolve())).as_posix()
    return path.absolute().as_posix()


# -- training


def make_trainer(
    run: RunFolder,
    settings: TrainSettings,
    tokenizer: BPETokenizer,
    model: GPT2LMHeadModel,
    tokens: TokenDataset,
    plan: Plan,
    **more: Any,
) -> Trainer:
    """What trains a run's model and records it in the run's folder; `more` as in `Trainer`."""
    return Trainer(
        model,
        tokens,
        plan,
        sample=make_sample_checker(run, tokenizer, settings, tokens, plan),
        origin=base_weights_loader(plan),
        recorder=RunRecorder(run),
        **more,
    )


def make_sample_checker(
    run: RunFolder, tokenizer: BPETokenizer, settings: TrainSettings, tokens: TokenDataset, plan: Plan
) -> SampleChecker:
    """What writes and checks samples at each evaluation."""
    n_tokens_between = plan.batch.n_blocks * plan.batch.block_size / plan.schedule.evaluations_per_epoch
    base = plan.model.base
    defaults = WriteDefaults(start_text=plan.start_text, words=choose_words(base), stop_at=plan.stop_at)
    sampler = SampleWriter(tokenizer, settings, defaults, tokens.train, base)
    return SampleChecker(sampler, tokens, n_tokens_between, run.read_before if run.list_before() else None)


def base_weights_loader(plan: Plan) -> BaseWeights | None:
    """What loads the base's own weights again, if a base is fine-tuned as a whole."""
    if plan.model.fresh or plan.model.lora is not None:
        return None
    return lambda: read_weights(find_base(plan.model.base).folder, "cpu").tensors


def train_to_end(run: RunFolder, trainer: Trainer) -> Iterator[Event | Stage]:
    """Train, choose the temperature, judge quickly, finish curves and page. Raises TrainingDiverged, OutputError."""
    try:
        for event in trainer.learn():
            if isinstance(event, Finished) and is_main_process():
                yield Stage(what="Choosing the temperature to write at")
                save_temperature(run, event)
                yield Stage(what="Judging what it writes")
                judge_quickly(run, event)
                yield Stage(what="Drawing the curves and writing the report")
                publish_curves(run)
                publish_card(run)
                publish_share_card(run)
                write_report(run)
            yield event
    except TrainingDiverged as error:
        command = quote_command("epigone", "resume", run.path)
        error.hint += f" To go on from the last good checkpoint: {command} --learning-rate …"
        raise


def judge_quickly(folder: RunFolder, finished: Finished) -> None:
    """The quick judgement of the best model, and what the page shows of it; none where memory is too short."""
    if finished.reason != "interrupted" and math.isfinite(finished.best_loss):
        folder.check_place()
        with suppress(OutOfMemory):
            Run(folder).judge_quickly(folder.read_manifest().plan.compute.device)


def save_temperature(folder: RunFolder, finished: Finished) -> None:
    """Find the temperature at which the best model is as varied as its author, and keep it beside the model."""
    plan, is_over = folder.read_manifest().plan, finished.reason != "interrupted"
    if not is_over or not math.isfinite(finished.best_loss) or plan.model.n_parameters > MOST_PARAMETERS:
        return
    folder.check_place()
    generator = Run(folder).open_generator(WriteSettings(device="cpu"))
    choice = choose_temperature(generator, folder.read_some_held_out(), plan.seed)
    if choice is not None:
        keep_temperature(folder.model, choice.temperature)
        trials = tuple(TemperatureRecord(**asdict(trial)) for trial in choice.trials)
        record = SamplingRecord(
            temperature=choice.temperature,
            most_compression=choice.most_compression,
            most_repeated=choice.most_repeated,
            trials=trials,
        )
        folder.write_sampling(record)
