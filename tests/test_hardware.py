"""The machine is described correctly, and bf16 is chosen only if the hardware computes in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from epigone.errors import SettingsError
from epigone.hardware import choose_precision, count_idle_threads, find_hardware
from epigone.model.size import make_shape
from helpers_tokens import make_hardware

AVX2 = {"avx2": True, "avx512_f": False, "avx512_bf16": False, "amx_tile": False, "amx_bf16": False}
CPUINFO = Path("/proc/cpuinfo")


def pretend_processor(patch: pytest.MonkeyPatch, capabilities: Mapping[str, bool]) -> None:
    """Make torch see this processor and no other device."""
    patch.setattr(torch.cuda, "is_available", lambda: False)
    patch.setattr(torch.backends.mps, "is_available", lambda: False)
    patch.setattr(torch.cpu, "get_capabilities", lambda: dict(capabilities), raising=False)


def pretend_card(patch: pytest.MonkeyPatch, *, in_silicon: bool) -> None:
    """Make torch see a GPU that has bf16, if only emulated."""
    card = SimpleNamespace(name="Fake T1000", total_memory=16 << 30)
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: in_silicon or including_emulation)


# -- what is there


@pytest.mark.parametrize(
    ("more", "bf16"),
    [
        ({}, False),
        ({"avx512_f": True}, False),
        ({"avx512_f": True, "avx512_bf16": True}, True),
        ({"amx_tile": True, "amx_bf16": True}, True),
        ({"amx_tile": True}, False),
    ],
)
def test_a_processor_has_bf16_only_in_hardware(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, bool], bf16: bool
) -> None:
    pretend_processor(monkeypatch, AVX2 | more)
    hardware = find_hardware()
    assert (hardware.device, hardware.bf16) == ("cpu", bf16)
    assert choose_precision("auto", hardware)[0] == ("bf16" if bf16 else "fp32")


@pytest.mark.parametrize(("avx512", "amx"), [(False, False), (True, False), (False, True)])
def test_an_older_torch_is_asked_in_its_own_way(monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool) -> None:
    pretend_processor(monkeypatch, {})
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert find_hardware("cpu").bf16 is (avx512 or amx)


def test_a_processor_without_the_flag_has_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_processor(monkeypatch, {"sve": True})
    assert find_hardware().bf16 is False


@pytest.mark.skipif(
    not CPUINFO.is_file() or "flags" not in CPUINFO.read_text("utf-8"), reason="no flags in /proc/cpuinfo"
)
def test_this_processor_is_described_as_the_kernel_describes_it() -> None:
    """For AMX torch also needs the kernel's permission, so only AMX without the flag would be wrong."""
    flags = set(re.search(r"^flags\s*:(.*)$", CPUINFO.read_text("utf-8"), re.MULTILINE)[1].split())  # type: ignore[index]
    bf16 = find_hardware("cpu").bf16
    assert bf16 if "avx512_bf16" in flags else not bf16 or "amx_bf16" in flags


def test_the_memory_and_threads_are_the_machine_s_own() -> None:
    hardware = find_hardware("cpu")
    assert hardware.memory_bytes == psutil.virtual_memory().total
    assert hardware.n_threads == torch.get_num_threads() and str(hardware.n_threads) in hardware.name


@pytest.mark.parametrize("in_silicon", [True, False])
def test_a_gpu_is_described_by_its_own_properties(monkeypatch: pytest.MonkeyPatch, in_silicon: bool) -> None:
    pretend_card(monkeypatch, in_silicon=in_silicon)
    hardware = find_hardware("cuda")
    assert (hardware.device, hardware.name, hardware.memory_bytes) == ("cuda", "Fake T1000", 16 << 30)
    assert hardware.bf16 is in_silicon
    precision, reason = choose_precision("auto", hardware)
    assert precision == ("bf16" if in_silicon else "fp16") and "Fake T1000" in reason


def test_the_best_device_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_processor(monkeypatch, AVX2)
    assert find_hardware().device == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_hardware().device == "mps"
    pretend_card(monkeypatch, in_silicon=True)
    assert find_hardware().device == "cuda"
    assert find_hardware("cpu").device == "cpu" and find_hardware("mps").device == "mps"


def test_an_apple_gpu_computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_processor(monkeypatch, AVX2 | {"avx512_bf16": True})
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    hardware = find_hardware("mps")
    assert not hardware.bf16 and choose_precision("auto", hardware)[0] == "fp32"


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_missing_device_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    pretend_processor(monkeypatch, AVX2)
    with pytest.raises(SettingsError, match=f"device {device} is not available") as caught:
        find_hardware(device)
    assert "processor is used" in caught.value.hint
    assert ("CUDA build" in caught.value.hint) is (device == "cuda")


# -- the number format


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_the_precision_asked_for_is_used_even_if_it_is_slow(asked: str, device: Any) -> None:
    assert choose_precision(asked, make_hardware(device)) == (asked, "as asked")


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_fp16_without_a_gpu_is_refused(device: Any) -> None:
    with pytest.raises(SettingsError, match="fp16 needs") as caught:
        choose_precision("fp16", make_hardware(device, bf16=True))
    assert "fp32" in caught.value.hint
    assert choose_precision("fp16", make_hardware("cuda")) == ("fp16", "as asked")


def test_every_choice_has_its_reason() -> None:
    for hardware in (make_hardware(), make_hardware(bf16=True), make_hardware("cuda"), make_hardware("mps")):
        assert hardware.name in choose_precision("auto", hardware)[1]


@pytest.mark.parametrize(("busy", "expected"), [(0.0, 8), (25.0, 6), (50.0, 4), (99.0, 1), (100.0, 1)])
def test_only_idle_cores_are_counted(monkeypatch: pytest.MonkeyPatch, busy: float, expected: int) -> None:
    """Of those that are there torch would use eight. `busy`: per cent of all."""
    monkeypatch.setattr("psutil.cpu_percent", lambda interval: busy)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert count_idle_threads() == expected


# -- how fast it is


@pytest.mark.parametrize(
    ("size", "vocab_size", "n_time", "microseconds"),
    [
        ("2x64", 512, 64, 28.7),
        ("2x128", 512, 64, 63.7),
        ("2x192", 1024, 64, 115.2),
        ("4x192", 1024, 128, 235.0),
        ("6x256", 1024, 256, 508.9),
        ("12x768", 50_257, 256, 8065.0),
    ],
)
def test_the_guess_for_a_processor_without_bf16_is_what_was_measured(
    size: str, vocab_size: int, n_time: int, microseconds: float
) -> None:
    """Per token, on two threads of a processor with AVX2."""
    shape = make_shape(size, block_size=n_time, vocab_size=vocab_size)
    hardware = make_hardware(n_threads=2, bf16=False)
    assert 1e6 * shape.guess_seconds(1, n_time, hardware) == pytest.approx(microseconds, rel=0.1)


def test_headers_that_may_not_be_read_are_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Python lies in the folder of another user."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert not find_hardware("cpu").compiles
