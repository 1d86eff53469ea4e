"""A model, tokens and a plan in; events out, one after another, while the model learns.

The loop prints nothing and writes nothing. It stops at each event until the next one is asked for; what records,
shows or saves does so in between, and then sees the learner exactly as it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

import torch
from pydantic import TypeAdapter
from transformers import GPT2LMHeadModel

from epigone.model.forward import DTYPES, NextTokenLoss
from epigone.model.memory import explain_shortage
from epigone.model.plan import Plan
from epigone.tokens.stream import Tokens
from epigone.training.batches import Batches
from epigone.training.evaluation import evaluate
from epigone.training.events import (
    CheckpointDue,
    Criticism,
    Divided,
    Evaluated,
    Event,
    Finished,
    Reason,
    Sample,
    Sampled,
    Started,
    Stepped,
)
from epigone.training.gradients import Gradients
from epigone.training.optimizers import TIED, make_optimizer, pack_state, unpack_state
from epigone.training.rate import LearningRate
from epigone.training.soundness import are_finite, check_loss, explain_divergence
from epigone.training.state import Packed, Progress, agree, make_accelerator, pack_random_state, unpack_random_state

SECONDS_LEARNED_PER_SECOND_EVALUATED = 8
"""Under a time limit: evaluations, with their samples and saves, take at most a ninth of it."""
SECONDS_BETWEEN_CHECKPOINTS = 600.0
"""Besides those at evaluations: what a crash may cost at most."""
SMALLER = "Train with a smaller --size or --base, or --lora 16; to go on with what is saved: epigone resume."
Sampler = Callable[[GPT2LMHeadModel], tuple[tuple[Sample, ...], Criticism | None]]
"""Lets the model write, and says what is to be said of it."""


class Learner:
    """A model that learns by a plan, and everything that changes while it does."""

    def __init__(
        self,
        model: GPT2LMHeadModel,
        tokens: Tokens,
        plan: Plan,
        *,
        sample: Sampler | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        seconds_spent: float = 0.0,
    ) -> None:
        """`seconds_spent`, on compiling, say, count as time of training."""
        self.tokens, self.sample, self.should_stop = tokens, sample, should_stop
        self.accelerator = make_accelerator(plan)
        with explain_shortage(f"the model does not fit on {plan.device}", SMALLER):
            self.model = model.to(self.accelerator.device)
        self.model.train()
        self.optimizer = make_optimizer(self.model, plan)
        loss = NextTokenLoss(
            self.model, attention=plan.attention, dtype=DTYPES[plan.precision], compilation=plan.compilation
        )
        # accelerate casts outputs to fp32: of the loss, which is one number, and not of all logits.
        loss, self._stepper = self.accelerator.prepare(loss, self.optimizer)
        self.rate = LearningRate(
            plan.schedule,
            peak=plan.learning_rate,
            n_steps=plan.n_steps,
            warmup=plan.warmup,
            arguments=plan.schedule_arguments,
        )
        self.batches = Batches(
            tokens.train.ids, block_size=plan.block_size, blocks_per_step=plan.blocks_per_step, seed=plan.seed
        )
        self.gradients = Gradients(loss, self.batches, self.accelerator, plan)
        self.progress = Progress(seconds=seconds_spent, seconds_before=seconds_spent)
        self._losses = torch.zeros(2, dtype=torch.float64, device="cpu" if plan.device == "mps" else plan.device)
        torch.manual_seed(plan.seed + self.accelerator.process_index)
        self._start_clock()

    @property
    def plan(self) -> Plan:
        """The plan, in which the parts of a batch grow where memory runs out."""
        return self.gradients.plan

    @property
    def epoch(self) -> float:
        """Passes over the text so far."""
        return self.progress.step / self.plan.steps_per_epoch

    def learn(self) -> Iterator[Event]:
        """Learn to the end of the plan. Raises TrainingDiverged."""
        progress, plan = self.progress, self.plan
        self._start_clock()
        yield Started(
            step=progress.step,
            n_steps=plan.n_steps,
            epochs=min(plan.epochs, plan.n_steps / plan.steps_per_epoch),
            timed=plan.minutes is not None,
            resumed=progress.step > 0,
        )
        if progress.evaluated_step < 0 and not plan.fresh:
            yield from self._evaluate()  # the untouched base counts as epoch 0
        last_checkpoint = progress.seconds
        while (reason := self._find_reason_to_stop()) is None:
            parts = self.plan.parts
            self.step()
            if self.plan.parts > parts:
                yield Divided(step=progress.step, batch_size=plan.batch_size, parts=self.plan.parts)
            due = self._is_evaluation_due()
            if due or progress.step % plan.report_every == 0:
                yield self._report()
            if due:
                yield from self._evaluate()
                last_checkpoint = progress.seconds
            elif progress.seconds - last_checkpoint > SECONDS_BETWEEN_CHECKPOINTS:
                yield self._save()
                last_checkpoint = progress.seconds
        if reason == "interrupted":
            yield self._save()
        elif progress.evaluated_step < progress.step:
            yield from self._evaluate()
        yield self._finish(reason)

    # -- the clock

    def _start_clock(self) -> None:
        self._sitting_began = time.monotonic() - self.progress.seconds
        self._reported_at = self._evaluated_at = self.progress.seconds

    def _pass_time(self) -> None:
        self.progress.seconds = time.monotonic() - self._sitting_began

    @property
    def _seconds_of_steps(self) -> float:
        return self.progress.seconds - self.progress.seconds_before

    @property
    def share_done(self) -> float:
        """Share of the run that is done: of its steps or, if that is more, of its minutes less the last evaluation."""
        by_steps = self.progress.step / self.plan.most_steps
        if self.plan.minutes is None:
            return by_steps
        allowed = max(1e-9, 60 * self.plan.minutes - self.progress.seconds_before)
        reserve = min(1.3 * self.progress.evaluation_seconds, allowed / 2)
        return min(1.0, max(by_steps, self._seconds_of_steps / (allowed - reserve)))

    def _find_reason_to_stop(self) -> Reason | None:
        share, stop = agree(self.accelerator, self.share_done, float(self.should_stop()))
        if stop:
            return "interrupted"
        if self.progress.step >= self.plan.most_steps:
            return "done"
        if share >= 1:
            return "time"
        if self.plan.patience is not None and self.progress.n_worse >= self.plan.patience:
            return "patience"
        return None

    # -- one step

    def step(self) -> None:
        """Forward, backward and update, with the gradient averaged over batches and processes."""
        plan, progress = self.plan, self.progress
        rate = progress.learning_rate = self._find_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self._losses += self.gradients.add(progress.step)
        with explain_shortage("the optimizer's state does not fit beside the model and its gradient", SMALLER):
            if plan.clip:
                self.accelerator.clip_grad_norm_(self.model.parameters(), plan.clip)
            self._stepper.step()
        self._stepper.zero_grad()
        progress.step += 1
        progress.n_losses += 1
        progress.n_unreported += 1
        self._pass_time()

    def _find_rate(self) -> float:
        """The learning rate for the middle of the step to come."""
        if self.plan.minutes is None:
            return self.rate.at(self.progress.step + 0.5)
        return self.rate.at(self.share_done * self.plan.n_steps)

    def _report(self) -> Stepped:
        progress, plan = self.progress, self.plan
        loss = self._mean_loss(1, progress.n_unreported)
        seconds = max(1e-9, progress.seconds - self._reported_at)
        share = self.share_done
        report = Stepped(
            step=progress.step,
            n_steps=plan.n_steps if plan.minutes is None else max(progress.step, round(progress.step / share)),
            epoch=self.epoch,
            progress=min(1.0, share),
            loss=loss,
            learning_rate=progress.learning_rate,
            tokens_per_second=progress.n_unreported * plan.tokens_per_step / seconds,
            seconds=progress.seconds,
            seconds_left=self._seconds_of_steps * (1 - min(1.0, share)) / max(share, 1e-9),
        )
        self._losses[1] = 0.0
        progress.n_unreported = 0
        self._reported_at = progress.seconds
        return report

    def _mean_loss(self, which: int, n_steps: int) -> float:
        """Mean over steps and processes. Raises TrainingDiverged where it is no number."""
        total = self._losses[which].clone()
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(total.to(self.accelerator.device), reduction="mean")
        return check_loss(float(total) / n_steps, self.plan, self.progress)

    def _check_weights(self) -> None:
        """A step's gradient may spoil them though its loss was a number. Raises TrainingDiverged."""
        state = (value for entries in self.optimizer.state.values() for value in entries.values())
        sound = are_finite([self._losses, *self.model.parameters(), *state])
        if agree(self.accelerator, float(not sound))[0]:
            raise explain_divergence("The loss or a weight became nan or infinite", self.plan, self.progress)

    def _save(self) -> CheckpointDue:
        """Nothing that is no number is saved in place of what is sound. Raises TrainingDiverged."""
        self._check_weights()
        return CheckpointDue(step=self.progress.step)

    # -- one look at the held-out text

    def _is_evaluation_due(self) -> bool:
        """At the end of an epoch or part of one; where the clock ends the run, as far as it affords them."""
        step, plan = self.progress.step, self.plan
        asked = plan.evaluate_every is not None and step % plan.evaluate_every == 0
        per_step = plan.blocks_per_step * plan.evaluations_per_epoch
        passed = step * per_step // plan.n_blocks > (step - 1) * per_step // plan.n_blocks
        if plan.minutes is None:
            return passed or asked
        waited = self.progress.seconds - self._evaluated_at
        affordable = waited >= SECONDS_LEARNED_PER_SECOND_EVALUATED * self.progress.evaluation_seconds
        return bool(agree(self.accelerator, asked or (passed and affordable))[0])

    def _evaluate(self) -> Iterator[Event]:
        progress = self.progress
        self._pass_time()
        began = progress.seconds
        self._check_weights()  # before it writes: there is nothing to draw from chances that are no numbers
        self.gradients.doubt()
        samples, found = self.sample(self.model) if self.sample and self.accelerator.is_main_process else ((), None)
        yield self._measure(spoiled=found is not None and found.spoiled)
        if self.sample is not None:
            yield Sampled(step=progress.step, epoch=self.epoch, samples=samples, found=found)
        self._pass_time()
        yield self._save()
        self._pass_time()
        progress.evaluation_seconds = progress.seconds - began
        self._reported_at = self._evaluated_at = progress.seconds

    def _measure(self, *, spoiled: bool) -> Evaluated:
        """Evaluate, remember the best, and begin a new interval. Raises TrainingDiverged."""
        progress, plan = self.progress, self.plan
        found = evaluate(
            self.model,
            self.tokens.validation,
            block_size=plan.block_size,
            batch_size=plan.largest_part,
            accelerator=self.accelerator,
        )
        spoiled = plan.keep_best == "verdict" and bool(agree(self.accelerator, float(spoiled))[0])
        rank = spoiled, check_loss(found.loss, plan, progress)  # one that is not spoiled is better, whatever its loss
        best = not math.isfinite(progress.best_loss) or rank < (progress.best_spoiled, progress.best_loss)
        if best:
            progress.best_spoiled = spoiled
            progress.best_loss, progress.best_step, progress.best_epoch = found.loss, progress.step, self.epoch
        progress.n_worse = 0 if best else progress.n_worse + 1
        progress.evaluated_step = progress.step
        training_loss = self._mean_loss(0, progress.n_losses) if progress.n_losses else None
        self._losses[0] = 0.0
        progress.n_losses = 0
        self.rate.see(found.loss)
        self._pass_time()
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
        )

    def _finish(self, reason: Reason) -> Finished:
        progress = self.progress
        self._pass_time()
        return Finished(
            step=progress.step,
            epoch=self.epoch,
            reason=reason,
            best_step=progress.best_step,
            best_epoch=progress.best_epoch,
            best_loss=progress.best_loss,
            seconds=progress.seconds,
        )

    # -- what a checkpoint keeps

    def pack(self) -> Packed:
        """Everything that changes while it learns, as tensors and plain values."""
        self.progress.losses = self._losses.tolist()
        scaler = self.accelerator.scaler
        return Packed(
            weights={name: value.detach().cpu() for name, value in self.model.state_dict().items() if name != TIED},
            optimizer=pack_state(self.optimizer, self.model),
            random=pack_random_state(self.accelerator.device),
            facts={
                "progress": asdict(self.progress),
                "rate": self.rate.state(),
                "scaler": scaler.state_dict() if scaler is not None else {},
            },
        )

    def unpack(self, packed: Packed) -> None:
        """Take up what `pack` gave, of the same model and plan."""
        self.model.load_state_dict(packed.weights, strict=False)
        unpack_state(self.optimizer, self.model, packed.optimizer)
        self.progress = TypeAdapter(Progress).validate_python(packed.facts["progress"])
        counts = (self.progress.step, self.progress.n_losses, self.progress.n_unreported, self.progress.n_worse)
        if len(self.progress.losses) != len(self._losses) or min(counts) < 0:
            raise ValueError("the progress that it keeps is none")
        self._losses = torch.tensor(self.progress.losses, dtype=torch.float64, device=self._losses.device)
        self.rate.restore(packed.facts["rate"])
        if self.accelerator.scaler is not None and packed.facts["scaler"]:
            self.accelerator.scaler.load_state_dict(packed.facts["scaler"])
        if self.accelerator.num_processes == 1:
            unpack_random_state(packed.random, self.accelerator.device)
        else:  # each process draws its own dropout; only the first one's state is kept
            torch.manual_seed(self.plan.seed + self.progress.step * 1009 + self.accelerator.process_index)
