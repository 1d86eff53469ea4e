"""Questions and answers on the terminal: writing in turns with the model, and the quiz."""

from __future__ import annotations

import difflib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from epigone.cli.terminal import WIDEST_TEXT, Screen, WordWrapper, ask_line, complete_lines, print_piece, print_text
from epigone.errors import EpigoneError, pluralize
from epigone.evaluation.quiz import Question, Result, describe_result, describe_share, judge_answers
from epigone.generation.session import WritingSession
from epigone.report.escape import clean_text, on_one_line, show_name
from epigone.settings import WriteSettings, make_settings

CHOICES = 3
"""Continuations that are offered."""
MOST_CHOICES = 9
LENGTH = 60
"""Tokens of each, where no length is asked for."""
LINES_OF_END = 4
"""Lines of the text so far that are shown after a change."""
MOST_TAKEN = 300
"""Characters that are shown of what was taken back."""
INTRODUCTION = (
    "Type words to add them to the text. Press Enter alone, and the model offers three continuations; a number takes "
    "one, Enter asks for others. Commands begin with a slash: /undo, /save FILE, /help, /quit."
)
COMMANDS: Mapping[str, tuple[str, str]] = {
    "Enter": ("", "continuations to choose from; again for others. Ctrl-C cuts them short"),
    "1, 2, 3": ("", "take this one"),
    "WORDS": ("", "add your own words, after a space where one is needed"),
    "/add": ("WORDS", "add words exactly as typed, without a space before them"),
    "/line": ("[WORDS]", "start a new line, with these words if there are any"),
    "/again": ("", "other continuations in place of the last one"),
    "/undo": ("", "take back the last change"),
    "/text": ("", "show the whole text"),
    "/save": ("FILE", "append the text to a file"),
    "/new": ("", "start a new text; /undo brings the old one back"),
    "/choices": ("N", "offer so many continuations, 1 to 9; a single one is added at once"),
    "/length": ("N", "length of the continuations"),
    "/temperature": ("NUMBER", "below 1 safer, above 1 wilder"),
    "/help": ("", "show this"),
    "/quit": ("", "end (also Ctrl-D)"),
}
SYNONYMS = {"/exit": "/quit", "/q": "/quit", "/?": "/help", "/h": "/help", "/retry": "/again", "/keep": "/save"}
MEANT = {"q", "quit", "exit", "help", "undo", "h", "u", "r", "k"}
"""Words that are added as any others, and were perhaps meant as commands."""


