"""The command write."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from epigone.cli.options import (
    JSON,
    OTHER,
    QUIET,
    Argument,
    Command,
    Option,
    complete_bases,
    complete_runs,
    out_option,
)
from epigone.cli.runs import (
    choose_run,
    choose_voice,
    find_alike,
    find_mixed,
    find_model,
    find_run_of_voice,
    using_model,
)
from epigone.errors import OutputError, RunNotFound, SettingsError, pluralize
from epigone.runs.listing import RUNS
from epigone.settings import WriteSettings

if TYPE_CHECKING:
    from epigone.evaluation.candidates import BestText
    from epigone.generation.generator import OnProgress, TextGenerator
    from epigone.text_reuse.matches import Match

UNITS = ("tokens", "words", "characters")
PARTS = ("pages", "page", "chapters", "chapter", "paragraphs", "paragraph", "sentences", "sentence", "lines", "line")
CURLY = "“”„"
"""Quotation marks that a shell takes for letters."""
OutputMode = Literal["text", "json", "interactive", "sources"]
"""How texts are shown; with "sources" each is followed by the longest passage that it copies."""


@click.command(
    cls=Command,
    kind=WriteSettings,
    examples="""
        epigone write                                   with the newest run
        epigone write novel --prompt "It was"
        epigone write novel --prompt - < chapter.txt    goes on where a file ends
        epigone write novel -n 5 -l 200 --unit words --stop-at paragraph
        epigone write novel --interactive               in turns with the model
        epigone write austen --mix poe:0.4              in two voices at once
        epigone write authors --voice austen            in one of the voices of a run
        epigone write --base modern --prompt "It was"   with a base model that is included
    """,
)
@click.argument(
    "run",
    cls=Argument,
    required=False,
    type=click.Path(),
    shell_complete=complete_runs,
    text="Name or folder of a run, folder of a model, or a GPT-2 on the Hugging Face Hub. [default: the newest run]",
)
@click.argument("prompt_words", cls=Argument, nargs=-1, metavar="[PROMPT]", text="Short for --prompt.")
@click.option("-p", "--prompt", cls=Option, metavar="TEXT", help="Text to continue; - reads it from standard input.")
@click.option("--voice", cls=Option, metavar="NAME", help="Of a run of several voices, write in this one.")
@click.option(
    "-b",
    "--base",
    cls=Option,
    synonyms=["--model", "--model-name-or-path"],
    metavar="NAME",
    shell_complete=complete_bases,
    help="Write with a base model instead of a run: modern or small (included), gpt2, …",
)
@out_option(
    "FILE",
    "Write to this new file instead of the screen. A .jsonl file gets one line of JSON for each text, "
    "and continues where it was stopped.",
)
@click.option(
    "-i",
    "--interactive",
    cls=Option,
    is_flag=True,
    help="Write in turns with the model: choose among its continuations, add your own words, undo.",
)
@click.option(
    "--show-source",
    cls=Option,
    is_flag=True,
    group=OTHER,
    help="After each text, show the longest passage that it copies, and from where.",
)
@QUIET
@JSON
def write(  # noqa: PLR0913  # its arguments are its options
    run: str | None,
    prompt_words: Sequence[str],
    prompt: str | None,
    voice: str | None,
    base: str | None,
    out: Path | None,
    settings: WriteSettings,
    *,
    interactive: bool,
    show_source: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Write with the model of a run, or with any GPT-2."""
    mode = choose_output_mode(json=as_json, interactive=interactive, show_source=show_source)
    name, prompt_words = choose_model(run, prompt_words, base, quiet=quiet)
    prompt = choose_prompt(prompt_words, prompt)
    prompt = read_piped(prompt, mode)
    if voice is not None:
        name = choose_voice(name, voice)
    settings = settings.model_copy(update={"mix": find_mixed(settings.mix, name)})
    _check_writing(out, settings, mode)
    from epigone.cli.terminal import loading, print_piece, print_text, show_progress

    with loading(quiet=quiet):
        from epigone.run import open_generator

    use_idle_threads()
    if settings.best_of > 1:
        _write_best(name, prompt, out, settings, mode, quiet=quiet)
        _say_where(out, settings, quiet=quiet or as_json)
        return 0
    with using_model():
        generator = open_generator(name, settings, progress=not quiet)
    settings = generator.resolve_auto(settings)
    if mode == "interactive":
        _write_in_turns(generator, prompt, settings, quiet=quiet)
    elif out is None and mode == "text" and settings.count == 1:
        _stream(generator, prompt, settings)
    else:
        with show_progress("Writing", quiet=quiet) as on_progress:
            shown = _write_whole(generator, prompt, out, settings, mode, on_progress)
        if mode == "json":
            print_piece(shown)
        else:
            print_text([shown])
        _say_where(out, settings, quiet=quiet or as_json)
    return 0


def _say_where(out: Path | None, settings: WriteSettings, *, quiet: bool) -> None:
    """Say on standard error which file has the texts, if one has."""
    if out is not None and not quiet:
        from epigone.report.escape import show_name

        click.echo(f"{'The text is' if settings.count == 1 else 'The texts are'} in {show_name(out)}.", err=True)


