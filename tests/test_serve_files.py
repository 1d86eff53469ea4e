"""The files of the served page: complete, small, without anything inline; and its logic, where node is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import epigone
from helpers_page import Reader

PACKAGE = Path(epigone.__file__).parent
STATIC = PACKAGE / "serving" / "static"
REPORT_STYLE = PACKAGE / "report" / "templates" / "style.css"
LOGIC = Path(__file__).with_name("serve_page.mjs")
MOST_BYTES, LONGEST_LINE = 200_000, 140
INDEX = (STATIC / "index.html").read_text("utf-8")
MODULES = {path.name: path.read_text("utf-8") for path in sorted(STATIC.glob("*.js"))}


def list_imports(module: str) -> set[str]:
    return set(re.findall(r"""(?:from|import\()\s*'\./([^']+)'""", module))


def test_every_file_that_is_asked_for_exists_and_no_other():
    asked = {
        value for _, attributes in Reader(INDEX).tags for name, value in attributes.items() if name in ("src", "href")
    }
    asked = {value for value in asked if value and not value.startswith("#")}
    asked |= {name for module in MODULES.values() for name in list_imports(module)}
    assert asked | {"index.html"} == {path.name for path in STATIC.iterdir()}


def test_all_modules_are_loaded_at_once_and_not_one_after_another():
    ahead = set(re.findall(r'<link rel="modulepreload" href="([^"]+)">', INDEX))
    assert ahead == set(MODULES) - {"main.js"}


def test_the_page_is_well_formed_and_has_nothing_inline():
    reader = Reader(INDEX)
    assert reader.faults == []
    attributes = {name for _, found in reader.tags for name in found}
    assert not {name for name in attributes if name.startswith("on") or name == "style"}
    assert all("src" in found for tag, found in reader.tags if tag == "script")
    assert reader.count("style") == 0


def test_nothing_is_loaded_from_elsewhere():
    for path in STATIC.iterdir():
        found = set(re.findall(r"""https?://[^\s'"]*|@import|url\(""", path.read_text("utf-8")))
        assert found <= {"http://www.w3.org/2000/svg"}, path.name


def test_no_module_can_put_text_in_as_html_or_run_it():
    ways = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|\beval\(|new Function|setHTML"
    )
    assert [name for name, module in MODULES.items() if re.search(ways, module)] == []


def test_every_element_that_a_module_asks_for_is_on_the_page():
    ids = [found["id"] for _, found in Reader(INDEX).tags if "id" in found]
    assert len(ids) == len(set(ids))
    asked = {name for module in MODULES.values() for name in re.findall(r"(?<!\.)\bget\('([^']+)'\)", module)}
    assert asked and asked <= set(ids)


def test_every_label_names_a_control():
    ids = {found.get("id") for _, found in Reader(INDEX).tags}
    named = [
        found[name]
        for _, found in Reader(INDEX).tags
        for name in ("for", "aria-labelledby", "aria-describedby")
        if name in found
    ]
    assert named and set(named) <= ids


def test_all_files_together_are_small():
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < MOST_BYTES


def test_its_colours_are_those_of_the_report():
    def read_colours(path: Path) -> list[tuple[str, str]]:
        screen = path.read_text("utf-8").partition("@media print")[0]
        return re.findall(r"(--[a-z]+): (#[0-9a-f]{6});", screen)

    assert read_colours(STATIC / "style.css") == read_colours(REPORT_STYLE) != []


def test_no_line_of_a_module_is_long():
    sources = MODULES | {LOGIC.name: LOGIC.read_text("utf-8")}
    lengths = {name: max(map(len, source.splitlines())) for name, source in sources.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_LINE} == {}


def test_each_module_says_what_it_is():
    assert [name for name, module in MODULES.items() if not re.match(r"// [A-Z].+[.,:;\w]\n", module)] == []


def test_what_the_page_computes_is_right(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    folder = shutil.copytree(STATIC, tmp_path / "page")
    (folder / "package.json").write_text('{"type": "module"}', "utf-8")
    shutil.copy(LOGIC, folder)
    done = subprocess.run([node, "--test", LOGIC.name], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
