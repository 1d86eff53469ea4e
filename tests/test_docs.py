"""What the pages say is true: generated ones are current; links, targets and commands in the others exist."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import epigone
from docs import group_fields
from epigone.cli import main
from epigone.errors import SettingsError
from epigone.settings import JudgeSettings, TrainSettings, WriteSettings

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])


def name_page(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def list_code(text: str) -> Iterator[str]:
    """The lines of fenced blocks, continued ones joined, and what stands between backticks elsewhere."""
    fence = re.compile(r"^```.*?\n(.*?)^```", re.DOTALL | re.MULTILINE)
    for block in fence.findall(text):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", fence.sub("", text))


def list_links(text: str) -> list[str]:
    """The targets of links and images that lie in the repository."""
    targets = re.findall(r"\]\(([^)\s]+)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    return [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]


def list_commands(text: str) -> list[list[str]]:
    """The arguments of each epigone command in the code of a page, or in the recipes of a Makefile."""
    found = []
    for line in list_code(text):
        if match := re.match(r"(?:\$ |\t)?(?:.*(?:\||-m) )?(?:\S*/)?epigone(?: (.*))?$", line):
            found.append(split_command(match[1] or ""))
    return [arguments for arguments in found if arguments]


def split_command(line: str) -> list[str]:
    """The words up to a comment, a pipe or a redirection."""
    words = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    words.whitespace_split = True
    arguments = list(words)
    ends = [place for place, word in enumerate(arguments) if re.fullmatch(r"[|&;<>]+", word)]
    return arguments[: ends[0]] if ends else arguments


def list_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch):
    """Parses a command and makes its settings; the command itself does nothing."""
    for verb in main.cli.commands.values():
        monkeypatch.setattr(verb, "callback", lambda **_: 0)
    monkeypatch.setattr("epigone.cli.options.read_settings", lambda *_: {})

    def run(arguments: list[str]) -> int:
        try:
            return main.run(arguments if len(arguments) > 1 else [*arguments, "--help"])  # a verb alone is only named
        except SystemExit as end:
            return int(end.code or 0)
        except SettingsError as error:
            return error.exit_code

    return run


@pytest.mark.slow  # make check says it as well
def test_generated_pages_are_current():
    done = subprocess.run(
        [sys.executable, "tools/docs.py", "--check"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_has_its_group():
    for kind in (TrainSettings, WriteSettings, JudgeSettings):
        assert set(kind.groups) <= set(kind.model_fields) and "" not in group_fields(kind)
        assert [name for names in group_fields(kind).values() for name in names] == list(kind.model_fields)


def without_samples(text: str) -> str:
    """A page without what a model wrote."""
    return re.sub(r"^```text\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_relative_links_lead_somewhere(page: Path):
    text = without_samples(page.read_text("utf-8"))
    assert not [target for target in list_links(text) if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_named_make_targets_exist(page: Path):
    text = without_samples(page.read_text("utf-8"))
    named = [re.findall(r"(?:^|[ (])make ([a-z]+)", code) for code in list_code(text)]
    assert {target for targets in named for target in targets} <= list_targets()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "Makefile"], ids=name_page)
def test_commands_parse(page: Path, parse, capsys: pytest.CaptureFixture[str]):
    text = page.read_text("utf-8")
    text = re.sub(r"\$\(BIN\)", ".venv/bin", f"```\n{text}\n```\n") if page.name == "Makefile" else text
    for arguments in list_commands(text):
        assert parse(arguments) == 0, f"epigone {shlex.join(arguments)}\n{capsys.readouterr().err}"


def test_the_commands_that_answer_in_json_are_named():
    line = next(
        line for line in (ROOT / "docs" / "how_to.md").read_text("utf-8").split("\n") if "another language" in line
    )
    have = {name for name, one in main.cli.commands.items() if any("--json" in each.opts for each in one.params)}
    assert {*re.findall(r"`(\w+)`", line)} == have


def test_a_command_with_a_wrong_flag_would_be_found(parse):
    page = (
        "Text.\n```\n$ cat a.txt | epigone train - --epoch-s 3  # no such flag\n```\n`epigone write runs/a --count 2`"
    )
    wrong, right = list_commands(page)[0], list_commands(page)[1]
    assert wrong == ["train", "-", "--epoch-s", "3"]
    assert parse(wrong) == 2
    assert parse(right) == 0


def test_a_dead_link_and_a_missing_target_would_be_found():
    assert list_links('[a](no.md#top) ![b](c.png) <img src="d.svg"> [e](https://example.org)') == [
        "no.md",
        "c.png",
        "d.svg",
    ]
    assert "demo" in list_targets()
    assert "nonsense" not in list_targets()


def test_the_changelog_has_this_version():
    headings = re.findall(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert epigone.__version__ in headings


def list_linked_names(text: str) -> list[tuple[str, str]]:
    """Each linked Python name with the module that the link leads to."""
    return [(name, target) for name, target in re.findall(r"\[`(\w+)`\]\(([^)#]+\.py)\)", text)]


def test_a_run_step_by_step_names_what_is_there():
    page = ROOT / "docs" / "dev" / "a_run_step_by_step.md"
    linked = list_linked_names(page.read_text("utf-8"))
    missing = [
        f"{name} in {target}"
        for name, target in linked
        if not re.search(rf"^(?:class|def) {name}\b", (page.parent / target).read_text("utf-8"), re.MULTILINE)
    ]
    assert len(linked) > 20 and missing == []


def test_a_name_that_has_moved_would_be_found():
    assert list_linked_names("[`gone`](../a.py) and [`a.py`](a.py) and [page](b.md)") == [("gone", "../a.py")]
