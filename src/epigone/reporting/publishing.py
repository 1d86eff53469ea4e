"""A run's folder in; its curves, and beside the model the card, the curves and the samples, out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from epigone.reporting.card import CardFacts, Source, write_card
from epigone.reporting.curves import draw_curves
from epigone.reporting.facts import describe_plan
from epigone.reporting.history import find_best, follow_course
from epigone.runs.folder import RunFolder
from epigone.training.events import Evaluated, Sampled


def publish(folder: RunFolder) -> None:
    """Draw the curves and write the model's card from what the folder holds."""
    events = follow_course(folder.read_events())
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    best = find_best(evaluations)
    if best is None:
        return
    plan, more = folder.read_plan()
    for picture in draw_curves(events, folder.path, title=folder.path.resolve().name):
        shutil.copyfile(picture, folder.model / picture.name)
    shutil.copytree(folder.samples, folder.model / "samples", dirs_exist_ok=True)
    receipt = json.loads(folder.receipt.read_text("utf-8"))
    sampled = [event for event in events if isinstance(event, Sampled) and event.step == best.step]
    facts = CardFacts(
        title=folder.path.resolve().name,
        n_parameters=plan.n_parameters,
        evaluations=evaluations,
        sources=[
            Source(
                name=file["name"],
                size_bytes=file["n_bytes"],
                n_characters=file["n_characters"],
                sha256=file["sha256"],
            )
            for file in receipt["files"]
        ],
        base=None if plan.fresh else plan.base if plan.base_revision else Path(plan.base).resolve().name,
        base_on_hub=bool(plan.base_revision),
        samples=sampled[-1].samples if sampled else (),
        sample_epoch=best.epoch,
        settings=describe_plan(plan),
        versions=more["versions"],
    )
    write_card(facts, folder.model)
