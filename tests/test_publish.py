"""A run is published on a hub on loopback: privately, with nothing of the text, and never without being asked."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from epigone.errors import SettingsError
from epigone.export.publication import (
    check_language,
    check_licence,
    check_repository,
)
from epigone.runs.folder import RunFolder
from helpers_front import Outcome, command, finish, shared_run, start
from helpers_hub import closed_url, publishing_to
from hub_server import HubServer

# by the client to itself, where it uploads by LFS
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")
NAME = "jane/sonnets"
PUBLISH = ("--licence", "mit", "--language", "en")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared_run().path, tmp_path / "sonnets"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with publishing_to(tmp_path / "hub", monkeypatch) as server:
        yield server


@pytest.fixture
def publish(run: Path, hub: HubServer) -> Callable[..., Outcome]:
    """`epigone publish` of the run, with the answers that are typed."""

    def call(*flags: str, answers: str = "", name: str = NAME) -> Outcome:
        return command("publish", run, name, *flags, stdin=answers.encode())

    return call


def judge_as(run: Path, grade: str) -> None:
    """As if the judge had found that of its copies."""
    folder = RunFolder.find(run)
    verdict = {"grade": grade, "sentence": "9 % of it is copied.", "measures": []}
    plain = {"text": "t", "against": "a", "n_characters": 9, "notes": [], "copies": verdict}
    folder.write_judgement(plain, folder.hash_model())


def read_card(hub: HubServer, name: str = NAME) -> ModelCard:
    return ModelCard.load(hub.root / name / "README.md")


def test_what_goes_up_is_the_model_and_nothing_of_the_text(publish, hub, run):
    done = publish(*PUBLISH, answers="y\n")
    assert done.code == 0, done.err
    there = set(hub.files(NAME))
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "curves.png"} <= there
    assert there <= {".gitattributes", "README.md", *(path.name for path in (run / "model").iterdir())}
    assert hub.private[NAME] is True
    for name in there - {".gitattributes", "README.md"}:
        assert (hub.root / NAME / name).read_bytes() == (run / "model" / name).read_bytes()
    assert f"{hub.url}/{NAME}" in done.out and f"epigone write hub:{NAME}" in done.out


def test_it_is_shown_before(publish, run):
    done = publish(*PUBLISH, answers="n\n")
    assert done.code == 0 and done.out.rstrip().endswith("Nothing was uploaded.")
    shown = done.out[: done.out.index("Nothing was uploaded.")]
    assert all(word in shown for word in ("model.safetensors", "README.md", "sonnets.txt", "only you"))
    assert "What stays here: the text and its tokens, the receipt, checkpoints" in shown
    sample = next(line for line in shown.splitlines() if line.startswith("A sample in the card: From fairest"))
    assert len(sample) > 40


@pytest.mark.parametrize("answers", ["n\n", "\n", "no way\n"])
def test_nothing_but_a_yes_uploads(answers, publish, hub):
    assert publish(*PUBLISH, answers=answers).code == 0
    assert not hub.commits and not hub.files(NAME) and "POST /api/repos/create" not in hub.requests


def test_without_answers_it_says_how_to_do_it_in_a_script(publish, hub):
    done = publish(*PUBLISH)
    assert done.code == 2 and "--yes" in done.err and not hub.commits


def test_licence_and_language_are_asked_for_and_stand_in_the_card(publish, hub):
    done = publish(answers="CC-BY-4.0\nen\ny\n")
    assert done.code == 0, done.err
    card = read_card(hub)
    assert (card.data.license, card.data.language) == ("cc-by-4.0", "en")
    assert "None is stated" not in card.text and f'model="{NAME}"' in card.text
    assert card.data.eval_results and card.data.tags == ["gpt2", "style-imitation", "epigone"]
    assert "## Limits" in card.text and "## How it learned" in card.text


def test_a_model_without_a_licence_says_so(publish, hub):
    assert publish("--yes").code == 0
    card = read_card(hub)
    assert card.data.license is None and "None is stated" in card.text


def test_where_it_copies_it_asks_twice(publish, hub, run):
    judge_as(run, "bad")
    first = publish(*PUBLISH, answers="y\nyes\n")
    assert "9 % of it is copied." in first.out and not hub.commits
    assert publish(*PUBLISH, answers="y\ncopies\n").code == 0
    assert len(hub.commits) == 1


def test_a_script_has_to_accept_copies(publish, hub, run):
    judge_as(run, "fair")
    refused = publish(*PUBLISH, "--yes")
    assert refused.code == 2 and "--accept-copies" in refused.err and not hub.commits
    assert publish(*PUBLISH, "--yes", "--accept-copies").code == 0


def test_one_question_is_enough_where_nothing_is_copied(publish, hub, run):
    judge_as(run, "good")
    done = publish(*PUBLISH, answers="y\n")
    assert done.code == 0 and len(hub.commits) == 1 and "epigone judge" not in done.out


def test_public_is_only_what_is_asked_for(publish, hub):
    assert publish("--public", *PUBLISH, answers="y\n").code == 0
    assert hub.private[NAME] is False


def test_a_public_model_needs_a_licence_in_a_script(publish, hub):
    done = publish("--public", "--yes")
    assert done.code == 2 and "licence" in done.err and not hub.requests


def test_what_is_public_is_not_changed_by_mistake(publish, hub):
    publish("--public", *PUBLISH, "--yes")
    again = publish(*PUBLISH, "--yes")
    assert again.code == 2 and "everyone can see it" in again.err and len(hub.commits) == 1


def test_what_is_private_stays_so_and_is_told(publish, hub):
    publish(*PUBLISH, "--yes")
    again = publish("--public", *PUBLISH, "--yes")
    assert again.code == 0 and "is private and stays so" in again.out and hub.private[NAME] is True


def test_repeated_it_does_nothing(publish, hub):
    publish(*PUBLISH, "--yes")
    before = dict(hub.requests)
    again = publish(*PUBLISH, "--yes")
    assert again.code == 0 and "has not changed" in again.out and len(hub.commits) == 1
    assert not [request for request in hub.requests if request.startswith("PUT") and hub.requests[request] > 1]
    assert hub.requests["POST /api/repos/create"] == before["POST /api/repos/create"] == 1


def test_a_change_of_the_card_sends_no_weights_again(publish, hub):
    publish(*PUBLISH, "--yes")
    sent = {request for request in hub.requests if request.startswith("PUT")}
    publish("--licence", "cc0-1.0", "--language", "en", "--yes")
    assert len(hub.commits) == 2 and "README.md" in hub.commits[1] and read_card(hub).data.license == "cc0-1.0"
    assert sent and all(hub.requests[request] == 1 for request in sent)


def test_an_interrupted_upload_goes_on(publish, hub):
    hub.refusals[f"POST /api/models/{NAME}/commit/main"] = (400, "")
    broken = publish(*PUBLISH, "--yes")
    assert broken.code == 2 and "Give the same command again" in broken.err and not hub.commits
    weights = [request for request in hub.requests if request.startswith("PUT")]
    assert weights
    hub.refusals.clear()
    assert publish(*PUBLISH, "--yes").code == 0
    assert all(hub.requests[request] == 1 for request in weights), "what was uploaded is not sent again"
    assert "model.safetensors" in hub.files(NAME)


def test_samples_and_gguf_go_up_where_they_are_wanted(publish, hub, run):
    (run / "export").mkdir()
    (run / "export" / "sonnets.gguf").write_bytes(b"GGUF")
    (run / "export" / "README.md").write_text("not this")
    assert publish(*PUBLISH, "--yes", "--samples").code == 0
    there = hub.files(NAME)
    assert there["sonnets.gguf"].read_bytes() == b"GGUF"
    assert [name for name in there if name.startswith("samples/")]
    assert "not this" not in there["README.md"].read_text("utf-8")


# -- errors


def test_without_a_token_it_says_where_to_get_one(publish, hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    done = publish(*PUBLISH, "--yes")
    assert done.code == 2 and "hf auth login" in done.err and not hub.requests


def test_a_token_that_is_not_accepted_is_told(publish, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    done = publish(*PUBLISH, "--yes")
    assert done.code == 2 and "does not accept your token" in done.err and "Traceback" not in done.err


def test_without_a_network_it_is_one_plain_error(publish, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", closed_url())
    done = publish(*PUBLISH, "--yes")
    assert done.code == 2 and "could not be reached" in done.err and "Traceback" not in done.err


def test_another_users_name_is_refused(publish, hub):
    done = publish(*PUBLISH, "--yes", name="mary/sonnets")
    assert done.code == 2 and "does not let you jane write to mary/sonnets" in done.err and not hub.commits


def test_a_name_that_is_taken_is_left_alone(publish, hub):
    other = hub.root / NAME
    other.mkdir(parents=True)
    (other / "data.csv").write_text("mine")
    hub.private[NAME] = True
    done = publish(*PUBLISH, "--yes")
    assert done.code == 2 and "is not a model of epigone" in done.err
    assert list(hub.files(NAME)) == ["data.csv"]


def test_a_card_that_the_hub_refuses_is_told_in_its_words(publish, hub):
    done = publish("--licence", "no-such", "--yes")
    assert done.code == 2 and '"license" must be one of the known ones' in done.err and not hub.commits


@pytest.mark.parametrize(
    "name",
    [
        "sonnets",
        "jane/",
        "/sonnets",
        "a/b/c",
        "jane/so nnets",
        "jane/-a",
        "jane/a.",
        "jane/a--b",
        "jane/x.git",
        "../x/y",
        "",
    ],
)
def test_a_wrong_name_is_told_before_anything_is_asked(name, publish, hub):
    done = publish(name=name)
    assert done.code == 2 and "looks like jane/austen" in done.err and not hub.requests


def test_hub_before_a_name_is_understood():
    assert check_repository("hub:jane/a.b-c_1") == "jane/a.b-c_1"
    assert check_repository("j/x") == "j/x"


@pytest.mark.parametrize("wrong", ["my own!", "MIT or so", "\n- x"])
def test_a_wrong_licence_is_refused(wrong):
    with pytest.raises(SettingsError, match="licence"):
        check_licence(wrong)


def test_licences_and_languages_as_people_write_them():
    assert check_licence(" MIT ") == "mit" and check_licence("") == ""
    assert check_language("pt-BR") == "pt-BR"
    with pytest.raises(SettingsError, match="language"):
        check_language("English")


def test_a_folder_that_is_not_a_run_is_told(hub, tmp_path):
    done = command("publish", tmp_path, NAME, "--yes")
    assert done.code == 2 and "neither a run nor a model" in done.err and not hub.requests


# -- reading it back


@pytest.mark.slow
def test_what_was_published_writes_the_same_text_again(publish, hub, run, tmp_path):
    assert publish(*PUBLISH, "--yes").code == 0
    flags = ("--prompt", "From fairest", "--length", "12", "--seed", "3", "--words", "any", "--marks", "any")
    flags += ("--stop-at", "anywhere", "--loop-guard", "off")
    here = finish(start("write", run, *flags))
    there = finish(start("write", f"hub:{NAME}", *flags, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "home")))
    assert here.code == there.code == 0, there.err
    assert here.out == there.out != ""
