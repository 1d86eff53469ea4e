"""At the end of tuning part of the way back to the base is looked at, and kept where it predicts better."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import epigone
from epigone.model.hub import WEIGHTS
from epigone.report.views import describe_end, describe_weights
from epigone.runs.checkpoints import list_checkpoints
from epigone.runs.folder import RunFolder
from epigone.training import trainer
from epigone.training.events import Finished
from epigone.training.interpolation import WeightInterpolation, find_best_share
from epigone.training.trainer import Trainer
from helpers_faults import dying, plain_pictures
from helpers_front import early_sonnets, workshop
from helpers_training import are_equal, copy_weights
from standin import hub_root

HARD = {"epochs": 6.0, "batch_size": 4, "block_size": 64, "samples": 1, "sample_length": 20, "learning_rate": 2e-3}
"""So hard that it memorizes the text."""


# -- how far to go


@pytest.mark.parametrize("lowest", [0.2, 0.35, 0.8])
def test_the_lowest_point_of_a_parabola_is_found(lowest: float) -> None:
    asked: list[float] = []

    def measure(share: float) -> float:
        asked.append(share)
        return 3.0 + (share - lowest) ** 2

    share, loss = find_best_share(3.0 + lowest**2, 3.0 + (1 - lowest) ** 2, measure)
    assert share == pytest.approx(lowest) and loss == pytest.approx(3.0) and asked == [0.5, share]


@pytest.mark.parametrize(
    ("base", "learned", "halfway", "share"), [(4, 3, 3.5, 1), (3, 4, 3.5, 0), (3, 3, 4, 1), (4, 4, 3, 0.5)]
)
def test_an_end_is_taken_where_it_is_best(base: float, learned: float, halfway: float, share: float) -> None:
    assert find_best_share(base, learned, lambda _: halfway)[0] == share


def test_a_loss_of_the_base_that_is_not_known_does_no_harm() -> None:
    assert find_best_share(float("inf"), 3.0, lambda _: 2.5) == (0.5, 2.5)


def test_a_mixture_lies_between_and_leaves_the_model_as_it_was() -> None:
    torch.manual_seed(0)
    model, base = torch.nn.Linear(5, 3), torch.nn.Linear(5, 3)
    before = copy_weights(model)
    with WeightInterpolation(model, base.state_dict()) as mixture:
        mixture.set(0.25)
        assert torch.allclose(model.weight, 0.25 * before["weight"] + 0.75 * base.weight)
        mixture.set(0.0)
        assert are_equal(copy_weights(model), copy_weights(base))
    assert are_equal(copy_weights(model), before)


# -- a run


def copy_weights_of(path: Path) -> dict[str, torch.Tensor]:
    """Not mapped: the file will change."""
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


@cache
def tuned_too_hard() -> Path:
    with plain_pictures():
        return epigone.train(early_sonnets(), out=workshop() / "mixed", base=str(hub_root() / "gpt2"), **HARD).path


def read_learned(run: Path) -> dict[str, torch.Tensor]:
    """The weights of its last step."""
    return load_file(list_checkpoints(run / "checkpoints")[0] / "weights.safetensors")


def test_what_lies_between_is_kept_where_it_is_better_than_every_epoch() -> None:
    run = epigone.open_run(tuned_too_hard())
    *epochs, last = run.evaluations
    assert 0 < last.share < 1 and run.best == last and last.loss < min(item.loss for item in epochs)
    assert all(item.share == 1 for item in epochs)


def test_its_weights_are_that_mixture_and_the_checkpoint_has_what_was_learned() -> None:
    run = tuned_too_hard()
    share, learned = epigone.open_run(run).evaluations[-1].share, read_learned(run)
    base, kept = load_file(hub_root() / "gpt2" / WEIGHTS), load_file(run / "model" / WEIGHTS)
    assert not are_equal(learned, {name: kept[name] for name in learned})
    for name, weight in learned.items():
        origin = base.get(name, base.get(name.removeprefix("transformer.")))
        assert origin is not None and torch.equal(kept[name], torch.lerp(origin.float(), weight, share)), name


def test_the_numbers_are_those_of_the_model_that_was_kept() -> None:
    run = epigone.open_run(tuned_too_hard())
    folder = run.folder
    score = run.score(folder.read_held_out()[0])
    assert run.best is not None and score.bits_per_byte == pytest.approx(run.best.bits_per_byte, rel=0.03)


def test_the_page_the_card_and_the_last_line_say_so() -> None:
    run = epigone.open_run(tuned_too_hard())
    way = describe_weights(6, run.evaluations[-1].share)
    assert way in run.report(workshop() / "mixed.html").read_text("utf-8")
    assert way in (run.path / "model" / "README.md").read_text("utf-8")
    ended = [event for event in run.folder.read_events() if isinstance(event, Finished)][-1]
    assert f"Kept {way}: " in describe_end(ended)


@pytest.mark.parametrize(
    "death",
    [
        pytest.param(lambda: dying(trainer, "find_best_share", call=1), id="before"),
        pytest.param(
            lambda: dying(trainer, "find_best_share", call=1, late=True), id="after the search", marks=pytest.mark.slow
        ),
        pytest.param(lambda: dying(RunFolder, "keep_best", call=4, late=True), id="after it was kept"),
    ],
)
def test_who_dies_while_it_looks_back_comes_to_the_same_end(tmp_path: Path, death: object) -> None:
    with plain_pictures():
        run = tmp_path / "run"
        with death():  # type: ignore[operator]
            epigone.train(early_sonnets(), out=run, base=str(hub_root() / "gpt2"), **HARD)
        epigone.resume(run)
    expected = tuned_too_hard()
    assert are_equal(load_file(run / "model" / WEIGHTS), load_file(expected / "model" / WEIGHTS))
    some, others = (
        [(item.step, item.loss, item.share, item.best) for item in epigone.open_run(path).evaluations]
        for path in (run, expected)
    )
    assert some == others


def test_going_on_afterwards_goes_on_from_what_was_learned(tmp_path: Path) -> None:
    run = Path(shutil.copytree(tuned_too_hard(), tmp_path / "run"))
    learned = read_learned(run)
    seen: list[dict[str, torch.Tensor]] = []
    original = Trainer.step

    def step(self: Trainer) -> None:
        if not seen:
            seen.append(copy_weights(self.model))
        original(self)

    with plain_pictures(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        epigone.resume(run, epochs=7.0)
    assert are_equal({name: seen[0][name] for name in learned}, learned)
    assert epigone.open_run(run).evaluations[-1].epoch == 7


def test_resuming_what_is_finished_does_not_look_back_again(tmp_path: Path) -> None:
    run = Path(shutil.copytree(tuned_too_hard(), tmp_path / "run"))
    before = len(epigone.open_run(run).evaluations)
    with plain_pictures():
        epigone.resume(run)
    assert len(epigone.open_run(run).evaluations) == before


def test_a_spoiled_mixture_is_made_again(tmp_path: Path) -> None:
    run = Path(shutil.copytree(tuned_too_hard(), tmp_path / "run"))
    weights = run / "model" / WEIGHTS
    sound = copy_weights_of(weights)
    weights.write_bytes(weights.read_bytes()[:-100])
    with plain_pictures():
        epigone.resume(run)
    assert are_equal(load_file(weights), sound)


def test_a_base_that_is_gone_by_then_ends_nothing(tmp_path: Path) -> None:
    base = Path(shutil.copytree(hub_root() / "gpt2", tmp_path / "base", symlinks=False))
    run = tmp_path / "run"
    with plain_pictures():
        with dying(trainer, "find_best_share", call=1):
            epigone.train(early_sonnets(), out=run, base=str(base), **HARD)
        shutil.rmtree(base)
        epigone.resume(run)
    found = epigone.open_run(run)
    assert (
        found.best is not None and found.best.share == 1 and isinstance(list(found.folder.read_events())[-1], Finished)
    )


def test_a_fresh_model_has_nothing_to_go_back_to(tmp_path: Path) -> None:
    run = epigone.train(early_sonnets(), out=tmp_path / "run", base="none", size="1x32", **HARD | {"epochs": 1.0})
    assert all(item.share == 1 for item in run.evaluations)
