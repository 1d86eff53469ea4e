"""Training loop: a generator of events.

The loop prints nothing and opens no file. Events, best weights and checkpoints go to a `Recorder`, which has saved them
when its method returns; only then is the event yielded to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TypeVar

import torch
from pydantic import TypeAdapter
from transformers import GPT2LMHeadModel

from epigone.errors import BaseError, TrainingDiverged
from epigone.hardware import explain_out_of_memory
from epigone.model.loss import DTYPES, NextTokenLoss
from epigone.planning.plan import Plan
from epigone.tokens.dataset import Batches, TokenDataset
from epigone.training.distributed import all_reduce_max, gather_random_state, make_accelerator
from epigone.training.evaluate import Evaluation, evaluate
from epigone.training.events import (
    BatchSplit,
    CheckpointSaved,
    Evaluated,
    Event,
    Finished,
    Reason,
    Sample,
    Sampled,
    SampleStats,
    Stage,
    Started,
    StepReport,
)
from epigone.training.interpolation import WeightInterpolation, find_best_share
from epigone.training.lr_schedule import LRSchedule
from epigone.training.optimizer import TIED, make_optimizer, pack_state, unpack_state
from epigone.training.sharding import divide, gathered, local, own_parts, shard
from epigone.training.state import (
    Clock,
    Pace,
    Progress,
    TrainerState,
    pack_random_state,
    select_random_state,
    unpack_random_state,
)
from epigone.training.step import GradientStep


def are_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether all values are finite. Uses almost no memory."""
    return all(math.isfinite(end) for tensor in tensors for end in map(float, tensor.detach().aminmax()))


def check_loss(loss: float, plan: Plan, progress: Progress) -> float:
    """The loss. Raises TrainingDiverged if it is NaN or infinite."""
    if not math.isfinite(loss):
        raise explain_divergence(f"The loss became {loss}", plan, progress)
    return loss


def explain_divergence(what: str, plan: Plan, progress: Progress) -> TrainingDiverged:
    """An error that says what happened, what is kept and what to try."""
    some = math.isfinite(progress.best_loss)
    kept = f"the best epoch so far, {progress.best_epoch:.2f}, is kept" if some else "there is no good epoch yet"
    precision = ", or --precision fp32" if plan.compute.precision != "fp32" else ""
    return TrainingDiverged(
        f"{what} by step {progress.step:,}; {kept}.",
        hint=f"Try a lower rate, --learning-rate {plan.optimizer.learning_rate / 2:.1g}{precision}.",
    )


SECONDS_ALONE, MOST_STEPS_ALONE = 1.0, 100
"""Between two agreements of several processes."""
E = TypeVar("E", bound=Event)
SMALLER = "Train with a smaller --size or --base, or --lora 16; to continue from what is saved: epigone resume."
SampleFunction = Callable[[GPT2LMHeadModel], tuple[tuple[Sample, ...], SampleStats | None]]
"""Generates samples from the model, and checks them."""
BaseWeights = Callable[[], Mapping[str, torch.Tensor]]
"""Loads the base's weights, as before the first step."""


class Recorder:
    """Saves what a run produces; this one nothing. Called in the main process only; training waits until it returns.

    Where processes divide the model, `save_checkpoint` is called in all of them, each with its part.
    """

    def record(self, event: Event) -> None:
        """Save an event."""

    def keep_best(self, model: GPT2LMHeadModel) -> None:
        """Save the weights as the best so far, in place of earlier ones."""

    def save_checkpoint(self, step: int, state: TrainerState) -> None:
        """Save everything that training needs to resume."""


