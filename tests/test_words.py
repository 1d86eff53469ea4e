"""Every sentence is plain modern English in the field's terms: words that were replaced do not come back."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DONE = (
    *("src/epigone/**/*.py", "*.md", "docs/**/*.md", "Makefile", "tools/*.py", "tests/*.py"),
    *("examples/*.py", "examples/*.md"),
)
"""Patterns of the files in which every sentence has been rewritten."""
NOT_DONE = ("docs/dev/findings.md", "tools/base.py", "tools/bundle.py", "tests/test_words.py")
"""The lab book, which keeps its words, the tools that are rewritten with the next base, and the words themselves."""
REPLACED = {
    r"foret[eo]l\w*": "predict",
    r"yardsticks?": "baseline, style scale",
    r"rulers?": "style scale",
    r"\bhim(self)?\b|\bhis\b|\bhe\b": "the author, they",
    r"(?<!there )\bis (none\b|no\b(?! (more|less|longer|better|worse)))": "is not a",
    r"\bby heart\b": "memorized",
    r"\b(somebody|nobody|whoever)\b": "name who it is",
    r"\bmade anew\b|\banew\b": "again",
    r"\bcomes? along\b": "is included",
    r"\bwhose shall\b": "name the author",
    r"\bunchosen\b": "chosen at random",
    r"\bin; .*\bout\.?$": "what the module is, and why",
}
"""What was replaced, as a pattern, and what to write instead."""
PROSE = re.compile("|".join(f"(?:{pattern})" for pattern in REPLACED), re.IGNORECASE | re.MULTILINE)
QUOTED = re.compile(r"`[^`]*`|https?://\S+")
"""Names of code and addresses are not prose."""


def list_sentences(path: Path) -> Iterator[str]:
    """What a file says to a reader: paragraphs of a page; docstrings, other strings, comments and tests' names."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        text = re.sub(r"^(```|~~~).*?^\1|<!-- samples:.*?<!-- end of samples", "", text, flags=re.MULTILINE | re.DOTALL)
        yield from re.split(r"\n\s*\n", text)
        return
    in_tests = path.parent == ROOT / "tests"  # where strings are data, but for docstrings
    for node in ast.walk(ast.parse(text)):
        said = node.value if in_tests and isinstance(node, ast.Expr) else None if in_tests else node
        if isinstance(said, ast.Constant) and isinstance(said.value, str) and " " in said.value:
            yield said.value
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name.replace("_", " ")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def list_files() -> Iterator[Path]:
    found = {path for pattern in DONE for path in ROOT.glob(pattern)}
    yield from sorted(found - {ROOT / name for name in NOT_DONE})


def find_replaced(sentence: str) -> list[str]:
    return [match[0] for match in PROSE.finditer(QUOTED.sub("", sentence))]


def test_no_replaced_word_has_come_back() -> None:
    back = {
        f"{path.relative_to(ROOT)}: {sentence.strip()[:100]}": words
        for path in list_files()
        for sentence in list_sentences(path)
        if (words := find_replaced(sentence))
    }
    assert back == {}, REPLACED


@pytest.mark.parametrize(
    "sentence",
    [
        "It foretells the text",
        "An author and his words",
        "{name} is no setting",
        "the progress is none",
        "A text in; its tokens, in order, out.",
        "written anew",
        "There nobody can answer",
    ],
)
def test_a_replaced_word_would_be_found(sentence: str, tmp_path: Path) -> None:
    assert find_replaced(sentence)
    path = tmp_path / "module.py"
    path.write_text(f'def test_it():\n    """{sentence}"""\n', "utf-8")
    assert [find_replaced(found) for found in list_sentences(path)].count([]) == 1


def test_other_words_are_not_found() -> None:
    for sentence in (
        "There is no file here.",
        "It is no better than this.",
        "Hold it in; it works out well.",
        "`nobody`",
    ):
        assert not find_replaced(sentence)
