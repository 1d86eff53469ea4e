"""A model's name and what is asked of it in; texts, an opinion of one, a page or a quiz out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from epigone.cli.terminal import Screen, ask_line, print_piece
from epigone.errors import OutputError, SettingsError
from epigone.evaluation.quiz import Question, Result, describe_result, judge_answers
from epigone.generation.session import WritingSession
from epigone.report.escape import clean_text
from epigone.settings import WriteSettings

if TYPE_CHECKING:
    from epigone.generation.generator import GeneratedText, TextGenerator
    from epigone.text_reuse.matches import Match


COMMANDS = (
    ("Enter", "", "go on from where the text stands; Ctrl-C cuts it short"),
    ("r", "", "try the last continuation again, with another seed"),
    ("u", "", "take the last change back"),
    ("+WORDS", "", "add your own words, just as typed; + alone begins a new line"),
    ("k FILE", "", "keep: append the text so far to a file"),
    ("n", "", "begin a new text"),
    ("q", "", "quit; so do Ctrl-D and Ctrl-C"),
)
LONGEST_END = 72
"""Letters of the text so far that are shown before what follows."""


class InteractiveSession:
    """Obeys line after line until it is told to quit. It changes no text but by the conversation."""

    def __init__(self, conversation: WritingSession, screen: Screen, *, quiet: bool = False) -> None:
        self.conversation, self.screen = conversation, screen
        self.mark = "" if quiet else "> "
        self._wants_beginning = True

    def hold(self, beginning: str = "") -> None:
        """Begin with that text, or with the first line that is typed; at the end say where the text is."""
        self.screen.show_facts("Commands", COMMANDS)
        try:
            if beginning:
                self._begin(beginning)
            else:
                self._ask_for_beginning()
            while (line := ask_line(self.mark)) is not None and line.strip() != "q":
                self._obey(line)
        except KeyboardInterrupt:
            print_piece("\n")
        self._take_leave()

    def _obey(self, line: str) -> None:
        command, _, rest = line.strip().partition(" ")
        if self._wants_beginning:
            self._begin(line)
        elif not command:
            self._show(self.conversation.go_on())
        elif line.startswith("+"):
            self.conversation.add(line[1:] or "\n")
            self._show_end()
        elif command == "k" and rest.strip():
            self._keep(Path(rest.strip()).expanduser())
        elif rest or not self._obey_letter(command):
            self.screen.show_facts(f'"{line.strip()}" is no command', COMMANDS)

    def _obey_letter(self, letter: str) -> bool:
        """Whether there is such a command."""
        actions = {"r": self._retry, "u": self._undo, "n": self._ask_for_beginning}
        if letter in actions:
            actions[letter]()
        return letter in actions

    def _ask_for_beginning(self) -> None:
        if self.conversation.text and self.conversation.kept_in is None:
            self.screen.show_note("The text so far is in no file; u brings it back, given often enough.")
        self.screen.show_note("Type a beginning, or just Enter: the model begins by itself.")
        self._wants_beginning = True

    def _begin(self, text: str) -> None:
        self._wants_beginning = False
        self.conversation.begin(text)
        self._show(self.conversation.go_on())

    def _retry(self) -> None:
        if self.conversation.can_retry:
            self._show(self.conversation.retry())
        else:
            self.screen.show_note("The last change was your own: u takes it back.")

    def _undo(self) -> None:
        if self.conversation.undo():
            self._show_end()
        else:
            self.screen.show_note("There is nothing left to take back.")

    def _keep(self, path: Path) -> None:
        try:
            self.conversation.keep(path)
        except OutputError as error:
            self.screen.show_warning(f"{error} {error.hint}")
        else:
            self.screen.show_note(f"{len(self.conversation.text):,} characters were appended to {path}.")

    def _show(self, pieces: Iterator[str]) -> None:
        """Print the end of the text, and behind it what follows, as it comes."""
        print_piece(find_end(self.conversation.text), dim=True)
        try:
            for piece in pieces:
                print_piece(clean_text(piece))
        except KeyboardInterrupt:
            print_piece(" …")
        print_piece("\n")

    def _show_end(self) -> None:
        print_piece(find_end(self.conversation.text) + "\n", dim=True)

    def _take_leave(self) -> None:
        """Show the whole text unless it is in a file: nothing is lost."""
        text, path = self.conversation.text, self.conversation.kept_in
        if not text:
            self.screen.show_note("Nothing was written.")
        elif path is not None:
            self.screen.show_note(f"Nothing is lost: the text is in {path}.")
        else:
            self.screen.show_note("Nothing is lost. The text, whole:")
            print_piece(clean_text(text) + "\n")


def find_end(text: str) -> str:
    """The last line of a text, or its end where it is long."""
    line = clean_text(text.rpartition("\n")[2])
    return line if len(line) <= LONGEST_END else "…" + line[-LONGEST_END:]


# -- a quiz


def hold_quiz(questions: Sequence[Question], screen: Screen) -> Result:
    """Show one passage after another and ask who wrote it; when it is over or broken off, say what came of it."""
    answers: dict[int, bool] = {}
    screen.show_note(f"{len(questions)} passages: half of them the author's, held out, half of them the model's.")
    try:
        for number, question in enumerate(questions):
            print_piece(f"\n--- {number + 1} of {len(questions)}\n")
            print_piece(f"{clean_text(question.text)}\n\n")
            answer = _ask_for_writer()
            if answer is None:
                break
            answers[number] = answer
    except KeyboardInterrupt:
        print_piece("\n")
    result = judge_answers(questions, answers)
    print_piece("\n" + "\n".join(describe_result(result, questions)) + "\n")
    return result


def _ask_for_writer() -> bool | None:
    """Whether the author is said to have written it; None where somebody has had enough."""
    while (line := ask_line("written by the author (a) or the model (m)? ")) is not None:
        letter = line.strip().casefold()[:1]
        if letter == "q":
            return None
        if letter in ("a", "m"):
            return letter == "a"
        print_piece("a or m; q quits\n")
    return None


class QuizOptions(NamedTuple):
    """How a quiz is to be."""

    n_passages: int
    n_words: int
    seed: int
    device: str


OutputMode = Literal["text", "json", "dialogue", "sources"]
"""How what is written comes out; with "sources" the longest copied passage of each text is shown behind it."""

FIRST_LETTERS = b'{"prompt": '
"""Of every line of a .jsonl file."""


# -- writing


def choose_output_mode(*, json: bool, interactive: bool, show_source: bool) -> OutputMode:
    """Raises SettingsError."""
    if json and interactive:
        raise _refuse_beside_dialogue("--json")
    if show_source and interactive:
        raise _refuse_beside_dialogue("--show-source")
    return "json" if json else "dialogue" if interactive else "sources" if show_source else "text"


def choose_model(run: str, base: str) -> str:
    """What is to write: one of the two. Raises SettingsError."""
    if run and base:
        raise SettingsError(f"--base {base} does not go with {run}.", hint="Leave one of the two out.")
    if not run and not base:
        raise SettingsError("write needs a run.", hint="Or a base, --base small say. See: epigone write --help")
    return run or base


def write(run: str, prompt: str, out: Path | None, settings: WriteSettings, manner: OutputMode, *, quiet: bool) -> int:
    """What `epigone write` does. Raises EpigoneError."""
    _check_writing(out, settings, manner)
    from epigone.cli.terminal import print_piece, show_progress
    from epigone.run import open_generator

    use_idle_threads()
    writer = open_generator(run, settings, progress=not quiet)
    settings = writer.resolve_auto(settings)
    if manner == "dialogue":
        _hold_dialogue(writer, prompt, settings, quiet=quiet)
    elif out is None and manner == "text" and settings.count == 1:
        _stream(writer, prompt, settings)
    else:
        with show_progress("Writing", quiet=quiet) as writer.watch:
            shown = _write_whole(writer, prompt, out, settings, manner)
        print_piece(shown)
    return 0


def use_idle_threads() -> None:
    """Let torch use only as many threads as the machine has cores to spare."""
    import torch

    from epigone.hardware import count_idle_threads

    torch.set_num_threads(count_idle_threads())


def _check_writing(out: Path | None, settings: WriteSettings, manner: OutputMode) -> None:
    if manner == "sources" and out is not None:
        raise SettingsError(
            "--show-source is for the screen.", hint="A file whose name ends in .jsonl holds it anyway."
        )
    if manner == "dialogue":
        if out is not None:
            raise _refuse_beside_dialogue("--out")
        if settings.count != 1:
            raise _refuse_beside_dialogue("--count")
    if out is not None and out.exists() and out.suffix != ".jsonl":
        raise OutputError(f"{out} is already there.", hint="Choose another name after --out, or delete it.")


def _refuse_beside_dialogue(flag: str) -> SettingsError:
    return SettingsError(f"{flag} does not go with --interactive.", hint="Leave one of the two out.")


def _hold_dialogue(writer: TextGenerator, prompt: str, settings: WriteSettings, *, quiet: bool) -> None:
    pass  # DROPPED
    from epigone.cli.terminal import open_screen
    from epigone.generation.session import WritingSession

    with open_screen(quiet=quiet, json=False) as screen:
        InteractiveSession(WritingSession(writer, settings), screen, quiet=quiet).hold(prompt)


def _write_with_sources(writer: TextGenerator, prompt: str, settings: WriteSettings) -> Iterator[str]:
    n_documents = len(writer.documents)  # before anything is written: it may not be known
    for number, text in enumerate(writer.write(prompt, settings), 1):
        yield f"--- {number} of {settings.count}\n" if settings.count > 1 else ""
        yield f"{prompt}{text}\n\n{describe_source(writer.find_source(text), n_documents)}\n"


def describe_source(found: Match | None, n_documents: int) -> str:
    """The longest passage that a text shares with what was learned from, and where that stands."""
    if found is None:
        return "It shares nothing with the text that was learned from."
    where = f"line {found.line:,}" + (f" of text {found.document + 1}" if n_documents > 1 else "")
    passage = " ".join(found.passage.split())
    learned = "the text that was learned from"
    return f"Longest passage shared with {learned}: {found.n_characters} characters, {where}:\n{passage}"


def _stream(writer: TextGenerator, prompt: str, settings: WriteSettings) -> None:
    from epigone.cli.terminal import print_piece

    print_piece(prompt)
    for piece in writer.stream(prompt, settings):
        print_piece(piece.text)
    print_piece("\n")


def _write_whole(
    writer: TextGenerator, prompt: str, out: Path | None, settings: WriteSettings, manner: OutputMode
) -> str:
    """Write all texts, into a file if so asked; what is to be shown then."""
    from epigone.cli.terminal import spell_json
    from epigone.files import write_text

    if out is not None and out.suffix == ".jsonl":
        _write_lines(writer, prompt, out, settings)
        return ""
    if manner == "sources":
        return "".join(_write_with_sources(writer, prompt, settings))
    if manner == "json":
        found = [describe_record(prompt, record) for record in writer.write_records(prompt, settings)]
        texts = [record["text"] for record in found]
        shown = spell_json({"texts": found, "settings": settings.model_dump()}) + "\n"
    else:
        texts = writer.write(prompt, settings)
        shown = _join(prompt, texts) if out is None else ""
    if out is not None:
        write_text(out, _join(prompt, texts))
    return shown


def _write_lines(writer: TextGenerator, prompt: str, out: Path, settings: WriteSettings) -> None:
    """One JSON object a line for each text; goes on where an earlier call with the same wishes was stopped."""
    from epigone.files import append_text

    first = count_written(out, prompt, settings)
    for record in writer.write_records(prompt, settings, first):
        line = describe_record(prompt, record) | {"settings": settings.model_dump(exclude={"count"})}
        append_text(out, json.dumps(line, ensure_ascii=False) + "\n")


def count_written(out: Path, prompt: str, settings: WriteSettings) -> int:
    """Texts that a .jsonl file already holds of those that are asked for. Raises OutputError where it holds others."""
    from epigone.files import write_bytes

    if not out.exists():
        return 0
    asked = settings.model_dump(mode="json", exclude={"count"})
    try:
        whole, end, torn = out.read_bytes().rpartition(b"\n")
        lines = [json.loads(line) for line in whole.split(b"\n") if line]
        kept = [(line["prompt"], line["settings"], line["seed"]) for line in lines]
        if torn and not kept and not torn.startswith(FIRST_LETTERS):
            raise ValueError("somebody else's line")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise OutputError(f"{out} is there and does not hold texts.", hint="Choose another name after --out.") from None
    if kept != [(prompt, asked, settings.seed + number) for number in range(len(kept))]:
        raise OutputError(f"{out} holds texts that were asked for otherwise.", hint="Choose another name after --out.")
    if torn:  # the last line was cut short when a call was stopped
        write_bytes(out, whole + end)
    return len(kept)


def describe_record(prompt: str, record: GeneratedText) -> dict[str, Any]:
    """A text as plain values. "longest_shared" is None where it is not known what was learned from."""
    found = {"prompt": prompt, **record._asdict()}
    source = found.pop("source")
    return found | {"longest_shared": None if source is None else asdict(source)}


def _join(prompt: str, texts: Sequence[str]) -> str:
    if len(texts) == 1:
        return f"{prompt}{texts[0]}\n"
    return "\n".join(f"--- {number} of {len(texts)}\n{prompt}{text}\n" for number, text in enumerate(texts, 1))


# -- a page about it, and a blind test


def report(run: Path, out: Path | None) -> int:
    """What `epigone report` does. Raises EpigoneError."""
    from epigone.cli.terminal import open_screen
    from epigone.run import open_run

    path = open_run(run).report(out)
    with open_screen(quiet=False, json=False) as screen:
        screen.show_note(f"The report is in {path}.")
    return 0


def quiz(run: Path, how: QuizOptions, page: Path | None) -> int:
    """What `epigone quiz` does. Raises EpigoneError."""
    if page is None and not can_answer():
        raise SettingsError("A quiz asks, and nobody can answer here.", hint="Make a page of it: --page quiz.html")
    pass  # DROPPED
    from epigone.cli.terminal import open_screen
    from epigone.report.publish import write_quiz
    from epigone.run import open_run

    use_idle_threads()
    questions = open_run(run).quiz(how.n_passages, how.n_words, seed=how.seed, device=how.device)
    with open_screen(quiet=False, json=False) as screen:
        if len(questions) < how.n_passages:
            screen.show_note(f"There is room for {len(questions)} passages.")
        if page is None:
            hold_quiz(questions, screen)
        else:
            screen.show_note(f"The quiz is in {write_quiz(questions, run.resolve().name, page)}.")
    return 0


def can_answer() -> bool:
    """Whether somebody sits at standard input."""
    return sys.stdin.isatty()
