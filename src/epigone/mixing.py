"""Mixing of voices: several runs or models as one, by their weights or, where these do not fit, their probabilities."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors.torch import save_file

from epigone.corpus.large_text import Text
from epigone.errors import OutputError, SettingsError
from epigone.files import check_room, create_file, make_folder, read_bytes, write_bytes, write_whole
from epigone.hardware import Hardware
from epigone.model.combination import MixedDecoder, began_alike, mix_weights
from epigone.model.decoder import Decoder, FastDecoder, choose_weight_format, open_decoder
from epigone.model.hub import CONFIG, SMALL_FILES, WEIGHTS
from epigone.model.weights import Weights, keep_temperature, read_temperature, read_weights
from epigone.runs.folder import RunFolder
from epigone.runs.model_folder import PathOrName, find_model_folder
from epigone.runs.records import ModelFacts
from epigone.settings import WriteSettings, make_settings, parse_mix
from epigone.tokens.tokenizer import BPETokenizer, load_tokenizer

MOST_TOGETHER = 1 + 1e-9
"""Shares may add up to this: 0.1, 0.2 and 0.7 are more than 1 in binary."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the models of a mixture."""

    name: str
    share: float
    folder: Path
    """Of its model."""
    run: RunFolder | None

    @cached_property
    def facts(self) -> ModelFacts:
        """Of its run; without a run, as they usually are."""
        return self.run.read_model_facts() if self.run else ModelFacts()

    @property
    def base(self) -> str:
        """What it was tuned from; its own name where it has no run."""
        return self.facts.base if self.run else self.name


class Mixture:
    """Models with their shares, which add up to 1; most often one model alone."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """Raises SettingsError where their tokenizers differ."""
        self.parts = parts
        self.leading = max(parts, key=lambda part: part.share)
        """The part with the largest share, the first of several, which says how a text begins and ends."""
        self.tokenizer: BPETokenizer = load_tokenizer(self.leading.folder)
        for part in parts:
            if part is not self.leading and not _have_same_tokens(self.tokenizer, load_tokenizer(part.folder)):
                raise SettingsError(
                    f"{self.leading.name} and {part.name} cannot be mixed: their tokenizers differ.",
                    hint="Runs of one base can be mixed: train both with the same --base.",
                )

    @property
    def runs(self) -> list[RunFolder]:
        """Those of its parts that are runs."""
        return [part.run for part in self.parts if part.run]

    @property
    def base(self) -> str:
        """What all its parts were tuned from; "none" where that is not one model."""
        bases = {part.base for part in self.parts if part.run}
        return bases.pop() if len(bases) == 1 else "none"

    @property
    def temperature(self) -> float:
        """The mean of the parts' own."""
        return math.fsum(part.share * read_temperature(part.folder) for part in self.parts)

    def read_documents(self) -> list[Text]:
        """The training texts of all runs. Raises RunDamaged, OutputError."""
        return [document for run in self.runs for document in run.read_documents()]

    def read_learned(self) -> list[Text]:
        """The training texts of all runs, and after them those of the runs that they were tuned from.

        Raises RunDamaged, OutputError.
        """
        texts = self.read_documents()
        for run in self.runs:
            texts += run.read_before(texts)
        return texts

    def open_decoder(self, precision: str, hardware: Hardware) -> Decoder:
        """One model of the mixed weights, where they began from the same ones, else all of them side by side.

        Raises RunDamaged, SettingsError.
        """
        if len(self.parts) == 1:
            return open_decoder(self.leading.folder, precision, hardware)
        weights = self.mix_weights(hardware.device)
        if weights is not None:
            return FastDecoder(weights, choose_weight_format(precision, weights.n_parameters, hardware))
        decoders = [open_decoder(part.folder, precision, hardware) for part in self.parts]
        return MixedDecoder(decoders, [part.share for part in self.parts])

    def mix_weights(self, device: str = "cpu") -> Weights | None:
        """The mixed weights; None where the parts did not begin from the same ones. Raises RunDamaged."""
        several = [read_weights(part.folder, device) for part in self.parts]
        if not all(began_alike(several[0], other) for other in several[1:]):
            return None
        return mix_weights(several, [part.share for part in self.parts])


