"""A base is found in a folder, the cache or the hub; what is unsound or unsafe is refused before it is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from epigone.errors import BaseNotFound, BaseUnusable
from epigone.model.hub import find_base, is_cached
from hub_server import HubServer
from standin import make_standin

SOURCE = Path(__file__).parents[1] / "src"
SONNETS = SOURCE / "epigone" / "sample" / "sonnets.txt"
WEIGHTS = "model.safetensors"

# The client reads its environment when it is imported, so that each case is a process of its own.
CLIENT = """
import json, os, socket, sys

connect = socket.socket.connect

def connect_to_loopback(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] != "127.0.0.1":
        raise AssertionError(f"a request to {address}")
    return connect(self, address)

socket.socket.connect = socket.socket.connect_ex = connect_to_loopback

from epigone.errors import EpigoneError
from epigone.model.hub import find_base, is_cached

answers = []
for call in json.loads(sys.argv[1]):
    try:
        base = find_base(call.pop("name"), **call)
        answers.append({"source": base.source, "folder": str(base.folder), "revision": base.revision})
    except EpigoneError as error:
        answers.append({"error": type(error).__name__, "message": str(error), "hint": error.hint})
    answers[-1]["heavy"] = sorted({"torch", "transformers"} & set(sys.modules))
print(json.dumps(answers))
"""
Answers = list[dict[str, Any]]


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("standin") / "base"
    return make_standin(folder, text=SONNETS.read_text("utf-8"), n_layer=1, n_embd=32, n_positions=32)


@pytest.fixture
def copy(standin: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(standin, tmp_path / "copy"))


@pytest.fixture
def hub(standin: Path, tmp_path: Path) -> Iterator[HubServer]:
    shutil.copytree(standin, tmp_path / "hub" / "gpt2")
    with HubServer(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Answers]:
    """Calls `find_base` for each name in a fresh process whose hub is at `url` and whose cache is in `tmp_path`."""

    def run(url: str, *names: str, progress: bool = False, download: bool = True, **environment: str) -> Answers:
        calls = [{"name": name, "progress": progress, "download": download} for name in names]
        hidden = ("HF_", "HUGGING", "TRANSFORMERS_")
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(hidden) and not key.lower().endswith("_proxy")
        }
        settings = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(SOURCE)}
        settings |= {"TQDM_POSITION": "-1"}  # bars also where there is no terminal
        command = [sys.executable, "-W", "error", "-c", CLIENT, json.dumps(calls)]
        done = subprocess.run(
            command, env=inherited | settings | environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        answers: Answers = json.loads(done.stdout)
        answers[-1]["stderr"] = done.stderr
        return answers

    return run


def closed_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def shard(folder: Path, names: list[str]) -> None:
    """Spread the tensors over files of these names, in turns."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    weight_map = {tensor: names[i % len(names)] for i, tensor in enumerate(tensors)}
    for name in names:
        if not name.startswith((".", "/")) and "/" not in name:
            save_file({key: tensors[key] for key in tensors if weight_map[key] == name}, folder / name)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


# -- the hub and the cache


def test_the_first_time_downloads_what_is_needed_and_then_the_cache_is_enough(hub, ask, standin, tmp_path):
    for extra in ("pytorch_model.bin", "tf_model.h5", "README.md", "model.fp16.safetensors", "run.py", "64.tflite"):
        (hub.root / "gpt2" / extra).write_bytes(b"never to be asked for")
    first, second = ask(hub.url, "gpt2", "gpt2")
    assert first["source"] == "download" and second["source"] == "cache"
    assert first["revision"] == second["revision"] == hub.commit("gpt2")
    assert first["heavy"] == second["heavy"] == []
    assert second["stderr"] == ""

    folder = Path(first["folder"])
    assert {path.name for path in folder.iterdir()} == {path.name for path in standin.iterdir()}
    assert all(sha256(folder / path.name) == sha256(path) for path in standin.iterdir())
    asked = {request.rsplit("/", 1)[1] for request in hub.requests if "/resolve/" in request}
    assert asked == {path.name for path in standin.iterdir()}
    assert hub.requests[f"GET /gpt2/resolve/{first['revision']}/{WEIGHTS}"] == 1
    first_config, first_weights = (
        list(hub.requests).index(f"HEAD /gpt2/resolve/{first['revision']}/{file}") for file in ("config.json", WEIGHTS)
    )
    assert first_config < first_weights

    before = hub.requests.total()
    for settings in ({}, {"HF_HUB_OFFLINE": "1"}):
        (again,) = ask(hub.url, "gpt2", **settings)
        assert again["source"] == "cache" and again["revision"] == first["revision"]
    assert hub.requests.total() == before


