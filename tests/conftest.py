"""Tests that try faults in; the rows of docs/reliability.md out, in build/reliability.json, where they are asked for.

A test that takes the fixture `reliability` has the marker `faults` by itself: `make faults` runs all of these.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

ROWS = Path(__file__).parents[1] / "build" / "reliability.json"
_found: list[dict[str, Any]] = []


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table; lines of the same group and fault are added up."""

    group: str
    """The heading under which it stands."""
    fault: str
    tried: int
    survived: int
    lost: str
    test: str
    """The test that made it; when that runs again, its rows are made anew."""


class Reliability(Protocol):
    """Keeps a row. To be called before the assertion, so that what failed is in the table as well."""

    def __call__(self, group: str, fault: str, *, tried: int, survived: int, lost: str = "nothing") -> None: ...


@pytest.fixture
def reliability(request: pytest.FixtureRequest) -> Reliability:
    """How often a fault was tried and survived, and what was lost by it."""

    def keep(group: str, fault: str, *, tried: int, survived: int, lost: str = "nothing") -> None:
        row = Row(group=group, fault=fault, tried=tried, survived=survived, lost=lost, test=request.node.nodeid)
        _found.append(asdict(row))

    return keep


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", action="store_true", help=f"keep the rows of docs/reliability.md in {ROWS.name}")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "reliability" in getattr(item, "fixturenames", ()):
            item.add_marker("faults")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.getoption("--rows") or not _found:
        return
    again = {row["test"] for row in _found}
    kept = json.loads(ROWS.read_text("utf-8")) if ROWS.exists() else []
    rows = [row for row in kept if row["test"] not in again] + _found
    ROWS.parent.mkdir(exist_ok=True)
    ROWS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
