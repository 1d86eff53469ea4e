"""Fine-tune or train a GPT-2 on a text, write in its style, and measure how close it comes.

>>> import epigone
>>> run = epigone.train("shakespeare.txt", minutes=10)
>>> print(run.write("ROMEO:", length=200)[0])

Everything listed in `__all__` is public. It is imported when it is first used, because torch takes seconds to load.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# No telemetry, ours or another's. The hub's client reads this when it is imported, so it has to be set before.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# How long GNU OpenMP's threads spin while they wait for one another, read when torch is loaded. At its default of some
# 10 ms one other busy program on the machine makes a training step 20 times as slow; at this, four times (findings).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "16000")

if TYPE_CHECKING:
    from epigone.errors import EpigoneError
    from epigone.mixing import mix
    from epigone.pipeline import plan, train
    from epigone.resumption import resume
    from epigone.run import Run, attribute, open_run
    from epigone.settings import TrainSettings, WriteSettings

_HOMES = {
    "EpigoneError": "epigone.errors",
    "attribute": "epigone.run",
    "Run": "epigone.run",
    "TrainSettings": "epigone.settings",
    "WriteSettings": "epigone.settings",
    "mix": "epigone.mixing",
    "open_run": "epigone.run",
    "plan": "epigone.pipeline",
    "resume": "epigone.resumption",
    "train": "epigone.pipeline",
}
__all__ = [
    "EpigoneError",
    "Run",
    "TrainSettings",
    "WriteSettings",
    "__version__",
    "attribute",
    "mix",
    "open_run",
    "plan",
    "resume",
    "train",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'epigone' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
