"""The models that are served, by name: found in folders, loaded when they are needed, unloaded when memory is short."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from threading import Lock, RLock
from typing import Literal

from epigone import __version__
from epigone.errors import EpigoneError, SettingsError
from epigone.generation.generator import TextGenerator
from epigone.hardware import find_free_bytes, find_hardware
from epigone.mixing import Mixture, open_mixture
from epigone.model.base_profile import BASES
from epigone.model.combination import CombinedDecoder, GuidedDecoder
from epigone.model.decoder import Decoder, FastDecoder, open_decoder
from epigone.model.hub import GENERATION, WEIGHTS, find_base
from epigone.run import open_generator, open_run
from epigone.runs.folder import RunFolder
from epigone.runs.listing import list_voice_folders, run_name
from epigone.runs.repair import CONFIG_AND_TOKENIZER
from epigone.serving.answers import ApiError, translate
from epigone.serving.engine import MOST_ROWS
from epigone.settings import WriteSettings

MOST_LOADED = 8
"""Models in memory at the same time."""
MOST_STRENGTHS = 8
"""Decoders with a strength of guidance that are kept for each model."""
SPARE_BYTES = 512 << 20
"""Memory that stays free for texts in progress, and for the machine."""
COPIES = 3
"""How many times the bytes of its file a model may take in memory: read, packed, and in fp32 for scores."""
PAUSE = 0.2
"""Seconds after which a model is read again whose files did not fit together: training may have been replacing them."""

CANNOT_MIX = "these models have different tokenizers; runs of one base can be mixed."
Kind = Literal["run", "base"]
Signature = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """A model that can be asked for by its name."""

    name: str
    kind: Kind
    folder: Path
    """Of the run, or of the base."""

    @property
    def model_folder(self) -> Path:
        """Where its weights are."""
        return self.folder / "model" if self.kind == "run" else self.folder

    @property
    def created(self) -> int:
        """When its weights were last written, in seconds since 1970; 0 where there are none yet."""
        with suppress(OSError):
            return int((self.model_folder / WEIGHTS).stat().st_mtime)
        return 0

    @property
    def n_bytes(self) -> int:
        """Of its weights on disk."""
        with suppress(OSError):
            return (self.model_folder / WEIGHTS).stat().st_size
        return 0

    @property
    def place(self) -> str:
        """What the library knows it by."""
        return self.name if self.kind == "base" else str(self.folder)

    def sign(self) -> Signature:
        """What changes when its files are replaced; empty where it has no weights."""
        found = []
        for name in (WEIGHTS, GENERATION, *CONFIG_AND_TOKENIZER):
            with suppress(OSError):
                stat = (self.model_folder / name).stat()
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found) if self.created else ()


Mix = tuple[tuple[ServedModel, float], ...]
"""Models that are mixed into another one, with their shares."""


class LoadedModel:
    """A model in memory. Threads may share it."""

    def __init__(self, served: ServedModel, signature: Signature, mix: Mix = ()) -> None:
        """`mix`: what else is mixed in. Raises EpigoneError."""
        self.served, self.signature, self.mix = served, signature, mix
        self._lock = RLock()
        self.last_used = time.monotonic()
        self._asked = WriteSettings(mix=tuple(f"{other.place}:{share:g}" for other, share in mix))
        self.generator: TextGenerator = open_generator(served.place, self._asked)
        _make_rows_alike(self.generator.decoder)
        self.fingerprint = f"epigone-{__version__}-{_hash_file_times(signature)}"
        self._guided: OrderedDict[float, Decoder] = OrderedDict()
        self._base: Decoder | None = None

    @cached_property
    def scorer(self) -> Decoder:
        """The same model in fp32, for exact log-probabilities."""
        with self._lock:
            return self._open_mixture().open_decoder("fp32", find_hardware())

    def choose_decoder(self, guidance: float) -> Decoder:
        """Its decoder with this strength of guidance. Raises ApiError, EpigoneError."""
        if guidance == 1:
            return self.generator.decoder
        with self._lock:
            if guidance not in self._guided:
                base = self._base = self._base or self._open_base()
                self._guided[guidance] = GuidedDecoder(self.generator.decoder, base, guidance)
                if len(self._guided) > MOST_STRENGTHS:
                    self._guided.popitem(last=False)
            self._guided.move_to_end(guidance)
            return self._guided[guidance]

    def _open_mixture(self) -> Mixture:
        return open_mixture(self.served.place, self._asked.mix)

    def _open_base(self) -> Decoder:
        base = self._open_mixture().base
        if base == "none":
            raise ApiError(400, "guidance: needs a run that was fine-tuned from a base.", param="guidance")
        decoder = open_decoder(find_base(base).folder, "auto", find_hardware())
        _make_rows_alike(decoder)
        return decoder

    @cached_property
    def token_names(self) -> list[str]:
        """What stands for each token in an answer: its text, or its bytes where they are no whole characters."""
        tokenizer = self.generator.tokenizer
        names = []
        for number, data in enumerate(self.generator.token_bytes):
            special = "" if data else tokenizer.backend.id_to_token(number)
            names.append(special or name_bytes(data) or f"token_id:{number}")
        return names

    @property
    def n_tokens(self) -> int:
        """Ids that a request may contain."""
        return len(self.generator.token_bytes)


def _make_rows_alike(decoder: Decoder) -> None:
    """So that a request gets the same text whatever is computed beside it. Other decoders compute one by one anyway."""
    for each in decoder.decoders if isinstance(decoder, CombinedDecoder) else [decoder]:
        if isinstance(each, FastDecoder):
            each.make_rows_alike(MOST_ROWS)


def name_bytes(data: bytes) -> str:
    """The text of bytes; where they are no whole characters, as OpenAI wrote them: bytes:\\xe2\\x80."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _hash_file_times(signature: Signature) -> str:
    return sha256(repr(signature).encode()).hexdigest()[:12]


