"""Questions and answers on the terminal: writing in turns with the model, and the quiz."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.cells import cell_len

from epigone.cli.terminal import Screen, ask_line, print_piece, print_text
from epigone.errors import OutputError
from epigone.evaluation.quiz import Question, Result, describe_result, judge_answers
from epigone.generation.session import WritingSession
from epigone.report.escape import clean_text, show_name

COMMANDS = (
    ("Enter", "", "continue the text; Ctrl-C cuts it short"),
    ("r", "", "retry: replace the last continuation by another one"),
    ("u", "", "undo the last change"),
    ("+WORDS", "", "add your own words, exactly as typed; + alone starts a new line"),
    ("k FILE", "", "keep: append the text so far to a file"),
    ("n", "", "start a new text"),
    ("q", "", "quit (also Ctrl-D and Ctrl-C)"),
)
MAX_END = 72
"""Characters of the text so far that are shown before a continuation."""


class InteractiveSession:
    """Reads lines and carries out what they say until it is told to quit. The text itself is the session's."""

    def __init__(self, session: WritingSession, screen: Screen, *, quiet: bool = False) -> None:
        self.session, self.screen = session, screen
        self.mark = "" if quiet else "> "
        self._wants_start = True

    def run(self, start: str = "") -> None:
        """Start with that text, or with the first line that is typed; at the end say where the text is."""
        self.screen.show_facts("Commands", COMMANDS)
        try:
            if start:
                self._begin(start)
            else:
                self._ask_for_start()
            while (line := ask_line(self.mark)) is not None and line.strip() != "q":
                self._run_command(line)
        except KeyboardInterrupt:
            print_piece("\n")
        self._say_goodbye()

    def _run_command(self, line: str) -> None:
        command, _, rest = line.strip().partition(" ")
        if self._wants_start:
            self._begin(line)
        elif not command:
            self._show(self.session.go_on())
        elif line.startswith("+"):
            self.session.add(line[1:] or "\n")
            self._show_end()
        elif command == "k" and rest.strip():
            self._keep(Path(rest.strip()).expanduser())
        elif command == "k":
            self.screen.show_note("k needs a file, for example: k story.txt")
        elif rest or not self._run_letter(command):
            self.screen.show_facts(
                f'There is no command "{line.strip()}". To add your own words, start with +', COMMANDS
            )

    def _run_letter(self, letter: str) -> bool:
        """Whether there is such a command."""
        actions = {"r": self._retry, "u": self._undo, "n": self._ask_for_start}
        if letter in actions:
            actions[letter]()
        return letter in actions

    def _ask_for_start(self) -> None:
        if self.session.text and self.session.kept_in is None:
            self.screen.show_note("The text so far was not saved to a file; u (several times) brings it back.")
        self.screen.show_note("Type how the text starts, or press Enter to let the model start.")
        self._wants_start = True

    def _begin(self, text: str) -> None:
        self._wants_start = False
        self.session.begin(text)
        self._show(self.session.go_on())

    def _retry(self) -> None:
        if self.session.can_retry:
            self._show(self.session.retry())
        else:
            self.screen.show_note("The last change was yours; u takes it back.")

    def _undo(self) -> None:
        if self.session.undo():
            self.screen.show_note("Taken back. The text now ends:")
            self._show_end()
        else:
            self.screen.show_note("There is nothing left to undo.")

    def _keep(self, path: Path) -> None:
        try:
            self.session.keep(path)
        except OutputError as error:
            self.screen.show_warning(f"{error} {error.hint}")
        else:
            self.screen.show_note(f"Appended {len(self.session.text):,} characters to {show_name(path)}.")

    def _show(self, pieces: Iterator[str]) -> None:
        """Print the end of the text, then the new text as it is written."""
        end = find_end(self.session.text)
        print_piece(end, dim=True)
        try:
            print_text(map(clean_text, pieces), column=cell_len(end))
        except KeyboardInterrupt:
            print_piece(" …")
        print_piece("\n")

    def _show_end(self) -> None:
        print_piece(find_end(self.session.text.rstrip("\n")) + "\n", dim=True)

    def _say_goodbye(self) -> None:
        """Show the whole text unless it is in a file, so that nothing is lost."""
        text, path = self.session.text, self.session.kept_in
        if not text:
            self.screen.show_note("Nothing was written.")
        elif path is not None:
            self.screen.show_note(f"The text is in {show_name(path)}.")
        else:
            self.screen.show_note("The whole text:")
            print_text([clean_text(text), "\n"])


def find_end(text: str) -> str:
    """The last line of a text, or its end if it is long."""
    line = clean_text(text.rpartition("\n")[2])
    return line if len(line) <= MAX_END else "…" + line[-MAX_END:]


# -- the quiz


def hold_quiz(questions: Sequence[Question], screen: Screen) -> Result:
    """Show one passage after another and ask who wrote it; at the end, or when it is broken off, show the result."""
    answers: dict[int, bool] = {}
    screen.show_note(f"{len(questions)} passages: half from the author's held-out text, half written by the model.")
    try:
        for number, question in enumerate(questions):
            print_piece(f"\n--- {number + 1} of {len(questions)}\n")
            print_text([clean_text(question.text), "\n\n"])
            answer = _ask_who_wrote_it()
            if answer is None:
                break
            answers[number] = answer
    except KeyboardInterrupt:
        print_piece("\n")
    result = judge_answers(questions, answers)
    print_piece("\n" + "\n".join(describe_result(result, questions)) + "\n")
    return result


def _ask_who_wrote_it() -> bool | None:
    """Whether the answer is the author; None to quit."""
    while (line := ask_line("Written by the author (a) or the model (m)? ")) is not None:
        letter = line.strip().casefold()[:1]
        if letter == "q":
            return None
        if letter in ("a", "m"):
            return letter == "a"
        print_piece("Type a or m; q quits.\n")
    return None
