"""The page about the Python API, docs/api.md, from signatures and docstrings in the source, which is not imported."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import epigone

SOURCE = Path(__file__).resolve().parent.parent / "src" / "epigone"
FIRST = ("train", "open_run", "resume", "plan")
"""Functions that come first on the page; the others follow by name."""
CLASSES = (
    *("run.Run", "training.events.Evaluated", "generation.batch.StreamedText", "generation.scoring.Score"),
    *("evaluation.candidates.BestText", "evaluation.verdict.Judgement", "evaluation.verdict.Verdict"),
    *("evaluation.verdict.Measure", "evaluation.quiz.Question"),
)
"""What the functions and the methods of a run give, in the order in which a reader meets it."""
EVENTS = "training.events"
HEAD = """\
# Python API

Everything that the command does can be called; only the command prints. `import epigone` is quick, and torch is loaded
at the first use. An expected failure is an `EpigoneError`: its text says what happened and where, `hint` what to do.

```python
import epigone

run = epigone.train("novel.txt", minutes=2)  # or epigone.open_run("runs/novel")
print(run.write("It was", length=200, seed=1)[0])
print(run.best.bits_per_byte, run.score("It was a bright cold day.").bits_per_byte)

for piece in run.stream("It was", count=2):  # as it is written
    print(piece.sequence, piece.text)

verdict = run.judge(20_000)  # what `epigone judge` says
for one in verdict.verdicts:
    print(one.topic, one.grade, one.sentence)
```

