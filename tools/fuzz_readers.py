"""Gives readers damaged documents of each family, and reports what raises anything but an error of epigone, or hangs.

`python tools/fuzz_readers.py docx epub --tries 100000 --seed 1`: of each family the documents of `fuzz_seeds.py` are
damaged, in zip archives mostly inside their parts; the path of a file is one more family. "all" is all. Bytes are
damaged anywhere, and tags, groups, words and numbers as wholes. A try that takes longer than ten seconds, or more than
--memory MB above what the program had at its beginning, is a failure. Each try has a number, and what it is follows
from the seed and the number alone: `--start 40000` goes on where a run was ended.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import FrameType
from zipfile import BadZipFile, ZipFile

from epigone.corpus.corpus import read_alone
from epigone.corpus.large_text import TextSpooler
from epigone.corpus.sources import Source
from epigone.settings import ReadSettings
from fuzz_seeds import make_seeds, store

PIECES = (
    *(b"<", b">", b"</", b"/>", b"&", b"&#", b"&#xFFFFFFFF;", b"&amp;", b"<!--", b"]]>", b"<![CDATA[", b"<?xml "),
    *(b"\\", b"{", b"}", b"\\u-1 ", b"\\'f", b"\\bin99 ", b"\\*", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"<p>", b'"'),
    *(b"```", b"---\n", b"[[", b"](", b"**", b"PK\x03\x04", b"\x1f\x8b", b"-1", b"9" * 20, b"\xed\xa0\x80", b"\n\n"),
    *(
        b"12/9/20, 23:55 - Bob: ",
        b"[3/5/24, 2:05 PM] \xe2\x80\x8eAnn: ",
        b"<Media omitted>",
        b"https://",
        b": ",
        b"\t",
        b",",
    ),
    *(b"[", b"]", b"[[", b'{"text": ', b'"messages": [', b"null", b"1e999", b"\\ud800", b"<nick> ", b"12:34 ", b"-->"),
    *(
        b"From a@b.c\n",
        b"> ",
        b"-- \n",
        b"Content-Type: multipart/mixed; boundary=a\n",
        b"--a\n",
        b"=?utf-8?q?=ff?=",
        b"=\n",
    ),
    *(b"<<", b">>", b" 0 R", b"endobj\n", b"stream\n", b" 0 obj\n", b"(", b")", b"0 Tf", b"trailer\n"),
)
TOKEN = re.compile(rb"<[^<>]{0,400}>|\\[a-z]{1,30}-?\d{0,9}|[{}\[\]()]|/\w{1,30}|-?\d{1,20}(?:\.\d{1,9})?|\w{1,40}")
NUMBERS = (b"0", b"-1", b"1", b"255", b"65536", b"2147483648", b"-99999999999", b"1e9", b"0.0001")
WINDOW = 1_024
"""Bytes in which tokens are searched for."""
SLOWEST_SECONDS = 10.0
LARGEST_BYTES = 60_000


REPORTED = 10_000
"""Tries after which a line is printed."""
PICTURES = (".png", ".jpg", "/")


class Hangs(Exception):
    """A try took too long."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A document to damage."""

    name: str
    data: bytes
    parts: Mapping[str, bytes]
    """Of a zip archive."""


def main() -> int:
    """Try, and print each new kind of failure once: 1 if there was any."""
    seeds = make_seeds()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="+", help=f"{', '.join(seeds)}, all, or paths of documents")
    parser.add_argument("--tries", type=int, default=1_000, help="of each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first try")
    parser.add_argument("--memory", type=int, default=300, help="MB that a try may take")
    parser.add_argument("--failures", type=Path, default=Path(), help="folder for documents that fail")
    given = parser.parse_args()
    with contextlib.suppress(AttributeError, ValueError):
        signal.signal(signal.SIGVTALRM, _stop)
    limit_memory(given.memory)
    failures: dict[str, bytes] = {}
    for family in [one for name in given.families for one in (seeds if name == "all" else (name,))]:
        documents = seeds.get(family) or ((Path(family).name, Path(family).read_bytes()),)
        samples = [open_sample(name, data) for name, data in documents]
        for line in try_family(family, samples, range(given.start, given.tries), given.seed, failures):
            print(line, flush=True)
    for number, (name, data) in enumerate(failures.items()):
        (given.failures / f"failure-{number}.bin").write_bytes(data)
        print(name)
    return int(bool(failures))


def _stop(number: int, frame: FrameType | None) -> None:
    raise Hangs


