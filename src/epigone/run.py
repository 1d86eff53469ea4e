"""A trained run, or any GPT-2 by name: write with it, score texts, judge it, quiz on it and report it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from epigone.backend import has_amx
from epigone.corpus.large_text import read_some
from epigone.errors import BaseError, RunDamaged, RunIncompatible, SettingsError
from epigone.evaluation.quiz import Question, choose_passages, make_pair, make_quiz
from epigone.evaluation.verdict import UNTOUCHED
from epigone.files import hash_file, write_json
from epigone.generation.batch import StreamedText
from epigone.generation.generator import OnProgress, TextGenerator, WriteDefaults, ignore_progress
from epigone.generation.known_words import KnownWords, choose_words, gather_words
from epigone.hardware import find_hardware
from epigone.mixing import Mixture, open_mixture
from epigone.model.base_profile import BASES, find_root
from epigone.model.combination import GuidedDecoder
from epigone.model.decoder import open_decoder
from epigone.model.gpt2 import read_shape
from epigone.model.hub import GENERATION, WEIGHTS, find_base
from epigone.runs.folder import RunFolder
from epigone.runs.listing import list_voice_folders, run_name
from epigone.runs.model_folder import PathOrName, find_model_folder, no_model_yet
from epigone.settings import WriteSettings, make_settings
from epigone.tokens.tokenizer import load_tokenizer
from epigone.training.events import Evaluated, effective_history, find_best

if TYPE_CHECKING:
    from epigone.evaluation.attribution import Attribution
    from epigone.evaluation.candidates import BestText, CandidateRanking
    from epigone.evaluation.judge import Author
    from epigone.evaluation.sense import Critic
    from epigone.evaluation.verdict import Judgement
    from epigone.generation.scoring import Score


KEPT = "untouched.json"
HOW = {"count", "device", "precision"}
"""Settings on which text number n does not depend, but for rounding."""


DEFAULT_CRITIC = "small"
OTHER_CRITIC = (
    "A critic is a GPT-2: small or modern (included), a folder, or a name on the Hugging Face Hub such as gpt2. "
    "Or judge without one: --critic none."
)
WORDS_FROM = 1 << 23
"""Characters of the training text whose words are listed, which takes a second."""


def read_base_samples(folder: Path, prompt: str, asked: WriteSettings) -> list[str] | None:
    """The cached texts that are asked for; None where others are cached, or those of other weights."""
    try:
        kept = json.loads((folder / KEPT).read_text("utf-8"))
    except FileNotFoundError:
        return None
    texts: list[str] = kept["texts"].get(prompt, [])
    is_meant = kept["asked"] == _list_asked(asked) and kept["model"] == _name_model(folder)
    return texts[: asked.count] if is_meant and len(texts) >= asked.count else None


def save_base_samples(folder: Path, asked: WriteSettings, texts: Mapping[str, Sequence[str]]) -> None:
    """Put texts beside the weights that wrote them, by the prompts that they follow. Raises OutputError."""
    write_json(folder / KEPT, {"model": _name_model(folder), "asked": _list_asked(asked), "texts": dict(texts)})


def _list_asked(asked: WriteSettings) -> dict[str, object]:
    return asked.model_dump(mode="json", exclude=HOW, exclude_defaults=True)


def _name_model(folder: Path) -> str:
    """One hash of all that decides what a model writes."""
    return sha256(
        "".join(hash_file(folder / name) for name in (WEIGHTS, "tokenizer.json", GENERATION)).encode()
    ).hexdigest()


ONE_OF_TWO = "Leave out one of the two."
QUICK_TEXTS, FEW_QUICK_TEXTS, QUICK_CHARACTERS = 10, 4, 1_200
"""Texts, few by a large model, and characters of each that are written for the quick judgement."""
QUICK_PARAMETERS, MOST_PARAMETERS = 30_000_000, 200_000_000
"""Models of more parameters are large; of more than the second, one takes longer than a quick judgement is worth."""
QUICK_STYLE = 10_000
"""Characters from which on it says whether they sound like the author; with so few the bands are wide."""
LONGEST_JUDGED = 2_000
"""Characters of each of the texts that are written to be judged: many beginnings show more than one long text."""


class Run:
    """A finished or interrupted run: its numbers, and its best model to write with."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._generators: dict[tuple[object, ...], TextGenerator] = {}
        self._lock = Lock()
        """Held while a model is loaded, so that threads load it once."""

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def evaluations(self) -> list[Evaluated]:
        """One for each look at the held-out text, in order."""
        return [event for event in effective_history(self.folder.read_events()) if isinstance(event, Evaluated)]

    @property
    def best(self) -> Evaluated | None:
        """The evaluation whose weights model/ holds; None before the first one."""
        return find_best(self.evaluations)

    @property
    def voices(self) -> dict[str, Run]:
        """The runs of its voices by name, where it is the run of all texts of several voices."""
        return {path.name: Run(RunFolder.open(path)) for path in list_voice_folders(self.path)}

    @property
    def judgement(self) -> dict[str, Any] | None:
        """What `judge` found of the best model, as plain values; None where it was not judged since it is the best."""
        return self.folder.read_judgement()

    def write(self, prompt: str = "", **settings: Any) -> list[str]:
        """`count` texts that follow the prompt, without it; `settings` as in `WriteSettings`.

        Text n is drawn with seed + n; with `best_of`, as `write_best` says. Raises SettingsError, RunNotFound,
        RunDamaged, BaseError.
        """
        asked = make_settings(WriteSettings, settings, source="write()")
        if asked.best_of > 1:
            return [best.text for best in self.write_best(prompt, asked)]
        return self.open_generator(asked).write(prompt, asked)

    def stream(self, prompt: str = "", **settings: Any) -> Iterator[StreamedText]:
        """The same texts, piece by piece as they are written."""
        asked = make_settings(WriteSettings, settings, source="stream()")
        if asked.best_of > 1:
            raise SettingsError("The best of several texts is known at the end only.", hint="Use write().")
        return self.open_generator(asked).stream(prompt, asked)

    def write_best(
        self, prompt: str, settings: WriteSettings, first: int = 0, *, on_progress: OnProgress = ignore_progress
    ) -> Iterator[BestText]:
        """For each text from number `first` on the best of `settings.best_of` candidates, with all their scores.

        Candidate k of text n is drawn with (seed + n) * best_of + k, so that no two seeds share one.
        Raises what `write` does.
        """
        if self.best is None:
            raise no_model_yet(self.path)
        if settings.mix:
            raise SettingsError("--best-of is the nearest to one author, and --mix is of several.", hint=ONE_OF_TWO)
        generator, ranking, n_each = self.open_generator(settings), None, settings.best_of
        for number in range(first, settings.count):
            seed = (settings.seed + number) * n_each % 2**32
            asked = settings.model_copy(update={"count": n_each, "seed": seed})

            def report(n_done: int, n_most: int, number: int = number) -> None:
                on_progress(number * n_most + n_done, settings.count * n_most)

            records = list(generator.write_records(prompt, asked, on_progress=report))
            ranking = ranking or self.make_ranking([record.text for record in records])
            yield ranking.choose(records)

    def make_ranking(self, texts: Sequence[str]) -> CandidateRanking:
        """To rank texts by how near they are to the author, for texts about as long as these. Raises RunDamaged."""
        from epigone.evaluation.candidates import CandidateRanking, count_style_characters, measure_author

        lengths, documents = sorted(map(count_style_characters, texts)), self.folder.read_documents()
        style = measure_author(documents, self.folder.read_held_out(), max(1, lengths[len(lengths) // 2]))
        learned = [*documents, *self.folder.read_before(documents)]
        return CandidateRanking(learned, -self.best.loss if self.best else 0.0, style)

    def score(self, text: str, device: str = "auto") -> Score:
        """How well the best model predicts a text: loss, perplexity, bits per byte, and each line and token of it.

        Computed in fp32. Raises TextTooShort, TextUnreadable, SettingsError, RunNotFound, RunDamaged.
        """
        return score(self.path, text, device)

    def report(self, out: PathOrName | None = None) -> Path:
        """Write the page about the run, report.html in its folder or `out`, and return its path.

        Raises RunDamaged, OutputError.
        """
        from epigone.report.publish import publish_share_card, write_report

        publish_share_card(self.folder)
        return write_report(self.folder, None if out is None else Path(out))

    def quiz(self, count: int = 8, length: int = 60, *, seed: int = 0, device: str = "auto") -> tuple[Question, ...]:
        """A blind test: at most `count` passages of about `length` words, half held-out text and half the model's.

        Raises SettingsError, TextTooShort, RunNotFound, RunDamaged.
        """
        if count < 2 or length < 5:
            raise SettingsError("A quiz has 2 passages or more, of 5 words or more.", hint="See --count and --length.")
        settings = make_settings(WriteSettings, {"device": device, "unit": "words", "length": 3 * length})
        generator, chance = self.open_generator(settings), random.Random(seed)
        held_out = self.folder.read_some_held_out()
        pairs = []
        for number, (passage, context) in enumerate(
            choose_passages(held_out, generator.documents, count // 2, length, chance)
        ):
            written = generator.write(context, settings.model_copy(update={"seed": (seed + number) % 2**32}))[0]
            pair = make_pair(passage, written, length)
            pairs += [] if pair is None else [pair]
        return make_quiz(pairs, chance)

    def judge(
        self,
        n_characters: int = 50_000,
        *,
        others: Mapping[str, Sequence[str]] | None = None,
        critic: str = "auto",
        seed: int = 0,
        device: str = "auto",
    ) -> Judgement:
        """Let the best model write so much, and judge the text and the model; judgement.json and the page keep it.

        `others`: texts of other authors by their names, instead of those that come with the package. `critic`: as in
        `JudgeSettings`. Raises SettingsError, TextTooShort, RunNotFound, RunDamaged, BaseError, OutputError.
        """
        from epigone.evaluation.judge import TextJudge, add_base_reference, judge_model, measure_learning
        from epigone.report.publish import publish_card, write_report

        self.folder.check_no_links()
        best, model = self.best, self.folder.hash_model()
        if best is None:
            raise no_model_yet(self.path)
        author = self._read_author()
        first, facts = self.evaluations[0], self.folder.read_model_facts()
        asked = open_critic(critic, author, "" if facts.base == "none" else facts.base, device)
        texts, generator = self._write_to_be_judged(n_characters, seed, device)
        base = first.bits_per_byte if first.step == 0 and facts.base != "none" else None
        learning = measure_learning(self.folder, author, best.bits_per_byte, base, others, device=device)
        judge = TextJudge(author, others, critic=asked, seed=seed)
        judgement = judge_model(texts, judge, generator, learning, seed=seed)
        root = find_root(facts.base)
        if root in BASES:  # which are quick enough to be asked as well
            by_base = write_with_base(
                root, facts.start_text, judging_write_settings(max(1, n_characters // 2), seed, device)
            )
            judgement = add_base_reference(judgement, judge.judge(by_base, UNTOUCHED))
        self.folder.write_judgement(judgement.as_json(), model)
        with suppress(RunDamaged, RunIncompatible):  # they show the plan, which may be that of another version
            publish_card(self.folder)
            write_report(self.folder)
        return judgement

    def judge_quickly(self, device: str = "auto") -> Judgement | None:
        """Judge the best model by little text, and choose what the page shows of it; both are kept in the run.

        A judgement of the same model that is there already stays. None for a model of more than 200 million parameters.
        Raises RunNotFound, RunDamaged, OutputError.
        """
        from epigone.evaluation.candidates import CandidateRanking, measure_spread
        from epigone.evaluation.judge import TextJudge, name_written
        from epigone.evaluation.showcase import make_showcase
        from epigone.evaluation.verdict import Judgement

        best, model = self.best, self.folder.hash_model()
        if best is None:
            raise no_model_yet(self.path)
        n_parameters = read_shape(find_base(str(self.folder.model)).config).n_parameters
        if n_parameters > MOST_PARAMETERS:
            return None
        count = QUICK_TEXTS if n_parameters <= QUICK_PARAMETERS else FEW_QUICK_TEXTS
        how = {"length": QUICK_CHARACTERS, "unit": "characters", "count": count, "device": device}
        asked = make_settings(WriteSettings, how, source="judge_quickly()")
        records = list(self.open_generator(asked).write_records("", asked, find_sources=False))
        author, texts = self._read_author(), [record.text for record in records]
        judge = TextJudge(author, least_style=QUICK_STYLE)
        judgement = replace(judge.judge(texts, name_written(texts)), quick=True)
        style = None if judge.style.scales is None else measure_spread(judge.style.scales, texts)
        ranking = CandidateRanking([*author.documents, *author.before], -best.loss, style)
        language = "en" if judge.sense.words else ""
        showcase = make_showcase(records, ranking, self.folder.read_some_held_out(), model, language=language)
        self.folder.write_showcase(showcase)
        if (known := self.folder.read_judgement()) is not None:
            return Judgement.from_json(known)
        self.folder.write_judgement(judgement.as_json(), model)
        return judgement

    def _read_author(self) -> Author:
        from epigone.evaluation.judge import Author

        documents, share = self.folder.read_searched()
        return Author(
            name=", ".join(file.name for file in self.folder.read_receipt().files[:3]),
            documents=documents,
            held_out=self.folder.read_held_out(),
            before=self.folder.read_before(documents),
            share=share,
        )

    def _write_to_be_judged(self, n_characters: int, seed: int, device: str) -> tuple[list[str], TextGenerator]:
        asked = judging_write_settings(n_characters, seed, device)
        generator = self.open_generator(asked)
        return generator.write("", asked), generator

    def open_generator(self, settings: WriteSettings | None = None) -> TextGenerator:
        """The best model, loaded once for each device, precision, guidance and mixture. Threads may share it."""
        settings = settings or WriteSettings()
        key = (settings.device, settings.precision, settings.guidance, settings.mix)
        with self._lock:
            if key not in self._generators:
                self._generators[key] = open_generator(self.path, settings)
            return self._generators[key]


def open_critic(
    name: str, author: Author, base: str = "", device: str = "auto", *, progress: bool = False
) -> Critic | None:
    """The model to ask whether a text makes sense, by the setting `critic`; `base`: what the text's model started from.

    Raises BaseError, SettingsError.
    """
    from epigone.evaluation.judge import is_english
    from epigone.evaluation.sense import Critic

    if name == "auto":
        name = "none" if find_root(base) in BASES or not is_english(read_some(author.documents)) else DEFAULT_CRITIC
    if name == "none":
        return None
    hardware = find_hardware(device)
    try:
        folder = find_base(name, progress=progress).folder
    except BaseError as error:
        meant = f"{error.hint} " if error.hint.startswith("Did you mean") else ""
        raise type(error)(f"--critic {name}: {error}", hint=meant + OTHER_CRITIC) from None
    form = "bf16" if hardware.bf16 else "fp32"
    n_context = read_shape(find_base(str(folder)).config).n_positions
    return Critic(name, open_decoder(folder, form, hardware), load_tokenizer(folder), n_context)


def judging_write_settings(n_characters: int, seed: int = 0, device: str = "auto") -> WriteSettings:
    """To write texts to be judged."""
    length = min(LONGEST_JUDGED, n_characters)
    count, hardware = math.ceil(n_characters / length), find_hardware(device)
    how = {"length": length, "unit": "characters", "count": count, "seed": seed, "device": device}
    if hardware.device == "cpu" and has_amx() and count > 1:  # from a dozen texts on quicker than int8
        how["precision"] = "bf16"
    return make_settings(WriteSettings, how, source="judge()")


def write_with_base(base: str, start_text: str, asked: WriteSettings) -> list[str]:
    """What a bundled base writes before any training; cached texts where they are the ones asked for."""
    kept = read_base_samples(BASES[base].folder, start_text, asked)
    return kept or open_generator(base, asked).write(start_text, asked)


def open_run(path: PathOrName) -> Run:
    """The run in a folder. Raises RunNotFound."""
    return Run(RunFolder.find(Path(path)))


def score(name: PathOrName, text: str, device: str = "auto", *, progress: bool = False) -> Score:
    """How well a model predicts a text: a run's, or any GPT-2, from a folder or by its name on the hub.

    Raises what `Run.score` does, and BaseError.
    """
    from epigone.generation.scoring import score_text
    from epigone.model.gpt2 import load_model

    hardware, folder = find_hardware(device), find_model_folder(name, progress=progress)
    return score_text(load_model(folder, device=hardware.device), load_tokenizer(folder), text)


def attribute(
    text: str, *runs: PathOrName, device: str = "auto", on_progress: OnProgress = ignore_progress
) -> Attribution:
    """Who wrote this? The probability that it was the author of each of these runs, and that it was none of them.

    `on_progress` hears of runs that have been opened. Raises TextTooShort, SettingsError, RunNotFound, RunDamaged.
    """
    from epigone.evaluation.attribution import Candidate, LanguageModel, attribute

    if not runs:
        raise SettingsError("attribute() needs a run.", hint="Give the run of each author who may have written it.")
    hardware, bases, candidates = find_hardware(device), dict[str, LanguageModel](), list[Candidate]()
    alone = [one for run in runs for one in list_voice_folders(Path(run)) or [Path(run)]]

    def open_model(folder: Path) -> LanguageModel:
        return LanguageModel(
            open_decoder(folder, "bf16" if hardware.bf16 else "fp32", hardware), load_tokenizer(folder)
        )

    for number, run in enumerate(alone):
        folder = RunFolder.find(run)
        model, base = open_model(find_model_folder(run)), find_root(folder.read_model_facts().base)
        if base != "none" and base not in bases:
            bases[base] = open_model(find_base(base, progress=False).folder)
        candidates.append(
            Candidate(
                name=run_name(run),
                documents=folder.read_documents(),
                held_out="\n\n".join(folder.read_some_held_out()),
                model=model,
                base=bases.get(base),
            )
        )
        on_progress(number + 1, len(alone))
    return attribute(text, candidates)


def open_generator(name: PathOrName, settings: WriteSettings | None = None, *, progress: bool = False) -> TextGenerator:
    """A generator for a run's folder, or for any GPT-2, from a folder or by its name on the hub.

    Of the settings, mix, device, precision and guidance count. Raises RunNotFound, RunDamaged, BaseError and
    SettingsError.
    """
    settings = settings or WriteSettings()
    hardware, mixture = find_hardware(settings.device), open_mixture(name, settings.mix, progress=progress)
    decoder = mixture.open_decoder(settings.precision, hardware)
    if settings.guidance != 1:
        if mixture.base == "none":
            raise SettingsError("--guidance needs a run that was fine-tuned from a base.", hint="Leave it out.")
        base_decoder = open_decoder(find_base(mixture.base, progress=progress).folder, settings.precision, hardware)
        decoder = GuidedDecoder(decoder, base_decoder, settings.guidance)
    leading, words = mixture.leading, choose_words(mixture.leading.base)
    return TextGenerator(
        decoder,
        mixture.tokenizer,
        WriteDefaults(
            start_text=leading.facts.start_text,
            temperature=mixture.temperature,
            words=words,
            stop_at=leading.facts.stop_at,
        ),
        read_documents=mixture.read_documents if mixture.runs else None,
        read_learned=mixture.read_learned if mixture.runs else None,
        read_words=partial(_read_words, mixture) if mixture.runs or words == "known" else None,
    )


def _read_words(mixture: Mixture) -> KnownWords:
    """The words of the runs' training texts, or of parts of those that are longer than any novel, and of a base."""
    texts = (text for run in mixture.runs for text in read_some(run.read_documents(), WORDS_FROM))
    return gather_words(texts, mixture.leading.base)
