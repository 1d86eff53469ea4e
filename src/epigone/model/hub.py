"""A base's name comes in; out goes a folder with a GPT-2 in it: found or fetched, and checked."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from epigone.errors import BaseNotFound, BaseUnusable, EpigoneError, OutputError
from epigone.model.checkpoint import (
    ANOTHER,
    CONFIG,
    INDEX,
    TOKENIZERS,
    WEIGHTS,
    check_config,
    check_folder,
    check_tokenizer,
    choose_weights,
    list_files,
    read_object,
    read_shard_names,
)

# The hub's client is imported inside the functions that need it: it is slow to import, and reads its environment then.

SMALL_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
)
GPT2 = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
WELL_KNOWN = (*GPT2, "distilgpt2", *(f"openai-community/{name}" for name in GPT2), "distilbert/distilgpt2")
SMALL = "small"
BUNDLED = {SMALL: Path(__file__).with_name(SMALL)}
"""Bases that come with the package. A folder of the same name is meant by ./small."""
SCRATCH = "or --base none to learn from scratch."


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

    Nothing is asked of the network when the cache has all that is needed. No weights are loaded, no code is run.
    Raises BaseNotFound, BaseUnusable, and OutputError when the cache cannot be written.
    """
    if name in BUNDLED:
        folder: Path | None = BUNDLED[name]
        place: Literal["package", "folder"] = "package"
    else:
        folder, place = _as_folder(name), "folder"
    if folder is not None:
        return Base(name=name, folder=folder, source=place, revision="", config=check_folder(name, folder))
    source: Literal["cache", "download"] = "cache"
    with _client_errors_explained(name):
        snapshot = _look_in_cache(name)
        if snapshot is None and download:
            source = "download"
            with _progress_bars(progress):
                snapshot = _download(name)
    if snapshot is None:
        raise _not_at_hand(name, "it was not to be downloaded")
    return Base(name=name, folder=snapshot, source=source, revision=snapshot.name, config=check_folder(name, snapshot))


def is_cached(name: str) -> bool:
    """Whether `find_base(name, download=False)` would succeed. Makes no request."""
    try:
        find_base(name, download=False)
    except EpigoneError:
        return False
    return True


# -- where it lies


def _as_folder(name: str) -> Path | None:
    """The folder that the name stands for; None when it can only be a name on the hub. Raises BaseNotFound."""
    like_a_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    try:
        folder = Path(name).expanduser()
        if name and folder.is_dir():
            return folder
        is_file = folder.is_file()
    except (OSError, RuntimeError):  # too long for a file name; "~nobody"
        is_file = False
    if is_file:
        raise BaseNotFound(f"{name} is a file; a base is a folder.", hint="Give the folder that it lies in.")
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
    """Fetch into the cache what is needed and no more, all of one commit. Raises the client's own errors as well."""
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
def _progress_bars(shown: bool) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    # The user's own HF_HUB_DISABLE_PROGRESS_BARS has the last word, and the client warns of whoever contradicts it.
    if shown or are_progress_bars_disabled() or os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


# -- what the client says, in our words


@contextmanager
def _client_errors_explained(name: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError

    # Version 1 of the client speaks through httpx, version 2 through httpx2: either's HTTPError is the first base of
    # the client's own. ValueError: an answer that is no JSON (a hotel's log-in page). RuntimeError: its Rust part.
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
        return BaseNotFound(f"The hub knows no model {name}, or it is a private one.", hint=_hint_nearest(name))
    if isinstance(error, GatedRepoError) or status in (401, 403):
        hint = "Ask for access on its page, log in with `hf auth login`, and run again."
        return BaseNotFound(f"The hub does not give {name} to everybody ({status}).", hint=hint)
    if status is not None:
        return BaseNotFound(f"The hub answered {status} when asked for {name}.", hint="Try again later.")
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError | TimeoutError):
        hint = "Free some room, or set HF_HOME to another folder."
        return OutputError(f"{name} cannot be put into the cache {_cache_folder()}: {error.strerror}.", hint=hint)
    return _not_at_hand(name, f"the hub was not reached ({type(error).__name__})")


def _not_at_hand(name: str, why: str) -> BaseNotFound:
    return BaseNotFound(
        f"{name} is neither a folder nor complete in the cache {_cache_folder()}, and {why}.",
        hint=f"Run once with a network, or `hf download {name}` there; give a folder with --base, {SCRATCH}",
    )


def _cache_folder() -> str:
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def _hint_nearest(name: str) -> str:
    nearest = difflib.get_close_matches(name.lower(), WELL_KNOWN, n=1)
    return (
        f"Did you mean {nearest[0]}?"
        if nearest
        else f"Check the spelling; if it is private, `hf auth login`, {SCRATCH}"
    )