class ModelLibrary:
    """All models that are served."""

    def __init__(self, runs: Path | None, named: Sequence[Path] = (), *, with_bases: bool = True) -> None:
        """Every run in the folder `runs`, whenever it comes, those that are `named`, and the bundled bases."""
        self._runs, self._named, self._with_bases = runs, list(named), with_bases
        self._loaded: dict[str, LoadedModel] = {}
        self._locks: dict[str, Lock] = {}
        self._lock = Lock()
        self.n_loads = 0

    def list_models(self) -> list[ServedModel]:
        """Those that are named, then runs, the newest first, then bases. No two have the same name."""
        runs = [path for run in [*self._named, *self._list_runs()] for path in (run, *list_voice_folders(run))]
        found: dict[str, ServedModel] = {}
        for folder in dict.fromkeys(path.resolve() for path in runs):
            name = _choose_name(run_name(folder), found)
            found[name] = ServedModel(name=name, kind="run", folder=folder)
        for base in BASES if self._with_bases else ():
            name = _choose_name(base, found)
            found[name] = ServedModel(name=name, kind="base", folder=BASES[base].folder)
        return list(found.values())

    def _list_runs(self) -> list[Path]:
        if self._runs is None or not self._runs.is_dir():
            return []
        with suppress(OSError):
            found = [path for path in self._runs.iterdir() if path.is_dir() and _is_run(path)]
            return sorted(found, key=_read_time, reverse=True)
        return []

    def find(self, name: str) -> ServedModel:
        """The model of a name; the first one that has weights for no name. Raises ApiError."""
        models = self.list_models()
        if not name:
            usable = next((model for model in models if model.created), None)
            if usable is not None:
                return usable
        found = next((model for model in models if model.name == name), None)
        if found is None:
            names = ", ".join(model.name for model in models[:10])
            raise ApiError(
                404,
                f"There is no model {name[:80]!r}. Models here: {names}.",
                kind="not_found_error",
                param="model",
                code="model_not_found",
            )
        return found

    def find_mixed(self, name: str, mix: Mapping[str, float]) -> tuple[ServedModel, Mix]:
        """The model of a name, and those that are mixed into it with their shares. Raises ApiError."""
        served = self.find(name)
        found = [(self.find(other), share) for other, share in mix.items()]
        if any(other == served for other, _ in found):
            raise ApiError(400, "mix: a model cannot be mixed with itself.", param="mix")
        return served, tuple((other, share) for other, share in found if share)

    def load(self, served: ServedModel, mix: Mix = ()) -> LoadedModel:
        """A model in memory, as its files are now, with others mixed in. Raises ApiError.

        May take seconds, so not for the event loop.
        """
        with self._lock:
            lock = self._locks.setdefault(served.name, Lock())
        with lock:
            try:
                return self._load(served, mix)
            except EpigoneError as error:
                if mix and isinstance(error, SettingsError):
                    raise ApiError(400, f"mix: {CANNOT_MIX}", param="mix") from None
                time.sleep(PAUSE)
            try:
                return self._load(served, mix)
            except EpigoneError as error:
                raise translate(error) from None

    def _load(self, served: ServedModel, mix: Mix) -> LoadedModel:
        parts = [served, *(other for other, _ in mix)]
        name = "+".join([served.name, *(f"{other.name}:{share:g}" for other, share in mix)])
        signature: Signature = tuple(place for part in parts for place in part.sign())
        kept = self._loaded.get(name)
        if kept is None or (kept.signature, kept.served, kept.mix) != (signature, served, mix):
            self._loaded.pop(name, None)
            self._make_room(COPIES * sum(part.n_bytes for part in parts))
            kept = LoadedModel(served, signature, mix)
            self.n_loads += 1
            with self._lock:
                self._loaded[name] = kept
        kept.last_used = time.monotonic()
        return kept

    def _make_room(self, n_bytes: int) -> None:
        """Unload the models that have not been used for longest, as many as it takes."""
        with self._lock:
            by_age = sorted(self._loaded, key=lambda name: self._loaded[name].last_used)
            device = find_hardware().device
            for name in by_age:
                if len(self._loaded) < MOST_LOADED and find_free_bytes(device) > n_bytes + SPARE_BYTES:
                    return
                del self._loaded[name]

    @property
    def loaded(self) -> list[str]:
        """The names of the models in memory."""
        return list(self._loaded)


def find_runs(names: Iterable[Path]) -> list[Path]:
    """The runs in these folders. Raises RunNotFound."""
    return [open_run(name).path for name in names]


def make_seed() -> int:
    """A seed that was not asked for."""
    return secrets.randbelow(2**32)


def _choose_name(name: str, taken: dict[str, ServedModel]) -> str:
    """The name with a number where there is another model of that name."""
    number, chosen = 2, name
    while chosen in taken:
        number, chosen = number + 1, f"{name}-{number}"
    return chosen


def _is_run(path: Path) -> bool:
    try:
        return RunFolder.is_run(path)
    except (EpigoneError, OSError):
        return False


def _read_time(path: Path) -> float:
    try:
        return max(path.stat().st_mtime, (path / "metrics.jsonl").stat().st_mtime)
    except OSError:
        return 0.0
