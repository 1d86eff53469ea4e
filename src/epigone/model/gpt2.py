"""Building, loading and saving of stock GPT2LMHeadModels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from epigone.errors import BaseUnusable, OutputError, RunDamaged, first_line
from epigone.files import check_room, write_whole
from epigone.hardware import is_out_of_memory
from epigone.model.lora import add_adapters, merge_weights
from epigone.model.size import ModelSpec, Shape
from epigone.model.weights import TEMPERATURE, UNLOADABLE
from epigone.tokens.tokenizer import BPETokenizer

if TYPE_CHECKING:  # transformers takes half a second to import, its models one more, and generation needs neither
    from transformers import GPT2Config, GPT2LMHeadModel


def read_shape(config: Mapping[str, Any]) -> Shape:
    """The shape in a checkpoint's config.json, which `hub.find_base` has checked."""
    return Shape(
        n_layer=config["n_layer"],
        n_embd=config["n_embd"],
        n_head=config["n_head"],
        n_positions=config["n_positions"],
        vocab_size=config["vocab_size"],
    )


def build_model(spec: ModelSpec, base_folder: Path | None, end_of_text: int, *, seed: int) -> GPT2LMHeadModel:
    """The model that training starts from, in fp32 on the CPU: the base's weights, or random ones from the seed."""
    if base_folder is None:
        return _build_fresh(spec, end_of_text, seed)
    model = _load_base(spec, base_folder)
    if spec.lora is not None:
        add_adapters(model, spec.lora, seed)
    return model


def build_from_config(spec: ModelSpec, folder: Path) -> GPT2LMHeadModel:
    """A model of the config in a run's `folder`, for weights from one of the run's checkpoints. Raises RunDamaged."""
    from transformers import GPT2Config

    try:
        config = GPT2Config.from_pretrained(folder, local_files_only=True)
        if read_shape(config.to_dict()) != spec.shape:  # checked before memory is allocated
            raise ValueError("config.json has another shape than run.json")
        config._attn_implementation = spec.attention
        with torch.random.fork_rng(devices=[]):  # its random weights are replaced at once
            model = _make_model(config)
    except UNLOADABLE as error:
        if is_out_of_memory(error):
            raise
        raise RunDamaged(
            f"The model in {folder} cannot be built: {first_line(error)}", hint="Train again from the text."
        ) from None
    if spec.lora is not None:
        add_adapters(model, spec.lora, seed=0)
    return model


def _build_fresh(spec: ModelSpec, end_of_text: int, seed: int) -> GPT2LMHeadModel:
    from transformers import GPT2Config

    config = GPT2Config(
        vocab_size=spec.shape.vocab_size,
        n_positions=spec.shape.n_positions,
        n_embd=spec.shape.n_embd,
        n_layer=spec.shape.n_layer,
        n_head=spec.shape.n_head,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own gelu_new, fused
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        **_dropouts(spec),  # type: ignore[arg-type]
    )
    config._attn_implementation = spec.attention
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _make_model(config)


def _make_model(config: GPT2Config) -> GPT2LMHeadModel:
    from transformers import GPT2LMHeadModel

    return GPT2LMHeadModel(config)


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Hide transformers' progress bar over the tensors of a file, which load in an instant."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _load_base(spec: ModelSpec, folder: Path) -> GPT2LMHeadModel:
    from transformers import GPT2Config

    try:
        config = GPT2Config.from_pretrained(folder, local_files_only=True, **_dropouts(spec))  # type: ignore[arg-type]
        if config.activation_function == "gelu_new":
            config.activation_function = "gelu_pytorch_tanh"
        return _read_weights(folder, attn_implementation=spec.attention, config=config)
    except UNLOADABLE as error:
        if is_out_of_memory(error):
            raise
        raise BaseUnusable(
            f"{folder} cannot be loaded as a GPT-2: {first_line(error)}",
            hint="Download it again, or choose another --base.",
        ) from None


def _read_weights(folder: Path, **more: Any) -> GPT2LMHeadModel:
    """A checkpoint in fp32: transformers 5 would keep the file's format, and small updates vanish in half precision."""
    from transformers import GPT2LMHeadModel

    with _without_progress_bar():
        model: GPT2LMHeadModel = GPT2LMHeadModel.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            **more,
        )
    return model


def _dropouts(spec: ModelSpec) -> dict[str, float]:
    """No dropout in the attention: fused kernels do not support it on a CPU, and it costs 15 to 45 % of a step."""
    return {"resid_pdrop": spec.dropout, "embd_pdrop": spec.dropout, "attn_pdrop": 0.0}


def load_model(folder: Path, *, attention: str = "sdpa", device: str = "cpu") -> GPT2LMHeadModel:
    """A finished model in fp32 and in evaluation mode. Raises RunDamaged."""
    try:
        model = _read_weights(folder, attn_implementation=attention)
    except UNLOADABLE as error:
        if is_out_of_memory(error):
            raise
        raise RunDamaged(
            f"The model in {folder} cannot be loaded: {first_line(error)}",
            hint="epigone resume restores it from the last checkpoint of its run.",
        ) from None
    model.eval()  # type: ignore[no-untyped-call]
    model.to(torch.device(device))  # type: ignore[arg-type]
    return model


def save_config_and_tokenizer(model: GPT2LMHeadModel, tokenizer: BPETokenizer, folder: Path) -> None:
    """Everything of a stock model folder but the weights: config.json, generation_config.json and the tokenizer.

    Raises OutputError.
    """
    try:
        _save_config_and_tokenizer(model, tokenizer, folder)
    except Exception as error:  # noqa: BLE001  # tokenizers raises no other where a disk is full
        raise OutputError(f"{folder} cannot be written: {error}.", hint="Check that there is free space.") from None


def _save_config_and_tokenizer(model: GPT2LMHeadModel, tokenizer: BPETokenizer, folder: Path) -> None:
    from transformers import GenerationConfig

    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = ["GPT2LMHeadModel"]
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    end = tokenizer.end_of_text_id
    GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True, temperature=TEMPERATURE, top_p=0.95, bos_token_id=end, eos_token_id=end
    ).save_pretrained(folder)
    stock = tokenizer.as_stock()
    stock.model_max_length = model.config.n_positions
    stock.save_pretrained(folder)


def save_weights(model: GPT2LMHeadModel, path: Path, announce: Callable[[Path], object] = lambda partial: None) -> None:
    """Save the weights as safetensors. The file at `path` is replaced only once the new one is complete on disk.

    `announce` is called with the complete new file before it is renamed to `path`. Raises OutputError.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in merge_weights(model).items()}
    weights.pop("lm_head.weight")  # tied to transformer.wte.weight
    check_room(path.parent, sum(tensor.nbytes for tensor in weights.values()), str(path))

    def write(partial: Path) -> None:
        save_file(weights, partial, metadata={"format": "pt"})
        announce(partial)

    write_whole(path, write)


def load_weights(model: GPT2LMHeadModel, path: Path) -> None:
    """Load weights that `save_weights` wrote into a model of the same shape. Raises RunDamaged."""
    try:
        missing = model.load_state_dict(load_file(path), strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunDamaged(f"{path} cannot be loaded: {first_line(error)}") from None
    if missing.unexpected_keys or set(missing.missing_keys) - {"lm_head.weight"}:
        raise RunDamaged(f"{path} does not hold the weights of this model.")
