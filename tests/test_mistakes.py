"""Errors say what a person meant: swapped words, forgotten quotation marks, other programs' names and notations."""

from __future__ import annotations

import shlex
import shutil
import zipfile
from pathlib import Path

import pytest

from epigone.errors import pluralize
from helpers_front import command, sonnets

MOBI = b"\0" * 60 + b"BOOKMOBI" + bytes(range(256)) * 20
OLD_WORD = b"\xd0\xcf\x11\xe0" + b"\0" * 3_000

TEXTS = {
    # forgotten and needless quotation marks
    "plan my novel.txt": 'quotation marks: "my novel.txt"',
    "plan my.txt It was": 'quotation marks: "It was"',
    "plan my.txt --sample-prompt It was": '--sample-prompt "It was"',
    "plan 'my.txt novel.txt'": "each a word of its own: my.txt novel.txt",
    "plan my.txt,novel.txt": "each a word of its own: my.txt novel.txt",
    "plan '“my novel.txt”'": "Did you mean my novel.txt?",
    "plan \"'my novel.txt'\"": "Did you mean my novel.txt?",
    "plan 'my novel.txt\"'": "Did you mean my novel.txt?",
    "score runs/demo 'It was a dark night'": "echo … | epigone score runs/demo -",
    "plan 'my novel.txt --minutes 5'": "outside the quotation marks: 'my novel.txt' --minutes 5",
    "plan ''": "name of the text is empty",
    # names
    "plan nove.txt": "Did you mean novel.txt?",
    "plan nov": "Did you mean novel.txt?",
    "plan MY.TXT": "Did you mean my.txt?",
    "plan 'my.txt '": "Did you mean my.txt?",
    "plan sonnets": "Did you mean sample:sonnets?",
    "plan 'C:\\Books\\novel.txt'": "Did you mean novel.txt?",
    "plan '.\\my.txt'": "Did you mean my.txt?",
    "plan '~/nothing-of-the-kind.txt'": "Check the spelling",
    "plan n.txt": "Check the spelling",
    "plan It": "Check the spelling",  # and not imp.py, which is there
    # addresses
    "plan www.gutenberg.org/files/1342/1342-0.txt": "Did you mean https://www.gutenberg.org/files/1342/1342-0.txt?",
    "plan gutenberg.org/files/1342.txt": "Did you mean https://gutenberg.org/files/1342.txt?",
    "plan http:/example.org/a.txt": "Did you mean http://example.org/a.txt?",
    "plan htps://example.org/a.txt": "Did you mean https://example.org/a.txt?",
    "plan file:///books/a%20b.txt": "Give its path: /books/a b.txt",
    "plan https://docs.google.com/document/d/abc/edit": "In Google Docs: File > Download",
    "plan novel.gdoc": "In Google Docs: File > Download",
    "plan ftp://example.org/a.txt": "Download it yourself",
    # what cannot be read as a text
    "plan novel.pages": "In Pages: File > Export To > Word",
    "plan old.doc": "save it as .docx",
    "plan book.mobi": "Convert it to EPUB with Calibre",
    "plan pictures": "only pictures (2).",
    "plan office": "In Pages: File > Export To > Word, and give those files.",
    "plan programs": "for example x.blob",
    "plan empty": "it is empty",
    "plan runs/demo": "epigone write runs/demo. To train it further: epigone resume runs/demo",
    "judge my.txt --author runs/demo": "runs/demo is a run, not a text",
    "score my.txt runs/demo": "The run comes first, then the text.",
    "judge runs/demo my.txt": "epigone judge my.txt --author FILE",
    "judge my.txt": "--author FILE",
}
VALUES = {
    "plan my.txt 10 minutes": "Write the time in one word: --minutes 10m",
    "plan my.txt –-minutes 5": "Type two hyphens instead: --minutes",
    "plan my.txt —minutes=5": "Type two hyphens instead: --minutes=5",
    "plan my.txt --minutes 1x": "10m, 90s, 1h",
    "plan my.txt --time 10": "Use --minutes",
    "plan my.txt --out runs/new": "It is an option of epigone train",
    "plan my.txt --quiet": "It is an option of epigone train",
    "plan my.txt --author 'Jane Austen'": "It is an option of epigone judge.",
    "export runs/demo --to page --json": (
        "It is an option of epigone train, plan, prepare, resume, write, judge, score, attribute and list."
    ),
    "plan my.txt --name mine": "epigone train TEXT --out runs/NAME",
    "plan my.txt --language english": "learned from the text",
    "plan my.txt --me Anna": '--speaker "NAME"',
    "plan my.txt --wandb": "metrics.jsonl",
    "train my.txt --resume": "epigone resume RUN",
    "train my.txt --dry-run": "epigone plan TEXT",
    "train my.txt --push_to_hub": "epigone publish RUN USER/NAME",
    "write --run demo": "The run needs no option",
    "write demo --words 200": "--length 200 --unit words",
    "write demo --length 2 pages": "A page has about 300 words",
    "write demo 'It was a night' 500": "--length 500 --unit words",
    "write demo --prompt “It was”": '--prompt "It was"',
    "write demo --temp 0.9": "Did you mean --temperature?",
    "write demo --creativity 2": "Use --temperature",
    "write demo --prompt-file a.txt": '--prompt "$(cat FILE)"',
    "write demo --stop-at chapter": "'speech', 'document' or 'auto', not 'chapter'",
    "judge my.txt --author 'Jane Austen'": "not a name",
    "judge demo --author my.txt": "epigone judge demo, without --author",
    "write demo --format json": "--json",
    "judge demo --text my.txt": "epigone judge TEXT --author FILE",
    "score demo --text my.txt": "epigone score RUN TEXT",
    "quiz demo 8": "--count 8.",
    "export demo gguf": "Write: --to gguf.",
    "export demo --to ollama": 'They read "gguf".',
    "export demo --to onnx": "epigone export --help",
    "serve 8080": "--port 8080",
    "serve --port abc": "epigone serve --help",
    "resume demo --epochs x": "epigone resume --help",
    "version please": "version needs nothing more.",
    "report demo --open": "in a browser",
    "plan my.txt minutes=3": "Did you mean --minutes 3?",
    "plan my.txt -minutes 3": "Did you mean --minutes?",
    "plan my.txt --minute 3": "Did you mean --minutes?",
    "plan my.txt --minutes 1:30": "Hours and minutes: 90. Minutes and seconds: 1.5.",
    "plan my.txt --epochs three": "in digits: 3",
    "plan my.txt --epochs 3,5": "with a point: 3.5",
    "plan my.txt --epochs 50%": "as a number: 0.5",
    "plan my.txt --block-size 1k": "in digits: 1000",
    "plan my.txt --size 6*256": "with an x: 6x256",
    "plan my.txt --split 90/10": "--validation 10%",
    "plan my.txt --validation 10": "a share of at most 0.5 (such as 0.1 or 10%)",
    "plan my.txt --device gpu": 'A GPU is "cuda"',
    "plan my.txt --device nvidia": 'A GPU is "cuda"',
    "plan my.txt --format PDF": 'Did you mean "pdf"?',
    "plan my.txt --format word": '"docx"',
    "plan my.txt --encoding unicode": '"utf-8"',
    "plan my.txt --encoding ansi": '"cp1252"',
    "write runs/demo --temperature 80%": "as a number: 0.8",
    "write runs/demo --top-p 95": "95 % is 0.95.",
    "write runs/demo --length 20w": "20 --unit words",
    "write runs/demo --temperature warm": "a number or 'auto'",
    "write runs/demo --count 0": "at least 1",
    "write runs/demo --interactive --json": "Leave out one of the two.",
    "write runs/demo --unit letters": "'characters'",
    "train my.txt -m 5 minutes": "Write the time in one word: -m 5m",
    "train my.txt --minutes 2 hours": "--minutes 2h",
    "train my.txt --minutes 0": "greater than 0",
    "train my.txt --base": "--base needs a value.",
    "train my.txt --helpall": "Did you mean --help-all?",
    "list --newest 3": "See: epigone list --help",
    "quiz runs/demo --count 1": "at least 2",
    "write runs/demo --length 1e3": "in digits: 1000",
    "write runs/demo --length 100words": "100 --unit words",
    "write runs/demo --length 100 words": "--length 100 --unit words",
    "write runs/demo --max-copy 0": "50 is usual",
    "write runs/demo --prompt It was": '--prompt "It was"',
}
MODELS = {
    "plan my.txt --base gpt3": "Only GPT-2 models",
    "plan my.txt --base meta-llama/Llama-3.2-1B": "Only GPT-2 models",
    "plan my.txt --base smalll": "Did you mean small?",
    "plan my.txt --base gpt-2": "Did you mean gpt2?",
    "plan my.txt --base openai/gpt2": "Did you mean gpt2?",
    "plan my.txt --base my.txt": "A base is a model: small or modern",
    "write runs/dmeo": "Did you mean runs/demo?",
    "write dmeo": "Did you mean runs/demo?",
    "write runs": "Runs here: runs/demo.",
    "write novel.txt": "epigone train novel.txt",
    "write runs/demo/run.json": "Use the run itself: runs/demo",
    "write runs/demo/checkpoints/step-000001": "Use the run itself: runs/demo",
    "resume runs/demo/model": "Use the run itself: runs/demo",
    "score runs/demo": "epigone score runs/demo TEXT",
    "score": "A text: epigone score RUN TEXT",
    "judge --author my.txt": "epigone judge TEXT --author my.txt",
    "list nowhere": "Runs here: runs/demo.",
    "list my.txt": "my.txt is a file",
    "score demo": "epigone score demo TEXT",
    "resume nowhere": "Runs here: runs/demo.",
    "judge demos/x": "Runs here: runs/demo.",
    "report dmeo": "Did you mean runs/demo?",
    "quiz novel.txt": "epigone train novel.txt",
    "write nobody/nothing": "Runs here: runs/demo.",
    "export nobody/nothing --to gguf": "Runs here: runs/demo.",
    "mix runs/demo": "For example: epigone mix austen poe:0.4",
    "judge my.txt runs/demo": "epigone judge my.txt --author FILE",
    "judge my.txt --author nowhere.txt": "There is no file nowhere.txt.",
    "score runs/demo nove.txt": "Did you mean novel.txt?",
    "write my.txt": "epigone train my.txt",
    "train my.txt --out novel.txt": "novel.txt is a file; a run is a folder.",
}
COMMANDS = {
    "novel.txt": "Did you mean: epigone train novel.txt",
    "novel.txt --minutes 5": "Did you mean: epigone train novel.txt --minutes 5",
    "-q": "It is an option of epigone train",
    "compare demo other": "epigone attribute TEXT RUN RUN",
    "update": "pip install --upgrade epigone",
    "uninstall": "pip uninstall epigone",
    "config": "epigone train --help-all",
    "open demo": "report.html",
    "runs/demo": "Did you mean: epigone write runs/demo",
    "--train novel.txt": "Did you mean: epigone train",
    "Train novel.txt": "Did you mean: epigone train novel.txt",
    "finetune nove.txt": "Did you mean novel.txt?",
    "generate runs/dmeo": "Did you mean runs/demo?",
    "lst": "Did you mean: epigone list",
    "writ runs/demo": "Did you mean: epigone write runs/demo",
    "epigone train my.txt": "Did you mean: epigone train my.txt",
    "chat runs/demo": "--interactive",
    "ui": "epigone serve",
    "demo": "epigone train sample:sonnets",
    "rm runs/demo": "delete it as any other",
    "-v": "epigone -V",
    "help trane": "Did you mean: epigone train --help",
    "completion": "epigone completion bash",
    "completion powershell": "bash, zsh, fish",
    "completions bash": "Did you mean: epigone completion bash",
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what people have in theirs, and a run."""
    here = tmp_path_factory.mktemp("desk")
    for name in ("my.txt", "novel.txt", "my novel.txt"):
        (here / name).write_text(sonnets(5_000), "utf-8")
    for name in ("pictures/a.png", "pictures/b.jpg", "office/a.pages", "programs/x.blob", "programs/y.zzz", "imp.py"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (here / "empty").mkdir()
    (here / "book.mobi").write_bytes(MOBI)
    (here / "old.doc").write_bytes(OLD_WORD)
    shutil.copy(here / "old.doc", here / "office" / "b.doc")
    shutil.copy(here / "office" / "a.pages", here / "office" / "c.pages")
    with zipfile.ZipFile(here / "novel.pages", "w") as archive:
        archive.writestr("Index/Document.iwa", bytes(100))
    run = here / "runs" / "demo"
    for name in ("run.json", "metrics.jsonl", "model/config.json", "checkpoints/step-000001/state.json"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("{}", "utf-8")
    return here


@pytest.mark.parametrize(("typed", "meant"), [*(TEXTS | VALUES | MODELS | COMMANDS).items()])
def test_an_error_says_what_was_meant(desk: Path, monkeypatch: pytest.MonkeyPatch, typed: str, meant: str) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(desk / "cache"))
    words = shlex.split(typed)
    outcome = command(*words, *(["--base", "none"] if words[0] == "plan" and "--base" not in words else []))
    assert outcome.code == 2, outcome
    assert meant in outcome.err
    assert len(outcome.err.splitlines()) == 2 and "imp.py" not in outcome.err


@pytest.mark.parametrize("typed", ["train help", "write help", "list help"])
def test_the_word_help_shows_the_help(desk: Path, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.chdir(desk)
    outcome = command(*shlex.split(typed))
    assert outcome.code == 0 and outcome.out.startswith(f"Usage: epigone {typed.split()[0]}")


def test_a_number_of_things_has_its_plural() -> None:
    assert [pluralize(count, "file") for count in (0, 1, 2_000)] == ["0 files", "1 file", "2,000 files"]
