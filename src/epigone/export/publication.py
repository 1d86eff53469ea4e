"""Publication of a run's model on the Hugging Face Hub: what would go up, and the upload, which can be repeated.

Only files on a list go up: never the text, its tokens, the receipt or checkpoints. Repeated after an interruption, the
upload goes on: the hub keeps what it has received; repeated without a change, it does nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epigone.errors import EpigoneError, OutputError, PublishError, SettingsError, first_line
from epigone.evaluation.verdict import Judgement, percent
from epigone.files import exists
from epigone.model.hub import CONFIG, GENERATION, PREFIX, SMALL_FILES, WEIGHTS
from epigone.runs.folder import RunFolder
from epigone.training.events import Evaluated, Sample, Sampled, effective_history, find_best, same_weights

CARD = "README.md"
FROM_MODEL = {
    WEIGHTS: "the weights",
    CONFIG: "the model's sizes",
    **dict.fromkeys(SMALL_FILES, "the tokenizer"),
    GENERATION: "how it writes: the tuned temperature",
    "curves.png": "the training curves",
    "curves.svg": "the training curves",
}
"""What goes up of a run's model/, besides the card, and what it is."""
PLACEHOLDER = "path/to/this/folder"
"""In the card, what the name on the hub stands for."""
NO_LICENCE = re.compile(r"\n## Licence\n+None is stated\..*?(?=\n## |\Z)", re.DOTALL)
"""The section of the card that asks for a licence."""
REPOSITORY = re.compile(r"(?!.*(?:--|\.\.))\w(?:[\w.-]*\w)?/\w(?:[\w.-]{0,94}\w)?", re.ASCII)
"""Names that the hub allows: USER/NAME."""
TAG = "epigone"
"""By which a repository is known to be one of ours; the card has it."""
HARMLESS = (".gitattributes", CARD)
"""Files that a repository has which was only just made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedFile:
    """A file to upload: its name on the hub, what it is, and its content or where that lies."""

    name: str
    what: str
    content: Path | bytes

    @property
    def n_bytes(self) -> int:
        """Its size."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """Everything that would go up, and what its author should know before."""

    files: tuple[PublishedFile, ...]
    samples: tuple[Sample, ...]
    """Texts that the model wrote, which stand in the card."""
    sources: tuple[str, ...]
    """Names of the training texts, which stand in the card."""
    copying: str
    """What was found of copies from the training text; "" where none were found."""
    is_judged: bool

    @property
    def n_bytes(self) -> int:
        """Of all files."""
        return sum(file.n_bytes for file in self.files)


def prepare_publication(
    run: RunFolder, model: Path, repository: str, *, licence: str = "", language: str = "", samples: bool = False
) -> Publication:
    """What goes up of a run, whose checked model is in the folder `model`; with `samples`, those of each epoch too.

    Raises RunDamaged, SettingsError.
    """
    card = _make_card(model / CARD, repository, licence, language)
    files = [PublishedFile(name=CARD, what="the model card", content=card)]
    files += [_list_one(model, name, what) for name, what in FROM_MODEL.items() if (model / name).is_file()]
    files += [
        PublishedFile(name=path.name, what="for llama.cpp and Ollama", content=path)
        for path in sorted({*run.path.glob("export/**/*.gguf"), *model.glob("*.gguf")})
    ]
    if samples:
        files += [_list_one(model, f"samples/{path.name}", "samples") for path in sorted(model.glob("samples/*.txt"))]
    read = (*run.read_receipt().files, *run.list_files_before())
    sampled = _find_samples(run)
    copying, is_judged = _find_copying(run, sampled)
    return Publication(
        files=tuple(files),
        samples=_list_shown(run) + (sampled.samples if sampled else ()),
        sources=tuple(file.name for file in read if file.sha256.encode() in card),
        copying=copying,
        is_judged=is_judged,
    )


def _list_one(model: Path, name: str, what: str) -> PublishedFile:
    return PublishedFile(name=name, what=what, content=model / name)


def _list_shown(run: RunFolder) -> tuple[Sample, ...]:
    """The best of what the model wrote, which stands in the card as well."""
    shown = run.read_showcase()
    return (Sample(prompt="", text=shown.text, seed=shown.seed),) if shown else ()


def _find_samples(run: RunFolder) -> Sampled | None:
    """What the kept model wrote while it was trained."""
    events = effective_history(run.read_events())
    best = find_best([event for event in events if isinstance(event, Evaluated)])
    kept = [event for event in events if best and isinstance(event, Sampled) and same_weights(event, best)]
    return kept[-1] if kept else None


def _find_copying(run: RunFolder, sampled: Sampled | None) -> tuple[str, bool]:
    """What the judge or, where it was not asked, the checks of samples say of copies; and whether it was asked."""
    judgement = run.read_judgement()
    try:
        verdicts = Judgement.from_json(judgement).verdicts if judgement else ()
    except ValueError:
        verdicts = ()
    for verdict in verdicts:
        if verdict.topic == "copies":
            return (verdict.sentence if verdict.grade in ("fair", "bad") else ""), True
    found = sampled.found if sampled else None
    if found is None or found.copying not in ("fair", "bad"):
        return "", False
    return (
        f"Of its samples {percent(found.copied)} stands word for word in the training text; the longest passage has "
        f"{found.longest_copied} characters."
    ), False


def _make_card(path: Path, repository: str, licence: str, language: str) -> bytes:
    """The run's model card with the licence, the language and the name on the hub."""
    from huggingface_hub import ModelCard

    card = ModelCard(path.read_text("utf-8"), ignore_metadata_errors=True)
    if licence:
        card.data["license"] = licence
        card.text = NO_LICENCE.sub("", card.text)
    if language:
        card.data["language"] = language
    card.text = card.text.replace(PLACEHOLDER, repository)
    return (str(card).rstrip() + "\n").encode()


