"""A base from a stranger: what does not fit, lies about its size or leads elsewhere is refused, in little memory."""

from __future__ import annotations

import json
import shutil
import struct
import time
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from conftest import Counting, Tries
from epigone.errors import BaseError, BaseUnusable
from epigone.model.hub import check_config, find_base
from epigone.tokens.tokenizer import encode, load_tokenizer
from helpers_front import command, sonnets, workshop, write_sonnets
from helpers_hostile import ODD_VALUES, spoil
from standin import make_standin

VERBS = ("train", "write", "score")


@cache
def sound_base() -> Path:
    return make_standin(workshop() / "sound", text=sonnets(20_000), n_layer=1, n_embd=32, n_positions=64)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound_base(), tmp_path / "base"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


def assert_ends_well(base: Path, verb: str, folder: Path) -> int:
    """The exit code of a verb, once it is known to be a clean end."""
    text = write_sonnets(folder, 3_000)
    quick = ("--epochs", "0.2", "--samples", "0", "--batch-size", "4", "--quiet", "--out", folder / "run")
    more = {"train": (text, "--base", base, *quick), "write": (base, "--length", "2"), "score": (base, text)}
    outcome = command(verb, *more[verb])
    assert outcome.code in (0, 1, 2) and "Traceback" not in outcome.err, outcome
    if outcome.code:
        assert len([line for line in outcome.err.splitlines() if line.startswith("error: ")]) == 1, outcome
    shutil.rmtree(folder / "run", ignore_errors=True)
    return outcome.code


SPOILT = "a spoilt file of a base"
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_spoilt_file_of_a_base_ends_no_verb_in_a_traceback(
    base: Path, tmp_path: Path, counting: Counting, file: str, verb: str
) -> None:
    with counting(SPOILT) as tries:
        _assert_spoilt_ones_end_well(base / file, tmp_path, verb, range(2), tries)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("verb", VERBS)
def test_no_spoilt_file_of_a_base_ends_a_verb_in_a_traceback(
    base: Path, tmp_path: Path, counting: Counting, file: str, verb: str
) -> None:
    with counting(SPOILT) as tries:
        _assert_spoilt_ones_end_well(base / file, tmp_path, verb, range(100, 150), tries)


def _assert_spoilt_ones_end_well(path: Path, folder: Path, verb: str, seeds: range, tries: Tries) -> None:
    if not path.exists():
        pytest.skip("this base has none")
    sound = path.read_bytes()
    for seed in seeds:
        path.write_bytes(spoil(sound, seed))
        tries.end(partial(assert_ends_well, path.parent, verb, folder))


def test_any_value_in_a_config_is_taken_or_refused(base: Path, counting: Counting) -> None:
    config = json.loads((base / "config.json").read_text("utf-8"))
    with counting("any value of a base's config.json") as tries:
        for name in config:
            for value in ODD_VALUES:
                try:
                    with tries.one():
                        check_config("a base", config | {name: value})
                except BaseUnusable as error:
                    assert error.hint and len(str(error)) < 400


@pytest.mark.parametrize(
    "values",
    [
        {"architectures": ["LlamaForCausalLM"], "_name_or_path": "../../etc/passwd"},
        {"dtype": "complex", "torch_dtype": "no such"},
        {"_name_or_path": "evil/model", "tokenizer_class": "EvilTokenizer"},
        {"activation_function": "no such"},
        {"activation_function": "__import__('os').system('x')"},
        {"layer_norm_epsilon": "1e-5"},
        {"resid_pdrop": 2},
        {"scale_attn_weights": "yes"},
        {"quantization_config": {"quant_method": "evil"}},
        {"id2label": 3},
        {"eos_token_id": 10**12},
        {"bos_token_id": "x"},
    ],
)
@pytest.mark.parametrize("verb", VERBS)
def test_odd_configs_end_no_verb_in_a_traceback(
    base: Path, tmp_path: Path, counting: Counting, values: dict[str, Any], verb: str
) -> None:
    change(base / "config.json", **values)
    with counting("a base's config.json that is odd or names code") as tries:
        tries.end(partial(assert_ends_well, base, verb, tmp_path))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    "values",
    [
        {"n_embd": 1_000_000},
        {"n_embd": 12_288, "n_head": 96, "n_layer": 96},
        {"vocab_size": 1_000_000},
        {"n_positions": 65_536},
        {"n_inner": 98_304},
    ],
)
def test_a_base_that_asks_for_absurdly_much_takes_no_memory(
    base: Path, counting: Counting, values: dict[str, Any]
) -> None:
    change(base / "config.json", **values)
    before = _read_resident_mib()
    with counting(ABSURD) as tries, pytest.raises(BaseUnusable), tries.one():
        find_base(str(base))
    assert _read_resident_mib() - before < 100


ABSURD = "a base that says it is absurdly large, in less than 100 MiB"