def limit_memory(n_mb: int) -> None:
    """Let this process take so much more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (n_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def open_sample(name: str, data: bytes) -> Sample:
    """A document, with its parts if it is a zip archive."""
    try:
        with ZipFile(BytesIO(data)) as archive:
            return Sample(name, data, {part: archive.read(part) for part in archive.namelist()})
    except BadZipFile:
        return Sample(name, data, {})


def try_family(
    family: str, samples: list[Sample], numbers: range, seed: int, failures: dict[str, bytes]
) -> Iterator[str]:
    """Damage documents again and again. A line on what became of them, now and then and at the end."""
    results, slowest, slowest_number = Counter[str](), 0.0, 0
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for number in numbers:
        generator = random.Random(f"{seed} {family} {number}")
        sample = generator.choice(samples)
        data = damage(sample, generator)
        start = time.process_time()
        results[try_reading(data, sample.name, failures)] += 1
        if time.process_time() - start > slowest:
            slowest, slowest_number = time.process_time() - start, number
        if (number + 1) % REPORTED == 0 or number + 1 == numbers.stop:
            taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            rate = (number + 1 - numbers.start) / (time.process_time() - begin)
            found = ", ".join(f"{count:,} {outcome}" for outcome, count in results.most_common())
            yield (
                f"{family}: {number + 1:,} tries: {found}; slowest {slowest:.2f} s (try {slowest_number:,}); "
                f"memory +{taken:,.0f} MB; {rate:,.0f} tries a second"
            )


def try_reading(data: bytes, name: str, failures: dict[str, bytes]) -> str:
    """Read a document; a failure is noted with what it was."""
    signal.setitimer(signal.ITIMER_VIRTUAL, SLOWEST_SECONDS)
    try:
        result = read_alone(Source(name=name, read=lambda: data), ReadSettings(), TextSpooler())
    except Exception as error:  # noqa: BLE001  # that is what is searched for
        where = traceback.extract_tb(error.__traceback__)[-1]
        failures.setdefault(f"{type(error).__name__}: {error!s:.80} in {where.filename}:{where.lineno}", data)
        return "FAILED"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return type(result.error).__name__ if result.error else "read"


def damage(sample: Sample, generator: random.Random) -> bytes:
    """A damaged copy: of an archive mostly one of its parts, else bytes or tokens anywhere."""
    if not sample.parts or generator.random() > 0.85:
        return mutate(sample.data, generator)
    parts = dict(sample.parts)
    name = generator.choice([name for name in parts if not name.endswith(PICTURES)])
    choice = generator.random()
    if choice < 0.1:
        del parts[name]
    elif choice < 0.2:
        parts[generator.choice(["../x.xml", "a" * 300, name.upper(), "x/" + name])] = parts.pop(name)
    else:
        parts[name] = mutate(parts[name], generator)
    return store(parts)


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Bytes with some changed, inserted, deleted, repeated or moved, or the same with tokens."""
    found = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 4, 16))):
        if generator.random() < 0.5:
            change_tokens(found, generator)
        else:
            change_bytes(found, generator)
        if len(found) > 20 * LARGEST_BYTES:
            break
    return bytes(found)


def change_bytes(found: bytearray, generator: random.Random) -> None:
    """One change without regard to what the bytes mean."""
    start = generator.randrange(len(found) + 1)
    end = min(len(found), start + generator.choice((1, 2, 8, 100, 2_000)))
    kind = generator.randrange(6)
    if kind == 0 and found:
        found[start : start + 1] = bytes([generator.randrange(256)])
    elif kind == 1:
        found[start:start] = generator.choice(PIECES) * generator.choice((1, 1, 3, 500))
    elif kind == 2:
        del found[start:end]
    elif kind == 3:
        found[start:start] = found[start:end] * generator.choice((1, 2, 20))
    elif kind == 4:
        other = generator.randrange(len(found) + 1)
        found[start:end] = found[other : other + end - start]
    elif generator.random() < 0.3:
        del found[generator.randrange(len(found) + 1) :]


def change_tokens(found: bytearray, generator: random.Random) -> None:
    """One change to a tag, a control word, a number or a word as a whole."""
    window = generator.randrange(max(1, len(found) - WINDOW // 2))
    spans = [match.span() for match in TOKEN.finditer(found, window, window + WINDOW)]
    if not spans:
        return
    (start, end), (other, other_end) = generator.choice(spans), generator.choice(spans)
    token, kind = bytes(found[start:end]), generator.randrange(6)
    if kind == 0:
        del found[start:end]
    elif kind == 1:
        found[start:start] = token * generator.choice((1, 2, 30, 500))
    elif kind == 2:
        found[start:end] = found[other:other_end]
    elif kind == 3:
        found[start:end] = generator.choice(NUMBERS) if token.lstrip(b"-").isdigit() else generator.choice(PIECES)
    elif kind == 4:  # a span of tokens twice, so that elements are nested, repeated or left open
        found[start:start] = found[min(start, other) : max(end, other_end)]
    else:
        del found[min(start, other) : max(end, other_end)]


if __name__ == "__main__":
    sys.exit(main())
