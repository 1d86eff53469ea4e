"""Values of a plan by their names, wherever in the plan they are."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from epigone.planning.plan import Plan
from epigone.planning.specs import ScheduleSpec

PARTS = ("model", "optimizer", "schedule", "batch", "compute")


def change(plan: Plan, **values: Any) -> Plan:
    """The plan with other values, by the names of the fields of the plan or of its parts."""
    for part in PARTS:
        spec = getattr(plan, part)
        own = {field.name: values.pop(field.name) for field in fields(spec) if field.name in values}
        plan = replace(plan, **{part: replace(spec, **own)})
    return replace(plan, **values)


def find_value(plan: Plan, setting: str) -> Any:
    """What became of a setting in the plan."""
    shape, optimizer, schedule = plan.model.shape, plan.optimizer, plan.schedule
    known = {"size": f"{shape.n_layer}x{shape.n_embd}", "vocab_size": shape.vocab_size, "seed": plan.seed}
    known |= {"optimizer": optimizer.name, "schedule": schedule.name, "schedule_arguments": schedule.arguments}
    specs = [getattr(plan, part) for part in PARTS]
    return known[setting] if setting in known else next(getattr(one, setting) for one in specs if hasattr(one, setting))


def make_schedule(name: Any, *arguments: str, n_steps: int, warmup_ratio: float = 0.0) -> ScheduleSpec:
    """A schedule of so many steps; the rest of it is made up."""
    return ScheduleSpec(
        name=name,
        arguments=arguments,
        warmup_ratio=warmup_ratio,
        epochs=1.0,
        minutes=None,
        n_steps=n_steps,
        patience=None,
        keep_best="loss",
        evaluations_per_epoch=1,
        evaluate_every=None,
        report_every=1,
    )
