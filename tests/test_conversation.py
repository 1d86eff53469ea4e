"""Writing in turns: every change can be taken back, what is kept is whole, and nothing is lost at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from epigone.cli.interactive import MAX_END, InteractiveSession, find_end
from epigone.cli.terminal import PlainScreen
from epigone.errors import OutputError
from epigone.generation.generator import StreamedText
from epigone.generation.session import WritingSession
from epigone.settings import WriteSettings
from helpers_front import Outcome, command, shared_run

QUICK = ("--length", "6")


class Counter:
    """A generator whose text is the seed and the length it was asked for, in two pieces; it keeps its prompts."""

    def __init__(self, *, broken_off: bool = False) -> None:
        self.prompts: list[str] = []
        self.broken_off = broken_off

    def stream(self, prompt: str, settings: WriteSettings) -> Iterator[StreamedText]:
        assert settings.count == 1
        self.prompts.append(prompt)
        yield StreamedText(sequence=0, text=f"[{settings.seed}")
        if self.broken_off:
            raise KeyboardInterrupt
        yield StreamedText(sequence=0, text=f":{settings.length}]")


def converse(**settings: int) -> tuple[WritingSession, Counter]:
    generator = Counter()
    how = WriteSettings(**{"length": 9, "seed": 5, **settings})
    return WritingSession(generator, how), generator  # type: ignore[arg-type]


# -- the conversation


def test_each_continuation_follows_the_text_with_the_next_seed() -> None:
    conversation, generator = converse()
    conversation.begin("Once")
    assert "".join(conversation.go_on()) == "[5:9]"
    assert "".join(conversation.go_on()) == "[6:9]"
    assert conversation.text == "Once[5:9][6:9]" and generator.prompts == ["Once", "Once[5:9]"]


def test_the_seed_after_the_last_is_the_first() -> None:
    conversation, _ = converse(seed=2**32 - 1)
    assert "".join([*conversation.go_on(), *conversation.go_on()]) == f"[{2**32 - 1}:9][0:9]"


def test_several_texts_at_once_are_not_asked_for() -> None:
    conversation, _ = converse(count=3)
    assert "".join(conversation.go_on()) == "[5:9]"


def test_trying_again_replaces_the_last_continuation() -> None:
    conversation, generator = converse()
    conversation.begin("Once")
    for _ in range(2):
        list(conversation.go_on())
    assert "".join(conversation.retry()) == "[7:9]"
    assert conversation.text == "Once[5:9][7:9]" and generator.prompts[-1] == "Once[5:9]"


def test_the_user_s_own_words_are_not_tried_again() -> None:
    conversation, _ = converse()
    assert not conversation.can_retry
    list(conversation.go_on())
    assert conversation.can_retry
    conversation.add(" and")
    assert not conversation.can_retry


def test_every_change_is_taken_back_one_by_one() -> None:
    conversation, _ = converse()
    conversation.begin("Once")
    list(conversation.go_on())
    conversation.add(" and")
    conversation.begin("Twice")
    assert conversation.text == "Twice"
    for before in ("Once[5:9] and", "Once[5:9]", "Once"):
        assert conversation.undo() and conversation.text == before
    assert not conversation.undo() and conversation.text == "Once"


def test_what_came_before_it_was_broken_off_stays() -> None:
    conversation, _ = converse()
    pieces = conversation.go_on()
    next(pieces)
    assert conversation.text == "[5"
    assert conversation.undo() and conversation.text == ""


def test_keeping_appends_the_whole_text_and_a_newline(tmp_path: Path) -> None:
    conversation, _ = converse()
    path = tmp_path / "new" / "kept.txt"
    conversation.begin("Größe\n")
    conversation.keep(path)
    assert conversation.kept_in == path
    conversation.add("and")
    assert conversation.kept_in is None
    conversation.keep(path)
    assert path.read_bytes().decode("utf-8") == "Größe\nGröße\nand\n"


def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    conversation, _ = converse()
    with pytest.raises(OutputError, match="cannot be written"):
        conversation.keep(tmp_path)
    assert conversation.kept_in is None


def test_a_real_generator_continues_as_writing_the_same_does() -> None:
    conversation = WritingSession(shared_run().open_generator(), WriteSettings(length=8, seed=3))
    conversation.begin("Thou")
    first = "".join(conversation.go_on())
    assert first == shared_run().write("Thou", length=8, seed=3)[0]
    assert "".join(conversation.go_on()) == shared_run().write("Thou" + first, length=8, seed=4)[0]


# -- the dialogue


def talk(*lines: str, flags: tuple[str, ...] = QUICK) -> Outcome:
    """What is shown where these lines are typed in."""
    outcome = command(
        "write", shared_run().path, "--interactive", *flags, stdin="".join(f"{x}\n" for x in lines).encode()
    )
    assert (outcome.code, outcome.err) == (0, "")
    return outcome


def continuation(prompt: str, seed: int) -> str:
    return shared_run().write(prompt, length=6, seed=seed)[0]


def whole(outcome: Outcome) -> str:
    """The text that is shown at the end."""
    return outcome.out.partition("The whole text:\n")[2].removesuffix("\n")


def test_enter_goes_on() -> None:
    first = continuation("Thou", 0)
    assert whole(talk("Thou", "", "q")) == "Thou" + first + continuation("Thou" + first, 1)


def test_without_a_beginning_the_model_begins() -> None:
    assert whole(talk("", "q")) == continuation("", 0)


def test_a_prompt_is_the_beginning() -> None:
    assert whole(talk(flags=(*QUICK, "--prompt", "Shall I"))) == "Shall I" + continuation("Shall I", 0)


def test_again_undone_and_own_words() -> None:
    assert whole(talk("Thou", "r", "q")) == "Thou" + continuation("Thou", 1)
    assert whole(talk("Thou", "u", "+ art", "q")) == "Thou art"
    assert whole(talk("Thou", "u", "+ art", "+", "+so", "r", "u", "q")) == "Thou art\n"


def test_what_cannot_be_taken_back_or_tried_again_is_said() -> None:
    assert "nothing left to undo" in talk("Thou", "u", "u").out
    assert "yours; u takes it back" in talk("Thou", "+ art", "r").out


def test_the_end_of_input_loses_nothing() -> None:
    assert whole(talk("Thou")) == "Thou" + continuation("Thou", 0)


def test_what_is_kept_lies_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "kept text.txt"
    outcome = talk("Thou", f"k {path}", "q")
    assert path.read_text("utf-8") == "Thou" + continuation("Thou", 0) + "\n"
    assert f"The text is in {path}." in outcome.out and whole(outcome) == ""


def test_where_it_cannot_be_kept_the_dialogue_goes_on(tmp_path: Path) -> None:
    outcome = talk("Thou", f"k {tmp_path}", "u", "q")
    assert f"warning: {tmp_path} cannot be written" in outcome.out and whole(outcome) == "Thou"


def test_a_new_text_can_be_taken_back_too() -> None:
    outcome = talk("Thou", "n", "Shall I", "u", "u", "q")
    assert whole(outcome) == "Thou" + continuation("Thou", 0)
    assert "The text so far was not saved" in outcome.out


def test_an_old_text_is_not_lost_before_the_new_one_begins() -> None:
    assert whole(talk("Thou", "n")) == "Thou" + continuation("Thou", 0)


def test_where_nothing_was_written_that_is_said() -> None:
    assert "Nothing was written." in talk("q").out and "Nothing was written." in talk().out


@pytest.mark.parametrize("line", ["hello", "r twice", "undo", "U"])
def test_an_unknown_line_shows_the_commands_and_changes_nothing(line: str) -> None:
    outcome = talk("Thou", line, "q")
    assert f'There is no command "{line.strip()}".' in outcome.out and outcome.out.count("k FILE") == 2
    assert whole(outcome) == "Thou" + continuation("Thou", 0)


def test_keeping_needs_a_file() -> None:
    assert "k needs a file" in talk("Thou", "k", "q").out and "k needs a file" in talk("Thou", "k  ", "q").out


def test_bytes_that_are_no_text_end_nothing() -> None:
    outcome = command("write", shared_run().path, "-i", *QUICK, stdin=b"Th\xffou\nu\n")
    assert outcome.code == 0 and whole(outcome) == "Th\ufffdou"


def test_quiet_shows_the_text_alone() -> None:
    first = continuation("Thou", 0)
    assert talk("Thou", "q", flags=(*QUICK, "--quiet")).out == f"Thou{first}\nThou{first}\n"


def hold(generator: Counter, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *lines: str) -> str:
    """What a dialogue shows; a line "^C" is an interrupt at the prompt."""
    typed = iter(lines)

    def answer(mark: str) -> str | None:
        line = next(typed, None)
        if line == "^C":
            raise KeyboardInterrupt
        return line

    monkeypatch.setattr("epigone.cli.interactive.ask_line", answer)
    conversation = WritingSession(generator, WriteSettings(length=9))  # type: ignore[arg-type]
    InteractiveSession(conversation, PlainScreen(sys.stdout)).run()
    return capsys.readouterr().out


def test_an_interrupt_at_the_prompt_is_a_clean_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = hold(Counter(), capsys, monkeypatch, "Once", "^C", "never read")
    assert shown.endswith("The whole text:\nOnce[0:9]\n")


def test_an_interrupt_while_it_writes_cuts_the_continuation_short(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = hold(Counter(broken_off=True), capsys, monkeypatch, "Once", "+ more", "q")
    assert "Once[0 …\n" in shown and shown.endswith("The whole text:\nOnce[0 more\n")


def test_only_the_end_of_a_long_text_is_shown_before_what_follows() -> None:
    assert find_end("one\ntwo") == "two" and find_end("one\n") == ""
    assert find_end("x" * 100) == "…" + "x" * MAX_END
    assert find_end("a\x1b[2Jb") == "a[2Jb"


@pytest.mark.parametrize("flags", [("--json",), ("--out", "new.txt"), ("--count", "2")], ids=" ".join)
def test_what_does_not_go_with_a_dialogue_is_refused(flags: tuple[str, ...]) -> None:
    outcome = command("write", shared_run().path, "-i", *flags)
    assert outcome.code == 2 and f"{flags[0]} does not go with --interactive" in outcome.err


def test_the_short_flag_is_the_long_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = (
        command("write", shared_run().path, flag, *QUICK, stdin=b"Thou\n") for flag in ("-i", "--interactive")
    )
    assert short == long and short.code == 0
    monkeypatch.chdir(tmp_path)
    assert "There is no run in runs/ yet" in command("write", "-i").err
