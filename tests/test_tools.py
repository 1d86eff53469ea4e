"""The benchmarks measure what they say: recipes as they are known, whole processes, trials through the real plan."""

from __future__ import annotations

import io
import json
import math
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import bench
import bench_gpu
import peers
import recipes
import step_time
import trials
from epigone.settings import TrainSettings
from helpers_front import sonnets

HOLD_300_MB = "import time; x = bytearray(300_000_000); time.sleep(0.5); print(len(x))"


def test_nanogpts_model_has_as_many_parameters_as_its_readme_says() -> None:
    model = peers.CharacterModel(65)
    without_positions = sum(one.numel() for one in model.parameters()) - model.positions.weight.numel()
    assert round(without_positions / 1e6, 2) == 0.80


def test_nanogpts_rate_rises_to_its_peak_and_falls_to_a_tenth() -> None:
    rates = [peers._nanogpt_rate(step) for step in range(peers.STEPS + 1)]
    assert max(rates) == rates[peers.WARM_UP] == 1e-3
    assert rates[0] < 2e-5 and math.isclose(rates[-1], 1e-4)
    assert rates[peers.WARM_UP :] == sorted(rates[peers.WARM_UP :], reverse=True)


def test_a_fresh_character_model_costs_about_a_uniform_guess_and_looks_back_only() -> None:
    torch.manual_seed(0)
    model = peers.CharacterModel(65)
    ids = torch.randint(65, (2, 33))
    assert abs(model(ids[:, :-1], ids[:, 1:]).item() - math.log(65)) < 0.1
    other = ids.clone()
    other[:, 20:] = 1
    losses = [model(one[:, :10], one[:, 1:11]) for one in (ids, other)]
    assert torch.equal(*losses)


def test_a_measured_text_is_counted_once() -> None:
    ids = torch.arange(100) % 7
    assert peers._measure(lambda *_: torch.tensor(2.0), ids, 16) == 2.0 * 99


def test_the_trainers_recipe_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "CLM_BLOCK", 32)
    config = peers.GPT2Config(vocab_size=300, n_positions=32, n_layer=1, n_embd=32, n_head=1)
    nats, n_steps = peers.learn_like_trainer(sonnets(6_000), sonnets(7_000)[6_000:], config, 0.0)
    assert n_steps == 1 and 1.5 < nats / 1_000 < 5


def test_a_whole_process_is_timed_and_weighed() -> None:
    printed, seconds, peak = recipes.run_whole(["-c", HOLD_300_MB])
    assert printed == "300000000\n" and 0 < seconds < 30 and 3e8 < peak < 6e8
    with pytest.raises(RuntimeError, match="ended with 3"):
        recipes.run_whole(["-c", "raise SystemExit(3)"])


def test_a_trial_goes_by_the_plan_and_finds_what_the_run_would(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(sonnets(9_000), "utf-8")
    asked = {"text": str(text), "size": "1x32", "epochs": 2.0, "precision": "fp32", "compile": "off"}
    found = trials.run(asked)
    assert found["passes"] == pytest.approx(2, abs=0.3) and found["shape"] == "1x32"
    assert 2 < found["bits_per_byte"] < 6
    again = trials.run(asked | {"seed": 1})
    assert again["bits_per_byte"] != found["bits_per_byte"]
    assert set(asked) - {"text"} <= set(TrainSettings.model_fields)


def test_a_trial_that_is_far_behind_is_given_up(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(sonnets(9_000), "utf-8")
    asked = {"text": str(text), "size": "1x32", "epochs": 4.0, "precision": "fp32", "compile": "off"}
    assert not trials.run(asked | {"behind": [9.0, 1.1]})["given_up"]
    found = trials.run(asked | {"behind": [0.5, 1.1]})
    assert found["given_up"] and len(found["trace"]) < 4


def test_trials_that_are_added_while_they_run_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "trials.jsonl"
    file.write_text('{"minutes": 1}\n\n', "utf-8")
    lines = trials.read_lines(file)
    assert next(lines) == {"minutes": 1}
    with file.open("a", encoding="utf-8") as more:
        more.write(json.dumps({"minutes": 3}) + "\n")
    assert list(lines) == [{"minutes": 3}]


def test_a_quick_benchmark_says_what_it_ran_on() -> None:
    line = bench.describe_machine()
    assert f"{torch.get_num_threads()} threads" in line and f"torch {version('torch')}" in line


def test_a_process_of_the_step_times_takes_as_many_steps_as_it_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[None] = []
    monkeypatch.setattr(step_time, "make_step", lambda plan, tokens: lambda: steps.append(None))
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n3\n"))
    step_time.take_turns("2M", torch.get_num_threads(), divided=False)
    assert len(steps) == 4 and all(float(line) > 0 for line in capsys.readouterr().out.split())


def test_a_row_of_the_gpu_bench_names_the_model_and_its_processes() -> None:
    plan, _ = bench.make_plan_and_tokens("2M", n_time=64, batch=4)
    row = bench_gpu.show_pace(plan, 12_345.0, "cpu")
    assert row.startswith("| 2M at 64 | 1 | 12,345 |") and row.count("|") == bench_gpu.HEAD.count("|")


def test_the_gpu_bench_writes_as_it_learns() -> None:
    rows = bench_gpu.measure_writing("cpu")
    assert len(rows) == 2 and all(row.startswith("| 2M, fp32 | ") for row in rows)
