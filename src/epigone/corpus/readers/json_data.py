"""JSON and JSON Lines: the texts in records, or strings, read one after another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from epigone.corpus.readers.json_stream import DECODER, JsonReader, Path
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.records import (
    SAMPLE,
    SAMPLE_CHARACTERS,
    Record,
    clean_text,
    count_characters,
    find_message_fields,
    find_messages,
    guess_texts,
    join_records,
    measure_fields,
    read_field,
    read_records,
    unfold,
)

BEGINNING = re.compile(r'\A\s*(?:\[\s*)?\{\s*"(?:[^"\\\n]|\\.){0,200}"\s*:|\A\s*\[\s*"(?=[^"\n]*"\s*[,\]])')
DEEPEST_ARRAY = 4
CHECKED_LINES = 1_000


def recognise_lines(beginning: Beginning) -> bool:
    """Two lines or more that are objects, or one in a file named .jsonl."""
    if not beginning.first_line.startswith(("{", "[", '"')):
        return False
    lines = beginning.lines
    if beginning.suffix in JSON_LINES.suffixes:
        return True
    return len(lines) > 1 and all(isinstance(_parse(line), dict) for line in lines[:2])


def read_lines(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The documents in lines of JSON; lines that are none are counted."""
    yield from _read_values(_parse_lines(file, context), context, what="line")


JSON_LINES = Format(
    name="jsonl",
    title="JSON Lines",
    suffixes=(".jsonl", ".ndjson"),
    begins='{["',
    recognise=recognise_lines,
    read=read_lines,
    only_named=True,
)


def recognise(beginning: Beginning) -> bool:
    """An object, or an array of objects or strings."""
    return bool(BEGINNING.match(beginning.text))


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The documents in the array that has the most text, or in the one object."""
    survey = _Survey()
    for found in JsonReader(context.decode_pieces(file), context.limits).walk(_is_entered):
        survey.add(found.path, unfold(found.value))
    path = survey.choose(context.settings.field)
    if path is None:
        yield from read_records([survey.members], context, context.settings.field, what="object")
        return
    file.seek(0)
    reader = JsonReader(context.decode_pieces(file), context.limits)
    values = (unfold(found.value) for found in reader.walk(_is_entered) if found.path == (*path, None))
    yield from _read_values(values, context, what="record", path=path)


JSON = Format(
    name="json",
    title="JSON",
    suffixes=(".json",),
    begins="{[",
    recognise=recognise,
    read=read,
    only_named=True,
)


def _is_entered(path: Path) -> bool:
    return None not in path and len(path) < DEEPEST_ARRAY


@dataclass(slots=True)
class _Survey:
    """Finds the array with the most text."""

    members: dict[str, object] = field(default_factory=dict)
    """Values outside of arrays, by their names with dots."""
    samples: dict[Path, list[object]] = field(default_factory=dict)
    counts: dict[Path, int] = field(default_factory=dict)
    _n_characters: int = 0
    """In the samples."""

    def add(self, path: Path, value: object) -> None:
        """The next value."""
        if path[-1:] == (None,):
            array = path[:-1]
            sample = self.samples.setdefault(array, [])
            self.counts[array] = self.counts.get(array, 0) + 1
            if not sample or (len(sample) < SAMPLE and self._n_characters < SAMPLE_CHARACTERS):
                sample.append(value)
                self._n_characters += count_characters(value)
        elif isinstance(value, str):
            self.members[".".join(map(str, path))] = value

    def choose(self, fields: tuple[str, ...]) -> Path | None:
        """Where the array is that is read; None if only what is outside of arrays is."""
        if fields and all(name in self.members for name in fields):
            return None
        sizes = {path: self._measure(path, fields) for path in self.samples}
        if fields and not any(sizes.values()):
            return self.choose(())
        best = max(sizes, key=lambda path: sizes[path], default=None)
        return best if best is not None and sizes[best] > _measure_records([self.members]) else None

    def _measure(self, path: Path, fields: tuple[str, ...]) -> float:
        """Characters of text in an array, about."""
        sample = self.samples[path]
        records = [value for value in sample if isinstance(value, dict)]
        strings = [len(value) for value in sample if isinstance(value, str)]
        if fields:
            names = [_without(path, name) for name in fields]
            found = [len(read_field(record, name)) for record in records for name in names]
            return self.counts[path] * sum(found) / len(sample)
        return self.counts[path] * max(_measure_records(records), sum(strings) / len(sample))


def _measure_records(records: list[dict[str, object]]) -> float:
    """The mean length of what would be the text in records; 0 if that is not clear."""
    if find_messages(records):
        return 1.0
    means = measure_fields(records)
    return sum(means[name] for name in guess_texts(means))


def _without(path: Path, name: str) -> str:
    """A field's name within a record, where its name from the beginning was given."""
    before = ".".join(map(str, path)) + "."
    return name.removeprefix(before) if path else name


def _read_values(
    values: Iterator[object], context: ReadContext, *, what: str, path: Path = ()
) -> Iterator[ParsedDocument]:
    """Records or strings; other values are counted."""
    first = next(values, None)
    if isinstance(first, str):
        yield ParsedDocument(text=clean_text(first))
        yield from (ParsedDocument(text=clean_text(value)) for value in values if isinstance(value, str))
        return
    if isinstance(first, list):  # a conversation in each line
        for messages in (first, *values):
            found = [one for one in messages if isinstance(one, dict)] if isinstance(messages, list) else []
            if found and (fields := find_message_fields(found)):
                yield join_records(found, fields, context)
        return
    if isinstance(first, dict):
        asked = [_without(path, name) for name in context.settings.field]
        yield from read_records(_list_records(first, values, context), context, asked, what=what)


def _list_records(first: Record, values: Iterator[object], context: ReadContext) -> Iterator[Record]:
    yield first
    for value in values:
        if isinstance(value, dict):
            yield value
        else:
            context.drops.add("values that are not objects", str(value)[:100])


def _parse_lines(file: BinaryIO, context: ReadContext) -> Iterator[object]:
    for number, line in enumerate(context.read_lines(file)):
        if number % CHECKED_LINES == 0:
            context.limits.check_time()
        if not line.strip():
            continue
        value = _parse(line)
        if value is None:
            context.drops.add("lines that are not JSON", line[:1_000])
        else:
            yield value


def _parse(line: str) -> object:
    """The value in a line; None if there is none."""
    try:
        return DECODER.decode(line.strip())
    except (ValueError, RecursionError):
        return None
