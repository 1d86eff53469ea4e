"""The quiz of the page: held-out passages of the author, and passages that the model threads write beside them."""

from __future__ import annotations

import random
from typing import Any

from epigone.errors import EpigoneError
from epigone.evaluation.quiz import choose_passages, describe_outcomes, list_shares, make_pair, make_quiz
from epigone.report.publish import title_run
from epigone.runs.folder import RunFolder
from epigone.serving.answers import ApiError, translate
from epigone.serving.completions import next_event
from epigone.serving.engine import Engine, Task, TextStep
from epigone.serving.library import LoadedModel
from epigone.serving.schemas import QuizQuery
from epigone.settings import WriteSettings, make_settings


class BlindTest:
    """A quiz in the making, as `Run.quiz` makes it."""

    def __init__(self, model: LoadedModel, query: QuizQuery) -> None:
        """Chooses the author's passages, which takes a while. Raises ApiError."""
        if model.served.kind != "run":
            raise ApiError(400, "A quiz needs a run: a base has no author.", param="model")
        self._length, self._chance = query.length, random.Random(query.seed)
        settings = make_settings(WriteSettings, {"unit": "words", "length": 3 * query.length})
        self._passages, generator = [], model.generator
        try:
            folder = RunFolder.find(model.served.folder)
            self._title, held_out = title_run(folder), folder.read_some_held_out()
            chosen = choose_passages(held_out, generator.documents, query.count // 2, query.length, self._chance)
            self._passages = [passage for passage, _ in chosen]
            seeds = [(query.seed + number) % 2**32 for number in range(len(chosen))]
            asked = [settings.model_copy(update={"seed": seed}) for seed in seeds]
            generations = [generator.begin(context, one) for (_, context), one in zip(chosen, asked, strict=True)]
        except EpigoneError as error:
            raise translate(error) from None
        self._decoder, self._generations = generator.decoder, generations
        self._written = [""] * len(generations)

    async def write(self, engine: Engine, deadline: float) -> None:
        """Let the model write its passages. Raises ApiError."""
        if not self._generations:
            return
        task = Task(self._decoder, self._generations, deadline=deadline)
        engine.submit(task)
        try:
            while isinstance(step := await next_event(task), TextStep):
                self._written[step.generation] += step.text
        finally:
            engine.cancel(task)

    def describe(self) -> dict[str, Any]:
        """The questions, and what to say and to share for each number of right answers. Raises EpigoneError."""
        pairs = [
            pair
            for passage, written in zip(self._passages, self._written, strict=True)
            if (pair := make_pair(passage, written, self._length))
        ]
        questions = make_quiz(pairs, self._chance)
        return {
            "questions": [{"text": question.text, "genuine": question.genuine} for question in questions],
            "outcomes": describe_outcomes(questions),
            "shares": list_shares(len(questions), self._title),
        }
