"""Jupyter notebooks: the text of their cells in Markdown, without code, unless that is kept, and what it printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from epigone.corpus.readers.json_stream import JsonReader, Path
from epigone.corpus.readers.markdown import strip_markdown
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.records import clean_text, join_lines

START = re.compile(r'\A\s*\{\s*"(?:cells|metadata|nbformat|nbformat_minor)"\s*:')
CELL = re.compile(r'"cell_type"\s*:\s*"(?:markdown|code|raw)"')


def recognise(beginning: Beginning) -> bool:
    """An object with cells, each of a kind."""
    return bool(START.match(beginning.text)) and bool(CELL.search(beginning.text))


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one document of a notebook."""
    cells = list[str]()
    for found in JsonReader(context.decode_pieces(file), context.limits).walk(_is_entered):
        if found.path == ("cells", None) and isinstance(found.value, dict):
            cells.append(_read_cell(found.value, context))
    yield ParsedDocument(text="\n".join(filter(None, cells)))


NOTEBOOK = Format(
    name="notebook", title="a Jupyter notebook", suffixes=(".ipynb",), begins="{", recognise=recognise, read=read
)


def _is_entered(path: Path) -> bool:
    return path in ((), ("cells",))


def _read_cell(cell: dict[str, object], context: ReadContext) -> str:
    """The text of a cell, with one line end at its end; "" if it is left out."""
    source, kind, drops = cell.get("source"), cell.get("cell_type"), context.drops
    lines = [line for line in source if isinstance(line, str)] if isinstance(source, list) else [source]
    text = clean_text(join_lines([line for line in lines if isinstance(line, str)]))
    outputs = cell.get("outputs")
    if isinstance(outputs, list) and outputs:
        drops.add("outputs of code", count=len(outputs))
    keeps_code = context.settings.code == "keep"
    if kind == "markdown":
        return strip_markdown(text, drops, keep_code=keeps_code)
    if kind == "code" and keeps_code:
        return text
    if text:
        drops.add("code blocks" if kind == "code" else "cells without a format", text)
    return ""