class Trainer:
    """Trains a model by a plan; holds everything that changes during training."""

    def __init__(  # noqa: PLR0913  # the last five are optional
        self,
        model: GPT2LMHeadModel,
        tokens: TokenDataset,
        plan: Plan,
        *,
        sample: SampleFunction | None = None,
        origin: BaseWeights | None = None,
        teacher: GPT2LMHeadModel | None = None,
        recorder: Recorder | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """`origin` loads the base's weights at the end, to interpolate with them; `teacher` is distilled from."""
        self.recorder = recorder or Recorder()
        self.tokens, self.plan = tokens, plan
        self.sample, self.origin, self.should_stop = sample, origin, should_stop
        self.accelerator = make_accelerator(plan.compute)
        with explain_out_of_memory(f"the model does not fit on {plan.compute.device}", SMALLER):
            self.model = model.to(self.accelerator.device)
        self.model.train()
        loss = NextTokenLoss(
            self.model,
            attention=plan.model.attention,
            dtype=DTYPES[plan.compute.precision],
            compile=plan.compute.compile,
            teacher=None if teacher is None else teacher.to(self.accelerator.device),
            checkpoints=plan.compute.checkpoints,
        )
        self._loss = loss
        if plan.is_sharded:
            shard(loss, plan.compute.device)
        self.optimizer = make_optimizer(self.model, plan)
        # accelerate casts outputs to fp32: of the loss, which is one number, and not of all logits.
        prepared = self.accelerator.prepare(*(() if plan.is_sharded else (loss,)), self.optimizer)
        loss, self._stepper = (loss, prepared) if plan.is_sharded else prepared
        self.rate = LRSchedule(plan.schedule, peak=plan.optimizer.learning_rate)
        block_size, blocks_per_step = plan.batch.block_size, plan.batch.blocks_per_step
        self.batches = Batches(tokens.train.ids, block_size=block_size, blocks_per_step=blocks_per_step, seed=plan.seed)
        self.gradients = GradientStep(loss, self.batches, self.accelerator, plan)
        self.progress = Progress()
        self._losses = torch.zeros(2, dtype=torch.float64, device=self.gradients.sums_on)
        torch.manual_seed(plan.seed + self.accelerator.process_index)
        self.clock = Clock(plan, self.progress, mixes=origin is not None)
        self._agreed_at = 0.0
        """Seconds, by this process's clock."""

    def gathered(self) -> AbstractContextManager[None]:
        """Within it the model is whole, if the processes divide it; see `sharding.gathered`."""
        return gathered(self._loss)

    @property
    def parts(self) -> int:
        """Parts in which a batch is computed; more than planned if memory ran out."""
        return self.gradients.parts

    @property
    def epoch(self) -> float:
        """Passes over the text so far."""
        return self.progress.step / self.plan.batch.steps_per_epoch

    def learn(self) -> Iterator[Event | Stage]:
        """Train to the end of the plan, event by event; of what takes long in between, a stage comes first.

        Raises TrainingDiverged, OutOfMemory.
        """
        progress, plan, schedule = self.progress, self.plan, self.plan.schedule
        self.clock = Clock(plan, progress, mixes=self.origin is not None)
        yield self._record(
            Started(
                step=progress.step,
                n_steps=schedule.n_steps,
                epochs=min(schedule.epochs, schedule.n_steps / plan.batch.steps_per_epoch),
                timed=schedule.minutes is not None,
                resumed=progress.step > 0,
            )
        )
        if progress.evaluated_step < 0 and not plan.model.fresh:
            yield from self._evaluate()  # the untouched base counts as epoch 0
        while (reason := self._find_reason_to_stop()) is None:
            parts = self.parts
            self.step()
            if self.parts > parts:
                share = plan.batch.largest_share
                yield self._record(BatchSplit(step=progress.step, batch_size=share, parts=self.parts))
            due = self._is_evaluation_due()
            if due or progress.step % schedule.report_every == 0:
                yield self._record(self._report())
            if due:
                yield from self._evaluate()
            elif self._is_checkpoint_due():
                yield self._save()
        if reason == "interrupted":
            yield self._save()
        elif progress.evaluated_step < progress.step:
            yield from self._evaluate()
        if self.origin is not None and reason != "interrupted" and progress.mixed_step < progress.step:
            yield from self._interpolate_to_base(self.origin)
        yield self._record(self._finish(reason))

    def _record(self, event: E) -> E:
        """Return the event once it is saved."""
        if self.accelerator.is_main_process:
            self.recorder.record(event)
        return event

    def add_elapsed(self, seconds: float) -> None:
        """Count time spent before the first step, such as compiling, as training time."""
        self.progress.seconds = self.progress.seconds_before = seconds

    def _find_reason_to_stop(self) -> Reason | None:
        self._keep_pace()
        if self.should_stop() if self.clock.pace is None else self.clock.pace.stops:
            return "interrupted"
        if self.progress.step >= self.plan.most_steps:
            return "done"
        if self.clock.share_done >= 1:
            return "time"
        patience = self.plan.schedule.patience
        return "patience" if patience is not None and self.progress.n_worse >= patience else None

    # -- agreement of several processes

    def _keep_pace(self) -> None:
        """Agree with the other processes, about once a second, on the time and on wishes that hardly ever come.

        In between no step waits for anything but the gradient; all know at which step they agree again.
        """
        step, before, clock = self.progress.step, self.clock.pace, self.clock
        if self.accelerator.num_processes == 1 or (before is not None and step < before.next_step):
            return
        since = max(1, step - before.step) if before is not None else 1
        took = (clock.tick() - self._agreed_at) / since if before is not None else math.inf
        share, stops, saves, seconds = all_reduce_max(
            self.accelerator, clock.own_share, float(self.should_stop()), float(clock.is_checkpoint_due), took
        )
        gained = (share - before.share) / since if before is not None else 0.0
        wait = max(1, min(MOST_STEPS_ALONE, int(SECONDS_ALONE / max(1e-9, seconds)))) if before is not None else 1
        if self.plan.schedule.minutes is not None and gained > 0:  # never beyond the end
            wait = max(1, min(wait, int((1 - share) / gained)))
        pace = Pace(
            step=step,
            share=share,
            per_step=max(0.0, gained),
            next_step=step + wait,
            stops=bool(stops),
            saves=bool(saves),
        )
        self.clock.pace, self._agreed_at = pace, clock.tick()

    def _is_evaluation_due(self) -> bool:
        clock = self.clock
        if self.accelerator.num_processes == 1 or clock.is_evaluation_asked or not clock.has_passed_part:
            return clock.is_evaluation_due
        if self.plan.schedule.minutes is None:
            return True
        return bool(all_reduce_max(self.accelerator, float(clock.is_evaluation_affordable))[0])

    def _is_checkpoint_due(self) -> bool:
        pace = self.clock.pace
        if pace is None:
            return self.clock.is_checkpoint_due
        return pace.saves and pace.step == self.progress.step - 1

    # -- one step

    def step(self) -> None:
        """Forward, backward and update, with the gradient averaged over batches and processes."""
        progress, max_norm = self.progress, self.plan.optimizer.max_grad_norm
        rate = progress.learning_rate = self.rate.at(self.clock.steps_done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self._losses += self.gradients.add(progress.step)
        with explain_out_of_memory(
            "the optimizer's state does not fit into memory with the model and its gradient", SMALLER
        ):
            if max_norm:
                self.accelerator.clip_grad_norm_(self.model.parameters(), max_norm)
            self._stepper.step()
        self._stepper.zero_grad()
        progress.step += 1
        progress.n_losses += 1
        progress.n_unreported += 1
        self.clock.tick()

    def _report(self) -> StepReport:
        progress, schedule = self.progress, self.plan.schedule
        loss = self._mean_loss(1, progress.n_unreported)
        seconds = max(1e-9, progress.seconds - self.clock.reported_at)
        share = self.clock.share_done
        report = StepReport(
            step=progress.step,
            n_steps=schedule.n_steps if schedule.minutes is None else max(progress.step, round(progress.step / share)),
            epoch=self.epoch,
            progress=min(1.0, share),
            loss=loss,
            learning_rate=progress.learning_rate,
            tokens_per_second=progress.n_unreported * self.plan.batch.tokens_per_step / seconds,
            seconds=progress.seconds,
            seconds_left=self.clock.seconds_left,
        )
        self._losses[1] = 0.0
        progress.n_unreported = 0
        self.clock.reported_at = progress.seconds
        return report

    def _mean_loss(self, which: int, n_steps: int) -> float:
        """Mean over steps and processes. Raises TrainingDiverged if it is NaN or infinite."""
        total = self._losses[which].clone()
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(total.to(self.accelerator.device), reduction="mean")
        return check_loss(float(total) / n_steps, self.plan, self.progress)

    def _check_weights(self) -> None:
        """Check that weights and optimizer state are finite: a finite loss can have an infinite gradient."""
        state = (value for entries in self.optimizer.state.values() for value in entries.values())
        own = map(local, [*self.model.parameters(), *state])
        sound = are_finite([self._losses, *(tensor for tensor in own if tensor.numel())])
        if all_reduce_max(self.accelerator, float(not sound))[0]:
            raise explain_divergence("The loss or a weight became nan or infinite", self.plan, self.progress)

    def _save(self) -> CheckpointSaved:
        """Save a checkpoint, unless NaN or infinity would replace good weights. Raises TrainingDiverged."""
        self._check_weights()
        self.clock.saved_at = self.progress.seconds
        random = gather_random_state(self.accelerator)
        if self.accelerator.is_main_process or self.plan.is_sharded:
            self.recorder.save_checkpoint(self.progress.step, self.pack(random))
        return CheckpointSaved(step=self.progress.step)

    # -- evaluation

    def _evaluate(self) -> Iterator[Event | Stage]:
        progress = self.progress
        self.clock.tick()
        began = progress.seconds
        yield from self._evaluate_and_sample()
        self.rate.see(progress.loss)
        self.clock.tick()
        yield Stage(what="Saving a checkpoint")
        yield self._save()
        self.clock.tick()
        self.clock.count_evaluation(progress.seconds - began)
        self.clock.pace = None  # they agree again: the time went on, and no step was taken
        self.clock.reported_at = self.clock.evaluated_at = progress.seconds

    def _evaluate_and_sample(self, share: float = 1.0) -> Iterator[Event | Stage]:
        """Sample from the model and evaluate it. `share`: of the way from the base to the trained weights."""
        self._check_weights()  # first: NaN cannot be sampled from
        self.gradients.expect_out_of_memory()
        with self.gathered():
            yield from self._evaluate_gathered(share)

    def _evaluate_gathered(self, share: float) -> Iterator[Event | Stage]:
        yield Stage(what="Writing samples")
        samples, found = self.sample(self.model) if self.sample and self.accelerator.is_main_process else ((), None)
        yield Stage(what="Evaluating on the held-out text")
        evaluated = self._record(self._measure(share, spoiled=found is not None and found.spoiled))
        if evaluated.best and self.accelerator.is_main_process:
            self.recorder.keep_best(self.model)
        yield evaluated
        if self.sample is not None:
            yield self._record(
                Sampled(step=self.progress.step, epoch=self.epoch, samples=samples, found=found, share=share)
            )

    def _interpolate_to_base(self, origin: BaseWeights) -> Iterator[Event | Stage]:
        """Interpolate with the base's weights, and evaluate the mixture if its loss is the lowest so far."""
        yield Stage(what="Mixing the weights with the base's")
        progress = self.progress
        try:
            base = origin()
        except BaseError:  # it was there when the run started; without it the run is complete all the same
            return
        with self.gathered(), WeightInterpolation(self.model, base) as mixture:

            def measure(share: float) -> float:
                mixture.set(share)
                return self._read_held_out().loss

            share, loss = find_best_share(progress.base_loss, progress.loss, measure)
            if loss < progress.best_loss:
                mixture.set(share)
                self._check_weights()
                self.gradients.expect_out_of_memory()
                yield from self._evaluate_gathered(share)
        progress.mixed_step = progress.step
        yield self._save()

    def _read_held_out(self) -> Evaluation:
        return evaluate(
            self.model,
            self.tokens.validation,
            block_size=self.plan.batch.block_size,
            batch_size=-(-self.plan.batch.largest_share // self.parts),
            accelerator=self.accelerator,
        )

    def _measure(self, share: float, *, spoiled: bool) -> Evaluated:
        """Evaluate, note whether it is the best so far, and reset the training loss. Raises TrainingDiverged."""
        progress, plan = self.progress, self.plan
        found = self._read_held_out()
        spoiled = plan.schedule.keep_best == "quality" and bool(all_reduce_max(self.accelerator, float(spoiled))[0])
        rank = spoiled, check_loss(found.loss, plan, progress)  # unspoiled samples come before a lower loss
        best = not math.isfinite(progress.best_loss) or rank < (progress.best_spoiled, progress.best_loss)
        if best:
            progress.best_spoiled = spoiled
            progress.best_loss, progress.best_step, progress.best_epoch = found.loss, progress.step, self.epoch
            progress.best_share = share
        progress.n_worse = 0 if best else progress.n_worse + 1
        progress.evaluated_step, progress.loss = progress.step, found.loss
        if progress.step == 0:
            progress.base_loss = found.loss
        training_loss = self._mean_loss(0, progress.n_losses) if progress.n_losses else None
        self._losses[0] = 0.0
        progress.n_losses = 0
        self.clock.tick()
        return Evaluated(
            step=progress.step,
            epoch=self.epoch,
            training_loss=training_loss,
            loss=found.loss,
            accuracy=found.accuracy,
            perplexity=found.perplexity,
            bits_per_byte=found.bits_per_byte,
            n_tokens=found.n_tokens,
            learning_rate=progress.learning_rate,
            seconds=progress.seconds,
            best=best,
            spoiled=spoiled,
            share=share,
        )

    def _finish(self, reason: Reason) -> Finished:
        progress = self.progress
        self.clock.tick()
        return Finished(
            step=progress.step,
            epoch=self.epoch,
            reason=reason,
            best_step=progress.best_step,
            best_epoch=progress.best_epoch,
            best_loss=progress.best_loss,
            seconds=progress.seconds,
            best_share=progress.best_share,
        )

    # -- state for checkpoints

    def pack(self, random: dict[str, torch.Tensor] | None = None) -> TrainerState:
        """Everything that changes during training, as tensors and plain values. `random`: that of all processes.

        Where processes divide the model, it is what this one has.
        """
        self.progress.losses = self._losses.tolist()
        scaler, is_sharded = self.accelerator.scaler, self.plan.is_sharded
        part = self.accelerator.process_index if is_sharded else 0
        weights = ((name, value) for name, value in self.model.state_dict().items() if name != TIED)
        return TrainerState(
            part=part,
            n_parts=self.accelerator.num_processes if is_sharded else 1,
            weights=own_parts(weights, with_whole=part == 0),
            optimizer=pack_state(self.optimizer, self.model, with_whole=part == 0),
            random=random or pack_random_state(self.accelerator.device),
            facts={
                "progress": asdict(self.progress),
                "rate": self.rate.state(),
                "scaler": scaler.state_dict() if scaler is not None else {},
            },
        )

    def _load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Raises RuntimeError where they do not fit."""
        if not self.plan.is_sharded:
            self.model.load_state_dict(weights, strict=False)
            return
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(divide(weights[name].to(self.accelerator.device), parameter))

    def unpack(self, packed: TrainerState) -> None:
        """Restore what `pack` returned, all parts of it, for the same model and plan.

        Raises ValueError, KeyError, RuntimeError.
        """
        self._load_weights(packed.weights)
        unpack_state(self.optimizer, self.model, packed.optimizer)
        self.progress = TypeAdapter(Progress).validate_python(packed.facts["progress"])
        self.clock = Clock(self.plan, self.progress, mixes=self.origin is not None)
        counts = (self.progress.step, self.progress.n_losses, self.progress.n_unreported, self.progress.n_worse)
        if len(self.progress.losses) != len(self._losses) or min(counts) < 0:
            raise ValueError("its progress has impossible numbers")
        self._losses = torch.tensor(self.progress.losses, dtype=torch.float64, device=self._losses.device)
        self.rate.restore(packed.facts["rate"])
        if self.accelerator.scaler is not None and packed.facts["scaler"]:
            self.accelerator.scaler.load_state_dict(packed.facts["scaler"])
        rank = self.accelerator.process_index  # each process draws its own dropout
        if random := select_random_state(packed.random, rank):
            unpack_random_state(random, self.accelerator.device)
        else:  # there were fewer processes
            torch.manual_seed(self.plan.seed + self.progress.step * 1009 + rank)
