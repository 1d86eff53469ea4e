"""GGUF files for llama.cpp and the programs built on it: GPT-2's tensors and tokenizer under the names it knows.

llama.cpp's own converter refuses tokenizers that it does not know and reads fields that transformers no longer writes;
its loader needs neither (ggml-org/llama.cpp, src/models/gpt2.cpp and src/llama-vocab.cpp).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from epigone.errors import SettingsError
from epigone.export.source import TOP_P, SourceModel, list_tokens
from epigone.files import check_room, write_whole
from epigone.model.weights import PREFIX
from epigone.report.escape import show_name

if TYPE_CHECKING:
    import torch

GgufType = Literal["f32", "f16", "q8_0"]
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7}
"""llama.cpp's number for files whose matrices have the type."""
BLOCK = 32
"""Weights that share a scale in Q8_0; rows of another length stay in F16."""
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""llama.cpp's kinds of tokens."""
NAMES = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
"""GPT-2's parts of a block, and what llama.cpp calls them."""
MAGIC = b"GGUF"


def write_gguf(source: SourceModel, path: Path, kind: GgufType = "f16") -> Path:
    """Write the model to one file and return its path. Raises SettingsError, OutputError."""
    writer_class = _load_package().GGUFWriter
    check_room(path.parent, 4 * source.weights.n_parameters, "The file")

    def write(beside: Path) -> None:
        writer = writer_class(beside, "gpt2")
        try:
            _add_facts(writer, source, kind)
            _add_tokenizer(writer, source)
            for name, rows, type_name in _list_tensors(source, kind):
                _add_tensor(writer, name, rows, type_name)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()

    write_whole(path, write)
    return path


def _load_package() -> Any:
    """The package gguf. Raises SettingsError where it is missing."""
    try:
        import gguf
    except ImportError:
        raise SettingsError(
            "Writing GGUF needs the package gguf.", hint="Install it: pip install 'epigone[gguf]'"
        ) from None
    return gguf


def _add_facts(writer: Any, source: SourceModel, kind: GgufType) -> None:
    config = source.weights.config
    writer.add_name(show_name(source.name))
    writer.add_file_type(FILE_TYPES[kind])
    if kind == "q8_0":
        writer.add_quantization_version(2)
    writer.add_context_length(config.n_positions)  # exactly the rows of the position table
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(source.n_inner)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_sampling_temp(source.temperature)  # llama.cpp's defaults, where the user says nothing
    writer.add_sampling_top_p(TOP_P)
    writer.add_sampling_top_k(0)
    writer.add_sampling_min_p(0.0)
    writer.add_sampling_penalty_repeat(1.0)


def _add_tokenizer(writer: Any, source: SourceModel) -> None:
    """Without the ids of end-of-text llama.cpp would take token 11 for it, which is an ordinary one here."""
    tokens, kinds = name_tokens(source)
    backend = json.loads(source.tokenizer.backend.to_str())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in backend["model"]["merges"]])
    writer.add_bos_token_id(source.tokenizer.end_of_text_id)
    writer.add_eos_token_id(source.tokenizer.end_of_text_id)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def name_tokens(source: SourceModel) -> tuple[list[str], list[int]]:
    """A token and its kind for every row of the embedding; rows without one get names that no token has."""
    added = source.tokenizer.backend.get_added_tokens_decoder()
    found = list_tokens(source)
    taken, tokens, kinds = set(found), [], []
    for number, token in enumerate(found):
        name = token
        if name is None:
            name = f"[PAD{number}]"
            while name in taken:
                name = f"[{name}]"
        tokens.append(name)
        if token is None:
            kinds.append(UNUSED)
        elif number in added:
            kinds.append(CONTROL if added[number].special else USER_DEFINED)
        else:
            kinds.append(NORMAL)
    return tokens, kinds


def _list_tensors(source: SourceModel, kind: GgufType) -> Iterator[tuple[str, torch.Tensor, GgufType]]:
    """Names, rows [out, in] and types: matrices have `kind`, the position table and all vectors F32."""
    tensors = source.weights.tensors

    def name_pair(own: str, other: str) -> Iterator[tuple[str, torch.Tensor, GgufType]]:
        weight = tensors[f"{PREFIX}{own}.weight"]
        yield f"{other}.weight", weight.t() if weight.ndim == 2 else weight, kind if weight.ndim == 2 else "f32"
        yield f"{other}.bias", tensors[f"{PREFIX}{own}.bias"], "f32"

    yield "token_embd.weight", tensors[f"{PREFIX}wte.weight"], kind
    yield "position_embd.weight", tensors[f"{PREFIX}wpe.weight"], "f32"
    for layer in range(source.weights.config.n_layer):
        for own, other in NAMES.items():
            yield from name_pair(f"h.{layer}.{own}", f"blk.{layer}.{other}")
    yield from name_pair("ln_f", "output_norm")
    if not source.is_tied:
        yield "output.weight", source.weights.head, kind


def _add_tensor(writer: Any, name: str, rows: torch.Tensor, kind: GgufType) -> None:
    array = rows.detach().contiguous().numpy()
    if kind == "q8_0" and array.shape[-1] % BLOCK == 0:
        package = _load_package()
        packed = package.quants.quantize(array, package.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, packed, raw_dtype=package.GGMLQuantizationType.Q8_0)
    else:
        writer.add_tensor(name, array.astype("float32" if kind == "f32" else "float16"))
