"""Writing in turns: every change can be taken back, what is kept is whole, and nothing is lost at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from epigone.cli.interactive import MAX_END, InteractiveSession, _draw_choice, find_end
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


def test_continuations_to_choose_from_have_seeds_of_their_own_and_leave_the_text_alone() -> None:
    conversation, _ = converse()
    conversation.begin("Once")
    assert "".join(piece.text for piece in conversation.propose(3)) == "[5:9]"
    assert conversation.text == "Once" and conversation.seed == 8 and not conversation.can_retry
    conversation.take("[x]")
    assert conversation.text == "Once[x]" and conversation.can_retry and conversation.undo() == "[x]"


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


def test_enter_offers_three_continuations_and_a_number_takes_one() -> None:
    outcome = talk("Thou", "", "2", "", "1")
    first = "Thou" + continuation("Thou", 1)
    assert whole(outcome) == first + continuation(first, 3)
    shown = " ".join(outcome.out.split())
    for number in range(3):
        assert " ".join(f"{number + 1} …{continuation('Thou', number)}".split()) in shown


@pytest.mark.parametrize(
    ("text", "before", "shown"),
    [
        (" came in.", "Jeeves", "1  … came in."),
        (", sir.", "Yes", "1  …, sir."),
        ("ful day", "A wonder", "1  …ful day"),
        ("\n\nShe went.", "He came.", "1  She went."),
        ("Once", "", "1  Once"),
    ],
)
def test_a_continuation_is_shown_as_it_follows(text: str, before: str, shown: str) -> None:
    assert _draw_choice(1, text, before) == f"\n{shown}\n"


def test_enter_again_offers_others_and_so_does_the_command() -> None:
    assert whole(talk("Thou", "", "", "1")) == "Thou" + continuation("Thou", 3)
    assert whole(talk("Thou", "", "/again", "3")) == "Thou" + continuation("Thou", 5)
    assert whole(talk("Thou", "", "1", "/again", "1")) == "Thou" + continuation("Thou", 3)


def test_a_single_choice_is_added_at_once() -> None:
    first = continuation("Thou", 0)
    assert whole(talk("Thou", "/choices 1", "", "")) == "Thou" + first + continuation("Thou" + first, 1)


def test_without_a_beginning_the_model_begins() -> None:
    assert whole(talk("", "1", "/quit")) == continuation("", 0)


def test_a_prompt_is_the_beginning_and_is_continued_at_once() -> None:
    assert whole(talk("1", flags=(*QUICK, "--prompt", "Shall I"))) == "Shall I" + continuation("Shall I", 0)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (("Thou", "art", ", so"), "Thou art, so"),
        (("Thou", "/add rt", "/line", "so", "/line it"), "Thourt\nso\nit"),
        (("Thou", "//art", "“so", "it"), "Thou /art “so it"),
        (("Thou ", " art", "/undo"), "Thou "),
        (("Thou", "12"), "Thou 12"),
        (("hello", "r twice", "q"), "hello r twice q"),
    ],
)
def test_what_is_typed_is_added(lines: tuple[str, ...], text: str) -> None:
    assert whole(talk(*lines)) == text


def test_words_typed_instead_of_a_number_drop_what_was_offered() -> None:
    outcome = talk("Thou", "", "art", "1")
    assert whole(outcome) == "Thou art" and "nothing to choose from" in outcome.out


def test_what_undo_takes_back_is_shown() -> None:
    outcome = talk("Thou", "art more lovely", "/undo", "/undo")
    assert 'Taken back: " art more lovely"'.replace('" art', '"art') in outcome.out
    assert "nothing left to undo" in outcome.out and whole(outcome) == "Thou"
    taken = continuation("Thou", 0)
    assert f'Taken back: "{" ".join(taken.split())}"' in talk("Thou", "", "1", "/undo").out


def test_what_cannot_be_done_is_said() -> None:
    outcome = talk("Thou", "/again", "1", "", "7", "/choices 10", "/length", "/length x", "/temperature -1")
    for said in (
        *("yours; /undo takes it back", "/add 1 adds the number", "Choose 1 to 3", "from 1 to 9", "now it is 6"),
        *("must be a whole number", "at least 0"),
    ):
        assert said in outcome.out
    assert whole(outcome) == "Thou"


def test_settings_hold_from_the_next_continuation_on() -> None:
    expected = shared_run().write("Thou", length=3, temperature=0.5)[0]
    assert whole(talk("Thou", "/length 3", "/temperature 0.5", "", "1")) == "Thou" + expected


def test_the_end_of_input_loses_nothing() -> None:
    assert whole(talk("Thou", "", "1")) == "Thou" + continuation("Thou", 0)


def test_what_is_saved_lies_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "kept text.txt"
    outcome = talk("Thou", f"/save {path}", "/quit")
    assert path.read_text("utf-8") == "Thou\n"
    assert f"The text is in {path}." in outcome.out and whole(outcome) == ""


def test_where_it_cannot_be_saved_the_dialogue_goes_on(tmp_path: Path) -> None:
    outcome = talk("Thou", f"/save {tmp_path}", "/save", "art")
    assert f"warning: {tmp_path} cannot be written" in outcome.out and whole(outcome) == "Thou art"
    assert "/save needs a file" in outcome.out


def test_a_new_text_can_be_taken_back_too() -> None:
    outcome = talk("Thou", "/new", "Shall I", "/undo", "/undo")
    assert whole(outcome) == "Thou" and "The text so far was not saved" in outcome.out


def test_where_nothing_was_written_that_is_said() -> None:
    assert "Nothing was written." in talk("/quit").out and "Nothing was written." in talk().out


@pytest.mark.parametrize(
    ("line", "said"),
    [("/undp", "Did you mean /undo?"), ("/xyz", "/help lists them"), ("/e", "There is no command /e."), ("/", "/help")],
)
def test_an_unknown_command_changes_nothing(line: str, said: str) -> None:
    outcome = talk("Thou", line)
    assert said in outcome.out and whole(outcome) == "Thou"


def test_commands_may_be_shortened_and_have_other_names() -> None:
    assert whole(talk("Thou", "art", "/u", "/q", "never read")) == "Thou"
    assert whole(talk("Thou", "/EXIT", "never read")) == "Thou"
    assert talk("Thou", "/h").out.count("append the text to a file") == 1
    assert "The command is /undo." in talk("Thou", "undo").out and "The command is /quit." in talk("q").out


def test_bytes_that_are_no_text_end_nothing() -> None:
    outcome = command("write", shared_run().path, "-i", *QUICK, stdin=b"Th\xffou\n")
    assert outcome.code == 0 and whole(outcome) == "Th\ufffdou"


def test_quiet_shows_the_choices_and_the_text_alone() -> None:
    assert talk("Thou", "/quit", flags=(*QUICK, "--quiet")).out == "Thou\n"


def test_continuations_are_short_where_no_length_is_asked_for() -> None:
    session, _ = WritingSession(Counter(), WriteSettings()), None  # type: ignore[arg-type]
    InteractiveSession(session, PlainScreen(sys.stdout))
    assert session.settings.length == 60
    session = WritingSession(Counter(), WriteSettings(length=300))  # type: ignore[arg-type]
    InteractiveSession(session, PlainScreen(sys.stdout))
    assert session.settings.length == 300


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
    assert shown.endswith("The whole text:\nOnce\n")


def test_an_interrupt_while_it_writes_cuts_the_continuation_short(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = hold(Counter(broken_off=True), capsys, monkeypatch, "Once", "/choices 1", "", "more", "/quit")
    assert "Once[0 …\n" in shown and shown.endswith("The whole text:\nOnce[0 more\n")


def test_an_interrupt_while_it_offers_leaves_what_has_come(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = hold(Counter(broken_off=True), capsys, monkeypatch, "Once", "", "1", "/quit")
    assert shown.endswith("The whole text:\nOnce[0\n")


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
