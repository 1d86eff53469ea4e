"""The examples work as they are printed: each program and every cell of the notebook is run."""

from __future__ import annotations

import ast
import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers_front import shared_run, write_sonnets

FOLDER = Path(__file__).resolve().parent.parent / "examples"
NOTEBOOK = FOLDER / "novel_in_ten_minutes.ipynb"
TINY = {"size": "1x32", "epochs": 0.4, "block_size": 64, "batch_size": 16, "samples": 0, "base": "none"}
"""Settings in place of those of an example, so that it ends at once."""


def load(name: str) -> Callable[..., Any]:
    """The function `main` of an example."""
    main: Callable[..., Any] = runpy.run_path(str(FOLDER / name))["main"]
    return main


def read_cells() -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    return cells


def run_cells(cells: list[dict[str, Any]], parameters: dict[str, object]) -> dict[str, Any]:
    """Run the code of a notebook in order; `parameters` replace what its first cell with that tag sets."""
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                assert set(parameters) <= set(names)
                names |= parameters
    return names


def test_training_writing_and_which_run_expects_a_text_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = load("train_and_write.py")(str(write_sonnets(tmp_path)), "From", out=tmp_path / "run", **TINY)
    said = capsys.readouterr().out
    assert run.path == tmp_path / "run" and said.count("\nFrom") == 3 and f"{run.best.bits_per_byte:.2f} after" in said
    letter, better = write_sonnets(tmp_path, 600, "letter.txt"), shared_run().path
    found = load("who_wrote_it.py")(str(letter), str(run.path), str(better))
    assert [folder for _, folder in found] == [str(better), str(run.path)] and found[0][0] < found[1][0]


def test_watching(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = TINY | {"samples": 1, "sample_length": 5}
    run = load("watch_training.py")(str(write_sonnets(tmp_path)), out=tmp_path / "run", **settings)
    said = capsys.readouterr().out
    assert said.count("bits a byte") == len(run.evaluations) and "(best so far)" in said and "\n    " in said


def test_a_model_is_used_without_epigone(capsys: pytest.CaptureFixture[str]) -> None:
    assert "epigone" not in _list_imports(FOLDER / "without_epigone.py")
    text = load("without_epigone.py")(str(shared_run().path), "From fairest")
    assert text.startswith("From fairest") and len(text) > 30 and text in capsys.readouterr().out


def _list_imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    names = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
    return names | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.slow
def test_copies_are_measured(tmp_path: Path) -> None:
    """On a copy of the run, since a judgement is written into it."""
    run = shutil.copytree(shared_run().path, tmp_path / "run")
    assert 0 <= load("is_it_copying.py")(str(run), 2_000) < 0.2


def test_the_notebook_runs_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but the judge; the slow test runs that, too."""
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in read_cells() if "judge(" not in "".join(cell["source"])]
    assert len(cells) == len(read_cells()) - 1
    names = run_cells(cells, {"text": str(write_sonnets(tmp_path, 8_000)), "settings": TINY})
    said = capsys.readouterr().out
    assert "characters were read" in said and "Written by the author: [" in said
    assert (tmp_path / names["run"].path / "report.html").exists()


@pytest.mark.slow
def test_the_whole_notebook_runs_on_the_sonnets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run_cells(read_cells(), {"settings": TINY, "n_judged": 2_000})
    said = capsys.readouterr().out
    assert all(f"{topic} [" in said for topic in ("sounds like", "makes sense", "copies", "repeats", "learned"))


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = read_cells()
    assert all(cell.get("outputs", []) == [] and cell.get("execution_count") is None for cell in cells)
    assert len({cell["id"] for cell in cells}) == len(cells)
