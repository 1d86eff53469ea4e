"""Finding a base by name (bundled, a folder, the Hugging Face cache or the hub) and checking that it is a sound GPT-2.

Only config.json, a tokenizer and safetensors are read: no code that a checkpoint brings or names is ever run.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from epigone.errors import BaseNotFound, BaseUnusable, EpigoneError, OutputError, quote_command
from epigone.model.base_profile import BASES

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
GENERATION = "generation_config.json"
MODEL = "model"
"""The folder of the model in a run, which is a base too."""
TOKENIZERS = ({"tokenizer.json"}, {"vocab.json", "merges.txt"})
"""Sets of files, either of which is a complete tokenizer."""
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
"""Other names that transformers accepts for the same sizes; where both are given, the later one in the file wins."""
ANOTHER = "Give another base with --base (gpt2 is one), or --base none to train from scratch."


def check_folder(name: str, folder: Path) -> Mapping[str, Any]:
    """Check that all files of a base are there and fit each other, and return its config.json. Raises BaseUnusable."""
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
    """Refuse a config that is not a GPT-2's, has impossible sizes or names code. Raises BaseUnusable."""
    if config.get("model_type") != "gpt2":
        raise BaseUnusable(f"{name} is of type {config.get('model_type')!r:.40}, not a GPT-2.", hint=ANOTHER)
    _refuse_code(name, CONFIG, config)
    wrong = _find_wrong_size(config)
    if wrong:
        raise BaseUnusable(f"{name}: {CONFIG} has impossible sizes: {wrong}.", hint=ANOTHER)
    if wrong := _find_wrong_value(config):
        raise BaseUnusable(f"{name}: {CONFIG} has an impossible value: {wrong}.", hint=ANOTHER)


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
    """A value that transformers would fail on only when the model is built."""
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
    """Refuse a file that names code to run: auto_map, kernels, or weights in files of another name."""
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
    """Refuse a checkpoint whose files (`names`) do not contain a tokenizer. Raises BaseUnusable."""
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
    """The files of a sharded checkpoint; only plain names in the index's folder are allowed. Raises BaseUnusable."""
    weight_map = read_object(name, folder / INDEX).get("weight_map")
    files = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not files or not all(isinstance(file, str) for file in files):
        raise BaseUnusable(f"{name}: {INDEX} names no files.", hint=_way_out(folder))
    for file in files:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors", file) or ".." in file:
            raise BaseUnusable(
                f"{name}: {INDEX} names {file!r:.80}, which is not a file in the same folder.", hint=ANOTHER
            )
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
        raise BaseUnusable(f"{name}: {path.name} does not hold a JSON object.", hint=_way_out(path.parent))
    return values


def _read_shapes(name: str, path: Path) -> dict[str, list[int]]:
    """Shapes by tensor, from the header alone, without the prefix "transformer.", which the published GPT-2 lacks."""
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
    """Check that every tensor is there in the shape that config.json implies: transformers fills gaps with noise."""
    for tensor, expected in _expect_shapes(config).items():
        if tensor not in shapes:
            raise BaseUnusable(f"{name}: its weights lack {tensor}, which {CONFIG} calls for.", hint=ANOTHER)
        if shapes[tensor] != expected:
            message = f"{name}: {tensor} has the shape {shapes[tensor]}; by {CONFIG} it should be {expected}."
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
        return f"Delete {folder.parent.parent} and run again: it will be downloaded again."
    return "Copy or download it again."


