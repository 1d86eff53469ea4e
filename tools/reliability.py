"""What the tests of faults found, in build/reliability.json, in; docs/reliability.md out."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "build" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"
WARNING = "<!-- Written by tools/reliability.py from what the tests found: run `make faults`. -->"
HEAD = """\
What was done to runs on purpose, how often, and what came of it. A fault is survived where no person is needed but to
give the command again and the run comes to the same end, bit for bit; what stands under "lost" is learned once more.

`make faults` tries all of it anew and writes this page. A part of it: `pytest -m faults --rows tests/test_faults.py`,
then `python tools/reliability.py`."""


def main() -> None:
    """Write the page."""
    PAGE.write_text(write_page(json.loads(ROWS.read_text("utf-8"))), "utf-8", newline="\n")
    print(f"{PAGE.relative_to(ROOT)} written")


def write_page(rows: Iterable[Mapping[str, Any]]) -> str:
    """The page: a table for each group, its lines in the order in which they came, equal ones added up."""
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        lines = tables.setdefault(row["group"], {})
        line = lines.setdefault(row["fault"], {"tried": 0, "survived": 0, "lost": []})
        line["tried"] += row["tried"]
        line["survived"] += row["survived"]
        if row["lost"] not in line["lost"]:
            line["lost"].append(row["lost"])
    parts = [WARNING, "", "# Reliability", "", HEAD, "", _describe_machine(), ""]
    for group in sorted(tables):
        parts += [f"## {group}", "", "| fault | tried | survived | lost |", "| --- | ---: | ---: | --- |"]
        for fault, line in tables[group].items():
            parts.append(f"| {fault} | {line['tried']:,} | {line['survived']:,} | {_list_losses(line['lost'])} |")
        parts.append("")
    return "\n".join(parts)


def _list_losses(lost: list[str]) -> str:
    """Each once; "nothing" only where there is nothing else."""
    return "; ".join(one for one in lost if one != "nothing") or "nothing"


def _describe_machine() -> str:
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "safetensors"))
    return f"Last tried on {today}, {platform.system()}, Python {platform.python_version()}, {packages}."


if __name__ == "__main__":
    main()