class InteractiveSession:
    """Reads lines and carries out what they say until it is told to quit. The text itself is the session's."""

    def __init__(self, session: WritingSession, screen: Screen, *, quiet: bool = False) -> None:
        self.session, self.screen, self.quiet = session, screen, quiet
        if "length" not in session.settings.model_fields_set:
            session.settings = session.settings.model_copy(update={"length": LENGTH})
        self.n_choices = CHOICES
        self._offered: list[str] = []
        self._is_done = False
        self._actions: dict[str, Callable[[str], None]] = {
            "/add": self._add_exactly,
            "/line": lambda words: self._add_exactly(f"\n{words}"),
            "/again": self._try_again,
            "/undo": self._undo,
            "/text": self._show_all,
            "/save": self._save,
            "/new": self._begin_anew,
            "/choices": self._set_choices,
            "/length": lambda value: self._set("length", value),
            "/temperature": lambda value: self._set("temperature", value),
            "/help": self._help,
            "/quit": self._quit,
        }

    def run(self, start: str = "") -> None:
        """Start with that text; at the end say where the text is."""
        self.screen.show_note(INTRODUCTION)
        complete_lines([*self._actions])
        try:
            if start:
                self.session.begin(start)
                self._offer()
            while not self._is_done and (line := ask_line(self._mark)) is not None:
                self._run_line(line)
        except KeyboardInterrupt:
            print_piece("\n")
        self._say_goodbye()

    @property
    def _mark(self) -> str:
        return "" if self.quiet else f"1–{len(self._offered)}> " if self._offered else "> "

    def _run_line(self, line: str) -> None:
        words = line.strip()
        if not words:
            self._offer()
        elif line.startswith("/") and not line.startswith("//"):
            self._run_command(*line.rstrip("\n").partition(" ")[::2])
        elif words.isdecimal() and len(words) == 1:
            self._choose(int(words))
        else:
            self._add(line.removeprefix("/") if line.startswith("//") else line)
            if words in MEANT:
                self.screen.show_note(f'"{words}" was added to the text. The command is /{_find_command(words)[1:]}.')

    def _run_command(self, name: str, rest: str) -> None:
        command = _find_command(name.lower())
        if command in self._actions:
            self._actions[command](rest)
        else:
            near = difflib.get_close_matches(name, self._actions, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]}?" if near else "/help lists them."
            self.screen.show_note(f"There is no command {name}. {hint} To add words that begin with a slash: //")

    # -- the model's words

    def _offer(self) -> None:
        """Let the model write continuations to choose from, or a single one."""
        self._offered = []
        if self.n_choices == 1:
            self._show_stream(self.session.go_on())
            return
        texts = [""] * self.n_choices
        with suppress(KeyboardInterrupt):  # what has come so far can be chosen
            for piece in self.session.propose(self.n_choices):
                texts[piece.sequence] += piece.text
        self._offered = texts
        for number, text in enumerate(texts, 1):
            print_piece(_draw_choice(number, text, self.session.text))

    def _choose(self, number: int) -> None:
        if not self._offered:
            self.screen.show_note(
                f"There is nothing to choose from. Enter asks the model; /add {number} adds the number."
            )
        elif not 1 <= number <= len(self._offered):
            self.screen.show_note(f"Choose 1 to {len(self._offered)}, or press Enter for others.")
        else:
            chosen, self._offered = self._offered[number - 1], []
            self.session.take(chosen)
            self._show_end()

    def _try_again(self, _: str) -> None:
        if not self._offered and not self.session.can_retry:
            self.screen.show_note("The last change was yours; /undo takes it back.")
            return
        if not self._offered:
            self.session.undo()
        self._offer()

    def _show_stream(self, pieces: Iterator[str]) -> None:
        """Print the end of the text, then the new text as it is written."""
        end = find_end(self.session.text)
        print_piece(end, dim=True)
        try:
            print_text(map(clean_text, pieces), column=len(end))
        except KeyboardInterrupt:
            print_piece(" …")
        print_piece("\n")

    # -- the user's words

    def _add(self, words: str) -> None:
        self._add_exactly(words if joins_without_space(self.session.text, words) else f" {words}")

    def _add_exactly(self, words: str) -> None:
        self._offered = []
        if self.session.text:
            self.session.add(words)
        else:
            self.session.begin(words)
        self._show_end()

    def _undo(self, _: str) -> None:
        self._offered = []
        taken = self.session.undo()
        if taken is None:
            self.screen.show_note("There is nothing left to undo.")
            return
        shown = on_one_line(taken)
        shown = f"{shown[: MOST_TAKEN // 2]} … {shown[-MOST_TAKEN // 2 :]}" if len(shown) > MOST_TAKEN else shown
        self.screen.show_note(f'Taken back: "{shown or "a line break"}"')
        self._show_end()

    def _begin_anew(self, _: str) -> None:
        if self.session.text and self.session.kept_in is None:
            self.screen.show_note("The text so far was not saved to a file; /undo brings it back.")
        self._offered = []
        if self.session.text:
            self.session.begin("")
        self.screen.show_note("Type how the text starts, or press Enter to let the model start.")

    # -- the rest

    def _show_all(self, _: str) -> None:
        print_text([clean_text(self.session.text), "\n"])

    def _save(self, name: str) -> None:
        if not name.strip():
            self.screen.show_note("/save needs a file, for example: /save story.txt")
            return
        path = Path(name.strip()).expanduser()
        try:
            self.session.keep(path)
        except EpigoneError as error:
            self.screen.show_warning(f"{error} {error.hint}")
        else:
            self.screen.show_note(f"Appended {pluralize(len(self.session.text), 'character')} to {show_name(path)}.")

    def _set_choices(self, value: str) -> None:
        if value.strip().isdecimal() and 1 <= int(value) <= MOST_CHOICES:
            self.n_choices, self._offered = int(value), []
        else:
            self.screen.show_note(f"/choices needs a number from 1 to {MOST_CHOICES}, for example: /choices 5")

    def _set(self, name: str, value: str) -> None:
        """Change a setting of the continuations."""
        if not value.strip():
            self.screen.show_note(f"/{name} needs a number; now it is {getattr(self.session.settings, name)}.")
            return
        try:
            new = make_settings(WriteSettings, {name: value.strip()}, source=f"/{name}", strict=False)
            self.session.settings = self.session.settings.model_copy(update={name: getattr(new, name)})
        except EpigoneError as error:
            self.screen.show_note(f"{error} {error.hint}" if "--help" not in error.hint else str(error))

    def _help(self, _: str) -> None:
        self.screen.show_facts(
            "Commands", [(f"{name} {value}".strip(), "", what) for name, (value, what) in COMMANDS.items()]
        )

    def _quit(self, _: str) -> None:
        self._is_done = True

    def _show_end(self) -> None:
        """Print the last lines of the text."""
        if self.quiet:
            return
        lines = "".join(WordWrapper(_width()).wrap([clean_text(self.session.text.rstrip("\n"))])).split("\n")
        shown = lines[-LINES_OF_END:]
        if len(lines) > LINES_OF_END:
            shown[0] = f"… {shown[0]}".rstrip()
        print_piece("\n".join(shown) + "\n", dim=True)

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