def test_a_cut_file_in_the_cache_is_told_with_the_way_out(hub, ask):
    (first,) = ask(hub.url, "gpt2")
    weights = (Path(first["folder"]) / WEIGHTS).resolve()
    weights.write_bytes(weights.read_bytes()[:-1000])
    (answer,) = ask(closed_url(), "gpt2")
    assert answer["error"] == "BaseUnusable" and "damaged" in answer["message"]
    assert answer["hint"].startswith(f"Delete {Path(first['folder']).parents[1]} ")


def test_a_partial_cache_is_completed_and_offline_it_is_one_clear_error(hub, ask):
    (first,) = ask(hub.url, "gpt2", progress=True)
    assert WEIGHTS in first["stderr"]  # the bar
    weights = Path(first["folder"]) / WEIGHTS
    weights.resolve().unlink()
    weights.unlink()

    hub.requests.clear()
    (offline,) = ask(hub.url, "gpt2", HF_HUB_OFFLINE="1")
    (unwanted,) = ask(hub.url, "gpt2", download=False)
    assert offline["error"] == unwanted["error"] == "BaseNotFound" and hub.requests.total() == 0
    assert "models--gpt2" not in offline["message"] and "cache" in offline["message"]

    (again,) = ask(hub.url, "gpt2")
    assert again["source"] == "download" and sha256(weights) == sha256(hub.root / "gpt2" / WEIGHTS)
    assert {request for request in hub.requests if request.startswith("GET /gpt2/")} == {
        f"GET /gpt2/resolve/{again['revision']}/{WEIGHTS}"
    }


def test_no_network_and_a_cold_cache_is_one_error_that_says_what_to_do(ask, tmp_path):
    (answer,) = ask(closed_url(), "gpt2")
    assert answer["error"] == "BaseNotFound" and answer["stderr"] == ""
    assert "gpt2" in answer["message"] and str(tmp_path / "home") in answer["message"]
    for way in ("with a network", "hf download gpt2", "--base", "--base none"):
        assert way in answer["hint"]


def test_a_dropped_connection_is_taken_up_where_it_broke(hub, ask):
    from safetensors.torch import load_file, save_file

    # The client keeps what it has in pieces of 10 MB. The published GPT-2 has such masks in its file too.
    weights = hub.root / "gpt2" / WEIGHTS
    save_file(load_file(weights) | {"h.0.attn.bias": torch.ones(1, 1, 1700, 1700)}, weights)
    hub.drops[WEIGHTS] = weights.stat().st_size - 1000
    (answer,) = ask(hub.url, "gpt2")
    assert answer["source"] == "download" and len(hub.ranges) == 1
    assert sha256(Path(answer["folder"]) / WEIGHTS) == sha256(hub.root / "gpt2" / WEIGHTS)


def test_a_failed_download_is_told_and_the_next_call_succeeds(hub, ask):
    hub.refusals[f"GET {WEIGHTS}"] = (500, "")
    (answer,) = ask(hub.url, "gpt2")
    assert answer["error"] == "BaseNotFound" and "500" in answer["message"]
    hub.refusals.clear()
    (offline,) = ask(hub.url, "gpt2", HF_HUB_OFFLINE="1")
    assert offline["error"] == "BaseNotFound"
    (again,) = ask(hub.url, "gpt2")
    assert again["source"] == "download"
    assert sha256(Path(again["folder"]) / WEIGHTS) == sha256(hub.root / "gpt2" / WEIGHTS)


def test_what_cannot_be_used_is_refused_before_its_weights_are_asked_for(hub, ask, standin):
    pickled = Path(shutil.copytree(standin, hub.root / "owner" / "pickled"))
    (pickled / WEIGHTS).rename(pickled / "pytorch_model.bin")
    llama = Path(shutil.copytree(standin, hub.root / "owner" / "llama"))
    change_config(llama, model_type="llama")
    mute = Path(shutil.copytree(standin, hub.root / "owner" / "mute"))
    (mute / "tokenizer.json").unlink()
    (mute / "merges.txt").unlink()
    bare = Path(shutil.copytree(standin, hub.root / "owner" / "bare"))
    (bare / "config.json").unlink()
    escaping = Path(shutil.copytree(standin, hub.root / "owner" / "escaping"))
    shard(escaping, ["model-00001-of-00002.safetensors", "../../gpt2/resolve/main/model.safetensors"])
    names = ("owner/pickled", "owner/llama", "owner/mute", "owner/bare", "owner/escaping")

    answers = ask(hub.url, *names)
    assert [answer["error"] for answer in answers] == ["BaseUnusable"] * 5
    assert all(answer["hint"] and name in answer["message"] for answer, name in zip(answers, names, strict=True))
    assert "pytorch_model.bin" in answers[0]["message"] and "save_pretrained" in answers[0]["hint"]
    assert "'llama'" in answers[1]["message"] and "tokenizer" in answers[2]["message"]
    assert "../../gpt2" in answers[4]["message"]
    assert not [request for request in hub.requests if request.endswith((".bin", ".safetensors"))]
    assert [request for request in hub.requests if "/llama/resolve/" in request and "config.json" not in request] == []


