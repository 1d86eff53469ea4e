"""Tables in Parquet, as data sets have them, by the package pyarrow: a row is a record."""

from __future__ import annotations

from collections.abc import Iterator
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
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise TextUnreadable(
            f"{context.name} is a Parquet file, which needs the package pyarrow.",
            hint='Install it: pip install "epigone[parquet]"',
        ) from None
    try:
        table = pyarrow.parquet.ParquetFile(
            file,
            thrift_string_size_limit=MOST_NAME_BYTES,
            thrift_container_size_limit=MOST_PARTS,
        )
        yield from read_records(_read_rows(table, context), context, context.settings.field, what="row")
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise TextUnreadable(
            f"{context.name} is damaged: {reason.rstrip('.')}.", hint="Download or save it again."
        ) from None


PARQUET = Format(
    name="parquet",
    title="a Parquet table",
    suffixes=(".parquet",),
    recognise=recognise,
    read=read,
    only_named=True,
)


def _read_rows(table: Any, context: ReadContext) -> Iterator[Record]:
    """All rows, with those columns that may have text: pictures and numbers are not read."""
    groups = [table.metadata.row_group(number).total_byte_size for number in range(table.metadata.num_row_groups)]
    if any(n_bytes > MOST_BYTES for n_bytes in groups):
        raise context.limits.refuse(f"a part of it has more than {MOST_BYTES >> 20:,} MB")
    asked = {name.split(".")[0] for name in context.settings.field}
    columns = [one.name for one in table.schema_arrow if one.name in asked or _may_have_text(str(one.type))]
    for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False):
        context.limits.expand(batch.nbytes)
        yield from batch.to_pylist()


def _may_have_text(kind: str) -> bool:
    return "string" in kind and "binary" not in kind