def choose_output_mode(*, json: bool, interactive: bool, show_source: bool) -> OutputMode:
    """Raises SettingsError."""
    if json and interactive:
        raise _not_with_interactive("--json")
    if show_source and interactive:
        raise _not_with_interactive("--show-source")
    return "json" if json else "interactive" if interactive else "sources" if show_source else "text"


def choose_model(
    run: str | None, words: Sequence[str], base: str | None, *, quiet: bool = False
) -> tuple[str, Sequence[str]]:
    """The run or the base to write with, and the words of the prompt. Raises SettingsError, RunNotFound.

    Without either it is the newest run; the first word may then be one of the prompt.
    """
    if run and is_prompt(run, words, follows_base=base is not None):
        words, run = (run, *words), None
    if run and base:
        raise SettingsError(f"{run} and --base {base} cannot be used together.", hint="Leave out one of the two.")
    if run or base:
        return find_model(run or base or ""), words
    try:
        return str(choose_run(None, quiet=quiet)), words
    except RunNotFound as error:
        error.hint += ". Or write with a base model: epigone write --base modern"
        raise


def is_prompt(name: str, words: Sequence[str], *, follows_base: bool = False) -> bool:
    """Whether a word in the place of a run can only be the beginning of a prompt."""
    from epigone.model.base_profile import BASES
    from epigone.model.hub import WELL_KNOWN

    if Path(name).exists() or (RUNS / name).exists() or name in (*BASES, *WELL_KNOWN) or find_alike(name):
        return False
    if find_run_of_voice(Path(name)):
        return False
    return " " in name.strip() or ("/" not in name and (bool(words) or follows_base))


def choose_prompt(words: Sequence[str], prompt: str | None) -> str:
    """The prompt, from --prompt or from the words after the run. Raises SettingsError."""
    if not words:
        return prompt or ""
    _check_length(words, prompt)
    if prompt is not None:
        joined = f'--prompt "{" ".join((prompt, *words)).strip(CURLY)}"'
        raise SettingsError(
            f'There are two prompts: --prompt and "{words[0]}".',
            hint=f"If they are one, it needs straight quotation marks: {joined}. Else leave out one of the two.",
        )
    return " ".join(words)


def read_piped(prompt: str, mode: OutputMode) -> str:
    """The prompt, or where it is "-" that from standard input, without the line end that editors put behind a text.

    Raises SettingsError.
    """
    from epigone.corpus.sources import PIPE

    if prompt != PIPE:
        return prompt
    if mode == "interactive":
        raise _not_with_interactive("--prompt -")
    text = sys.stdin.buffer.read().decode("utf-8-sig", "replace").replace("\r\n", "\n")
    return text.removesuffix("\n")


def _check_length(words: Sequence[str], prompt: str | None) -> None:
    """Raise SettingsError where what follows a run is a length, not a prompt."""
    if words[0] in UNITS:
        raise SettingsError(f'"{words[0]}" needs an option.', hint=f"For example: --length 100 --unit {words[0]}")
    if len(words) == 1 and words[0] in PARTS:
        hint = "A page has about 300 words: --length 300 --unit words. To end with a paragraph: --stop-at paragraph"
        raise SettingsError(f"Length is counted in words, characters or tokens, not in {words[0]}.", hint=hint)
    if words[-1].isdecimal() and (prompt is not None or any(" " in word for word in words[:-1])):
        raise SettingsError(f'"{words[-1]}" needs an option.', hint=f"For example: --length {words[-1]} --unit words")


def use_idle_threads() -> None:
    """Let torch use only as many threads as the machine has idle cores."""
    import torch

    from epigone.hardware import count_idle_threads

    torch.set_num_threads(count_idle_threads())


def _check_writing(out: Path | None, settings: WriteSettings, mode: OutputMode) -> None:
    if mode == "sources" and out is not None:
        raise SettingsError("--show-source is for the screen.", hint="A .jsonl file contains the sources anyway.")
    if mode == "interactive":
        if out is not None:
            raise _not_with_interactive("--out")
        if settings.count != 1:
            raise _not_with_interactive("--count")
        if settings.best_of != 1:
            raise _not_with_interactive("--best-of")
    if out is not None and out.exists() and out.suffix != ".jsonl":
        raise OutputError(f"{out} already exists.", hint="Choose another name with --out, or delete the file.")


def _not_with_interactive(flag: str) -> SettingsError:
    return SettingsError(f"{flag} does not go with --interactive.", hint="Leave out one of the two.")


def _write_in_turns(generator: TextGenerator, prompt: str, settings: WriteSettings, *, quiet: bool) -> None:
    from epigone.cli.interactive import InteractiveSession
    from epigone.cli.terminal import open_screen
    from epigone.generation.session import WritingSession

    with open_screen(quiet=quiet, json=False) as screen:
        InteractiveSession(WritingSession(generator, settings), screen, quiet=quiet).run(prompt)


