"""The licences of what epigone needs are known and fit its own; one that does not fit would be found."""

from __future__ import annotations

from pathlib import Path

import pytest

import licences


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes packages that count as installed, by name: lines of their metadata."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(**packages: list[str]) -> None:
        for name, lines in packages.items():
            folder = tmp_path / f"{name}-1.0.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(
                "\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines])
            )

    return install


def test_all_licences_of_this_installation_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert licences.main([]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert {"torch", "transformers", "numpy", "Jinja2", "click", "typing_extensions"} <= listed
    assert not {"epigone", "ruff", "hypothesis"} & listed


def test_a_licence_that_does_not_fit_is_refused_however_far_away(installed, capsys: pytest.CaptureFixture[str]) -> None:
    installed(
        root_of_test=["License-Expression: MIT", "Requires-Dist: middle_of_test", "Requires-Dist: not-installed-here"],
        middle_of_test=[
            "License: Apache 2.0",
            "Requires-Dist: end_of_test[more]",
            'Requires-Dist: never; extra == "x"',
        ],
        end_of_test=[
            "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
            "Provides-Extra: more",
            'Requires-Dist: silent_of_test; extra == "more"',
        ],
        silent_of_test=[],
    )
    assert licences.main(["--package", "root_of_test"]) == 1
    out = capsys.readouterr().out
    assert "refused: end_of_test, needed by middle_of_test: GNU General Public License v3" in out
    assert "refused: silent_of_test, needed by end_of_test: states no licence" in out
    assert "3 packages, 2 refused" in out


def test_a_package_that_only_names_others_needs_no_licence_but_they_do(
    installed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs = {"root_of_test": ["Requires-Dist: names_of_test"], "names_of_test": ["Requires-Dist: member_of_test"]}
    installed(**needs, member_of_test=[])
    (tmp_path / "names_of_test-1.0.dist-info" / "RECORD").write_text("names_of_test-1.0.dist-info/METADATA,,\n")
    assert licences.main(["--package", "root_of_test"]) == 1
    out = capsys.readouterr().out
    assert "refused: member_of_test, needed by names_of_test" in out and "2 packages, 1 refused" in out


@pytest.mark.parametrize("licence", ["MIT", "LGPL-3.0-or-later", "MPL-2.0 AND MIT", "BSD License"])
def test_licences_without_conditions_on_epigone_are_taken(licence: str) -> None:
    assert not licences.Package("a", "1", licence, "b").is_refused


@pytest.mark.parametrize(
    "licence", ["", "GPL-3.0-only", "AGPL-3.0", "CC-BY-NC-4.0 (non-commercial)", "GNU Affero General Public License v3"]
)
def test_licences_with_conditions_are_not(licence: str) -> None:
    assert licences.Package("a", "1", licence, "b").is_refused


def test_the_papers_of_the_house_can_be_read() -> None:
    yaml = pytest.importorskip("yaml")
    root = Path(licences.__file__).parents[1]
    citation = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert "version" not in citation, "the version stands once, in the package"
    for form in sorted((root / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")):
        found = yaml.safe_load(form.read_text("utf-8"))
        assert {"name", "description", "body"} <= set(found), form.name
        ids = [item["id"] for item in found["body"] if item["type"] != "markdown"]
        assert len(set(ids)) == len(ids) > 0, form.name
