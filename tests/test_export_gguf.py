"""A GGUF file holds the model's own numbers and tokens, and llama.cpp itself does with them what we do."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("gguf", reason="needs gguf")

import gguf

from epigone.errors import BaseUnusable, OutputError, SettingsError
from epigone.export.gguf_file import CONTROL, NORMAL, UNUSED, name_tokens
from epigone.export.llama_cpp import export_gguf
from epigone.export.source import list_tokens, open_source
from epigone.model.gpt2 import load_model
from epigone.run import find_model_folder
from epigone.tokens.tokenizer import encode
from helpers_export import MODELS, ask_llama, find_model, list_lines, needs_llama, open_model
from helpers_front import command, shared_run
from standin import hub_root

LEAST = {"f32": 0.0, "f16": 2**-10, "q8_0": 1 / 127}
"""The largest error of a weight, as a share of the largest one of all."""


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Fields and tensors, dequantized, by gguf's own reader."""
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
        for tensor in reader.tensors
    }
    return fields, tensors


def rename(name: str) -> str:
    """GPT-2's name of one of llama.cpp's tensors."""
    own = {"token_embd": "wte", "position_embd": "wpe", "output_norm": "ln_f", "attn_norm": "ln_1", "ffn_norm": "ln_2"}
    own |= {"attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
    *block, part, kind = name.split(".")
    return ".".join(["transformer", *("h" if word == "blk" else word for word in block), own[part], kind])


@pytest.mark.parametrize("kind", LEAST)
@pytest.mark.parametrize("name", MODELS)
def test_the_weights_are_those_of_the_model(name: str, kind: str, tmp_path: Path):
    source = open_model(name)
    _, tensors = read(export_gguf(source, kind, tmp_path).model)
    expected = {own: tensor.numpy() for own, tensor in source.weights.tensors.items()}
    assert {rename(other) for other in tensors} == set(expected)
    for other, found in tensors.items():
        own = expected[rename(other)]
        own = own.T if own.ndim == 2 and "_embd" not in other else own
        assert found.shape == own.shape
        exact = own.ndim == 1 or other.startswith("position")
        assert np.abs(found - own).max() <= (0 if exact else LEAST[kind]) * np.abs(own).max()
    assert any(
        np.abs(found - expected["transformer.wte.weight"]).max() > 0 for found in [tensors["token_embd.weight"]]
    ) == (kind != "f32")


@pytest.mark.parametrize("name", MODELS)
def test_tokens_and_facts_are_what_the_loader_asks_for(name: str, tmp_path: Path):
    source = open_model(name)
    fields, tensors = read(export_gguf(source, "q8_0", tmp_path).model)
    config, end = source.weights.config, source.tokenizer.end_of_text_id
    assert fields["general.architecture"] == "gpt2" and fields["general.file_type"] == 7
    assert fields["gpt2.context_length"] == config.n_positions == len(tensors["position_embd.weight"])
    assert fields["gpt2.feed_forward_length"] == 4 * config.n_embd
    assert fields["gpt2.attention.head_count"] == config.n_head
    assert fields["tokenizer.ggml.model"] == "gpt2" and fields["tokenizer.ggml.pre"] == "gpt-2"
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert len(tokens) == len(kinds) == len(set(tokens)) == len(tensors["token_embd.weight"])
    assert {token: number for number, token in enumerate(tokens)} == source.tokenizer.backend.get_vocab()
    assert kinds == [CONTROL if number == end else NORMAL for number in range(len(tokens))]
    assert fields["tokenizer.ggml.bos_token_id"] == fields["tokenizer.ggml.eos_token_id"] == end
    assert fields["tokenizer.ggml.add_bos_token"] is False
    own = json.loads(source.tokenizer.backend.to_str())["model"]["merges"]
    assert fields["tokenizer.ggml.merges"] == [" ".join(pair) for pair in own]
    assert fields["general.sampling.temp"] == pytest.approx(source.temperature)


def test_rows_without_a_token_have_names_that_no_token_has():
    source = open_model("run")
    tensors = dict(source.weights.tensors)
    n_tokens = len(source.tokenizer)
    tensors["transformer.wte.weight"] = torch.zeros(n_tokens + 3, source.width)
    padded = open_source(shared_run().path)
    object.__setattr__(padded, "weights", padded.weights._replace(tensors=tensors))
    tokens, kinds = name_tokens(padded)
    assert list_tokens(padded)[-3:] == [None] * 3
    assert tokens[-3:] == [f"[PAD{n_tokens + number}]" for number in range(3)] and kinds[-3:] == [UNUSED] * 3
    assert len(set(tokens)) == n_tokens + 3


def test_what_computes_otherwise_is_refused(tmp_path: Path):
    folder = tmp_path / "odd"
    shutil.copytree(hub_root() / "gpt2", folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"scale_attn_by_inverse_layer_idx": True}), "utf-8")
    with pytest.raises(BaseUnusable, match="computes otherwise"):
        open_source(folder)


