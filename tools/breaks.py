"""Mutation check of the test suite: deliberate breaks of the code, one at a time, each of which some test must notice.

    python tools/breaks.py                  all of them, each with the test files that should notice it
    python tools/breaks.py top-p resume     those whose name holds one of these words
    python tools/breaks.py --whole          each with the whole quick suite, for what its own files let pass

The package is copied into a temporary folder and broken there; the tests are this folder's. A test that fails must pass
without the break, or it is left out. A break whose old text is no longer found exactly once is reported as stale: then
it says nothing about the tests and has to be written again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_SECONDS = 1_800
Outcome = Literal["caught", "survived", "stale", "no verdict"]


@dataclass(frozen=True, slots=True)
class Break:
    """One edit: `old`, which stands once in the package, becomes `new`."""

    name: str
    old: str
    new: str
    tests: str
    """The test files that should notice it, without "test_" and ".py"."""


BREAKS = (
    # corpus
    Break("gutenberg: the end mark needs a fourth star", r"^\*\*\* ?END OF", r"^\*\*\*\* ?END OF", "cleaning"),
    Break("gutenberg: credits are never too long", "if end - position > LONGEST_CREDIT:", "if False:", "cleaning"),
    Break(
        "encoding: undefined bytes of cp1252", "chr(0xDC00 + byte), chr(byte))", 'chr(0xDC00 + byte), "?")', "reading"
    ),
    Break("encoding: hardly any text is Western", "n_foreign * 50 <= n_high", "n_foreign * 50 < 0", "reading"),
    Break("split: what a file gave is not counted", "owed -= sum(map(len, taken))", "owed -= 0", "splitting"),
    Break("split: held-out text is learned", "position = span.end", "position = span.start", "splitting"),
    # tokens
    Break("batches: no random offset", "offset = random.integers(self.block_size)", "offset = 0", "batches"),
    Break(
        "batches: targets one too early",
        "return blocks[:, :-1], blocks[:, 1:]",
        "return blocks[:, :-1], blocks[:, :-1]",
        "batches",
    ),
    Break(
        "batches: the last block is not read",
        "if n_targets % block_size and len(edges)",
        "if False and len(edges)",
        "batches evaluation",
    ),
    Break(
        "tokens: no end-of-text token",
        "np.array(ids if text else [end], dtype)",
        "np.array(ids if text else [0], dtype)",
        "stream",
    ),
    Break(
        "tokens: damage on the disk",
        ' or sha256 != facts["sha256"]:',
        ":",
        "stream",
    ),
    Break(
        "tokenizer: a space too few",
        "ByteLevel(add_prefix_space=False)\n    tokenizer.decoder",
        "ByteLevel(add_prefix_space=True)\n    tokenizer.decoder",
        "vocabulary",
    ),
    # text_reuse
    Break(
        "copies: a window one too long", "self.size = n_characters + 1", "self.size = n_characters + 2", "index copying"
    ),
    Break("copies: across documents", 'SEPARATOR = "\\n"', 'SEPARATOR = ""', "index passages"),
    Break("copies: case counts", "text = text.casefold()\n    if not", "if not", "folding"),
    Break(
        "copies: the rolling hash keeps what leaves it",
        "hashed = hashed - ord(text[first]) * self._leaving_power & FULL",
        "hashed = hashed & FULL",
        "copying",
    ),
    Break(
        "copy guard: half of a character is forgotten",
        "_decode_normalised(state.pending + self.token_bytes[token])",
        "_decode_normalised(self.token_bytes[token])",
        "copying",
    ),
    # model
    Break("loss: dropout does not scale", "(kept * (LEVELS / (LEVELS - threshold)))", "kept", "forward"),
    Break("loss: attention sees what follows", ".triu(1)", ".triu(2)", "forward"),
    Break("decoder: int8 scale", "clamp(min=1e-12) / LARGEST_INT8", "clamp(min=1e-12) / (LARGEST_INT8 + 9)", "decoder"),
    Break("lora: twice as strong", "lora_alpha=2 * rank", "lora_alpha=4 * rank", "adapters"),
    Break(
        "hub: pickles pass for weights",
        r'if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors", file)',
        "if not file",
        "folders",
    ),
    Break("hub: code that a config names", '("auto_map", "transformers_weights")', "()", "folders"),
    Break(
        "hub: the cache is not enough",
        "hf_hub_download(name, CONFIG, local_files_only=True)",
        "hf_hub_download(name, CONFIG)",
        "hub",
    ),
    Break(
        "teacher: what it predicts does not count",
        "functional.cross_entropy(logits, hints), TEACHER_SHARE)",
        "functional.cross_entropy(logits, hints), 0.0)",
        "teaching",
    ),
    # planning
    Break("plan: a small vocabulary for long texts", "(400_000, 512)", "(40_000_000, 512)", "rule route plan"),
    Break("plan: dropout for what is read once", "if dropout < 0.02:", "if dropout < 0.0:", "rule"),
    Break(
        "plan: processes read the same blocks", "slice(at + start, at + end)", "slice(at, at + end - start)", "memory"
    ),
    Break(
        "plan: a new model never wins the trial", "self.fresh < CLEARLY * self.tuned", "self.fresh < 0", "base_trial"
    ),
    Break(
        "precision: fp16 on a processor", 'asked == "fp16" and hardware.device != "cuda"', 'asked == "fp"', "hardware"
    ),
    Break(
        "memory: a shortage is taken for another error",
        '"out of memory", "can\'t allocate memory", "not enough memory"',
        '"out of memory"',
        "memory",
    ),
    # training
    Break(
        "step: parts are not averaged",
        "backward(loss.objective / (n_blocks / len(ids)))",
        "backward(loss.objective)",
        "learner memory",
    ),
    Break("muon: uphill", 'list(updates), alpha=-group["lr"]', 'list(updates), alpha=group["lr"]', "muon"),
    Break(
        "muon: no Nesterov momentum",
        "torch._foreach_lerp(gradients, momenta, self.momentum)",
        "torch._foreach_lerp(gradients, momenta, 1.0)",
        "muon",
    ),
    Break("muon: queries, keys and values as one", '"n_parts": 3', '"n_parts": 1', "muon optimizers"),
    Break(
        "adamw: decay of gains and biases",
        'if parameter.dim() < 2], "weight_decay": 0.0',
        "if parameter.dim() < 2]",
        "optimizers",
    ),
    Break("schedule: no warm-up", "min(math.ceil(self._warmup * self.n_steps), self.n_steps - 1)", "0", "rate"),
    Break("resume: other random numbers", 'torch.set_rng_state(states["cpu"])', "pass", "resuming exact"),
    Break(
        "interpolation: the wrong way round",
        "torch.lerp(base, learned, share)",
        "torch.lerp(learned, base, share)",
        "mixing",
    ),
    Break(
        "evaluation: bits are nats",
        "self.n_tokens / math.log(2) / self.n_bytes",
        "self.n_tokens / self.n_bytes",
        "evaluation",
    ),
    Break(
        "best epoch: the last is the best",
        "rank < (progress.best_spoiled, progress.best_loss)",
        "rank > (progress.best_spoiled, progress.best_loss)",
        "keep_best learner",
    ),
    Break(
        "patience: one evaluation more",
        "self.progress.n_worse >= patience",
        "self.progress.n_worse > patience",
        "learner",
    ),
    Break("trial: it is tested on what it has learned", "if i % 10 != 5]", "if True]", "base_trial"),
    Break(
        "step: the gradient of what did not fit is kept",
        "            self.loss.zero_grad()\n            free_memory()",
        "            free_memory()",
        "memory",
    ),
    Break("clock: no time is left for the last evaluation", "/ (allowed - reserve)", "/ allowed", "clock"),
    Break("rate: all parameters have the same", 'rate * group["share"]', "rate", "learner"),
    Break(
        "best epoch: spoiled samples count as good",
        'unlike or "bad" in (self.copying, self.repeating)',
        "unlike",
        "keep_best sample_checks",
    ),
    Break(
        "events: what a crash undid stays",
        "[past for past in history if event.resumed and past.step <= event.step]",
        "history if event.resumed else []",
        "metrics",
    ),
    Break("distillation: advised after any run", "and plan.schedule.epochs >= PASSES", "", "teaching"),
    # runs
    Break(
        "checkpoint: any content is sound",
        'if hash_file(path) != facts["sha256"]:',
        "if False:",
        "checkpoints damage",
    ),
    Break(
        "checkpoint: verified when the older are gone",
        "        _verify(target)\n        _drop_older(folder, target, step, packed)\n",
        "        _drop_older(folder, target, step, packed)\n        _verify(target)\n",
        "checkpoints",
    ),
    Break("checkpoint: files are not flushed", "    for file in files:\n        flush(file)\n", "", "checkpoints"),
    Break("files: written in place", "beside.replace(path)", "shutil.copyfile(beside, path)", "folder"),
    Break("lock: each its own", 'FileLock(path / ".lock")', 'FileLock(path / f".lock{id(self)}")', "folder bad_input"),
    Break(
        "repair: damage is not seen",
        "return None if hash_file(path) in expected else",
        "return None if hash_file(path) else",
        "damage",
    ),
    Break("run: a newer format is read", "found[0] > FORMAT:", "found[0] > 9 * FORMAT:", "folder records"),
    # generation
    Break(
        "top-p: one token fewer",
        "refused = (probabilities * (probabilities > own)).sum(-1) >= top_p",
        "refused = (probabilities * (probabilities >= own)).sum(-1) >= top_p",
        "probabilities writing",
    ),
    Break(
        "top-p with top-k: one token fewer",
        "best.cumsum(-1) - best >= self.settings.top_p",
        "best.cumsum(-1) >= self.settings.top_p",
        "probabilities writing",
    ),
    Break(
        "seeds: all texts are the same",
        "torch.Generator().manual_seed(seed)",
        "torch.Generator().manual_seed(0)",
        "writing api",
    ),
    Break("loop guard: one round more", "run >= (ROUNDS - 1) *", "run >= ROUNDS *", "writing probabilities"),
    Break(
        "stop strings: half of one is shown",
        "range(min(self._longest_stop - 1, len(self._text)), 0, -1)",
        "range(0)",
        "endings",
    ),
    Break("ends: a sentence may end before its length", "if match.end() >= reached][:1]", "][:1]", "endings"),
    Break(
        "score: each token is that before it",
        "targets = rows[:, -n_most:]",
        "targets = rows[:, -n_most - 1 : -1]",
        "scoring",
    ),
    Break(
        "score: the first token is not predicted",
        "torch.tensor([tokenizer.end_of_text_id, *ids])",
        "torch.tensor([ids[0], *ids])",
        "scoring",
    ),
    Break(
        "session: another try is the same text",
        "self.seed = (self.seed + 1) % MOST_SEEDS",
        "self.seed = self.seed % MOST_SEEDS",
        "conversation",
    ),
    # evaluation
    Break(
        "n-grams: chances that do not add up",
        "(counts + kinds * shorter) / (totals + kinds)",
        "(counts + kinds * shorter) / (totals + kinds + 1)",
        "baselines",
    ),
    Break("stylometry: no whitening", "+ SHRINKAGE)) - 1", "+ SHRINKAGE)) * 0", "style"),
    Break("quiz: the model's are called the author's", "genuine=number == 0", "genuine=number == 1", "quiz"),
    Break(
        "quiz: an interval too narrow",
        "math.sqrt(share * (1 - share) / n_all + square",
        "math.sqrt(share * (1 - share) / n_all / 4 + square",
        "quiz",
    ),
    Break(
        "repetition: the other way round",
        "return 1 - len(set(grams)) / len(grams)",
        "return len(set(grams)) / len(grams)",
        "judging_repetition",
    ),
    # report, settings, command line
    Break("escape: HTML in Markdown", "html.escape(on_one_line(text), quote=False)", "on_one_line(text)", "card"),
    Break(
        "escape: characters that turn the line",
        "acts = code in _TURNING or (",
        "acts = bool(",
        "page display hostile_input",
    ),
    Break(
        "settings: unknown names",
        'frozen=True, extra="forbid", strict=True',
        'frozen=True, extra="ignore", strict=True',
        "settings",
    ),
    Break(
        "terminal: a text may control it",
        "show_controls(text) if sys.stdout.isatty() else text",
        "text",
        "hostile_input",
    ),
    Break("errors: exit code of a user's mistake", "    exit_code = 2\n", "    exit_code = 1\n", "bad_input"),
)


def find_place(source: Path, old: str) -> Path | None:
    """The module of a package in which a text stands; None unless that is exactly once."""
    found = {path: path.read_text("utf-8").count(old) for path in source.rglob("*.py")}
    return next(path for path, count in found.items() if count) if sum(found.values()) == 1 else None


def list_tests(one: Break) -> list[str]:
    """The test files of a break. Raises SystemExit where one is not there."""
    paths = [f"tests/test_{name}.py" for name in one.tests.split()]
    for path in paths:
        if not (ROOT / path).exists():
            raise SystemExit(f'The break "{one.name}" names {path}, which is not there.')
    return paths


FORKS = multiprocessing.get_context("forkserver")
"""Makes processes that need not load torch, which would take longer than most of the tests."""
FORKS.set_forkserver_preload(["torch", "transformers.models.gpt2.modeling_gpt2", "accelerate", "matplotlib.figure"])

LOADED_EARLY = "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"
CRASHED = 99


def run_tests(source: Path, *words: str) -> tuple[int, str]:
    """pytest on a package: the exit code and what it printed. Raises TimeoutError."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as printed:
        process = FORKS.Process(target=_run_tests, args=(str(source), words, printed.name))
        process.start()
        process.join(LONGEST_SECONDS)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError
        return process.exitcode, printed.read()