`epigone.TrainSettings` and `epigone.WriteSettings` have every setting as a typed field;
[settings](settings.md) lists them. Both are pydantic models: one that is made with a wrong value raises pydantic's
`ValidationError`; the functions here, which take settings by name, raise `SettingsError`.
The small scripts in [`examples/`](../examples/README.md) are run by the tests, and so is the notebook beside them."""


def write_api() -> str:
    """The whole page."""
    lines = [HEAD, "", "## Functions", ""]
    for node in list_functions():
        lines += [*describe_function(node, "epigone."), ""]
    lines += ["## Classes", ""]
    for name in CLASSES:
        lines += [*describe_class(find(name)), ""]
    lines += ["## Events", "", EVENTS_HEAD, "", "| event | what it says | fields |", "| --- | --- | --- |"]
    lines += [*list_events(), "", "## Errors", "", ERRORS_HEAD, "", "```text", read_error_tree(), "```"]
    return "\n".join(lines) + "\n"


EVENTS_HEAD = """\
`on_event` of `train` and `resume` is called with each of these as it comes (`epigone.training.events`); what an event
says is on the disk by then."""
ERRORS_HEAD = """\
All are in `epigone.errors`; `epigone.EpigoneError` is the root. The command ends with their `exit_code`: 2 for a
mistake that the user can correct, 1 for the last three."""


def list_functions() -> list[ast.FunctionDef]:
    """The public functions of the package."""
    nodes = {name: find(f"{home.removeprefix('epigone.')}.{name}") for name, home in sorted(epigone._HOMES.items())}
    functions = {name: node for name, node in nodes.items() if isinstance(node, ast.FunctionDef)}
    return [functions[name] for name in [*FIRST, *(name for name in functions if name not in FIRST)]]


def find(name: str) -> ast.FunctionDef | ast.ClassDef:
    """The definition of a function or a class, by its module and name. Ends the program if it has moved."""
    module, _, own = name.rpartition(".")
    path = SOURCE.joinpath(*module.split(".")).with_suffix(".py")
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == own:
            return node
    raise SystemExit(f"{name} is not in {path}: change tools/api_page.py")


def describe_function(
    node: ast.FunctionDef | ast.ClassDef, before: str, level: str = "###", after: str = "()"
) -> Iterator[str]:
    """A heading, the signature in code, and the docstring."""
    yield f"{level} `{before}{node.name}{after}`"
    yield ""
    if isinstance(node, ast.FunctionDef) and after:
        yield from ("```python", draw_signature(node), "```", "")
    yield _docstring(node)


def draw_signature(node: ast.FunctionDef) -> str:
    """`name(arguments) -> result`, on several lines if it is long."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [*([None] * (len(positional) - len(arguments.defaults))), *arguments.defaults]
    parts = [_argument(one, default) for one, default in zip(positional, defaults, strict=True)]
    parts += [f"*{_argument(arguments.vararg)}"] if arguments.vararg else ["*"] if arguments.kwonlyargs else []
    parts += [_argument(one, value) for one, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    parts += [f"**{_argument(arguments.kwarg)}"] if arguments.kwarg else []
    parts = [part for part in parts if part != "self"]
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{node.name}({', '.join(parts)}){result}"
    return line if len(line) <= 76 else f"{node.name}(\n    " + ",\n    ".join(parts) + f",\n){result}"


def _argument(one: ast.arg, default: ast.expr | None = None) -> str:
    kind = f": {ast.unparse(one.annotation)}" if one.annotation else ""
    return f"{one.arg}{kind}{f' = {ast.unparse(default)}' if default else ''}"


def describe_class(node: ast.FunctionDef | ast.ClassDef) -> Iterator[str]:
    """The docstring, a table of fields and properties, and each public method."""
    yield from describe_function(node, "", after="")
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")]
    properties = {one.name: one for one in methods if _is_property(one)}
    rows = [(name, kind, text) for name, kind, text in list_fields(node)]
    rows += [(name, _result(one), _docstring(one)) for name, one in properties.items()]
    if rows:
        yield from ("", "| field | type | what it is |", "| --- | --- | --- |")
        yield from (_row(f"`{name}`", f"`{kind}`", text) for name, kind, text in rows)
    for one in methods:
        if one.name not in properties:
            yield ""
            yield from describe_function(one, f"{node.name}.", "####")


def list_fields(node: ast.FunctionDef | ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """Name, type and the text under each public field of a class."""
    for number, one in enumerate(node.body):
        if not isinstance(one, ast.AnnAssign) or not isinstance(one.target, ast.Name) or one.target.id.startswith("_"):
            continue
        under = node.body[number + 1] if number + 1 < len(node.body) else None
        is_text = isinstance(under, ast.Expr) and isinstance(under.value, ast.Constant)
        text = under.value.value if is_text and isinstance(under, ast.Expr) else ""  # type: ignore[attr-defined]
        yield one.target.id, ast.unparse(one.annotation), inspect.cleandoc(str(text))


def _is_property(node: ast.FunctionDef) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "property" for one in node.decorator_list)


def _result(node: ast.FunctionDef) -> str:
    return ast.unparse(node.returns) if node.returns else ""


def _docstring(node: ast.FunctionDef | ast.ClassDef) -> str:
    text = ast.get_docstring(node)
    if not text:
        raise SystemExit(f"{node.name} has no docstring")
    return text


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def list_events() -> Iterator[str]:
    """A row for each event."""
    tree = ast.parse(SOURCE.joinpath(*EVENTS.split(".")).with_suffix(".py").read_text("utf-8"))
    names = _name_events(tree)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in names:
            fields = ", ".join(f"`{name}`" for name, _, _ in list_fields(node))
            yield _row(f"`{node.name}`", _docstring(node).split("\n\n")[0], fields)


def _name_events(tree: ast.Module) -> set[str]:
    """The members of the union `Event`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(one, ast.Name) and one.id == "Event" for one in node.targets
        ):
            return {one.id for one in ast.walk(node.value) if isinstance(one, ast.Name)}
    raise SystemExit(f"there is no union Event in {EVENTS}")


def read_error_tree() -> str:
    """The drawing in the docstring of errors.py."""
    text = ast.get_docstring(ast.parse((SOURCE / "errors.py").read_text("utf-8"))) or ""
    return text[text.index("EpigoneError") :].rstrip()
