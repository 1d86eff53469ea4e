"""When the curves, the report page, the quiz page and the model card of a run are written, and from which files."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from epigone.corpus.corpus import FileReceipt
from epigone.errors import OutputError, RunDamaged, RunIncompatible
from epigone.evaluation.quiz import Question
from epigone.evaluation.verdict import Judgement
from epigone.files import exists, read_bytes, write_bytes
from epigone.model.base_profile import find_root, name_base
from epigone.model.weights import read_temperature
from epigone.report.pages import (
    GENERATOR,
    CardData,
    ReportData,
    TrainingFile,
    find_samples,
    render_card,
    render_quiz,
    render_report,
)
from epigone.report.views import (
    describe_plan,
    describe_receipt,
    describe_weights,
    format_bytes,
    format_count,
    name_text,
)
from epigone.runs.folder import RunFolder
from epigone.runs.listing import is_voice, name_voices, run_name
from epigone.settings import TrainSettings
from epigone.training.events import (
    Evaluated,
    effective_history,
    find_best,
)

SECONDS_BETWEEN_PICTURES, SECONDS_BETWEEN_PAGES = 15.0, 60.0
"""During training. Either takes a quarter of a second or more, too much for short runs with many evaluations."""


def publish(folder: RunFolder, *, at_once: bool = False, pictures: bool = True) -> None:
    """Write the model card, the samples and, with `pictures` now and then or at once, the curves and the report."""
    events = effective_history(folder.read_events())
    if not any(isinstance(event, Evaluated) for event in events):
        return
    for samples in sorted(folder.samples.glob("*.txt")):
        _copy(samples, folder.model / "samples" / samples.name)
    publish_card(folder)
    if not pictures:
        return
    if at_once or _is_time_for(folder.model / "curves.svg", folder, SECONDS_BETWEEN_PICTURES):
        publish_curves(folder)
    if at_once or _is_time_for(folder.report, folder, SECONDS_BETWEEN_PAGES):
        write_report(folder)


def publish_curves(folder: RunFolder) -> None:
    """Draw the curves into the run folder and the model folder, if there is an evaluation."""
    events = effective_history(folder.read_events())
    if any(isinstance(event, Evaluated) for event in events):
        from epigone.report.curves import draw_curves  # matplotlib takes a second to load

        for picture in draw_curves(events, folder.path, title=_make_title(folder)):
            write_bytes(folder.model / picture.name, picture.read_bytes())


def publish_share_card(folder: RunFolder) -> None:
    """Draw card.png, if something was chosen for show and the fonts have its letters."""
    showcase = folder.read_showcase()
    if showcase is None:
        return
    from epigone.report.share_card import draw_share_card

    receipt, n_parameters = folder.read_receipt(), folder.read_manifest().plan.model.n_parameters
    read = format_bytes(receipt.train.n_bytes)
    about = f"written by a model of {format_count(n_parameters)} parameters that read {read}"
    picture = draw_share_card(showcase.text, _make_title(folder), about)
    if picture is not None:
        write_bytes(folder.card, picture)
    else:
        folder.card.unlink(missing_ok=True)


def _is_time_for(path: Path, folder: RunFolder, seconds: float) -> bool:
    """Whether the file, or if it is missing the start of the run, is more than `seconds` old."""
    last = path if path.exists() else folder.manifest
    return abs(time.time() - last.stat().st_mtime) > seconds


def publish_card(folder: RunFolder) -> None:
    """Write the model card, if there is an evaluation."""
    events = effective_history(folder.read_events())
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    best = find_best(evaluations)
    if best is None:
        return
    manifest = folder.read_manifest()
    plan, model = manifest.plan, manifest.plan.model
    data = CardData(
        title=_make_title(folder),
        n_parameters=model.n_parameters,
        evaluations=evaluations,
        sources=list(map(_describe_file, folder.read_receipt().files)),
        before=list(map(_describe_file, folder.list_files_before())),
        base=None if model.fresh else model.base if model.base_revision else Path(model.base).resolve().name,
        root=name_base(find_root(model.base)),
        base_on_hub=bool(model.base_revision),
        distilled=bool(plan.teacher),
        samples=find_samples(events, best),
        showcase=folder.read_showcase(),
        temperature=read_temperature(folder.model),
        sample_weights=describe_weights(best.epoch, best.share),
        settings=describe_plan(plan),
        versions=manifest.versions,
        judgement=read_judgement(folder),
    )
    write_bytes(folder.model / "README.md", render_card(data).encode("utf-8", "replace"))


def _describe_file(file: FileReceipt) -> TrainingFile:
    return TrainingFile(name=file.name, size_bytes=file.n_bytes, n_characters=file.n_characters, sha256=file.sha256)


def _copy(path: Path, place: Path) -> None:
    content = read_bytes(path)
    if not exists(place) or read_bytes(place) != content:
        write_bytes(place, content)


# -- pages


def write_report(folder: RunFolder, out: Path | None = None) -> Path:
    """Write the report page of a run, report.html in its folder or `out`, and return its path.

    Raises RunDamaged, and OutputError where there is already a file that is not a page of ours.
    """
    page = render_report(read_report_data(folder))
    return _write_page(page, out) if out is not None else write_bytes(folder.report, page.encode("utf-8", "replace"))


def write_quiz(questions: Sequence[Question], name: str, path: Path) -> Path:
    """Write the page of a quiz on the text of this name; its path. Raises OutputError as `write_report` does."""
    return _write_page(render_quiz(questions, name), path)


def _write_page(page: str, path: Path) -> Path:
    if path.exists() and not _is_ours(path):
        raise OutputError(f"{path} is already there.", hint="Choose another name, or delete it.")
    return write_bytes(path, page.encode("utf-8", "replace"))


def _is_ours(path: Path) -> bool:
    """Whether epigone wrote the file."""
    try:
        with path.open("rb") as file:
            return GENERATOR.encode() in file.read(300)
    except OSError:
        return False


def read_report_data(folder: RunFolder) -> ReportData:
    """All that the report page shows, from the files of a run. Raises RunDamaged."""
    events = effective_history(folder.read_events())
    manifest = folder.read_manifest()
    receipt, showcase = folder.read_receipt(), folder.read_showcase()
    return ReportData(
        folder=_without_folders_around(folder.path),
        run=name_for_commands(folder.path),
        title=_make_title(folder),
        events=events,
        plan=manifest.plan,
        estimate=manifest.estimate,
        n_bytes=receipt.train.n_bytes,
        receipt=describe_receipt(receipt),
        settings=list_changed(folder.read_settings()),
        versions=manifest.versions,
        judgement=read_judgement(folder),
        showcase=showcase,
        card=read_bytes(folder.card) if showcase and exists(folder.card) else b"",
    )


def name_for_commands(path: Path) -> str:
    """A run's folder as commands name it: "runs/novel" where it is in such a folder, else without the folders around.

    The page must not say where on this machine it was made.
    """
    whole = path.resolve()
    around = whole.parents[2] if is_voice(whole) else whole.parent
    return f"runs/{run_name(whole)}" if around.name == "runs" else run_name(whole)


def _without_folders_around(path: Path) -> str:
    whole = path.resolve()
    return "/".join(whole.parts[-3:] if is_voice(whole) else whole.parts[-1:])


def title_run(folder: RunFolder) -> str:
    """What a run's text is called; where its receipt cannot be read, what the run is called."""
    try:
        return _make_title(folder)
    except (RunDamaged, RunIncompatible):
        return run_name(folder.path.resolve())


def _make_title(folder: RunFolder) -> str:
    whole = folder.path.resolve()
    return name_text(folder.read_receipt(), name_voices(whole), whole.name)


def read_judgement(folder: RunFolder) -> Judgement | None:
    """The judgement on the model as it is now; None where it was not judged or the file is damaged."""
    plain = folder.read_judgement()
    try:
        return None if plain is None else Judgement.from_json(plain)
    except ValueError:
        return None


def list_changed(settings: TrainSettings) -> list[tuple[str, str]]:
    """Name and value of the settings that are not the defaults; of a path on this machine only its end."""
    usual = TrainSettings().model_dump()
    changed = {name: value for name, value in settings.model_dump().items() if value != usual[name]}
    shown = {name: name_base(value) if isinstance(value, str) else value for name, value in changed.items()}
    return [(name, json.dumps(value, ensure_ascii=False)) for name, value in shown.items()]