def list_files(folder: Path) -> set[str]:
    """The names of the files in a folder. Raises BaseUnusable."""
    try:
        return {path.name for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise BaseUnusable(f"{folder} cannot be read: {error.strerror}.", hint="Check its permissions.") from None


# The hub's client is imported inside the functions that need it: it is slow to import, and reads its environment then.

SMALL_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
)
PREFIX = "hub:"
"""Before a name that can only be one on the hub."""
GPT2 = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
WELL_KNOWN = (*GPT2, "distilgpt2", *(f"openai-community/{name}" for name in GPT2), "distilbert/distilgpt2")
OTHER_MODELS = re.compile(
    r"gpt-?(?:[3-9]|j|neo|oss)|chatgpt|llama|mistral|qwen|phi-|gemma|bert|pythia|opt-|bloom|falcon|smol"
)
"""Models that people know and that are not GPT-2."""
MODELS = "small or modern (included), gpt2, gpt2-medium, distilgpt2, or another GPT-2 on the Hugging Face Hub"
SCRATCH = "or --base none to train from scratch."


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A checkpoint to start from: `folder` holds config.json, a tokenizer and safetensors that fit each other."""

    name: str
    folder: Path
    source: Literal["package", "folder", "cache", "download"]
    revision: str
    """Commit on the hub; "" for a folder."""
    config: Mapping[str, Any]
    """What config.json says."""


def find_base(name: str, *, download: bool = True, progress: bool = True) -> Base:
    """The base of that name: a bundled one, else a folder, else the cache, else (with `download`) the hub.

    A name after "hub:" is one on the hub, whatever folders there are.

    The network is not used when the cache has all that is needed. No weights are loaded, no code is run.
    Raises BaseNotFound, BaseUnusable, and OutputError when the cache cannot be written.
    """
    folder: Path | None
    place: Literal["package", "folder"]
    if name.startswith(PREFIX):
        name, folder, place = name.removeprefix(PREFIX), None, "folder"
    elif name in BASES:
        folder = BASES[name].folder
        place = "package"
    else:
        folder, place = _as_folder(name), "folder"
    if folder is not None:
        return Base(name=name, folder=folder, source=place, revision="", config=check_folder(name, folder))
    source: Literal["cache", "download"] = "cache"
    with _client_errors_explained(name):
        snapshot = _look_in_cache(name)
        if snapshot is None and download:
            source = "download"
            with show_bars(progress):
                snapshot = _download(name)
    if snapshot is None:
        raise _base_not_found(name, "downloading was not allowed")
    return Base(name=name, folder=snapshot, source=source, revision=snapshot.name, config=check_folder(name, snapshot))


def is_cached(name: str) -> bool:
    """Whether `find_base(name, download=False)` would succeed. Makes no network request."""
    try:
        find_base(name, download=False)
    except EpigoneError:
        return False
    return True


# -- finding the folder


def _as_folder(name: str) -> Path | None:
    """The folder with this name; None when it can only be a name on the hub. Raises BaseNotFound."""
    like_a_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    try:
        folder = Path(name).expanduser()
        if name and folder.is_dir():
            model = folder / MODEL
            return model if (model / CONFIG).is_file() and not (folder / CONFIG).exists() else folder
        is_file = folder.is_file()
    except (OSError, RuntimeError):  # too long for a file name; "~" with an unknown user
        is_file = False
    if is_file:
        is_part = Path(name).suffix in (".safetensors", ".bin", ".json", ".gguf", ".pt")
        hint = "Give the folder that contains it." if is_part else f"A base is a model: {MODELS}, {SCRATCH}"
        raise BaseNotFound(f"{name} is a file; a base is a folder.", hint=hint)
    if like_a_path:
        raise BaseNotFound(
            f'There is no folder {name}: "{name}" was taken for a folder, not for a name on the hub.',
            hint=f"Check the path. A name on the hub looks like gpt2 or owner/name, {SCRATCH}",
        )
    return None


def _look_in_cache(name: str) -> Path | None:
    """The cached snapshot, if it has all that is needed."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(hf_hub_download(name, CONFIG, local_files_only=True)).parent
    except LocalEntryNotFoundError:
        return None
    names = list_files(folder)
    has_tokenizer = any(files <= names for files in TOKENIZERS)
    has_weights = WEIGHTS in names or (INDEX in names and read_shard_names(name, folder) <= names)
    return folder if has_tokenizer and has_weights else None