def _find_command(name: str) -> str:
    """The command of this name, or the only one that begins so; the name itself if there is none."""
    name = f"/{name.removeprefix('/')}"
    if name in SYNONYMS:
        return SYNONYMS[name]
    found = [command for command in COMMANDS if command.startswith(name)]
    return found[0] if len(found) == 1 or name in found else name


def joins_without_space(text: str, words: str) -> bool:
    """Whether words follow a text as they are: at its start, beside white space, or from a mark such as a comma on."""
    return not text or text[-1].isspace() or words[:1].isspace() or words[:1] in ".,;:!?)]}’”…" or text[-1] in "([{‘“"


def _width() -> int:
    return min(shutil.get_terminal_size().columns, WIDEST_TEXT) if sys.stdout.isatty() else 1 << 30


def _draw_choice(number: int, text: str, before: str) -> str:
    """A continuation with its number, wrapped and indented; it begins with a mark where it goes on within a line."""
    text = clean_text(text)
    goes_on = bool(before) and not before.endswith("\n") and not text.startswith("\n")
    shown = "…" + text.rstrip() if goes_on else text.strip()  # its own space, if a word and no comma follows
    lines = "".join(WordWrapper(max(_width() - 4, 20)).wrap([shown])).split("\n")
    return f"\n{number}  " + "\n   ".join(lines) + "\n"


def find_end(text: str) -> str:
    """The last line of a text, or its end if it is long."""
    line = clean_text(text.rpartition("\n")[2])
    return line if len(line) <= MAX_END else "…" + line[-MAX_END:]


MAX_END = 72
"""Characters of the text so far that are shown before a continuation."""


# -- the quiz


def hold_quiz(questions: Sequence[Question], screen: Screen, title: str) -> Result:
    """Show one passage after another and ask who wrote it; at the end, or when it is broken off, show the result.

    `title`: of the text, for the line to share.
    """
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
    if result.n_answers:
        line = describe_share(result.n_hits, result.n_answers, clean_text(title))
        print_piece(f"\nTo share it, copy this line:\n{line}\n")
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
