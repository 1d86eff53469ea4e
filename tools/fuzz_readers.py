"""Gives readers damaged documents of each format, and reports what raises anything but an error of epigone, or hangs.

`python tools/fuzz_readers.py SAMPLES --tries 1000`: the samples are documents; those in zip archives are damaged inside
their parts. Equal seeds give equal tries.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import time
import traceback
import zipfile
from collections import Counter
from pathlib import Path

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
)
SLOWEST_SECONDS = 10.0
LARGEST_BYTES = 60_000


def main() -> int:
    """Try, and print each new kind of failure once: 1 if there was any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", nargs="+", type=Path)
    parser.add_argument("--tries", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    results, failures, slowest = Counter[str](), dict[str, bytes](), 0.0
    for path in given.samples:
        sample, generator = path.read_bytes(), random.Random(f"{given.seed} {path.name}")
        for _ in range(given.tries):
            data = damage(sample, generator)
            start = time.process_time()
            outcome = try_reading(data, path.name, failures)
            seconds = time.process_time() - start
            slowest = max(slowest, seconds)
            results[f"{path.suffix} {outcome if seconds < SLOWEST_SECONDS else 'slow'}"] += 1
    for outcome, count in sorted(results.items()):
        print(f"{count:8,} {outcome}")
    print(f"slowest: {slowest:.2f} s")
    for name, data in failures.items():
        Path(f"failure-{abs(hash(name)) % 10_000}.bin").write_bytes(data)
        print(name)
    return int(bool(failures))


def try_reading(data: bytes, name: str, failures: dict[str, bytes]) -> str:
    """Read a document; a failure is noted with what it was."""
    try:
        read_document(Source(name=name, read=lambda: data))
    except EpigoneError as error:
        return type(error).__name__
    except Exception as error:  # noqa: BLE001  # that is what is searched for
        where = traceback.extract_tb(error.__traceback__)[-1]
        failures.setdefault(f"{type(error).__name__}: {error!s:.80} in {where.filename}:{where.lineno}", data)
        return "FAILED"
    return "read"


def damage(data: bytes, generator: random.Random) -> bytes:
    """A damaged copy: of an archive mostly one of its parts, else bytes anywhere."""
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
    """Bytes with some changed, inserted, deleted, repeated or moved."""
    found = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 4, 16, 64))):
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
        else:
            del found[generator.randrange(len(found) + 1) :]
        if len(found) > 20 * LARGEST_BYTES:
            break
    return bytes(found)


if __name__ == "__main__":
    sys.exit(main())
