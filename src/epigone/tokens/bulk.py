"""Bulk encoding: portions of a corpus become shards of ids, by any number of processes that share a folder.

The folder has the job (what is to be done), the tokenizer, and for each portion that is done a record. A process looks
for a portion that has neither a record nor a claim, encodes it, and writes its record last. What a lost process left
half done has no record and is done again, with the same result. Before, in the same way, a sample of the text is read,
from which one process chooses the tokenizer.

As a program, `python -m epigone.tokens.bulk FOLDER`, it helps with the job in a folder until that is done or its
standard input is closed. Needs no torch.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import Tokenizer

from epigone.corpus.corpus import Corpus, FileReceipt
from epigone.corpus.large_text import slice_text
from epigone.corpus.portions import HowToSplit, Portion, read_portion, split_portion
from epigone.corpus.split import Span, read_span
from epigone.errors import EpigoneError, OutputError, RunDamaged, RunExists
from epigone.files import CANNOT_WRITE, list_names, make_folder, name_temporary, remove, write_bytes
from epigone.leases import ENDING, POLL_SECONDS, Leases
from epigone.settings import ReadSettings
from epigone.tokens.encoder import TextEncoder
from epigone.tokens.shards import IDS, Shard, find_unfinished, write_shard
from epigone.tokens.tokenizer import LEARNING_CHARACTERS, BPETokenizer, cut_into_blocks

WORK = "work"
JOB, START, TOKENIZER = "job.json", "start.json", "tokenizer.json"
SAMPLED_PORTIONS = 64
"""From which the base is chosen and a tokenizer is learned, at even distances."""
SAMPLE_CHARACTERS = 1 << 16
"""In one place of a sample."""
MANY = 1_000
"""Of so many portions, more than one is encoded between two looks at what is done: listing the folder takes time."""
WatchBytes = Callable[[int, int], None]
M = TypeVar("M", bound="BulkRecord")


class BulkRecord(BaseModel):
    """A file of a job: frozen, with the number of its format; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1


class Job(BulkRecord):
    """What is to be encoded, and how it is read and divided."""

    texts: tuple[str, ...]
    read: ReadSettings
    unwrap: Literal["auto", "yes", "no"]
    how: HowToSplit
    seed: int
    portions: tuple[Portion, ...]
    skipped: tuple[str, ...]
    held_out: str
    """What is held out, in words."""

    @property
    def n_bytes(self) -> int:
        """Of all portions."""
        return sum(portion.n_bytes for portion in self.portions)


class JobStart(BulkRecord):
    """What was chosen from a sample of the text: the base, whose tokenizer it is, and how texts begin and end."""

    base: str
    base_reason: str
    vocab_size: int
    vocab_reason: str
    end_of_text: str
    start_text: str
    stop_at: Literal["sentence", "line"]


