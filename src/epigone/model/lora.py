"""LoRA (Hu et al. 2021): low-rank adapters for a GPT-2, merged into its weights when it is saved.

A matrix is frozen, and the product of two thin matrices is trained and added to it.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


MATRICES = ["c_attn", "c_proj", "c_fc"]
"""The matrices in GPT-2's blocks; there are two named c_proj."""
NAME = "default"


def can_adapt() -> bool:
    """Whether peft, which makes the adapters, is installed."""
    return importlib.util.find_spec("peft") is not None


def add_adapters(model: GPT2LMHeadModel, rank: int, seed: int) -> None:
    """Freeze the model and add adapters of `rank` to it; they change nothing until they are trained."""
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds to import, and few runs need it

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=MATRICES, fan_in_fan_out=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, adapter_name=NAME)


def find_weight(layer: Any) -> torch.Tensor:
    """A layer's matrix [in, out], with its adapter added."""
    if not hasattr(layer, "lora_A"):
        weight: torch.Tensor = layer.weight
        return weight
    whole: torch.Tensor = layer.base_layer.weight + layer.get_delta_weight(NAME)
    return whole


def merge_weights(model: GPT2LMHeadModel) -> dict[str, torch.Tensor]:
    """The model's weights under the names of a stock GPT-2, with any adapters added to its matrices."""
    weights = {
        name.replace(".base_layer.", "."): tensor for name, tensor in model.state_dict().items() if ".lora_" not in name
    }
    with torch.no_grad():
        for name, module in model.named_modules():
            if hasattr(module, "lora_A"):
                weights[f"{name}.weight"] = find_weight(module)
    return weights
