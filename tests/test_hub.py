"""A base is found in a folder, the cache or the hub; what is unsound or unsafe is refused before it is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from helpers_hub import WEIGHTS, ask, change_config, closed_url, hub, sha256, shard, standin

__all__ = ["ask", "hub", "standin"]


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
    assert "could not be reached" in portal["message"]


def test_a_cache_that_cannot_be_written_is_not_taken_for_a_lost_network(hub, ask, tmp_path):
    (tmp_path / "file").write_text("no folder")
    (answer,) = ask(hub.url, "gpt2", HF_HUB_CACHE=str(tmp_path / "file" / "cache"))
    assert answer["error"] == "OutputError" and str(tmp_path / "file" / "cache") in answer["message"]


def test_the_guard_on_sockets_would_see_another_host(ask, tmp_path):
    with pytest.raises(AssertionError, match=r"a request to .*192\.0\.2\.1"):
        ask("http://192.0.2.1:9", "gpt2")