def _write_with_sources(
    generator: TextGenerator, prompt: str, settings: WriteSettings, on_progress: OnProgress
) -> Iterator[str]:
    n_documents = len(generator.documents)  # before writing: it fails if the text is not there
    for number, text in enumerate(generator.write(prompt, settings, on_progress=on_progress), 1):
        yield f"--- {number} of {settings.count}\n" if settings.count > 1 else ""
        yield f"{prompt}{text}\n\n{describe_source(generator.find_source(text), n_documents)}\n"


def describe_source(found: Match | None, n_documents: int) -> str:
    """The longest passage that a text shares with the training text, and where it is; what comes after the first
    `n_documents` was read by the run that the model was tuned from."""
    if found is None:
        return "It shares nothing with the training text."
    text = f"text {found.document + 1}" if n_documents > 1 else "the text"
    text += " as it was read, without what was held out"
    if found.document >= n_documents:
        text = "a text that the run it was tuned from has read"
    where = f"line {found.line:,} of {text}"  # in the file it is another
    passage = " ".join(found.passage.split())
    length = pluralize(found.n_characters, "character")
    return f"Longest passage shared with the training text: {length}, {where}:\n{passage}"


def _stream(generator: TextGenerator, prompt: str, settings: WriteSettings) -> None:
    from epigone.cli.terminal import print_text

    print_text(chain((prompt,), (piece.text for piece in generator.stream(prompt, settings)), ("\n",)))


def _write_whole(
    generator: TextGenerator,
    prompt: str,
    out: Path | None,
    settings: WriteSettings,
    mode: OutputMode,
    on_progress: OnProgress,
) -> str:
    """Write all texts, to a file if there is one; returns what to print."""
    from epigone.cli.terminal import spell_json
    from epigone.files import write_text

    if out is not None and out.suffix == ".jsonl":
        _write_lines(generator, prompt, out, settings, on_progress)
        return ""
    if mode == "sources":
        return "".join(_write_with_sources(generator, prompt, settings, on_progress))
    if mode == "json":
        records = list(generator.write_records(prompt, settings, on_progress=on_progress))
        texts = [record.text for record in records]
        found = [record.model_dump(mode="json") for record in records]
        shown = spell_json({"texts": found, "settings": settings.model_dump()}) + "\n"
    else:
        texts = generator.write(prompt, settings, on_progress=on_progress)
        shown = _join(prompt, texts) if out is None else ""
    if out is not None:
        write_text(out, _join(prompt, texts))
    return shown


def _write_best(
    name: str, prompt: str, out: Path | None, settings: WriteSettings, mode: OutputMode, *, quiet: bool
) -> None:
    """Of several candidates for each text the best one; why, it says on standard error and, with scores, in JSON."""
    from epigone.cli.terminal import print_piece, print_text, show_progress, spell_json
    from epigone.files import write_text
    from epigone.generation.records import append_record, count_written
    from epigone.run import open_run
    from epigone.runs.folder import RunFolder

    if not RunFolder.is_run(Path(name)):
        raise SettingsError(
            f"--best-of needs a run, and {name} is a model.", hint="It compares with the author's text."
        )
    run, is_jsonl = open_run(name), out is not None and out.suffix == ".jsonl"
    settings = run.open_generator(settings).resolve_auto(settings)
    best: list[BestText] = []
    with show_progress("Writing", quiet=quiet) as on_progress:
        first = count_written(out, prompt, settings) if out is not None and is_jsonl else 0
        for text in run.write_best(prompt, settings, first, on_progress=on_progress):
            best.append(text)
            if out is not None and is_jsonl:
                append_record(out, text, settings)
    if out is not None and not is_jsonl:
        write_text(out, _join(prompt, [text.text for text in best]))
    if mode == "json" and not is_jsonl:
        found = [text.model_dump(mode="json") for text in best]
        print_piece(spell_json({"texts": found, "settings": settings.model_dump()}) + "\n")
    elif out is None:
        documents = len(run.open_generator(settings).documents)
        sources = [describe_source(text.longest_shared, documents) for text in best] if mode == "sources" else []
        texts = [text.text + (f"\n\n{source}" if source else "") for text, source in zip_longest(best, sources)]
        print_text([_join(prompt, texts)])
    for text in best if not quiet and mode != "json" else ():
        click.echo(text.why, err=True)


def _write_lines(
    generator: TextGenerator, prompt: str, out: Path, settings: WriteSettings, on_progress: OnProgress
) -> None:
    """One line of JSON for each text; continues where an earlier call with the same settings was stopped."""
    from epigone.generation.records import append_record, count_written

    first = count_written(out, prompt, settings)
    for record in generator.write_records(prompt, settings, first, on_progress=on_progress):
        append_record(out, record, settings)


def _join(prompt: str, texts: Sequence[str]) -> str:
    if len(texts) == 1:
        return f"{prompt}{texts[0]}\n"
    return "\n".join(f"--- {number} of {len(texts)}\n{prompt}{text}\n" for number, text in enumerate(texts, 1))
