"""Tables in Parquet, as data sets have them, by the package pyarrow: a row is a record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from epigone.corpus.readers.limits import MOST_BYTES
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.records import Record, read_records
from epigone.errors import TextUnreadable

MARK = b"PAR1"
BATCH_ROWS = 500
MOST_NAME_BYTES, MOST_PARTS = 1 << 24, 1 << 20
"""Of what describes the table: the length of a text, and how many there are."""


def recognise(beginning: Beginning) -> bool:
    """By its first bytes."""
    return beginning.head.startswith(MARK)


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """A document for each row, or the conversations that they are."""
    with _open_table(file, context.name) as table:
        yield from read_records(_read_rows(table, context), context, context.settings.field, what="row")


@contextmanager
def _open_table(file: BinaryIO, name: str) -> Iterator[Any]:
    """Raises TextUnreadable, also for what pyarrow raises within it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise TextUnreadable(
            f"{name} is a Parquet file, which needs the package pyarrow.",
            hint='Install it: pip install "epigone[parquet]"',
        ) from None
    try:
        yield pyarrow.parquet.ParquetFile(
            file,
            thrift_string_size_limit=MOST_NAME_BYTES,
            thrift_container_size_limit=MOST_PARTS,
        )
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise TextUnreadable(f"{name} is damaged: {reason.rstrip('.')}.", hint="Download or save it again.") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class RowGroups:
    """Consecutive row groups of a table: their numbers, their size when they are unpacked, and where they are."""

    first: int
    end: int
    n_bytes: int
    span: tuple[int, int]
    """In the file, in bytes."""


def divide_rows(file: BinaryIO, name: str, n_bytes: int) -> list[RowGroups]:
    """The row groups of a table, as many together as have about `n_bytes`. Raises TextUnreadable."""
    found: list[RowGroups] = []
    with _open_table(file, name) as table:
        for number in range(table.metadata.num_row_groups):
            group = table.metadata.row_group(number)
            size, (start, end) = group.total_byte_size, _find_span(group)
            last = found[-1] if found else None
            if last and last.n_bytes + size <= n_bytes:
                span = min(last.span[0], start), max(last.span[1], end)
                found[-1] = RowGroups(first=last.first, end=number + 1, n_bytes=last.n_bytes + size, span=span)
            else:
                found.append(RowGroups(first=number, end=number + 1, n_bytes=size, span=(start, end)))
    return found


def _find_span(group: Any) -> tuple[int, int]:
    columns = [group.column(number) for number in range(group.num_columns)]
    starts = [min(one.data_page_offset, one.dictionary_page_offset or one.data_page_offset) for one in columns]
    return min(starts), max(start + one.total_compressed_size for start, one in zip(starts, columns, strict=True))


PARQUET = Format(
    name="parquet",
    title="a Parquet table",
    suffixes=(".parquet",),
    begins="p",
    recognise=recognise,
    read=read,
    only_named=True,
)


def _read_rows(table: Any, context: ReadContext) -> Iterator[Record]:
    """All rows, with those columns that may have text: pictures and numbers are not read."""
    numbers = range(*(context.row_groups or (0, table.metadata.num_row_groups)))
    if any(table.metadata.row_group(number).total_byte_size > MOST_BYTES for number in numbers):
        raise context.limits.refuse(f"a part of it has more than {MOST_BYTES >> 20:,} MB")
    asked = {name.split(".")[0] for name in context.settings.field}
    columns = [one.name for one in table.schema_arrow if one.name in asked or _may_have_text(str(one.type))]
    how = {"row_groups": list(numbers), "columns": columns, "use_threads": False}
    for batch in table.iter_batches(batch_size=BATCH_ROWS, **how):
        context.limits.expand(batch.nbytes)
        yield from batch.to_pylist()


def _may_have_text(kind: str) -> bool:
    return "string" in kind and "binary" not in kind