def check_repository(name: str) -> str:
    """The name on the hub, without "hub:" before it. Raises SettingsError unless it is USER/NAME."""
    name = name.removeprefix(PREFIX)
    looks = "A name on the hub looks like jane/austen: yours, a slash, and letters, digits, -, _ or . for the model."
    if "/" not in name:
        raise SettingsError(f'"{name}" lacks the user or organisation that it belongs to.', hint=looks)
    if not REPOSITORY.fullmatch(name) or name.endswith(".git"):
        raise SettingsError(f'"{name}" cannot be a name on the hub.', hint=looks)
    return name


def check_licence(licence: str) -> str:
    """The licence as the hub writes it: "mit", "cc-by-4.0". Raises SettingsError."""
    plain = licence.strip().lower()
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*|", plain):
        raise SettingsError(
            f'"{licence}" is not the name of a licence.',
            hint="The hub knows mit, cc0-1.0, cc-by-4.0, cc-by-sa-4.0, cc-by-nc-4.0, apache-2.0, other and unknown, "
            "among others.",
        )
    return plain


def check_language(language: str) -> str:
    """The code of a language: "en", "pt-BR". Raises SettingsError."""
    plain = language.strip()
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]+)*|", plain):
        raise SettingsError(
            f'"{language}" is not the code of a language.', hint="Codes are those of ISO 639: en, de, fr, grc, pt-BR."
        )
    return plain


