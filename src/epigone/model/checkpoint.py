"""A base's folder in, what its config.json says out, once its files are known to be sound and to fit each other."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from epigone.errors import BaseUnusable

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
GENERATION = "generation_config.json"
TOKENIZERS = ({"tokenizer.json"}, {"vocab.json", "merges.txt"})
"""Either of these sets of files makes a tokenizer."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")
LARGEST_JSON_BYTES = 16_000_000
LARGEST = {"n_layer": 96, "n_head": 256, "n_embd": 12_288, "n_positions": 65_536, "vocab_size": 1_000_000}
"""No GPT-2 is larger than GPT-3; a config.json that asks for more is a mistake or an attack on memory."""
SWITCHES = (
    *("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "tie_word_embeddings"),
    *("use_cache", "add_cross_attention"),
)
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout")
OTHER_SPELLINGS = {
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_embd": "hidden_size",
    "n_positions": "max_position_embeddings",
}
"""transformers takes these for the same sizes, and the one that comes later in the file wins."""
ANOTHER = "Give another base with --base (gpt2 is one), or --base none to learn from scratch."


def check_folder(name: str, folder: Path) -> Mapping[str, Any]:
    """What config.json says, once all files of the folder are known to be there and to fit. Raises BaseUnusable."""
    names = list_files(folder)
    if CONFIG not in names:
        raise BaseUnusable(f"{folder} has no {CONFIG}.", hint=ANOTHER)
    config = read_object(name, folder / CONFIG)
    check_config(name, config)
    check_tokenizer(name, names)
    if "tokenizer_config.json" in names:
        _refuse_code(name, "tokenizer_config.json", read_object(name, folder / "tokenizer_config.json"))
    files = {WEIGHTS} if choose_weights(name, names) == WEIGHTS else read_shard_names(name, folder)
    shapes: dict[str, list[int]] = {}
    for file in sorted(files):
        shapes |= _read_shapes(name, folder / file)
    _check_shapes(name, config, shapes)
    return config


def check_config(name: str, config: Mapping[str, Any]) -> None:
    """Refuse what is no GPT-2, has impossible sizes or names code. Raises BaseUnusable."""
    if config.get("model_type") != "gpt2":
        raise BaseUnusable(f"{name} is of type {config.get('model_type')!r:.40}, not a GPT-2.", hint=ANOTHER)
    _refuse_code(name, CONFIG, config)
    wrong = _find_wrong_size(config)
    if wrong:
        raise BaseUnusable(f"{name}: the sizes in {CONFIG} cannot be: {wrong}.", hint=ANOTHER)
    if wrong := _find_wrong_value(config):
        raise BaseUnusable(f"{name}: {CONFIG} cannot be: {wrong}.", hint=ANOTHER)


def _find_wrong_size(config: Mapping[str, Any]) -> str:
    for size, largest in LARGEST.items():
        values = [config[key] for key in (size, OTHER_SPELLINGS.get(size, "")) if key in config]
        if not values or not all(type(value) is int and 1 <= value <= largest for value in values):
            return f"{size} must be a whole number from 1 to {largest:,}, not {values or 'absent'!s:.40}"
        if values[0] != values[-1]:
            return f"{size} is given twice, as {values[0]:,} and {values[-1]:,}"
    sizes = _read_sizes(config)
    if sizes["n_embd"] % sizes["n_head"]:
        return f"n_embd of {sizes['n_embd']:,} cannot be shared by {sizes['n_head']} heads"
    if type(sizes["n_inner"]) is not int or not 1 <= sizes["n_inner"] <= 8 * LARGEST["n_embd"]:
        return f"n_inner must be a whole number or null, not {sizes['n_inner']!r:.40}"
    return ""


def _find_wrong_value(config: Mapping[str, Any]) -> str:
    """What transformers would stumble over only when the model is built."""
    for name in SWITCHES:
        if not isinstance(config.get(name, True), bool):
            return f"{name} must be true or false, not {config[name]!r:.40}"
    for name in DROPOUTS:
        if not _lies_between(value := config.get(name, 0.0), 0, 1):
            return f"{name} must be from 0 to 1, not {value!r:.40}"
    epsilon = config.get("layer_norm_epsilon", 1e-5)
    if not _lies_between(epsilon, 0, 1):
        return f"layer_norm_epsilon must be a small number, not {epsilon!r:.40}"
    return ""


def _lies_between(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and low <= value <= high


def _read_sizes(config: Mapping[str, Any]) -> dict[str, int]:
    sizes = {size: config.get(size, config.get(OTHER_SPELLINGS.get(size, ""))) for size in LARGEST}
    inner = config.get("n_inner")
    return sizes | {"n_inner": 4 * sizes["n_embd"] if inner is None else inner}


def _refuse_code(name: str, file: str, values: Mapping[str, Any]) -> None:
    """No code that a checkpoint brings or names is ever run: auto_map, kernels, weights in files of another name."""
    pairs = list(values.items())
    while pairs:
        key, value = pairs.pop()
        names_kernel = "_implementation" in key and (key.endswith("_internal") or "/" in json.dumps(value))
        if names_kernel or key in ("auto_map", "transformers_weights"):
            message = f"{name}: {file} names code or files to load from elsewhere ({key}); that is never done."
            raise BaseUnusable(message, hint=ANOTHER)
        nested = value if isinstance(value, list) else [value]
        pairs += [pair for item in nested if isinstance(item, dict) for pair in item.items()]


def check_tokenizer(name: str, names: Collection[str]) -> None:
    """Refuse a checkpoint whose files (`names`) make no tokenizer. Raises BaseUnusable."""
    if not any(files <= set(names) for files in TOKENIZERS):
        raise BaseUnusable(
            f"{name} has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt.", hint=ANOTHER
        )


def choose_weights(name: str, names: Collection[str]) -> str:
    """The file, or index of files, in safetensors that holds the weights. Raises BaseUnusable."""
    for file in (WEIGHTS, INDEX):
        if file in names:
            return file
    pickles = sorted(file for file in names if file.endswith(PICKLES))
    if not pickles:
        raise BaseUnusable(f"{name} has no {WEIGHTS}.", hint=ANOTHER)
    raise BaseUnusable(
        f"{name} has its weights only as {', '.join(pickles[:3])}, and opening such a file can run code; "
        f"only {WEIGHTS} is read.",
        hint="Look for a copy in safetensors; or, if you trust its maker, load it with transformers elsewhere, "
        "`save_pretrained` it, and give that folder with --base.",
    )


def read_shard_names(name: str, folder: Path) -> set[str]:
    """Files that a sharded checkpoint consists of; only plain names beside the index are taken."""
    weight_map = read_object(name, folder / INDEX).get("weight_map")
    files = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not files or not all(isinstance(file, str) for file in files):
        raise BaseUnusable(f"{name}: {INDEX} names no files.", hint=_way_out(folder))
    for file in files:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors", file) or ".." in file:
            raise BaseUnusable(f"{name}: {INDEX} names {file!r:.80}, which is no file beside it.", hint=ANOTHER)
    return set(files)


def read_object(name: str, path: Path) -> dict[str, Any]:
    """A JSON object from a file of reasonable size. Raises BaseUnusable."""
    try:
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise ValueError(f"larger than {LARGEST_JSON_BYTES:,} bytes")
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BaseUnusable(f"{name}: {path.name} cannot be read: {error}.", hint=_way_out(path.parent)) from None
    if not isinstance(values, dict):
        raise BaseUnusable(f"{name}: {path.name} holds no JSON object.", hint=_way_out(path.parent))
    return values


def _read_shapes(name: str, path: Path) -> dict[str, list[int]]:
    """Shapes by tensor, from the header alone, without the "transformer." that the published GPT-2 lacks."""
    from safetensors import SafetensorError, safe_open

    try:
        # Opening checks that the header is sound and covers the file to its last byte: a cut file is found here.
        with safe_open(path, framework="numpy") as file:
            keys = file.keys()
            return {key.removeprefix("transformer."): file.get_slice(key).get_shape() for key in keys}
    except (OSError, SafetensorError) as error:
        message = f"{name}: {path.name} is damaged or incomplete ({error})."
        raise BaseUnusable(message, hint=_way_out(path.parent)) from None


def _check_shapes(name: str, config: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> None:
    """Every tensor there and as large as config.json says: transformers would fill a missing one with noise."""
    for tensor, expected in _expect_shapes(config).items():
        if tensor not in shapes:
            raise BaseUnusable(f"{name}: its weights lack {tensor}, which {CONFIG} calls for.", hint=ANOTHER)
        if shapes[tensor] != expected:
            message = f"{name}: {tensor} has the shape {shapes[tensor]}, by {CONFIG} it should be {expected}."
            raise BaseUnusable(message, hint=ANOTHER)


def _expect_shapes(config: Mapping[str, Any]) -> dict[str, list[int]]:
    """GPT-2's tensors; its matrices are stored [in, out]."""
    sizes = _read_sizes(config)
    width, inner = sizes["n_embd"], sizes["n_inner"]
    shapes = {"wte.weight": [sizes["vocab_size"], width], "wpe.weight": [sizes["n_positions"], width]}
    if not config.get("tie_word_embeddings", True):
        shapes["lm_head.weight"] = shapes["wte.weight"]
    matrices = {"attn.c_attn": [width, 3 * width], "attn.c_proj": [width, width]}
    matrices |= {"mlp.c_fc": [width, inner], "mlp.c_proj": [inner, width]}
    parts = {"ln_f": [width]}
    for layer in range(sizes["n_layer"]):
        parts |= {f"h.{layer}.ln_1": [width], f"h.{layer}.ln_2": [width]}
        parts |= {f"h.{layer}.{matrix}": shape for matrix, shape in matrices.items()}
    for part, shape in parts.items():
        shapes |= {f"{part}.weight": shape, f"{part}.bias": shape[-1:]}
    return shapes


def _way_out(folder: Path) -> str:
    if folder.parent.name == "snapshots":
        return f"Delete {folder.parent.parent} and run again: it will be downloaded anew."
    return "Copy or download it again."


def list_files(folder: Path) -> set[str]:
    """The names of the files in a folder. Raises BaseUnusable."""
    try:
        return {path.name for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise BaseUnusable(f"{folder} cannot be read: {error.strerror}.", hint="Check its permissions.") from None