def _have_same_tokens(first: BPETokenizer, second: BPETokenizer) -> bool:
    one, other = (json.loads(tokenizer.backend.to_str())["model"] for tokenizer in (first, second))
    return first.end_of_text_id == second.end_of_text_id and one["vocab"] == other["vocab"]


def open_mixture(name: PathOrName, mix: Sequence[str] = (), *, progress: bool = False) -> Mixture:
    """A run or model, and those that are mixed into it, as the setting `mix` names them; without those of no share.

    Raises RunNotFound, RunDamaged, BaseError, SettingsError.
    """
    shares = divide_shares(str(name), mix)
    return Mixture([_open_part(one, share, progress=progress) for one, share in shares if share > 0])


def divide_shares(name: str, mix: Sequence[str]) -> list[tuple[str, float]]:
    """Each model with its share; what is left is divided between the first one and those without a share of their own.

    Raises SettingsError.
    """
    parts = [(name, None), *map(parse_mix, mix)]
    names = [one for one, _ in parts]
    if twice := next((one for one in names if names.count(one) > 1), None):
        raise SettingsError(f"{twice} is named twice in the mixture.", hint="Give each run once, with its share.")
    given = math.fsum(share for _, share in parts if share is not None)
    if given > MOST_TOGETHER:
        raise SettingsError(
            f"The shares in the mixture add up to {given:g}, which is more than 1.",
            hint=f"What they leave of 1 is the share of {name}.",
        )
    rest = max(0.0, 1 - given) / sum(share is None for _, share in parts)
    return [(one, rest if share is None else share) for one, share in parts]


def _open_part(name: str, share: float, *, progress: bool) -> Part:
    folder = find_model_folder(name, progress=progress)
    run = RunFolder.find(Path(name)) if RunFolder.is_run(Path(name)) else None
    return Part(name=name, share=share, folder=folder, run=run)


def mix(name: PathOrName, others: str | Sequence[str] | Mapping[str, float], out: PathOrName) -> Path:
    """Save a mixture of runs of one base as a model of its own, a stock GPT-2 folder that everything loads.

    `others`: as the setting `mix`, {"runs/poe": 0.4} or "runs/poe:0.4". Raises SettingsError, OutputError, and what
    `open_mixture` does.
    """
    mixture = open_mixture(name, make_settings(WriteSettings, {"mix": others}, source="mix()").mix)
    weights = mixture.mix_weights()
    if weights is None:
        names = " and ".join(part.name for part in mixture.parts)
        raise SettingsError(
            f"{names} did not begin from the same weights, so theirs cannot be mixed into one model.",
            hint="epigone write --mix mixes their probabilities.",
        )
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} already exists.", hint="Choose another name with --out.")
    make_folder(folder)
    for file in (CONFIG, *SMALL_FILES):
        if (mixture.leading.folder / file).exists():
            create_file(folder / file, read_bytes(mixture.leading.folder / file))
    keep_temperature(folder, round(mixture.temperature, 4))
    write_bytes(folder / "README.md", "".join(_describe(mixture)).encode())
    _save(weights, folder / WEIGHTS)
    return folder


def _save(weights: Weights, path: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in weights.tensors.items()}
    check_room(path.parent, sum(tensor.nbytes for tensor in tensors.values()), str(path))
    write_whole(path, lambda partial: save_file(tensors, partial, metadata={"format": "pt"}))


def _describe(mixture: Mixture) -> Iterator[str]:
    yield "# A mixture of voices\n\nThe weights of these models, by their shares (made by epigone mix):\n\n"
    for part in mixture.parts:
        yield f"- {part.share:.4g} of {json.dumps(Path(part.name).name, ensure_ascii=False)}\n"
    yield "\nIt is a GPT-2: epigone, transformers and everything else that loads one can write with it.\n"