def _read_resident_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def test_a_header_that_lies_about_sizes_is_refused_in_no_memory(base: Path, counting: Counting) -> None:
    with counting(ABSURD) as tries:
        _assert_lies_are_refused(base, tries)


def _assert_lies_are_refused(base: Path, tries: Tries) -> None:
    weights = base / "model.safetensors"
    data = weights.read_bytes()
    n_header = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + n_header])
    name = next(key for key in header if key.endswith("wte.weight"))
    before = _read_resident_mib()
    for changed in (
        {"shape": [10**9, 10**9]},
        {"shape": [2**62, 4]},
        {"data_offsets": [0, 2**60]},
        {"data_offsets": [5, 1]},
        {"dtype": "F8_E4M3"},
        {"dtype": "nothing"},
    ):
        lying = json.dumps(header | {name: header[name] | changed}).encode()
        weights.write_bytes(struct.pack("<Q", len(lying)) + lying + data[8 + n_header :])
        with pytest.raises(BaseError), tries.one():
            find_base(str(base))
    weights.write_bytes(struct.pack("<Q", 90_000_000) + b" " * 1_000)
    with pytest.raises(BaseUnusable, match="damaged"), tries.one():
        find_base(str(base))
    assert _read_resident_mib() - before < 100


def test_weights_of_another_kind_of_number_are_read_or_refused(base: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = {name: value.clone() for name, value in load_file(base / "model.safetensors").items()}  # else mapped
    for kind in (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool):
        save_file({name: value.to(kind) for name, value in tensors.items()}, base / "model.safetensors")
        for verb in ("write", "score"):
            assert_ends_well(base, verb, tmp_path)
    save_file({name: value * float("nan") for name, value in tensors.items()}, base / "model.safetensors")
    for verb in VERBS:
        assert_ends_well(base, verb, tmp_path)


# -- tokenizers


def spoil_tokenizer(base: Path, edit: Any) -> None:
    path = base / "tokenizer.json"
    values = json.loads(path.read_text("utf-8"))
    edit(values)
    path.write_text(json.dumps(values), "utf-8")


def _number_beyond(values: dict[str, Any]) -> None:
    word = next(iter(values["model"]["vocab"]))
    values["model"]["vocab"][word] = 4_000_000_000


def _merge_what_is_not_there(values: dict[str, Any]) -> None:
    values["model"]["merges"] = [["zzzz", "qqqq"]]


def _add_tokens(values: dict[str, Any]) -> None:
    more = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    values["added_tokens"] += [{"id": 10_000 + n, "content": f"<{n}>", **more} for n in range(2_000)]


def _lose_the_end(values: dict[str, Any]) -> None:
    values["added_tokens"] = []


@pytest.mark.parametrize("edit", [_number_beyond, _merge_what_is_not_there, _add_tokens])
def test_a_tokenizer_that_does_not_fit_is_refused(base: Path, tmp_path: Path, counting: Counting, edit: Any) -> None:
    spoil_tokenizer(base, edit)
    with counting("a tokenizer that does not fit its base") as tries:
        with pytest.raises(BaseUnusable), tries.one():
            load_tokenizer(base)
        for verb in VERBS:
            assert tries.end(partial(assert_ends_well, base, verb, tmp_path)) == 2


def test_a_tokenizer_without_an_end_ends_no_verb_in_a_traceback(base: Path, tmp_path: Path) -> None:
    spoil_tokenizer(base, _lose_the_end)
    for verb in VERBS:
        assert_ends_well(base, verb, tmp_path)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(?:a|aa)+$", "(.*?)*x"])
def test_a_pattern_that_takes_for_ever_elsewhere_takes_moments_here(
    base: Path, counting: Counting, pattern: str
) -> None:
    def edit(values: dict[str, Any]) -> None:
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        values["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, values["pre_tokenizer"]]}

    spoil_tokenizer(base, edit)
    began = time.perf_counter()
    with counting("a pattern that would be searched for ever") as tries, suppress(BaseUnusable), tries.one():
        encode(("a" * 40 + "!") * 3, load_tokenizer(base))
    assert time.perf_counter() - began < 10


def test_a_huge_tokenizer_takes_moments(base: Path, counting: Counting) -> None:
    def edit(values: dict[str, Any]) -> None:
        source = Random(0)
        values["model"]["vocab"] |= {f"w{source.random()}": 300 + number for number in range(300_000)}

    spoil_tokenizer(base, edit)
    began = time.perf_counter()
    with counting("a huge vocabulary") as tries, pytest.raises(BaseUnusable), tries.one():
        load_tokenizer(base)
    assert time.perf_counter() - began < 20


def test_a_tokenizer_is_read_once_until_its_files_change(base: Path) -> None:
    first = load_tokenizer(base)
    assert load_tokenizer(base) is first
    spoil_tokenizer(base, lambda values: values["model"].pop("vocab"))
    with pytest.raises(BaseUnusable):
        load_tokenizer(base)
