"""Tables as text (CSV, TSV): a row is a record, whose fields have the names in the first row, if it has names."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Literal

from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.records import Record, read_records
from epigone.errors import TextUnreadable

DELIMITERS = ",;\t|"
LONGEST_FIELD = 1 << 24
LONGEST_NAME = 60
CHECKED_ROWS = 1_000


def recognise(beginning: Beginning) -> bool:
    """By its name, if it has rows of equal length: nothing in a table says for certain that a text is one."""
    return beginning.suffix in CSV.suffixes and bool(beginning.first_line)


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """A document for each row, or the conversation that they are."""
    csv.field_size_limit(LONGEST_FIELD)
    lines = (f"{line}\n" for line in context.read_lines(file))
    head = _take(lines, 100)
    if not head:
        return
    delimiter = find_delimiter(head, prefer_tab=context.name.lower().endswith((".tsv", ".tab")))
    rows = csv.reader(
        _chain(head, lines),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if delimiter != "\t" or is_quoted(head) else csv.QUOTE_NONE,
    )
    yield from read_records(_make_records(rows, context), context, context.settings.field, what="row")


CSV = Format(
    name="csv",
    title="a table (CSV, TSV)",
    suffixes=(".csv", ".tsv", ".tab"),
    recognise=recognise,
    read=read,
    only_named=True,
)


def find_delimiter(lines: Sequence[str], *, prefer_tab: bool = False) -> str:
    """What stands between fields: what divides the most rows into equally many, and into the most."""
    order = "\t,;|" if prefer_tab else DELIMITERS
    return max(order, key=lambda delimiter: rate_rows(lines, delimiter))


def is_quoted(lines: Sequence[str]) -> bool:
    """Whether quotation marks in a table with tabs stand around fields, and do not belong to the texts."""
    return rate_rows(lines, "\t", csv.QUOTE_MINIMAL) > rate_rows(lines, "\t", csv.QUOTE_NONE)


def rate_rows(lines: Sequence[str], delimiter: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> tuple[float, int]:
    """The share of rows that have the usual number of fields, and that number."""
    try:
        lengths = [len(row) for row in csv.reader(lines, delimiter=delimiter, quoting=quoting) if row]
    except csv.Error:
        return 0.0, 0
    usual, count = Counter(lengths).most_common(1)[0] if lengths else (1, 0)
    return (count / len(lengths), usual) if usual > 1 else (0.0, 0)


def has_names(first: Sequence[str]) -> bool:
    """Whether a first row has the names of fields: short, different, and not numbers or addresses."""
    names = [name.strip() for name in first]
    return (
        len({*names}) == len(names)
        and all(name and len(name) <= LONGEST_NAME for name in names)
        and not any(re.search(r"^[\d.,:/ -]+$|://|[.!?]$|@", name) for name in names)
    )


def _make_records(rows: Iterator[list[str]], context: ReadContext) -> Iterator[Record]:
    """Rows with the names of their fields, or with numbers from 1 on if there are none."""
    names: list[str] | None = None
    try:
        for number, row in enumerate(rows):
            if number % CHECKED_ROWS == 0:
                context.limits.check_time()
            if names is None:
                if has_names(row):
                    names = [name.strip() for name in row]
                    continue
                names = [str(place) for place in range(1, len(row) + 1)]
            if row:
                yield dict(zip(names, row, strict=False))
    except csv.Error as error:
        raise TextUnreadable(
            f"{context.name} cannot be read as a table: {error}.",
            hint="A quotation mark in it may not be closed. To read it as plain text: --format text",
        ) from None


def _take(lines: Iterator[str], n_lines: int) -> list[str]:
    return [line for _, line in zip(range(n_lines), lines, strict=False)]


def _chain(first: Iterable[str], rest: Iterable[str]) -> Iterator[str]:
    yield from first
    yield from rest
