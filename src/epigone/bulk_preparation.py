"""Preparation of large texts, once and for any number of runs: by all processes of all hosts, none of which waits.

`epigone prepare` and the first part of `epigone train` come here. What is chosen for the whole text (the base, whose
tokenizer is used, or a new tokenizer) is chosen by one process from a sample that all read, while the others wait; then
all encode (tokens/bulk.py), and the first one that finds everything done joins the shards in a manifest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from epigone.corpus.corpus import FileReceipt, StageCallback, ignore_stages
from epigone.corpus.large_text import Text
from epigone.corpus.portions import PORTION_BYTES, Portion, divide, hold_out
from epigone.corpus.sources import find_sources
from epigone.corpus.split import CAPPED, cap_share
from epigone.errors import RunDamaged, RunNotFound, SettingsError, TextTooShort, quote_command
from epigone.files import read_bytes, remove, write_bytes
from epigone.leases import POLL_SECONDS, Leases
from epigone.model.hub import find_base
from epigone.planning.choice import Choice
from epigone.planning.choose_base import BaseChoice
from epigone.runs.records import PartReceipt, Receipt, SplitReceipt, read_record
from epigone.settings import ReadSettings, TrainSettings, flag_name
from epigone.starting_point import StartingPoint
from epigone.tokens.bulk import (
    BulkFolder,
    Job,
    JobStart,
    PortionRecord,
    encode_all,
    helped,
    read_sample,
    remove_sample,
    sample_all,
)
from epigone.tokens.dataset import FACTS, TokenDataset, load_tokens
from epigone.tokens.encoder import TextEncoder
from epigone.tokens.shards import Shard, ShardManifest, find_damaged
from epigone.tokens.tokenizer import BPETokenizer, train_tokenizer

LARGE_BYTES = 200_000_000
"""From here on `train` prepares a text in shards. A shorter one is read whole, by one process, in a minute or two."""
LOOKED_AT = 1 << 24
"""Characters of these from which the base is chosen."""
RECEIPT = "receipt.json"
ChooseStart = Callable[[Sequence[Text], int], StartingPoint]
"""A starting point from a sample of the text and the size of all of it, in bytes."""
DescribeEnds = Callable[[Sequence[Text], int], tuple[str, str]]
"""How a text begins and ends, from a sample of it and the number of documents."""


@dataclass(frozen=True, kw_only=True)
class BulkText:
    """A prepared text: mapped, not read."""

    record: JobStart
    tokenizer: BPETokenizer
    tokens: TokenDataset
    receipt: Receipt

    @property
    def choice(self) -> BaseChoice:
        """The base and the vocabulary that were chosen."""
        found = self.record
        return BaseChoice(Choice(found.base, found.base_reason), Choice(found.vocab_size, found.vocab_reason))


def is_large(texts: Sequence[str], settings: TrainSettings) -> bool:
    """Whether the texts are worth preparing in shards, and can be: speakers are counted over all texts together."""
    if settings.speaker or settings.anonymize:
        return False
    return sum(source.n_bytes for source in find_sources(texts).sources) >= LARGE_BYTES


def find_prepared(texts: Sequence[str]) -> Path | None:
    """The folder with prepared texts, if that is what was given. Raises SettingsError."""
    found = [Path(text) for text in texts if is_prepared(Path(text))]
    if found and len(texts) > 1:
        raise SettingsError(
            f"{found[0]} has prepared texts, which cannot be added to.", hint="Give it alone, or prepare all together."
        )
    return found[0] if found else None


def is_prepared(path: Path) -> bool:
    """Whether a folder has what `prepare` makes, complete or not."""
    return (path / "work" / "job.json").is_file()


# -- the job


def make_job(texts: Sequence[str], settings: TrainSettings, n_bytes: int = PORTION_BYTES) -> Job:
    """What is to be encoded, in portions of about `n_bytes`. Raises TextError, SettingsError."""
    for name in ("speaker", "anonymize"):
        if getattr(settings, name):
            raise SettingsError(
                f"--{name} looks at all texts together, and these are read in parts by several processes.",
                hint="Prepare the texts of the speaker first, or train on less text at once.",
            )
    read = ReadSettings(**{name: getattr(settings, name) for name in ReadSettings.model_fields})
    portions, skipped = divide(texts, read, n_bytes)
    if isinstance(settings.validation, str):
        held_out, more = divide([settings.validation], read, n_bytes)
        portions += [Portion(pieces=portion.pieces, part="validation") for portion in held_out]
        skipped, why = [*skipped, *more], "a separate text"
    else:
        size = sum(portion.n_bytes for portion in portions)
        share = cap_share(settings.validation, size)
        portions = hold_out(portions, share * size, settings.split)
        what = "the end of the text" if settings.split == "tail" else "passages spread over the text"
        why = what if share == settings.validation else f"{what}; {CAPPED}"
    return Job(
        texts=tuple(texts),
        read=read,
        unwrap=settings.unwrap,
        how=settings.split,
        seed=settings.seed,
        portions=tuple(portions),
        skipped=tuple(skipped),
        held_out=why,
    )


def name_job(job: Job) -> str:
    """A name that equal jobs have in common."""
    return sha256(job.model_dump_json().encode("utf-8", "surrogatepass")).hexdigest()[:16]


# -- preparing


def prepare_bulk(
    job: Job,
    path: Path,
    choose: ChooseStart,
    describe: DescribeEnds,
    *,
    n_helpers: int = 0,
    watch: StageCallback = ignore_stages,
) -> BulkText:
    """Do the job in a folder, together with all who do the same there, and open what comes of it.

    `choose` and `describe` are called by the one process that chooses. Raises TextError, BaseError, SettingsError,
    RunExists, RunDamaged, OutputError.
    """
    folder = BulkFolder(path)
    folder.begin(job)
    if not (path / FACTS).exists():
        n_helpers = min(n_helpers, len(job.portions) - 1)
        first = int.from_bytes(os.urandom(4)) % len(job.portions) if n_helpers == 0 else 0
        with helped(folder, n_helpers):
            _make_start(folder, job, choose, describe, watch)
            encode_all(folder, partial(watch, "Encoding"), first=first)
        _join(folder, job)
    return open_bulk(path)


def open_bulk(path: Path) -> BulkText:
    """What was prepared in a folder. Raises RunNotFound if it is not complete, RunDamaged."""
    folder = BulkFolder(path)
    start = folder.find_start()
    if start is None or not (path / FACTS).exists():
        raise RunNotFound(
            f"What is prepared in {path} is not complete.", hint="Give the same epigone prepare again: it goes on."
        )
    tokens = load_tokens(path)
    try:
        receipt = read_record(Receipt, read_bytes(path / RECEIPT))
    except ValueError as error:
        raise RunDamaged(f"{path / RECEIPT} cannot be read: {error}.", hint="Prepare the text again.") from None
    return BulkText(record=start, tokenizer=folder.load_tokenizer(start), tokens=tokens, receipt=receipt)


def mend_bulk(path: Path) -> int:
    """Look through all shards, and have those made again that are not what was written: how many there are.

    Raises RunDamaged.
    """
    folder = BulkFolder(path)
    n_damaged = 0
    start = folder.find_start()
    if start is None:
        return 0
    dtype = TextEncoder(folder.load_tokenizer(start)).dtype
    for number in sorted(folder.list_done()):
        record = folder.read_record(number)
        if find_damaged(folder.ids, [one for one in (record.train, record.validation) if one], dtype):
            n_damaged += 1
            remove(folder.name_record(number))
    if n_damaged:
        remove(path / FACTS)
    return n_damaged


def _make_start(
    folder: BulkFolder, job: Job, choose: ChooseStart, describe: DescribeEnds, watch: StageCallback
) -> None:
    """Choose where to start, unless another process does."""
    leases = Leases(folder.work)
    while folder.find_start() is None:
        sample_all(folder, partial(watch, "Reading a sample"))
        with leases.claim("start") as is_ours:
            if is_ours and folder.find_start() is None:
                _choose(folder, job, choose, describe, watch)
        if not is_ours:
            watch("Waiting for the tokenizer", 0, 0)
            time.sleep(POLL_SECONDS)


def _choose(folder: BulkFolder, job: Job, choose: ChooseStart, describe: DescribeEnds, watch: StageCallback) -> None:
    sample, n_documents = read_sample(folder, job)
    if not sample:
        raise TextTooShort("The text is too short to learn from.", hint="Give more text.")
    start = choose(_take(sample, LOOKED_AT), job.n_bytes)
    tokenizer = start.load_tokenizer()
    if tokenizer is None:
        watch("Training the tokenizer", 0, 0)
        tokenizer = train_tokenizer(sample, start.choice.vocab_size.value)
    start_text, stop_at = describe(sample, n_documents)
    record = JobStart.model_validate(
        {
            "base": start.choice.base.value,
            "base_reason": start.choice.base.reason,
            "vocab_size": start.choice.vocab_size.value,
            "vocab_reason": start.choice.vocab_size.reason,
            "end_of_text": tokenizer.end_of_text,
            "start_text": start_text,
            "stop_at": stop_at,
        }
    )
    folder.write_start(record, tokenizer)


def _take(texts: Sequence[str], n_most: int) -> list[str]:
    """Of each text the same share, so that all together have at most so many characters."""
    share = min(1.0, n_most / max(1, sum(map(len, texts))))
    return [text[: max(1, int(share * len(text)))] for text in texts]


# -- joining


def _join(folder: BulkFolder, job: Job) -> None:
    """Write the receipt and then the manifest; two processes that do it at once write the same."""
    remove_sample(folder, job)
    records = [folder.read_record(number) for number in range(len(job.portions))]
    train, validation = ([one for one in parts if one] for parts in _list_parts(records))
    if not train or not validation:
        raise TextTooShort(
            "There is too little text to divide into training and validation text.",
            hint="Give more text, or hold out another share.",
        )
    tokenizer = (folder.path / "tokenizer.json").read_bytes()
    start = folder.find_start()
    assert start is not None
    manifest = ShardManifest(
        dtype="uint16" if TextEncoder(folder.load_tokenizer(start)).dtype.itemsize == 2 else "uint32",
        base=start.base,
        tokenizer_sha256=sha256(tokenizer).hexdigest(),
        train=tuple(train),
        validation=tuple(validation),
    )
    write_bytes(folder.path / RECEIPT, _make_receipt(job, records, train, validation).encode())
    write_bytes(folder.path / FACTS, manifest.model_dump_json(indent=1).encode())


def _list_parts(records: Sequence[PortionRecord]) -> tuple[list[Shard | None], list[Shard | None]]:
    return [record.train for record in records], [record.validation for record in records]


def _make_receipt(
    job: Job, records: Sequence[PortionRecord], train: Sequence[Shard], validation: Sequence[Shard]
) -> Receipt:
    of_part: dict[str, list[FileReceipt]] = {"train": [], "validation": []}
    for portion, record in zip(job.portions, records, strict=True):
        of_part[portion.part] += record.files
    files = of_part["train"]
    n_held, n_all = (sum(shard.n_characters for shard in part) for part in (validation, [*train, *validation]))
    reason = f"{job.held_out}: {n_held:,} of {n_all:,} characters ({n_held / n_all:.1%})"
    return Receipt(
        files=tuple(files),
        held_out_files=tuple(of_part["validation"]),
        skipped=(*job.skipped, *(line for record in records for line in record.skipped)),
        fingerprint=sha256("".join(file.sha256 for file in files).encode()).hexdigest(),
        n_characters=sum(file.n_characters for file in files),
        n_bytes=sum(file.n_bytes_utf8 for file in files),
        split=SplitReceipt(how="file" if of_part["validation"] else job.how, reason=reason, held_out=()),
        train=_count(train),
        validation=_count(validation),
    )


def _count(shards: Sequence[Shard]) -> PartReceipt:
    n_documents = sum(shard.n_documents for shard in shards)
    n_tokens = sum(shard.n_ids for shard in shards) - n_documents
    n_bytes = sum(shard.n_bytes for shard in shards)
    return PartReceipt(
        n_documents=n_documents,
        n_characters=sum(shard.n_characters for shard in shards),
        n_bytes=n_bytes,
        n_tokens=n_tokens,
        bytes_per_token=round(n_bytes / max(1, n_tokens), 4),
    )


# -- training from it


def prepared_key(path: Path) -> str:
    """The name in a run of what was prepared elsewhere: that of its content. Raises FileUnreadable, RunNotFound."""
    if not (path / FACTS).exists():
        open_bulk(path)  # says that it is not complete
    return sha256(read_bytes(path / FACTS)).hexdigest()[:16]


def check_unchanged(path: Path, settings: TrainSettings) -> None:
    """Raise SettingsError where a setting asks for what was decided when the text was prepared."""
    usual = TrainSettings()
    for name in (*ReadSettings.model_fields, "unwrap", "validation", "split"):
        if getattr(settings, name) != getattr(usual, name):
            raise SettingsError(
                f"{path} is already prepared: {flag_name(name)} has no effect any more.",
                hint="Give it to epigone prepare, with another folder.",
            )


def start_from(text: BulkText, settings: TrainSettings, path: Path) -> StartingPoint:
    """The starting point that a prepared text is for. Raises SettingsError where another one is asked for."""
    base = text.record.base
    if settings.base not in ("auto", base):
        raise SettingsError(
            f"{path} was prepared for the base {base}, not for {settings.base}: its tokens are of that tokenizer.",
            hint=f"Leave --base out, or prepare the text for it: {quote_command('epigone', 'prepare')} … --base …",
        )
    if settings.vocab_size not in ("auto", text.record.vocab_size):
        raise SettingsError(
            f"{path} was prepared with {text.record.vocab_size:,} tokens.", hint="Leave --vocab-size out."
        )
    found = None if base == "none" else find_base(base)
    return StartingPoint(settings=settings, choice=text.choice, base=found)
