"""Any language, any layout: it is read, learned from and written as it is, line by line and letter by letter."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import epigone
from epigone import TrainSettings
from epigone.tokens.tokenizer import encode, load_tokenizer
from helpers_front import TINY, command, sonnets

DATA = Path(os.environ.get("EPIGONE_TEST_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
needs_data = pytest.mark.skipif(not (DATA / "gutenberg").is_dir(), reason="EPIGONE_TEST_DATA names no folder of texts")

CHINESE = [
    "{a}的早晨，{b}从山上慢慢走下来，手里拿着一盏旧灯。",
    "他对{c}说：“你看，{a}的水比昨天清了。”",
    "{c}没有回答，只把{d}放在石头上，望着远处的船。",
    "后来下了一场小雨，{d}湿了，{b}笑了起来。",
    "村里的人都说，{a}到了，{c}就会唱那首老歌。\n",
]
CHINESE_WORDS = {
    "a": ["春天", "夏天", "秋天", "冬天", "河边", "湖上"],
    "b": ["老人", "孩子", "木匠", "渔夫", "先生"],
    "c": ["他的妹妹", "邻居", "那只白猫", "王婆婆"],
    "d": ["信", "竹篮", "一本书", "布鞋", "茶碗"],
}
RUSSIAN = [
    "Когда {a} пришла в деревню, {b} уже сидел у окна и ждал.",
    "— Ты видел, как {c} горит над рекой? — спросил он тихо.",
    "Никто не ответил; только {d} скрипела под ветром, будто жаловалась.",
    "Потом {b} встал, надел шапку и вышел туда, где {c} таял в тумане.",
    "Ещё долго {a} стояла на дворе, и {d} молчала вместе с нею.\n",
]
RUSSIAN_WORDS = {
    "a": ["весна", "зима", "осень", "старуха", "почта"],
    "b": ["дед", "мальчик", "кузнец", "учитель"],
    "c": ["закат", "огонь", "месяц", "снег"],
    "d": ["дверь", "ель", "телега", "калитка", "мельница"],
}
POEM = [
    "The {a} goes down,\n    the {b} comes up,\n\tand nobody asks the {c};\n\n",
    "O {c}, O {a},\n    who counted thee\n\twhen {b} was one and twenty?\n\n",
    "Keep, {b}, keep\n    what {a} will not,\n\tand lend it to the {c}.\n\n",
]
POEM_WORDS = {
    "a": ["harbour", "morning", "kettle", "river", "swallow"],
    "b": ["candle", "brother", "winter", "sail"],
    "c": ["miller", "moon", "daughter", "wheel", "stranger", "stone"],
}


def compose(sentences: list[str], words: dict[str, list[str]], n_bytes: int) -> str:
    """The sentences over and over, with other words each time."""
    text, number = "", 0
    while len(text.encode()) < n_bytes:
        chosen = {key: options[(number * 7 + ord(key)) % len(options)] for key, options in words.items()}
        text += sentences[number % len(sentences)].format(**chosen)
        number += 1
    return text


TEXTS = {
    "chinese": compose(CHINESE, CHINESE_WORDS, 6_000),
    "russian": compose(RUSSIAN, RUSSIAN_WORDS, 6_000),
    "poem": compose(POEM, POEM_WORDS, 5_000),
}


def train_and_write(folder: Path, content: bytes, *flags: str, length: int = 60, temperature: float = 0.3) -> str:
    """What a model writes that has seen a text once or more."""
    (folder / "text.txt").write_bytes(content)
    trained = command("train", folder / "text.txt", *TINY, *flags, "--quiet", "--out", folder / "run")
    assert trained.code == 0, trained.err
    written = command("write", folder / "run", "--length", str(length), "--temperature", str(temperature), "--json")
    text: str = json.loads(written.out)["texts"][0]["text"]
    return text


@pytest.mark.parametrize("language", ["chinese", "russian"])
def test_a_language_is_learned_and_written_in_whole_characters(tmp_path: Path, language: str) -> None:
    """With merges for most characters and some learning, no sequence of bytes is broken."""
    flags = ["--epochs", "12", "--vocab-size", "600", "--learning-rate", "0.02", "--block-size", "32"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("epigone.report.curves.draw_curves", lambda *_, **__: [])
        written = train_and_write(tmp_path, TEXTS[language].encode(), *flags)
    assert len(written) > 20 and "\ufffd" not in written
    own = set(TEXTS[language])
    assert sum(letter in own for letter in written) >= 0.95 * len(written)


@pytest.mark.parametrize("language", TEXTS)
def test_every_text_survives_its_tokenizer(tmp_path: Path, language: str) -> None:
    train_and_write(tmp_path, TEXTS[language].encode(), length=1)
    tokenizer = load_tokenizer(tmp_path / "run" / "model")
    assert tokenizer.backend.decode(encode(TEXTS[language], tokenizer)) == TEXTS[language]


def test_a_poem_keeps_its_lines_in_what_is_written(tmp_path: Path) -> None:
    flags = ["--epochs", "12", "--learning-rate", "0.02", "--block-size", "32", "--samples", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("epigone.report.curves.draw_curves", lambda *_, **__: [])
        written = train_and_write(tmp_path, TEXTS["poem"].encode(), *flags, length=150, temperature=0.8)
    assert written.count("\n") >= 4 and ("\n    " in written or "\n\t" in written)
    *_, last = sorted((tmp_path / "run" / "samples").iterdir())
    assert last.read_text("utf-8").count("\n") >= 5


LAYOUTS = {
    "five kilobytes": sonnets(5_000).encode(),
    "one line that does not end": sonnets(5_000).replace("\n", " ").encode().strip(),
    "line ends of Windows": sonnets(5_000).replace("\n", "\r\n").encode(),
    "line ends of an old Macintosh": sonnets(5_000).replace("\n", "\r").encode(),
    "a byte-order mark": b"\xef\xbb\xbf" + sonnets(5_000).encode(),
    "UTF-16": sonnets(5_000).encode("utf-16"),
    "no white space": sonnets(8_000).replace("\n", "").replace(" ", "").encode(),
    "blank lines only between letters": "\n\n\n".join(sonnets(3_000).replace("\n", "")).encode(),
    "the mark between documents": sonnets(5_000).replace("\n\n", "<|endoftext|>").encode(),
    "a NUL now and then": sonnets(5_000).replace("love", "lo\0ve").encode(),
}


@pytest.mark.parametrize("content", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_learned_from(tmp_path: Path, content: bytes) -> None:
    written = train_and_write(tmp_path, content, "--epochs", "0.2", length=8)
    assert "<|endoftext|>" not in written


def test_line_ends_and_encodings_make_no_other_text() -> None:
    text = sonnets(5_000)
    forms = [text.encode(), text.replace("\n", "\r\n").encode(), text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode()]
    keys = {command("plan", "-", *TINY, "--json", stdin=form).out.split('"fingerprint": ')[1][:66] for form in forms}
    assert len(keys) == 1


@pytest.mark.parametrize("megabytes", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_one_very_long_line_is_learned_from(tmp_path: Path, megabytes: int) -> None:
    line = (sonnets(95_000).replace("\n", " ") * (11 * megabytes))[: megabytes * 1_000_000]
    assert train_and_write(tmp_path, line.encode(), "--epochs", "0.001", "--vocab-size", "300", length=8)


def test_under_two_kilobytes_is_too_short(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text(sonnets(1_999), "utf-8")
    outcome = command("train", tmp_path / "short.txt", *TINY, "--out", tmp_path / "run")
    assert outcome.code == 2 and "1,999 bytes; at least 2,000" in outcome.err
    (tmp_path / "enough.txt").write_text(sonnets(2_000), "utf-8")
    assert command("train", tmp_path / "enough.txt", *TINY, "--quiet", "--out", tmp_path / "run").code == 0


# -- the texts that are not ours


def list_data() -> list[Path]:
    return sorted(DATA.rglob("*.txt")) if DATA.is_dir() else []


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("path", list_data(), ids=lambda path: path.name)
def test_every_text_at_hand_is_learned_from(tmp_path: Path, path: Path) -> None:
    flags = ["--epochs", "0.002", "--vocab-size", "400"]
    trained = command("train", path, *TINY, *flags, "--json", "--out", tmp_path / "run")
    assert trained.code == 0, trained.err
    assert json.loads(trained.out)["evaluations"][-1]["loss"] < 6.1
    assert command("write", tmp_path / "run", "--length", "20", "--quiet").code == 0
    texts = epigone.open_run(tmp_path / "run").folder.receipt.read_text("utf-8")
    assert "Project Gutenberg License" not in json.loads(texts)["files"][0]["first_lines"]


@needs_data
@pytest.mark.slow
def test_one_book_in_many_encodings_makes_the_same_tokens(tmp_path: Path) -> None:
    book = (DATA / "gutenberg" / "french-44157-8.txt").read_bytes()
    text = book.decode("cp1252").replace("\r\n", "\n")
    forms = {
        "latin": book,
        "utf8": text.encode(),
        "utf16": text.encode("utf-16"),
        "windows": text.replace("\n", "\r\n").encode(),
    }
    found: dict[str, tuple[str, str]] = {}
    for name, content in forms.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
        flags = TrainSettings(size="1x32", epochs=0.01, samples=0, base="none", vocab_size=400)
        prepared = epigone.plan(tmp_path / f"{name}.txt", settings=flags)
        found[name] = (prepared.corpus.fingerprint, prepared.tokens.key)
    assert len(set(found.values())) == 1, found