# -- the hub


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Where on the hub a model goes, as it is before."""

    repository: str
    user: str
    """Who is logged in."""
    exists: bool
    private: bool
    """As it is, or as it is going to be made."""
    commit: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """What has become of an upload."""

    url: str
    changed: bool
    """Whether anything was different from what was there."""


def find_destination(repository: str, *, public: bool) -> Destination:
    """The place on the hub. Raises PublishError without a token or a connection, or where others have the place."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import RepositoryNotFoundError

    if not get_token():
        raise PublishError(
            "You are not logged in to the Hugging Face Hub.",
            hint="Make a token with the right to write on huggingface.co, under Settings and Access Tokens; then run "
            "`hf auth login`, or set HF_TOKEN.",
        )
    api = HfApi()
    with _errors_explained(repository):
        user = str(api.whoami()["name"])
        try:
            info = api.model_info(repository, timeout=10)
        except RepositoryNotFoundError:
            return Destination(repository=repository, user=user, exists=False, private=not public)
    names = {file.rfilename for file in info.siblings or ()}
    if TAG not in (info.tags or ()) and not names <= {*HARMLESS}:
        raise OutputError(f"{repository} is already there, and is not a model of epigone.", hint="Choose another name.")
    if not info.private and not public:
        raise OutputError(
            f"{repository} is already there, and everyone can see it.",
            hint="Add --public if that is what you want, or choose another name.",
        )
    return Destination(repository=repository, user=user, exists=True, private=bool(info.private), commit=info.sha or "")


def upload(publication: Publication, place: Destination, *, progress: bool = True) -> Upload:
    """Make the repository if need be, and upload all files in one commit. Raises PublishError.

    What an interrupted upload has brought there is not sent again; without a change there is no commit.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api, repository = HfApi(), place.repository
    additions = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file.content) for file in publication.files]
    with _errors_explained(repository, place.user), _quiet_client(progress):
        if not place.exists:
            api.create_repo(repository, private=place.private, exist_ok=True)
        done = api.create_commit(repository, additions, commit_message="Model, card and curves by epigone")
    return Upload(url=f"{api.endpoint}/{repository}", changed=str(done.oid) != place.commit)


@contextmanager
def _quiet_client(progress: bool) -> Iterator[None]:
    """Without the client's remarks and, unless wanted, without its bars."""
    from epigone.model.hub import show_bars

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with show_bars(progress):
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _errors_explained(repository: str, user: str = "") -> Iterator[None]:
    """The client's errors as PublishError."""
    from huggingface_hub.errors import HfHubHTTPError

    http_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        yield
    except (OSError, http_error, ValueError, RuntimeError) as error:
        raise _explain(repository, user, error) from error


def _explain(repository: str, user: str, error: Exception) -> EpigoneError:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):  # of one file in a thread
        error = error.__cause__
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    again = "Give the same command again: what was uploaded is not sent again."
    if status == 401:
        hint = "Run `hf auth login` with a token that has the right to write, or set HF_TOKEN."
        return PublishError("The hub does not accept your token.", hint=hint)
    if status == 403:
        who = f" {user}" if user else ""
        return PublishError(
            f"The hub does not let you{who} write to {repository}.",
            hint="Check the name before the slash, and that your token has the right to write: `hf auth whoami`.",
        )
    if isinstance(error, ValueError) and "metadata" in str(error):
        said = next((line[2:] for line in str(error).splitlines() if line.startswith("- ")), first_line(error))
        return SettingsError(f"The hub does not accept the model card: {said}", hint="See --licence and --language.")
    if status:
        said = first_line(Exception(_server_message(error)))
        return PublishError(f"The hub answered {status} for {repository}: {said}", hint=again)
    if isinstance(error, OfflineModeIsEnabled):
        return PublishError("The hub's client is set to work offline.", hint="Unset HF_HUB_OFFLINE.")
    return PublishError(f"The hub could not be reached ({type(error).__name__}).", hint=f"Check the network. {again}")


def _server_message(error: Any) -> str:
    """What the hub says of an error."""
    return str(getattr(error, "server_message", "") or "no reason was given")


def list_kept_back(run: RunFolder) -> list[str]:
    """What stays on this machine, as a user calls it."""
    kinds = {
        "tokens": "the text and its tokens",
        "receipt.json": "the receipt",
        "checkpoints": "checkpoints",
        "metrics.jsonl": "metrics",
        "settings.toml": "settings",
        "judgement.json": "the judgement",
        "report.html": "the report",
    }
    return [what for name, what in kinds.items() if exists(run.path / name)]