class PortionRecord(BulkRecord):
    """What became of a portion."""

    train: Shard | None
    validation: Shard | None
    files: tuple[FileReceipt, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BulkFolder:
    """The folder of a job."""

    path: Path

    @property
    def work(self) -> Path:
        """Records and claims."""
        return self.path / WORK

    @property
    def ids(self) -> Path:
        """The shards."""
        return self.path / IDS

    def begin(self, job: Job) -> Job:
        """The job, written down unless it is there: the first process that has found out what to do says so for all.

        Raises RunExists where the folder is another job's, OutputError.
        """
        try:
            make_folder(self.work)
            beside = name_temporary(self.work)
            write_bytes(beside, _encode(job))
            _put_unless_there(beside, self.work / JOB)
        except OSError as error:
            raise OutputError(f"{self.work} cannot be written: {error.strerror}.", hint=CANNOT_WRITE) from None
        found = self.read_job()
        if found != job:
            raise RunExists(
                f"{self.path} was begun with other texts or settings, or its texts have changed since.",
                hint="Give the same ones, or another folder.",
            )
        return found

    def read_job(self) -> Job:
        """Raises RunDamaged."""
        return _read(Job, self.work / JOB)

    def find_start(self) -> JobStart | None:
        """What was chosen, if it was."""
        path = self.work / START
        return _read(JobStart, path) if path.exists() else None

    def write_start(self, start: JobStart, tokenizer: BPETokenizer) -> None:
        """Keep what was chosen. Raises OutputError."""
        write_bytes(self.path / TOKENIZER, tokenizer.backend.to_str().encode())
        write_bytes(self.work / START, _encode(start))

    def load_tokenizer(self, start: JobStart) -> BPETokenizer:
        """Raises RunDamaged."""
        try:
            return BPETokenizer(Tokenizer.from_file(str(self.path / TOKENIZER)), start.end_of_text)
        except Exception as error:  # noqa: BLE001  # tokenizers raises nothing more specific
            raise RunDamaged(
                f"{self.path / TOKENIZER} cannot be read: {error}.", hint="Prepare the text again."
            ) from None

    def name_record(self, number: int) -> Path:
        """Where the record of a portion is."""
        return self.work / f"portion-{number:06d}.json"

    def list_done(self) -> set[int]:
        """The portions that have a record. Raises FileUnreadable."""
        return {int(name[8:14]) for name in list_names(self.work) if _is_record(name)}

    def read_record(self, number: int) -> PortionRecord:
        """Raises RunDamaged."""
        return _read(PortionRecord, self.name_record(number))

    def name_sample(self, number: int) -> Path:
        """Where the sample of a portion is until everything is done."""
        return self.work / f"sample-{number:06d}.json"


def _put_unless_there(beside: Path, path: Path) -> None:
    """Give a whole file its name unless another process was first; some file systems have no links. Raises OSError."""
    try:
        os.link(beside, path)
    except FileExistsError:
        pass
    except OSError:
        if not path.exists():
            beside.replace(path)
    beside.unlink(missing_ok=True)


def _is_record(name: str) -> bool:
    return name.startswith("portion-") and name.endswith(".json")


def _encode(record: BaseModel) -> bytes:
    return record.model_dump_json().encode("utf-8", "surrogatepass")


def _read(kind: type[M], path: Path) -> M:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        why = str(error).partition("\n")[0]
        raise RunDamaged(f"{path} cannot be read: {why}.", hint="Prepare the text again, in another folder.") from None


# -- the sample


def list_sampled(job: Job) -> list[int]:
    """The portions that are sampled."""
    numbers = [number for number, portion in enumerate(job.portions) if portion.part == "train"]
    count = min(SAMPLED_PORTIONS, len(numbers))
    return [numbers[number * len(numbers) // count] for number in range(count)]


def sample_all(folder: BulkFolder, watch: WatchBytes = lambda n_done, n_all: None) -> None:
    """Read what no other process does of the sample, until it is there or something was chosen from it.

    Raises the error of a portion that cannot be read.
    """
    job, leases = folder.read_job(), Leases(folder.work)
    chosen = list_sampled(job)
    n_all = sum(job.portions[number].n_bytes for number in chosen)
    while folder.find_start() is None:
        names = set(list_names(folder.work))
        missing = [number for number in chosen if folder.name_sample(number).name not in names]
        watch(n_all - sum(job.portions[number].n_bytes for number in missing), n_all)
        if not missing:
            return
        free = [number for number in missing if f"{folder.name_sample(number).stem}{ENDING}" not in names]
        if not _sample_one(job, (free or missing)[0], folder, leases):
            time.sleep(POLL_SECONDS)


def _sample_one(job: Job, number: int, folder: BulkFolder, leases: Leases) -> bool:
    """Whether this process has read the sample of a portion: training text, nothing of what is held out."""
    path = folder.name_sample(number)
    with leases.claim(path.stem) as is_ours:
        if not is_ours or path.exists() or folder.find_start() is not None:
            return False
        corpus, train, _ = read_parts(job, number, folder.work)
        texts = sample_text(corpus, train, LEARNING_CHARACTERS // len(list_sampled(job)))
        found = json.dumps([len(corpus.documents), texts], ensure_ascii=False)
        write_bytes(path, found.encode("utf-8", "surrogatepass"))
        return True


def read_sample(folder: BulkFolder, job: Job) -> tuple[list[str], int]:
    """The sample, which is there, and the number of documents, about, in all. Raises RunDamaged."""
    found, n_documents, chosen = list[str](), 0, list_sampled(job)
    for path in map(folder.name_sample, chosen):
        try:
            n_own, texts = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
        except (OSError, ValueError) as error:
            raise RunDamaged(f"{path} cannot be read: {error}.", hint="Prepare the text again.") from None
        n_documents, found = n_documents + n_own, found + texts
    n_train = sum(portion.part == "train" for portion in job.portions)
    return found, n_documents * n_train // max(1, len(chosen))


def remove_sample(folder: BulkFolder, job: Job) -> None:
    """Delete it, also what a process has read of it too late."""
    for path in map(folder.name_sample, list_sampled(job)):
        remove(path)


# -- encoding


def read_parts(job: Job, number: int, folder: Path) -> tuple[Corpus, list[Span], list[Span]]:
    """The text of a portion, and its spans to train on and to validate on. Raises TextError, OutputError."""
    portion = job.portions[number]
    corpus = read_portion(portion, job.read, folder, unwrap=job.unwrap)
    train, validation = split_portion(portion, corpus, job.how, job.seed + number)
    return corpus, train, validation


def encode_portion(job: Job, number: int, folder: BulkFolder, encoder: TextEncoder) -> PortionRecord:
    """Encode a portion. Raises TextError, OutputError."""
    corpus, *parts = read_parts(job, number, folder.work)
    goes_on = job.portions[number].goes_on
    try:
        train, validation = (
            _write_spans(corpus, spans, folder.ids, number, encoder, goes_on=goes_on and spans is parts[0])
            for spans in parts
        )
    except OSError as error:
        raise OutputError(f"{folder.ids} cannot be written: {error.strerror}.", hint=CANNOT_WRITE) from None
    return PortionRecord(train=train, validation=validation, files=corpus.files, skipped=corpus.skipped)


def _write_spans(
    corpus: Corpus, spans: Sequence[Span], folder: Path, number: int, encoder: TextEncoder, *, goes_on: bool
) -> Shard | None:
    last = 0 if goes_on else -1
    with write_shard(folder, encoder.dtype, number) as (writer, found):
        for span in spans:
            if span.document != last:
                writer.begin_document(encoder.tokenizer.end_of_text_id)
                last = span.document
            for block in cut_into_blocks(read_span(corpus, span)):
                writer.add(encoder.encode(block), block)
    return found[0] if found else None


# -- the work of a process


def encode_all(folder: BulkFolder, watch: WatchBytes = lambda n_done, n_all: None, *, first: int = 0) -> None:
    """Encode what no other process does, until everything is done by someone; all begin at another portion, `first`.

    Raises the error of a portion that cannot be read: the other processes will find it, too.
    """
    job = folder.read_job()
    start = folder.find_start()
    assert start is not None
    encoder, leases = TextEncoder(folder.load_tokenizer(start)), Leases(folder.work)
    n_portions = len(job.portions)
    order = [(first + number) % n_portions for number in range(n_portions)]
    while True:
        done, claimed = folder.list_done(), _list_claimed(folder)
        watch(sum(job.portions[number].n_bytes for number in done), job.n_bytes)
        if len(done) == n_portions:
            return
        open_ones = [number for number in order if number not in done]
        free = [number for number in open_ones if number not in claimed]
        some = (free or open_ones)[: 1 + n_portions // MANY]
        if not sum(_encode_one(job, number, folder, encoder, leases) for number in some):
            time.sleep(POLL_SECONDS)


def _encode_one(job: Job, number: int, folder: BulkFolder, encoder: TextEncoder, leases: Leases) -> bool:
    """Whether this process has encoded a portion."""
    path = folder.name_record(number)
    if path.exists():
        return False
    with leases.claim(path.stem, partial(find_unfinished, folder.ids, number)) as is_ours:
        if not is_ours or path.exists():
            return False
        try:
            record = encode_portion(job, number, folder, encoder)
        except OutputError:
            if leases.holds(path.stem):
                raise
            return False  # this process was taken for lost, and its files were deleted
        write_bytes(path, _encode(record))
        return True


def _list_claimed(folder: BulkFolder) -> set[int]:
    names = list_names(folder.work)
    return {int(name[8:14]) for name in names if name.startswith("portion-") and name.endswith(ENDING)}


# -- helpers


@contextmanager
def helped(folder: BulkFolder, n_helpers: int) -> Iterator[None]:
    """Within it, so many other processes of this machine take part in the job."""
    import subprocess

    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "epigone.tokens.bulk", str(folder.path)]
    helpers = [
        subprocess.Popen(
            [*command, str(number), str(n_helpers + 1)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        for number in range(1, n_helpers + 1)
    ]
    try:
        yield
    finally:
        for helper in helpers:
            helper.kill()
        for helper in helpers:
            helper.communicate()


def _help(path: str, number: int, n_processes: int) -> None:
    """What a helper does. The process that started it finds its errors, too, and says so."""
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    folder = BulkFolder(Path(path))
    with suppress(EpigoneError, KeyboardInterrupt):
        sample_all(folder)
        while folder.find_start() is None:
            time.sleep(POLL_SECONDS)
        encode_all(folder, first=number * len(folder.read_job().portions) // n_processes)


def _end_with_standard_input() -> None:
    """It is closed when the process that started this one ends, however that ends."""
    with suppress(OSError):
        sys.stdin.buffer.read()
    os._exit(0)


def sample_text(corpus: Corpus, spans: Sequence[Span], n_most: int) -> list[str]:
    """At most so many characters of some spans, from even distances in each."""
    n_all = sum(map(len, spans))
    found = []
    for span in spans:
        text = read_span(corpus, span)
        n_own = len(text) if n_all <= n_most else max(1, len(text) * n_most // n_all)
        n_places = max(1, n_own // SAMPLE_CHARACTERS)
        for place in range(n_places):
            start = (len(text) - n_own // n_places) * place // max(1, n_places - 1)
            found.append(str(slice_text(text, start, start + n_own // n_places)))
    return found


if __name__ == "__main__":
    _help(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