def _run_tests(source: str, words: Sequence[str], printed: str) -> None:
    """What a forked process does: the package is found in `source` by it and by what it starts."""
    os.dup2(os.open(printed, os.O_WRONLY), 1)
    os.dup2(1, 2)
    os.environ |= {"PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": ""}
    os.chdir(ROOT)
    sys.path.insert(0, source)
    words = ("-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-W", LOADED_EARLY, *words)
    try:
        code = int(pytest.main([*words]))
    except BaseException:  # noqa: BLE001  # exit code 1 would say that a test failed
        traceback.print_exc()
        code = CRASHED
    sys.exit(code)


def find_failed(printed: str) -> list[str]:
    """The tests, or the files of them, that pytest says have failed."""
    return re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", printed, re.M)


def try_out(one: Break, words: Sequence[str]) -> Outcome:
    """Whether a test notices a break in a copy of the package: one that passes without it. `words`: of pytest."""
    with tempfile.TemporaryDirectory(prefix="epigone-break-") as folder:
        source = Path(shutil.copytree(ROOT / "src", Path(folder) / "src", ignore=shutil.ignore_patterns("__pycache__")))
        place = find_place(source, one.old)
        if place is None:
            return "stale"
        place.write_text(place.read_text("utf-8").replace(one.old, one.new), "utf-8")
        left_out: list[str] = []
        while True:
            try:
                code, printed = run_tests(source, "-x", *(f"--deselect={test}" for test in left_out), *words)
            except TimeoutError:
                return "caught"  # what never ends is noticed
            failed = find_failed(printed)
            if not failed:
                return "survived" if code == 0 else "no verdict"
            if run_tests(ROOT / "src", *failed)[0] == 0:
                return "caught"
            left_out += failed
            print(f"left out, as they fail without a break: {', '.join(failed)}", flush=True)


def choose(words: Sequence[str]) -> list[Break]:
    """The breaks whose name holds one of the words; all where there are no words."""
    return [one for one in BREAKS if not words or any(word in one.name for word in words)]


def main() -> int:
    """0 where every break that is not stale is caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="of the names of the breaks to try")
    parser.add_argument("--whole", action="store_true", help="run the whole quick suite on each")
    parser.add_argument("--processes", type=int, default=1, help="of pytest")
    parser.add_argument("--stale", action="store_true", help="only find out which are stale")
    how = parser.parse_args()
    several = ["--numprocesses", str(how.processes)] if how.processes > 1 else []
    outcomes = Counter[Outcome]()
    for one in choose(how.words):
        began = time.monotonic()
        if how.stale:
            outcome: Outcome = "no verdict" if find_place(ROOT / "src", one.old) and list_tests(one) else "stale"
        else:
            outcome = try_out(one, [*several, *(() if how.whole else list_tests(one))])
        outcomes[outcome] += 1
        print(f"{outcome:10}  {time.monotonic() - began:6.0f} s  {one.name}", flush=True)
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))
    return 0 if outcomes["survived"] + outcomes["no verdict"] == 0 or how.stale else 1


if __name__ == "__main__":
    sys.exit(main())