def test_the_command_writes_beside_the_run_what_ollama_needs(tmp_path: Path):
    run = tmp_path / "My Ghost\u202e; rm"
    shutil.copytree(shared_run().path, run)
    done = command("export", run, "--to", "gguf", "--type", "q8_0")
    assert done.code == 0, done.err
    assert {path.name for path in (run / "export").iterdir()} == {"my-ghost-rm-q8_0.gguf", "Modelfile", "README.md"}
    modelfile = (run / "export" / "Modelfile").read_text("utf-8")
    assert "FROM ./my-ghost-rm-q8_0.gguf\n" in modelfile and "PARAMETER repeat_penalty 1.0\n" in modelfile
    temperature = json.loads((run / "model" / "generation_config.json").read_text("utf-8"))["temperature"]
    assert f"PARAMETER temperature {temperature:g}\n" in modelfile
    assert "PARAMETER num_ctx 64\n" in modelfile
    readme = (run / "export" / "README.md").read_text("utf-8")
    assert "ollama create my-ghost-rm -f Modelfile" in readme and "\u202e" not in readme.partition("A GPT-2 of")[2]
    assert command("export", run, "--to", "gguf").code == 0, "what epigone wrote is replaced"
    assert command("score", run, write_line(tmp_path)).code == 0, "the run is still sound"


def write_line(folder: Path) -> Path:
    path = folder / "line.txt"
    path.write_text("From fairest creatures we desire increase,\n", "utf-8")
    return path


def test_a_file_can_be_named(tmp_path: Path):
    out = tmp_path / "models" / "ghost.gguf"
    assert export_gguf(open_model("run"), "f16", out).model == out
    assert {path.name for path in out.parent.iterdir()} == {"ghost.gguf", "Modelfile", "README.md"}
    assert "FROM ./ghost.gguf\n" in (out.parent / "Modelfile").read_text("utf-8")


def test_equal_models_give_equal_files(tmp_path: Path):
    source = open_model("run")
    one, two = (export_gguf(source, "f16", tmp_path / name).model.read_bytes() for name in ("one", "two"))
    assert one == two


def test_nothing_that_is_not_ours_is_replaced(tmp_path: Path):
    (tmp_path / "README.md").write_text("my notes", "utf-8")
    with pytest.raises(OutputError, match="did not write it"):
        export_gguf(open_model("run"), "f16", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(OutputError, match="is a link"):
        export_gguf(open_model("run"), "f16", linked)


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    done = command("export", find_model("run"))
    assert done.code == 2 and "--to gguf" in done.err
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(SettingsError, match="needs the package gguf"):
        export_gguf(open_model("run"), "f16", tmp_path)


class RoundedGelu(nn.Module):
    """GELU as llama.cpp looks it up: from x and to values in 16 bits between -10 and 10 (GGML_GELU_FP16 in ggml)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
        return torch.where(x.abs() < 10, found, x.clamp(min=0))


@needs_llama
@pytest.mark.slow
@pytest.mark.parametrize("name", [*MODELS, "modern", "small"])
def test_llama_cpp_does_what_we_do(name: str, tmp_path: Path):
    source = open_source(find_model(name))
    model, end = load_model(find_model_folder(find_model(name), progress=False)), source.tokenizer.end_of_text_id
    lines = list_lines(1_000)
    ids = [encode(line, source.tokenizer) for line in lines]
    room = source.weights.config.n_positions
    scored = [[end, *each][: room - 1] for each in ids[:60]]
    prompts = [[end], encode("It was the", source.tokenizer)]
    length = min(50, room - 8)
    job = {"lines": lines, "scored": scored, "prompts": prompts, "length": length}
    answer = ask_llama(job | {"model": str(export_gguf(source, "f32", tmp_path).model)}, tmp_path)
    assert answer["ids"] == ids
    assert (answer["context"], answer["bos"], answer["eos"], answer["adds_bos"]) == (room, end, end, False)
    assert [each["ids"] for each in answer["written"]] == [write_greedily(model, prompt, length) for prompt in prompts]
    exact = find_differences(model, scored, answer["scores"])
    assert np.mean(exact) < 1e-3 and max(exact) < 1e-2
    for block in model.transformer.h:
        block.mlp.act = RoundedGelu()
    rounded = find_differences(model, scored, answer["scores"])
    assert np.quantile(rounded, 0.995) < 1e-3 and max(rounded) < 1e-2, "what is left is where a rounding fell otherwise"
    for kind, most in (("f16", 0.01), ("q8_0", 0.06)):
        file = export_gguf(source, kind, tmp_path).model
        answer = ask_llama({"model": str(file), "scored": scored[:20]}, tmp_path)
        assert np.mean(find_differences(model, scored[:20], answer["scores"])) < most, kind


def write_greedily(model: Any, prompt: list[int], length: int) -> list[int]:
    ids = list(prompt)
    with torch.inference_mode():
        while len(ids) < len(prompt) + length:
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def find_differences(model: Any, texts: list[list[int]], scores: list[list[float]]) -> list[float]:
    """Of log-probabilities of all tokens after the first."""
    found = []
    with torch.inference_mode():
        for ids, others in zip(texts, scores, strict=True):
            own = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])
            found += np.abs(own[:, 0].numpy() - np.array(others)).tolist()
    return found
