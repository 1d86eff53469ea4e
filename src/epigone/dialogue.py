"""Lines that somebody types in; a text that they and the model write in turns, or the answers to a quiz, out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from epigone.display import Screen, ask_line, print_piece
from epigone.errors import OutputError
from epigone.judging.quiz import Question, Result, describe_result, judge_answers
from epigone.reporting.harmless import clean_text
from epigone.writing.conversation import Conversation

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


class Dialogue:
    """Obeys line after line until it is told to quit. It changes no text but by the conversation."""

    def __init__(self, conversation: Conversation, screen: Screen, *, quiet: bool = False) -> None:
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
