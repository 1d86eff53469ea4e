"""Gives readers damaged documents of each format, and reports what raises anything but an error of epigone, or hangs.

`python tools/fuzz_readers.py SAMPLES --tries 1000`: the samples are documents; those in zip archives are damaged inside
their parts. Bytes are damaged anywhere, and tags, groups, words and numbers as wholes. A try that takes longer than ten
seconds, or more than --memory MB above what the program had at its beginning, is a failure. Equal seeds give equal
tries.
"""

from __future__ import annotations

import argparse
import io
import random
import re
import resource
import signal
import sys
import time
import traceback
import zipfile
from collections import Counter
from pathlib import Path
from types import FrameType

from epigone.corpus.corpus import read_document
from epigone.corpus.sources import Source
from epigone.errors import EpigoneError

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
WINDOW = 4_096
"""Bytes in which tokens are searched for."""
SLOWEST_SECONDS = 10.0
LARGEST_BYTES = 60_000


class Hangs(Exception):
    """A try took too long."""


def main() -> int:
    """Try, and print each new kind of failure once: 1 if there was any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", nargs="+", type=Path)
    parser.add_argument("--tries", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=int, default=300, help="MB that a try may take")
    parser.add_argument("--failures", type=Path, default=Path(), help="folder for documents that fail")
    given = parser.parse_args()
    signal.signal(signal.SIGVTALRM, _stop)
    limit_memory(given.memory)
    failures: dict[str, bytes] = {}
    for path in given.samples:
        print(try_sample(path, given.tries, given.seed, failures), flush=True)
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


def try_sample(path: Path, n_tries: int, seed: int, failures: dict[str, bytes]) -> str:
    """Damage a sample again and again. One line on what became of it."""
    sample, generator, results = path.read_bytes(), random.Random(f"{seed} {path.name}"), Counter[str]()
    slowest, before = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(n_tries):
        data = damage(sample, generator)
        start = time.process_time()
        results[try_reading(data, path.name, failures)] += 1
        slowest = max(slowest, time.process_time() - start)
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found = ", ".join(f"{count:,} {outcome}" for outcome, count in results.most_common())
    return f"{path.name}: {found}; slowest {slowest:.2f} s; memory +{taken:,.0f} MB"


def try_reading(data: bytes, name: str, failures: dict[str, bytes]) -> str:
    """Read a document; a failure is noted with what it was."""
    signal.setitimer(signal.ITIMER_VIRTUAL, SLOWEST_SECONDS)
    try:
        read_document(Source(name=name, read=lambda: data))
    except EpigoneError as error:
        return type(error).__name__
    except Exception as error:  # noqa: BLE001  # that is what is searched for
        where = traceback.extract_tb(error.__traceback__)[-1]
        failures.setdefault(f"{type(error).__name__}: {error!s:.80} in {where.filename}:{where.lineno}", data)
        return "FAILED"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return "read"


def damage(data: bytes, generator: random.Random) -> bytes:
    """A damaged copy: of an archive mostly one of its parts, else bytes or tokens anywhere."""
    if data.startswith(b"PK") and generator.random() < 0.85:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        name = generator.choice([name for name in parts if not name.endswith(("png", "jpg", "/"))])
        choice = generator.random()
        if choice < 0.1:
            del parts[name]
        elif choice < 0.2:
            parts[generator.choice(["../x.xml", "a" * 300, name.upper(), "x/" + name])] = parts.pop(name)
        else:
            parts[name] = mutate(parts[name], generator)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        return file.getvalue()
    return mutate(data, generator)


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Bytes with some changed, inserted, deleted, repeated or moved, or the same with tokens."""
    found = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 4, 16, 64))):
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
