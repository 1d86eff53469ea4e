"""A run's plan and what has changed since in; the plan to go on with out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from epigone.errors import SettingsError
from epigone.model.hardware import choose_precision, find_hardware
from epigone.model.plan import Plan, set_length
from epigone.settings import Settings


def lengthen(plan: Plan, settings: Settings, changes: Mapping[str, Any]) -> Plan:
    """The plan with another length, patience or rate; what it had derived itself stays where nothing else is said."""
    if not changes:
        return plan
    minutes = None if settings.minutes == "none" else settings.minutes
    in_time = None
    if minutes is not None and plan.minutes is not None:
        in_time = round(plan.n_steps * minutes / plan.minutes)
    patience = plan.patience if settings.patience == "auto" else settings.patience
    rate = changes.get("learning_rate", plan.learning_rate)
    reasons = {"learning_rate": "as asked for when it was resumed"} if "learning_rate" in changes else {}
    longer = replace(
        plan,
        learning_rate=rate,
        matrix_learning_rate=rate * (plan.matrix_learning_rate / plan.learning_rate),
        reasons=plan.reasons | reasons,
        epochs=changes.get("epochs", plan.epochs),
        minutes=minutes,
        patience=None if patience == "none" else patience,
    )
    return set_length(longer, settings, in_time)


def fit_to_machine(plan: Plan, on_note: Callable[[str], None]) -> Plan:
    """The plan as it is, or with another device where the run has been moved to another machine."""
    try:
        find_hardware(plan.device)
        return plan
    except SettingsError:
        hardware = find_hardware("auto")
        on_note(f"There is no {plan.device} here: it goes on with {hardware.name}.")
        precision, _ = choose_precision("auto", hardware)
        return replace(
            plan, device=hardware.device, n_threads=hardware.n_threads, precision=precision, compilation="none"
        )
