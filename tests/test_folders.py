"""A folder that is to be a base is used as it is, or refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from epigone.errors import BaseNotFound, BaseUnusable
from epigone.model.hub import find_base, is_cached
from helpers_hostile import OUTSIDE
from helpers_hub import SONNETS, WEIGHTS, change_config, copy, shard, standin
from standin import make_standin

__all__ = ["copy", "standin"]


# -- a folder


def test_a_folder_is_used_as_it_is(standin, monkeypatch):
    base = find_base(str(standin))
    assert (base.source, base.revision, base.folder) == ("folder", "", standin)
    assert base.config["n_embd"] == 32 and is_cached(str(standin))
    monkeypatch.chdir(standin.parent)
    assert find_base("base").source == find_base("./base").source == "folder"


def test_a_folder_of_links_such_as_a_snapshot_of_the_cache_is_followed(standin, tmp_path):
    for path in standin.iterdir():
        (tmp_path / path.name).symlink_to(path)
    assert find_base(str(tmp_path)).source == "folder"


def test_tensors_may_be_named_as_transformers_names_them(copy):
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(copy).save_pretrained(copy)
    assert find_base(str(copy)).config["n_layer"] == 1


@pytest.mark.parametrize("name", ["./nothing", "/no/where", "~/no-such-folder", "a/b/c", "~nobody-of-that-name/x", "."])
def test_a_path_that_is_not_there_was_taken_for_a_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        BaseUnusable if name == "." else BaseNotFound, match=r"no config\.json|taken for a folder"
    ) as got:
        find_base(name)
    assert got.value.hint and not is_cached(name)


def test_a_file_is_not_a_base(standin):
    with pytest.raises(BaseNotFound, match="is a file"):
        find_base(str(standin / WEIGHTS))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "llama"}, "'llama'"),
        ({"model_type": None}, "not a GPT-2"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"_attn_implementation_internal": "user/kernel"}, "_attn_implementation_internal"),
        ({"attn_implementation": "user/kernel"}, "attn_implementation"),
        ({"_attn_implementation": {"": "paged|user/kernel@v1"}}, "_attn_implementation"),
        ({"text_config": [{"experts_implementation": "user/kernel"}]}, "experts_implementation"),
        ({"transformers_weights": "pytorch_model.bin"}, "transformers_weights"),
        ({"n_layer": 10**9}, "n_layer"),
        ({"n_layer": True}, "n_layer"),
        ({"n_layer": 0}, "n_layer"),
        ({"n_head": 3}, "shared by 3 heads"),
        ({"n_embd": -32}, "n_embd"),
        ({"n_embd": 1e2}, "n_embd"),
        ({"n_positions": "32"}, "n_positions"),
        ({"vocab_size": 2_000_000}, "vocab_size"),
        ({"vocab_size": None}, "vocab_size"),
        ({"n_inner": 10**12}, "n_inner"),
        ({"n_inner": "wide"}, "n_inner"),
        ({"hidden_size": 12_288}, "given twice"),
        ({"num_hidden_layers": {}}, "n_layer"),
        ({"vocab_size": 513}, r"wte.weight has the shape \[512, 32\]"),
        ({"n_positions": 64}, "wpe.weight"),
        ({"n_layer": 2}, "lack h.1.ln_1.weight"),
        ({"n_inner": 64}, "mlp.c_fc"),
        ({"tie_word_embeddings": False}, "lack lm_head.weight"),
    ],
)
def test_a_config_that_lies_or_attacks_is_refused(copy, counting, changes, said):
    change_config(copy, **changes)
    what = "a base's config.json that lies or names code to be run"
    with counting(what) as tries, pytest.raises(BaseUnusable, match=said) as got, tries.one():
        find_base(str(copy))
    assert got.value.hint and len(str(got.value)) < 400


def test_plain_names_of_attention_are_no_kernels(copy):
    change_config(copy, attn_implementation="sdpa", _attn_implementation_autoset=True)
    assert find_base(str(copy)).source == "folder"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"gpt2"', b"\xff\xfe", b"[" * 200_000, b'{"n": ' + b"1" * 9999])
def test_a_config_that_is_not_a_json_object_is_refused(copy, counting, content):
    (copy / "config.json").write_bytes(content)
    what = "a base's config.json that is not a JSON object"
    with counting(what) as tries, pytest.raises(BaseUnusable, match=r"config\.json"), tries.one():
        find_base(str(copy))


def test_a_tokenizer_that_brings_code_is_refused(copy, counting):
    (copy / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.T", None]}}))
    what, said = "a tokenizer that brings code", r"tokenizer_config\.json names code"
    with counting(what) as tries, pytest.raises(BaseUnusable, match=said), tries.one():
        find_base(str(copy))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:7],
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: (1 << 62).to_bytes(8, "little") + data[8:],
        lambda data: data[:8] + b"x" + data[9:],
        lambda data: data.replace(b'"F32"', b'"F64"', 1),
    ],
)
def test_damaged_weights_are_refused(copy, counting, damage):
    (copy / WEIGHTS).write_bytes(damage((copy / WEIGHTS).read_bytes()))
    what = "damaged weights of a base"
    with counting(what) as tries, pytest.raises(BaseUnusable, match="damaged") as got, tries.one():
        find_base(str(copy))
    assert "again" in got.value.hint


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "a..safetensors", "x.bin"]
)
def test_shards_lie_beside_their_index(copy, counting, name):
    shard(copy, ["model-00001-of-00002.safetensors", name])
    with counting(OUTSIDE) as tries, pytest.raises(BaseUnusable, match="not a file in the same folder"), tries.one():
        find_base(str(copy))


def test_shards_are_one_checkpoint_and_none_may_lack(copy):
    shard(copy, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
    assert find_base(str(copy)).source == "folder"
    (copy / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BaseUnusable, match="model-00002-of-00002"):
        find_base(str(copy))


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": {"a": 1}}, {"weight_map": ["a"]}])
def test_an_index_without_files_is_refused(copy, index):
    (copy / WEIGHTS).unlink()
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    with pytest.raises(BaseUnusable, match="names no files"):
        find_base(str(copy))


def test_a_pickle_is_never_opened(copy):
    (copy / WEIGHTS).rename(copy / "pytorch_model.bin")
    (copy / "pytorch_model.bin").chmod(0)
    with pytest.raises(BaseUnusable, match=r"only as pytorch_model\.bin"):
        find_base(str(copy))


# -- the stand-in


def test_the_standin_loads_as_gpt2_does_and_its_tokenizer_loses_nothing(standin, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(standin)
    text = SONNETS.read_text("utf-8")[:2000] + " Ünïcode , it 's\n\n\t🦜 "
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token_id == len(tokenizer) - 1 and tokenizer.eos_token == "<|endoftext|>"

    def loss(folder: Path) -> float:
        model = AutoModelForCausalLM.from_pretrained(folder)
        ids = tokenizer(text[:100], return_tensors="pt")["input_ids"][:, :32]
        with torch.no_grad():
            return float(model(input_ids=ids, labels=ids).loss)

    options: dict[str, Any] = {"text": SONNETS.read_text("utf-8"), "n_layer": 1, "n_embd": 32, "n_positions": 32}
    taught = make_standin(tmp_path / "taught", **options, steps=20)
    again = make_standin(tmp_path / "again", **options, steps=20)
    assert loss(taught) < loss(standin) - 0.5
    assert all(path.read_bytes() == (again / path.name).read_bytes() for path in taught.iterdir())
