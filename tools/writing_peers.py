"""Speed of writing beside CTranslate2 and llama.cpp: the bundled bases, a process for each, in turns.

    python tools/writing_peers.py [--threads 2] [--rounds 5] [--texts 1 8]

A peer that is not installed has no row: CTranslate2 is the package `ctranslate2`; llama.cpp is node-llama-cpp in the
folder that EPIGONE_NODE_LLAMA names, and the model a GGUF file that `epigone export` writes. All write without limits
or guards from the same prompt, at temperature 0.8 and top_p 0.95, until each text has its length; loading and a first
short text do not count.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

PROMPT, LENGTH, WARM_UP = "It was", 220, 20
TEMPERATURE, TOP_P = 0.8, 0.95
NODE_SCRIPT = Path(__file__).with_name("llama_cpp_speed.mjs")
NODE_FOLDER = os.environ.get("EPIGONE_NODE_LLAMA", "")


class Speed(NamedTuple):
    """Tokens a second."""

    by_clock: float
    by_processor: float
    """Tokens for a second of processor time, of all threads together: what a busy machine shows as well."""


class Peer(NamedTuple):
    """A program that writes: its name, what it makes of a model's folder once, and how it is measured with that."""

    name: str
    is_there: Callable[[], bool]
    prepare: Callable[[Path, Path], Path]
    measure: Callable[[Path, int, int], Speed]


def main() -> None:
    """Measure all that are there, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="+", default=["small", "modern"])
    parser.add_argument("--texts", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", nargs=4, metavar=("PEER", "MODEL", "TEXTS", "THREADS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        name, model, texts, threads = asked.alone
        print(json.dumps(PEERS[name].measure(Path(model), int(texts), int(threads))))
        return
    print("| base | threads | texts | program | tokens/s | of epigone's | tokens per processor second |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for base in asked.bases:
            models = dict(prepare_models(base, Path(folder)))
            for threads in asked.threads:
                for texts in asked.texts:
                    print_rows(base, models, texts, threads, asked.rounds)


def prepare_models(base: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The names of the peers that are there, with what they load."""
    from epigone.model.hub import find_base

    for name, peer in PEERS.items():
        if peer.is_there():
            yield name, peer.prepare(find_base(base).folder, folder / f"{base}-{name.replace(' ', '-')}")


def print_rows(base: str, models: dict[str, Path], texts: int, threads: int, n_rounds: int) -> None:
    """A row for each peer, from the medians of the rounds."""
    found: dict[str, list[Speed]] = {name: [] for name in models}
    for _ in range(n_rounds):
        for name, model in models.items():
            if texts == 1 or not name.startswith("llama.cpp"):
                found[name].append(measure_alone(name, model, texts, threads))
    medians = {name: Speed(*map(statistics.median, zip(*each, strict=True))) for name, each in found.items() if each}
    for name, speed in medians.items():
        share = speed.by_clock / medians["epigone"].by_clock
        values = f"{speed.by_clock:,.0f} | {share:.2f} | {speed.by_processor:,.0f}"
        print(f"| {base} | {threads} | {texts} | {name} | {values} |", flush=True)


def measure_alone(name: str, model: Path, texts: int, threads: int) -> Speed:
    """In a process of its own."""
    command = [sys.executable, __file__, "--alone", name, str(model), str(texts), str(threads)]
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    return Speed(*json.loads(done.stdout.splitlines()[-1]))


def time_it(write: Callable[[int], object], texts: int) -> Speed:
    """`write` gets a number of tokens for each of the texts."""
    write(WARM_UP)
    clock, processor = time.perf_counter(), time.process_time()
    write(LENGTH)
    seconds = time.perf_counter() - clock, time.process_time() - processor
    return Speed(*(texts * LENGTH / one for one in seconds))


# -- the peers


def write_with_epigone(model: Path, texts: int, threads: int) -> Speed:
    """As `epigone write` does, in the format that it takes by itself."""
    from epigone.generation.generator import TextGenerator
    from epigone.hardware import find_hardware
    from epigone.model.decoder import open_decoder
    from epigone.settings import WriteSettings
    from epigone.tokens.tokenizer import load_tokenizer

    torch.set_num_threads(threads)
    generator = TextGenerator(open_decoder(model, "auto", find_hardware("cpu")), load_tokenizer(model))
    asked = WriteSettings(count=texts, temperature=TEMPERATURE, top_p=TOP_P, marks="any")

    def write(length: int) -> None:
        generator.write(PROMPT, asked.model_copy(update={"length": length}))

    return time_it(write, texts)


def convert_for_ctranslate2(model: Path, folder: Path) -> Path:
    """In int8."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(model)).convert(str(folder), quantization="int8")
    shutil.copy(model / "tokenizer.json", folder)
    return folder


def write_with_ctranslate2(model: Path, texts: int, threads: int) -> Speed:
    """All texts in one batch."""
    import ctranslate2
    from tokenizers import Tokenizer

    generator = ctranslate2.Generator(str(model), device="cpu", intra_threads=threads, compute_type="int8")
    prompt = Tokenizer.from_file(str(model / "tokenizer.json")).encode(PROMPT).tokens
    how = {"sampling_topk": 0, "sampling_topp": TOP_P, "sampling_temperature": TEMPERATURE}

    def write(length: int) -> None:
        done = generator.generate_batch(
            [prompt] * texts, max_length=length, min_length=length, include_prompt_in_result=False, **how
        )
        if any(len(each.sequences_ids[0]) != length for each in done):
            raise RuntimeError("CTranslate2 wrote another number of tokens than asked")

    return time_it(write, texts)


def export_for_llama_cpp(quantization: str) -> Callable[[Path, Path], Path]:
    """To GGUF, by epigone's own command."""

    def export(model: Path, folder: Path) -> Path:
        command = ["export", model.name, "--to", "gguf", "--type", quantization, "--out", str(folder)]
        subprocess.run([sys.executable, "-m", "epigone", *command], check=True, capture_output=True)
        return next(folder.glob("*.gguf"))

    return export


def write_with_llama_cpp(model: Path, texts: int, threads: int) -> Speed:
    """One text, by node-llama-cpp."""
    job = {"model": str(model), "prompt": PROMPT, "length": LENGTH, "warmUp": WARM_UP, "threads": threads}
    job |= {"temperature": TEMPERATURE, "topP": TOP_P}
    done = subprocess.run(["node", NODE_SCRIPT], input=json.dumps(job), check=True, capture_output=True, text=True)
    return Speed(*(LENGTH / one for one in json.loads(done.stdout.splitlines()[-1])))


def has_llama_cpp() -> bool:
    """Whether node and node-llama-cpp are there."""
    return bool(shutil.which("node")) and Path(NODE_FOLDER, "node_modules", "node-llama-cpp").is_dir()


def list_peers() -> Sequence[Peer]:
    """All that are known, epigone first."""
    return [
        Peer("epigone", lambda: True, lambda model, _: model, write_with_epigone),
        Peer(
            "CTranslate2, int8",
            lambda: importlib.util.find_spec("ctranslate2") is not None,
            convert_for_ctranslate2,
            write_with_ctranslate2,
        ),
        *(
            Peer(f"llama.cpp, {kind}", has_llama_cpp, export_for_llama_cpp(kind), write_with_llama_cpp)
            for kind in ("q8_0", "f32")
        ),
    ]


PEERS = {peer.name: peer for peer in list_peers()}

if __name__ == "__main__":
    main()
