"""The house keeps its order: rooms, docstrings, sizes, who prints, what is public, whom it speaks of."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import epigone
from docs import ROOMS

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "epigone"
MODULES = sorted(SOURCE.rglob("*.py"))
ROOF = ("__init__", "__main__")
"""They stand above all rooms; that `import epigone` stays light is tested in test_light.py."""


def name_module(module: Path) -> str:
    return module.relative_to(SOURCE).as_posix()


def find_room(module: Path) -> str:
    return module.relative_to(SOURCE).parts[0].removesuffix(".py")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def walk(node: ast.AST, *, with_types: bool) -> Iterator[ast.AST]:
    """All nodes; without what is imported for types only, if so asked."""
    for child in ast.iter_child_nodes(node):
        if with_types or not is_type_checking(child):
            yield child
            yield from walk(child, with_types=with_types)


def list_imported_rooms(source: str, *, with_types: bool = True) -> set[str]:
    """The rooms that a module imports from, wherever in it."""
    names = []
    for node in walk(ast.parse(source), with_types=with_types):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "epigone":
            names += [f"epigone.{alias.name}" for alias in node.names if alias.name in ROOMS]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return {name.split(".")[1] for name in names if name.startswith("epigone.")}


def test_no_package_imports_from_a_later_one():
    late = {}
    for module in MODULES:
        package = find_room(module)
        if package not in ROOF:
            imported = list_imported_rooms(module.read_text("utf-8"), with_types=package != "cli")
            late[name_module(module)] = imported - set(ROOMS[: ROOMS.index(package) + 1])
    assert {module: packages for module, packages in late.items() if packages} == {}


def test_an_import_of_a_later_package_would_be_found():
    inside = "def late():\n    from epigone.cli.main import main\n    from epigone import pipeline, __version__\n"
    assert list_imported_rooms(inside) == {"cli", "pipeline"}
    for_types = "if TYPE_CHECKING:\n    import epigone.runs.folder\nimport epigone.corpus.corpus as c\n"
    assert list_imported_rooms(for_types) == {"runs", "corpus"}
    assert list_imported_rooms(for_types, with_types=False) == {"corpus"}


def test_every_module_says_what_it_is():
    silent = [name_module(module) for module in MODULES if not ast.get_docstring(ast.parse(module.read_text("utf-8")))]
    assert silent == []


def test_only_display_and_cli_print():
    printing = {
        name_module(module)
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing <= {"cli/terminal.py", "cli/main.py"}


def test_what_is_public_can_be_imported():
    missing = [name for name in epigone.__all__ if not hasattr(epigone, name)]
    assert not missing
    assert not hasattr(epigone, "no_such_name")


MADE = re.compile(r"^([A-Z][A-Z0-9_]+(?:, [A-Z0-9_]+)*)(?:: [^=\n]+)? = |^(?:async )?(?:def|class) (\w+)", re.MULTILINE)


def find_unused(sources: dict[str, str]) -> set[str]:
    """Constants, functions and classes of modules whose name stands nowhere but where they are made."""
    n_places = Counter(name for source in sources.values() for name in re.findall(r"\w+", source))
    modules = [source for path, source in sources.items() if path.endswith(".py")]
    made = {name for source in modules for names in MADE.findall(source) for name in re.findall(r"\w+", "".join(names))}
    return {name for name in made if n_places[name] == 1}


def test_every_constant_function_and_class_is_used():
    files = [path for folder in ("src", "tests", "tools") for path in (ROOT / folder).rglob("*")]
    sources = {str(path): path.read_text("utf-8") for path in files if path.suffix in (".py", ".html")}
    others = re.compile(
        r"on_\w+|pytest_\w+|__getattr__|__dir__|test_\w+|(?<=autouse=True\)\ndef )\w+"
    )  # mkdocs and pytest call
    called_by_others = {name for source in sources.values() for name in others.findall(source)}
    assert find_unused(sources) - called_by_others == set()


def test_what_is_not_used_would_be_found():
    sources = {"a.py": "MOST, LEAST = 1, 2\ndef use(): return MOST\nclass Thing: ...\n", "b.py": "use()"}
    assert find_unused(sources) == {"LEAST", "Thing"}


OWN_PLACES = re.compile(r"/(?:work|home|Users|root)/|\b[A-Z]:\\Users\b")


def list_own_files() -> Iterator[Path]:
    """Every text of the project."""
    for folder in ("src", "tests", "tools", "docs", ".ci"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".txt", ".toml", ""))
    yield from (path for path in ROOT.glob("*") if path.suffix in (".md", ".toml", ".txt", ".yaml"))
    yield ROOT / "Makefile"


def test_the_project_names_no_folders_of_a_machine():
    assert OWN_PLACES.search("see /" + "home/someone/x")
    found = [path.name for path in list_own_files() if path.is_file() and OWN_PLACES.search(path.read_text("utf-8"))]
    assert not found
