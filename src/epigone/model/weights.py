"""Config and tensors of a GPT-2 folder, read without building transformers' model.

Importing that model's code takes longer than a small model takes to write a page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file

from epigone.errors import RunDamaged, first_line
from epigone.files import MISSING, read_bytes, write_json
from epigone.hardware import is_out_of_memory
from epigone.model.hub import CONFIG, GENERATION, INDEX, OTHER_SPELLINGS, WEIGHTS

if TYPE_CHECKING:
    from transformers import GPT2Config


UNLOADABLE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, ImportError),
    *(SafetensorError, StrictDataclassError),
)
"""What reading a folder may raise: its config.json may hold anything."""
TEMPERATURE = 0.8
"""The default where none is given or stored."""
LARGEST_INT8 = 127
"""Eight-bit weights are integers from -127 to 127 times a scale for each output."""
PREFIX = "transformer."
"""Before the names of all tensors but the head's; GPT-2's own files leave it out."""
GELU = ("gelu_new", "gelu_pytorch_tanh")
"""The tanh form of GELU, GPT-2's own (Hendrycks & Gimpel 2016), as transformers calls it."""


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that say how a GPT-2 computes, with GPT-2's own values as defaults."""

    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    n_positions: int = 1024
    layer_norm_epsilon: float = 1e-5
    activation_function: str = "gelu_new"
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    add_cross_attention: bool = False


def read_config(folder: Path) -> Config:
    """From a folder's config.json. Raises OSError, ValueError."""
    values = json.loads((folder / CONFIG).read_text("utf-8"))
    values |= {size: values[name] for size, name in OTHER_SPELLINGS.items() if name in values}
    return Config(**{field.name: values[field.name] for field in fields(Config) if field.name in values})


class Weights(NamedTuple):
    """Config and tensors; the tensors are named as in `GPT2LMHeadModel`."""

    config: Config | GPT2Config
    tensors: Mapping[str, torch.Tensor]

    @property
    def head(self) -> torch.Tensor:
        """[vocabulary, width]; most often that of the embedding."""
        return self.tensors.get("lm_head.weight", self.tensors[f"{PREFIX}wte.weight"])

    @property
    def n_parameters(self) -> int:
        """Numbers in all tensors, a shared one counted once."""
        return sum({tensor.data_ptr(): tensor.numel() for tensor in self.tensors.values()}.values())


def read_weights(folder: Path, device: str) -> Weights:
    """The weights in a validated folder, in fp32 on the device. Raises RunDamaged."""
    try:
        config = read_config(folder)
        found: dict[str, torch.Tensor] = {}
        for file in _list_files(folder):
            found |= load_file(file, device=device)
    except UNLOADABLE as error:
        if is_out_of_memory(error):
            raise
        raise RunDamaged(
            f"The model in {folder} cannot be loaded: {first_line(error)}",
            hint="epigone resume restores it from the last checkpoint of its run.",
        ) from None
    whole = (PREFIX, "lm_head.")
    named = {name if name.startswith(whole) else PREFIX + name: tensor.float() for name, tensor in found.items()}
    return Weights(config, named)


def _list_files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if (folder / WEIGHTS).exists() or not index.exists():
        return [folder / WEIGHTS]
    return [folder / name for name in sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))]


def quantize_rows(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers, int8 [rows, columns], and a scale for each row, fp32 [rows]: their product is nearly the matrix."""
    scales = matrix.abs().amax(1).clamp(min=1e-12) / LARGEST_INT8
    return (matrix / scales[:, None]).round().to(torch.int8), scales


def read_temperature(folder: Path) -> float:
    """The temperature in generation_config.json, if it is a number above 0 and at most 5; otherwise 0.8.

    Raises FileUnreadable.
    """
    try:
        found = json.loads(read_bytes(folder / GENERATION)).get("temperature")
    except (*MISSING, ValueError, AttributeError, RecursionError):
        found = None
    return float(found) if isinstance(found, int | float) and 0 < found <= 5 else TEMPERATURE


def keep_temperature(folder: Path, temperature: float) -> None:
    """Store the temperature to write with in generation_config.json. Raises OutputError, FileUnreadable."""
    try:
        values = dict(json.loads(read_bytes(folder / GENERATION)))
    except (*MISSING, ValueError, TypeError, RecursionError):
        values = {"do_sample": True}
    write_json(folder / GENERATION, values | {"temperature": temperature})


def is_plain(config: Config | GPT2Config) -> bool:
    """Whether a model computes as GPT-2 does, and not as one of the variants that transformers' config allows."""
    return (
        config.activation_function in GELU
        and config.scale_attn_weights
        and not config.scale_attn_by_inverse_layer_idx
        and not config.reorder_and_upcast_attn
        and not config.add_cross_attention
    )
