"""What is released is what is meant: known files, one version, metadata that an index takes, bounds that are tried."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import release

ROOT = Path(release.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
METADATA = b"""\
Metadata-Version: 2.4
Name: epigone
Version: 1.2.3
Summary: It learns.
License-Expression: MIT
Requires-Python: >=3.11
Description-Content-Type: text/markdown

Text.
"""
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-11-30\n\n- More.\n\n## [1.2.0] - 2026-10-01\n"


def read_pins(name: str) -> dict[str, str]:
    """The versions in a file of constraints, by the names of their packages."""
    lines = (ROOT / name).read_text("utf-8").splitlines()
    pins = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {name.lower().replace("_", "-"): version for name, version in pins}


def list_requirements() -> list[Requirement]:
    """What the package and those of its extras need that run with it."""
    extras = PROJECT["optional-dependencies"]
    optional = [line for name in ("gguf", "lora", "parquet", "pdf") for line in extras[name]]
    return [Requirement(line) for line in PROJECT["dependencies"] + optional]


@pytest.mark.parametrize("needed", list_requirements(), ids=lambda needed: needed.name)
def test_a_lower_bound_is_what_a_release_is_tried_with(needed: Requirement) -> None:
    (bound,) = (one.version for one in needed.specifier if one.operator == ">=")
    tried = read_pins("constraints-oldest.txt")[needed.name]
    assert re.fullmatch(rf"{re.escape(bound)}(\.0)*", tried)


@pytest.mark.parametrize("needed", list_requirements(), ids=lambda needed: needed.name)
def test_the_newest_version_that_is_tried_is_allowed(needed: Requirement) -> None:
    newest, oldest = (read_pins(f"constraints-{age}.txt")[needed.name] for age in ("newest", "oldest"))
    assert needed.specifier.contains(newest) and needed.specifier.contains(oldest)


def test_nothing_strange_is_in_the_wheel() -> None:
    tracked = {"src/epigone/a.py", "src/epigone/sample/sonnets.txt", "src/epigone/sample/novel.txt", "src/other/b.py"}
    good = ["epigone/a.py", "epigone/sample/sonnets.txt", "epigone-1.2.3.dist-info/RECORD"]
    assert list(release.find_strangers(good, tracked)) == []
    for bad in (
        "epigone/sample/novel.txt",
        "epigone/new.py",
        "other/b.py",
        "epigone/__pycache__/a.pyc",
        "tests/test_a.py",
    ):
        assert len(list(release.find_strangers([bad], tracked))) == 1, bad


def test_what_is_not_under_version_control_is_not_in_the_sdist() -> None:
    found = list(release.find_untracked(["PKG-INFO", "src/a.py", "runs/x/model.safetensors"], {"src/a.py"}))
    assert found == ["runs/x/model.safetensors is in the sdist and not under version control."]


def test_metadata_that_an_index_would_refuse_are_refused() -> None:
    release.check_metadata(METADATA, "1.2.3")
    for old, new in (
        (b"1.2.3", b"1.2.4"),
        (b"MIT", b"Mine!"),
        (b">=3.11", b"3.11 or so"),
        (b"text/markdown", b"text/html"),
    ):
        with pytest.raises(release.ReleaseError):
            release.check_metadata(METADATA.replace(old, new), "1.2.3")


def test_the_version_stands_in_one_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('version = "1.2.3"\n')
    (tmp_path / "constraints.txt").write_text("other==1.2.3\n")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    found = list(release.find_other_versions("1.2.3", {"pyproject.toml", "constraints.txt"}))
    assert len(found) == 1 and found[0].startswith("pyproject.toml")


def test_the_changelog_is_one() -> None:
    assert list(release.check_changelog((ROOT / "CHANGELOG.md").read_text("utf-8"), release.read_version())) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[Unreleased]", "[1.3.0] - 2026-12-01"),
        (" - 2026-11-30", ""),
        ("2026-10-01", "soon"),
        ("[1.2.0]", "[1.4.0]"),
        ("[1.2.3] - 2026-11-30", "1.2.3"),
        ("1.2.3", "1.2.2"),
    ],
)
def test_a_changelog_with_a_fault_is_found(old: str, new: str) -> None:
    assert list(release.check_changelog(CHANGELOG, "1.2.3")) == []
    assert list(release.check_changelog(CHANGELOG.replace(old, new), "1.2.3"))


def test_a_final_release_has_nothing_unreleased_and_the_tag_of_its_version() -> None:
    assert list(release.check_changelog(CHANGELOG, "1.2.3", "v1.2.3")) == []
    more = CHANGELOG.replace("[Unreleased]\n", "[Unreleased]\n\n- New.\n")
    assert list(release.check_changelog(more, "1.2.3")) == []
    assert list(release.check_changelog(more, "1.2.3", "v1.2.3"))
    assert list(release.check_changelog(CHANGELOG, "1.2.3", "v1.2.4"))
    assert list(release.check_changelog(CHANGELOG, "1.2.0", "v1.2.0"))


@pytest.mark.slow
def test_two_builds_of_a_commit_are_equal_and_can_be_released(tmp_path: Path) -> None:
    command = [sys.executable, "tools/release.py", "build", "check", "--dist", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "dist").iterdir())) == 2


# -- the workflows


def read_workflow(name: str) -> dict[str, dict[str, dict]]:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text("utf-8"))


def test_ci_runs_what_the_package_says_that_it_supports() -> None:
    matrix = read_workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    said = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert matrix["python"] == said and PROJECT["requires-python"] == f">={said[0]}"
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_what_ci_does_stands_in_the_makefile(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for job in read_workflow(name)["jobs"].values():
        for command in filter(None, (step.get("run") for step in job["steps"])):
            words = command.split()
            assert words[0] == "docker" or (words[0] == "make" and words[1] in targets), command


def test_only_the_job_that_publishes_may_say_who_it_is() -> None:
    workflow = read_workflow("release.yml")
    may = {name for name, job in workflow["jobs"].items() if "id-token" in job.get("permissions", {})}
    assert may == {"publish"} and "id-token" not in workflow["permissions"]
    assert workflow["jobs"]["publish"]["needs"] == "release"


def test_on_windows_make_finds_the_programs_where_they_are() -> None:
    command = ["make", "--dry-run", "--always-make", "test", "OS=Windows_NT"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ".venv/Scripts/python -m pytest" in done.stdout and ".venv/bin" not in done.stdout