def test_shards_are_fetched_as_the_index_names_them(hub, ask, standin):
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    shard(hub.root / "gpt2", names)
    (hub.root / "gpt2" / "stray.safetensors").write_bytes(b"named by nobody")
    first, second = ask(hub.url, "gpt2", "gpt2")
    assert (first["source"], second["source"]) == ("download", "cache")
    assert {path.name for path in Path(first["folder"]).glob("*.safetensors")} == set(names)
    assert hub.asked("stray.safetensors") == 0


def test_what_the_hub_answers_becomes_one_error_with_a_way_on(hub, ask):
    for name in ("gated", "failing", "forbidden", "portal"):
        shutil.copytree(hub.root / "gpt2", hub.root / "owner" / name)
    hub.refusals |= {"owner/gated": (403, "GatedRepo"), "owner/failing": (500, ""), "owner/forbidden": (403, "")}
    hub.refusals["owner/portal"] = (200, "")  # a log-in page, no JSON
    unknown, gated, failing, forbidden, odd, dashes, portal = ask(
        hub.url, "gtp2", "owner/gated", "owner/failing", "owner/forbidden", "no name", "a--b", "owner/portal"
    )
    assert {answer["error"] for answer in (unknown, gated, failing, forbidden, odd, dashes, portal)} == {"BaseNotFound"}
    assert "no model gtp2" in unknown["message"] and "Did you mean gpt2?" in unknown["hint"]
    assert "hf auth login" in gated["hint"] and "hf auth login" in forbidden["hint"]
    assert "500" in failing["message"] and "later" in failing["hint"]
    assert "neither a folder nor a name" in odd["message"] and "neither a folder nor a name" in dashes["message"]
    assert "not reached" in portal["message"]


def test_a_cache_that_cannot_be_written_is_not_taken_for_a_lost_network(hub, ask, tmp_path):
    (tmp_path / "file").write_text("no folder")
    (answer,) = ask(hub.url, "gpt2", HF_HUB_CACHE=str(tmp_path / "file" / "cache"))
    assert answer["error"] == "OutputError" and str(tmp_path / "file" / "cache") in answer["message"]


def test_the_guard_on_sockets_would_see_another_host(ask, tmp_path):
    with pytest.raises(AssertionError, match=r"a request to .*192\.0\.2\.1"):
        ask("http://192.0.2.1:9", "gpt2")


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


def test_a_file_is_no_base(standin):
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
def test_a_config_that_lies_or_attacks_is_refused(copy, changes, said):
    change_config(copy, **changes)
    with pytest.raises(BaseUnusable, match=said) as got:
        find_base(str(copy))
    assert got.value.hint and len(str(got.value)) < 400


def test_plain_names_of_attention_are_no_kernels(copy):
    change_config(copy, attn_implementation="sdpa", _attn_implementation_autoset=True)
    assert find_base(str(copy)).source == "folder"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"gpt2"', b"\xff\xfe", b"[" * 200_000, b'{"n": ' + b"1" * 9999])
def test_a_config_that_is_no_json_object_is_refused(copy, content):
    (copy / "config.json").write_bytes(content)
    with pytest.raises(BaseUnusable, match=r"config\.json"):
        find_base(str(copy))


def test_a_tokenizer_that_brings_code_is_refused(copy):
    (copy / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.T", None]}}))
    with pytest.raises(BaseUnusable, match=r"tokenizer_config\.json names code"):
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
def test_damaged_weights_are_refused(copy, damage):
    (copy / WEIGHTS).write_bytes(damage((copy / WEIGHTS).read_bytes()))
    with pytest.raises(BaseUnusable, match="damaged") as got:
        find_base(str(copy))
    assert "again" in got.value.hint


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "a..safetensors", "x.bin"]
)
def test_shards_lie_beside_their_index(copy, name):
    shard(copy, ["model-00001-of-00002.safetensors", name])
    with pytest.raises(BaseUnusable, match="no file beside it"):
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