def _download(name: str) -> Path:
    """Download only the files that are needed, all of one commit, to the cache. Raises the client's own errors too."""
    from huggingface_hub import HfApi, hf_hub_download

    # One quick request that is not tried again tells at once whether there is a network and such a model.
    info = HfApi().model_info(name, timeout=10)
    commit, names = info.sha or "main", {file.rfilename for file in info.siblings or ()}
    if CONFIG not in names:
        raise BaseUnusable(f"{name} has no {CONFIG}.", hint=ANOTHER)
    folder = Path(hf_hub_download(name, CONFIG, revision=commit)).parent
    check_config(name, read_object(name, folder / CONFIG))  # before anything large is fetched
    wanted = [file for file in SMALL_FILES if file in names]
    weights = choose_weights(name, names)
    check_tokenizer(name, names)
    for file in [*wanted, weights]:
        hf_hub_download(name, file, revision=commit)
    for shard in sorted(read_shard_names(name, folder) if weights == INDEX else ()):
        hf_hub_download(name, shard, revision=commit)
    # A download by commit leaves no note of what "main" is; without one the cache would not be found again. It is
    # written last, so that a cache with a note is a whole one.
    hf_hub_download(name, CONFIG)
    return folder


@contextmanager
def show_bars(shown: bool) -> Iterator[None]:
    """The bars of the hub's client inside the block, or none."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    # The user's own HF_HUB_DISABLE_PROGRESS_BARS takes precedence; the client warns about code that contradicts it.
    if shown or are_progress_bars_disabled() or os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


# -- the client's errors, explained


@contextmanager
def _client_errors_explained(name: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError

    # Version 1 of the client speaks through httpx, version 2 through httpx2: either's HTTPError is the first base of
    # the client's own. ValueError: an answer that is not JSON (a hotel's log-in page). RuntimeError: its Rust part.
    http_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        yield
    except (OSError, http_error, ValueError, RuntimeError) as error:
        raise _explain(name, error) from error


def _explain(name: str, error: Exception) -> EpigoneError:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if isinstance(error, HFValidationError):
        hint = f"A name on the hub looks like gpt2 or owner/name, {SCRATCH}"
        return BaseNotFound(f'"{name}" is neither a folder nor a name that the hub could have.', hint=hint)
    if isinstance(error.__cause__, HfHubHTTPError):  # "not in the cache" hides the hub's answer
        error = error.__cause__
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError):
        return BaseNotFound(f"The hub has no model {name}, or it is private.", hint=_hint_nearest(name))
    if isinstance(error, GatedRepoError) or status in (401, 403):
        hint = "Ask for access on its page, log in with `hf auth login`, and run again."
        return BaseNotFound(f"Access to {name} on the hub is restricted ({status}).", hint=hint)
    if status is not None:
        return BaseNotFound(f"The hub answered {status} when asked for {name}.", hint="Try again later.")
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError | TimeoutError):
        hint = "Free some space, or set HF_HOME to another folder."
        return OutputError(f"{name} cannot be written to the cache {_cache_folder()}: {error.strerror}.", hint=hint)
    return _base_not_found(name, f"the hub could not be reached ({type(error).__name__})")


def _base_not_found(name: str, why: str) -> BaseNotFound:
    if meant := _explain_name(name):
        return BaseNotFound(f"There is no base {name} here, and {why}.", hint=meant)
    command = quote_command("hf", "download", name)
    return BaseNotFound(
        f"{name} is neither a folder nor complete in the cache {_cache_folder()}, and {why}.",
        hint=f"Run once with a network, or run `{command}`; or give a folder with --base, {SCRATCH}",
    )


def _explain_name(name: str) -> str:
    """What was meant by a name that is like one that is known, or that is of another kind of model; else ""."""
    owner, _, lower = name.lower().rpartition("/")
    if OTHER_MODELS.search(lower) and "gpt2" not in lower:
        return f"Only GPT-2 models can be used: {MODELS}."
    if owner not in ("", "openai", "openai-community", "distilbert", "gpt2"):
        return ""
    spelled = lower.replace("gpt-2", "gpt2").replace("gpt_2", "gpt2")
    alike = difflib.get_close_matches(spelled, (*BASES, *GPT2, "distilgpt2"), n=1, cutoff=0.75)
    return f"Did you mean {alike[0]}?" if alike and alike[0] != name else ""


def _cache_folder() -> str:
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def _hint_nearest(name: str) -> str:
    nearest = difflib.get_close_matches(name.lower(), WELL_KNOWN, n=1)
    return (
        f"Did you mean {nearest[0]}?"
        if nearest
        else f"Check the spelling; if it is private, run `hf auth login`; {SCRATCH}"
    )
