"""Options and help of the commands: click options made from the settings' fields, help in groups, errors in our words.

A value goes to pydantic once, together with the values of a settings file; click only splits the command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem
from pydantic.fields import FieldInfo

from epigone.cli.address_space import TO_USE, check_address_space
from epigone.errors import SettingsError, quote_command
from epigone.settings import SIZES, Frozen, flag_name, make_settings, nearest, read_settings

CONTEXT: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "token_normalize_func": lambda name: name.replace("_", "-"),
}
HELP_ALL = "--help-all"
ALIKE = 0.72
"""How alike an option must be to be suggested (0 to 1); below, --time is like --optimizer."""
MOST_SHOWN = 8
"""Values that a placeholder lists."""
COMMON = "Common options"
OTHER = "Other options"
Rows = Sequence[tuple[str, str]]
OPTIONS: Rows = (
    ("-V, --version", "Show the version."),
    ("-h, --help", "Show this help."),
    (HELP_ALL, "Show exit codes and the environment as well."),
)
"""Of the program itself."""
Decorator = Callable[[Callable[..., int]], Callable[..., int]]
Groups = Mapping[str, Sequence[click.Command]]
SHORT = {
    "base": "-b",
    "epochs": "-e",
    "minutes": "-m",
    "length": "-l",
    "count": "-n",
    "temperature": "-t",
    "seed": "-s",
    "author": "-a",
}
"""Letters of frequent settings, the same for every command."""
PLACEHOLDERS = {
    "author": "FILE",
    "base": "NAME",
    "encoding": "NAME",
    "field": "NAME",
    "format": "FORMAT",
    "language": "CODE",
    "licence": "NAME",
    "minutes": "TIME",
    "mix": "RUN:SHARE",
    "reference_authors": "FOLDER",
    "schedule": "NAME",
    "schedule_arguments": "NAME=VALUE",
    "size": "SIZE",
    "speaker": "NAME",
    "stop_at": "WHERE",
    "teacher": "RUN",
    "validation": "SHARE|FILE",
}
"""What stands for the value in the help, where the type does not say it."""
COMMANDS = {
    "generate": "write",
    "sample": "write",
    "finetune": "train",
    "fine-tune": "train",
    "learn": "train",
    "upload": "publish",
    "push": "publish",
    "push_to_hub": "publish",
    "eval": "judge",
    "evaluate": "judge",
    "continue": "resume",
    "complete": "write",
    "predict": "write",
    "perplexity": "score",
    "ls": "list",
    "runs": "list",
}
"""What other programs call a command; these names work as well."""
INSTEAD = {
    "chat": "To write in turns with a model: epigone write RUN --interactive",
    "compare": "To compare runs: epigone list. To find out which of them wrote a text: epigone attribute TEXT RUN RUN",
    "config": "All settings: epigone train --help-all. A file with some of them: epigone train TEXT --settings FILE",
    "delete": "A run is a folder: delete it as any other.",
    "demo": "Try: epigone train sample:sonnets --minutes 2",
    "download": "A base is downloaded when it is first used: epigone write --base gpt2",
    "gui": "For a page in the browser: epigone serve",
    "info": "To see your runs: epigone list. What training would read and do: epigone plan TEXT",
    "init": "Nothing has to be set up: epigone train TEXT",
    "interactive": "Use: epigone write RUN --interactive",
    "login": "To publish a model, log in with: hf auth login. Nothing else needs an account.",
    "open": "Open report.html in the run's folder in a browser. To write on a page: epigone serve",
    "remove": "A run is a folder: delete it as any other.",
    "rm": "A run is a folder: delete it as any other.",
    "settings": "All settings: epigone train --help-all. A file with some of them: epigone train TEXT --settings FILE",
    "show": "To see your runs: epigone list. One of them: epigone report RUN",
    "status": "To see your runs: epigone list",
    "stop": "Ctrl-C stops training and saves it; epigone resume continues.",
    "test": "To measure a model: epigone judge RUN, epigone quiz RUN, or epigone score RUN TEXT",
    "uninstall": "To remove epigone: pip uninstall epigone. Your runs stay.",
    "update": "To get the newest version: pip install --upgrade epigone",
    "upgrade": "To get the newest version: pip install --upgrade epigone",
    "ui": "For a page in the browser: epigone serve",
    "web": "For a page in the browser: epigone serve",
}
"""What to do instead of commands that are not there."""
UNITS_OF_TIME = {
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hour", "hours"), "h"),
    **dict.fromkeys(("s", "sec", "seconds"), "s"),
}
POINTERS = {
    "voice": "A voice is a run, which is called RUN/VOICE: authors/austen",
    "do_sample": "epigone always samples. To take the most likely token each time: --temperature 0",
    "greedy": "To take the most likely token each time: --temperature 0",
    "num_beams": "There is no beam search. For safer text: --temperature 0.7",
    "max_length": "--length counts the new text, without the prompt.",
    "min_length": "Every text has the length of --length, unless --stop-at ends it elsewhere.",
    "fp16": "Use --precision fp16",
    "bf16": "Use --precision bf16",
    "no_cuda": "Use --device cpu",
    "use_cpu": "Use --device cpu",
    "cpu": "Use --device cpu",
    "gpu": "Use --device cuda (NVIDIA, AMD) or --device mps (Apple).",
    "cuda": "Use --device cuda",
    "max_steps": "Use --epochs or --minutes.",
    "warmup_steps": "Use --warmup-ratio, the share of the training over which the learning rate rises.",
    "save_steps": "A checkpoint is saved at each evaluation: --evaluate-every",
    "logging_steps": "Progress is shown at each step; --evaluate-every sets when it is validated.",
    "torch_compile": "Use --compile auto",
    "resume_from_checkpoint": "Use: epigone resume RUN",
    "overwrite_output_dir": "A run is never overwritten. Choose another folder with --out, or delete the old one.",
    "train_file": "The text needs no option: epigone train FILE",
    "dataset": "The text needs no option: epigone train FILE",
    "data": "The text needs no option: epigone train FILE",
    "text": "The text needs no option: epigone train FILE",
    "file": "The text needs no option: epigone train FILE",
    "run": "The run needs no option: epigone write RUN",
    "name": "The folder of a run is its name: epigone train TEXT --out runs/NAME",
    "time": "Use --minutes",
    "max_time": "Use --minutes",
    "resume": "To continue a run: epigone resume RUN",
    "dry_run": "To see the plan without training: epigone plan TEXT",
    "language": "A language needs no option: it is learned from the text.",
    "me": 'In a chat, one person is chosen by --speaker "NAME"',
    "style": "The style is that of the run: epigone write RUN",
    "creativity": "Use --temperature: below 1 is safer, above 1 more daring.",
    "pages": "A page has about 300 words: --length 300 --unit words",
    "paragraphs": "To end with a paragraph: --stop-at paragraph",
    "sentences": "To end with a sentence: --stop-at sentence",
    "prompt_file": 'Give its text: --prompt "$(cat FILE)"',
    "open": "Open report.html in the run's folder in a browser.",
    "wandb": "Nothing is sent anywhere; each evaluation is a line of metrics.jsonl in the run's folder.",
    "report_to": "Nothing is sent anywhere; each evaluation is a line of metrics.jsonl in the run's folder.",
    "push_to_hub": "When it is trained: epigone publish RUN USER/NAME",
    "config_overrides": "Use --size",
    "validation_split_percentage": "Use --validation, for example --validation 10%",
    "load_best_model_at_end": "The best model is always kept.",
    "tokenizer": "The tokenizer comes with the base; --vocab-size sets the size of a new one.",
    "verbose": "Nothing is hidden; --quiet shows less.",
}
"""What to say of options of other programs that have no exact counterpart."""
POINTERS_OF = {
    ("attribute", "text"): "The text needs no option: epigone attribute TEXT RUN RUN",
    ("judge", "text"): "To judge a text by another one: epigone judge TEXT --author FILE",
    ("write", "format"): "For JSON: --json, or --out FILE.jsonl",
    ("score", "text"): "The text needs no option: epigone score RUN TEXT",
    ("serve", "name"): "Give the names of your runs: epigone serve RUN",
}
"""The same for one command."""
DASHES = "–—−"
"""What word processors and web pages make of two hyphens."""


def _explain_extra(command: str | None, words: Sequence[str]) -> str:
    """What to do about a word too many: `judge` is often given a run and a text, in any order."""
    if command == "judge":
        text = next((word for word in words if Path(word).is_file()), words[-1])
        return f"To judge that text: {quote_command('epigone', 'judge', text)} --author FILE."
    if command == "export" and words[-1] in ("gguf", "page"):
        return f"Write: --to {words[-1]}."
    if words[-1].isdecimal():
        return "A number needs an option before it" + (f": --count {words[-1]}." if command == "quiz" else ".")
    if command in ("version", "list"):
        return f"{command} needs nothing more."
    return "A name or a text with spaces needs quotes."


class Option(click.Option):
    """An option with a group in the help, and with further names that are understood but not shown."""

    def __init__(
        self,
        param_decls: Sequence[str],
        *,
        group: str = COMMON,
        synonyms: Sequence[str] = (),
        default_text: str = "",
        **more: Any,
    ) -> None:
        self.group, self.default_text = group, default_text
        self.shown = sorted((name for name in param_decls if name.startswith("-")), key=len)
        super().__init__([*param_decls, *synonyms], **more)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """The names with the placeholder of the value, and the help with the default."""
        value = "" if self.is_flag else f" {self.make_metavar(ctx)}"
        return ", ".join(self.shown) + value, f"{self.help}{self.default_text}"


class Argument(click.Argument):
    """A positional argument with its help."""

    def __init__(self, param_decls: Sequence[str], *, text: str, **more: Any) -> None:
        self.text = text
        super().__init__(param_decls, **more)


class Command(click.Command):
    """A command whose help has examples and groups of options.

    With a `kind`, the options made from its fields reach the function as one object, `settings`.
    """

    def __init__(
        self,
        *,
        kind: type[Frozen] | None = None,
        examples: str = "",
        params: Sequence[click.Parameter] = (),
        address_space: int = TO_USE,
        **more: Any,
    ) -> None:
        self.kind, self.examples, self.address_space = kind, examples, address_space
        options = list_options(kind) if kind else ()
        context = CONTEXT | {"allow_extra_args": True}  # they are refused in parse_args
        params = [*params, *options]
        self.folded = [one for one in params if isinstance(one, Option) and one.group not in (COMMON, OTHER)]
        """Options in groups of their own, which only --help-all shows."""
        super().__init__(params=[*params, *self._make_help_all()], context_settings=context, **more)

    def _make_help_all(self) -> Iterator[Option]:
        """The option that shows all others, where there are folded ones."""
        if self.folded:
            groups = dict.fromkeys(option.group.lower() for option in self.folded)
            text = f"Show {len(self.folded)} more options: {', '.join(groups)}."
            yield Option([HELP_ALL], is_flag=True, expose_value=False, group=OTHER, help=text)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Raises SettingsError."""
        if asked := {"-h", "--help", HELP_ALL} & set(args):  # whatever else is wrong
            ctx.meta[HELP_ALL] = HELP_ALL in asked
            args = ["--help"]
        elif args == ["help"] and not Path("help").exists():
            args = ["--help"]
        _check_words(args, self)
        words = [word for word in args if not word.startswith("-")]
        try:
            rest = super().parse_args(ctx, args)
        except click.UsageError as error:
            raise explain_usage(error, self) from None
        if rest and not ctx.resilient_parsing:
            hint = f"{_explain_extra(self.name, words)} See: epigone {self.name} --help"
            raise SettingsError(f'{self.name} cannot use "{rest[0]}".', hint=hint)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Make the settings and call the function. Raises SettingsError, OutOfMemory."""
        check_address_space(self.address_space)
        if self.kind:
            names = [name for name in self.kind.model_fields if name in ctx.params]
            asked = {name: ctx.params.pop(name) for name in names}
            given = {name: value for name, value in asked.items() if _is_given(ctx, name)}
            file = ctx.params.pop("settings_file", None)
            try:
                values = {} if file is None else read_settings(Path(file), self.kind)
                ctx.params["settings"] = make_settings(self.kind, {**values, **given}, strict=False)
            except SettingsError as error:
                error.hint = error.hint or f"All settings and their values: {self._name_help()}"
                raise
        return super().invoke(ctx)

    def _name_help(self) -> str:
        """The command that shows all options of this one."""
        return f"epigone {self.name} {HELP_ALL if self.folded else '--help'}"

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What it does, examples, its arguments, its common options and, if asked for, all others in groups."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        write_examples(formatter, self.examples)
        arguments = [(one.make_metavar(ctx), one.text) for one in self.params if isinstance(one, Argument)]
        write_section(formatter, "Arguments", [(name.strip("[]."), text) for name, text in arguments])
        groups: dict[str, list[tuple[str, str]]] = {COMMON: []}
        for option in self.params:
            if isinstance(option, Option):
                groups.setdefault(option.group, []).append(option.get_help_record(ctx))
        rest = [*groups.pop(OTHER, []), ("-h, --help", "Show this help.")]
        shown = groups if ctx.meta.get(HELP_ALL) else {COMMON: groups[COMMON]}
        for group, rows in [*shown.items(), (OTHER, rest)]:
            write_section(formatter, group, rows)


class Commands(click.Group):
    """All commands, listed in groups. `notes` are further tables, which --help-all shows."""

    def __init__(self, *, examples: str, groups: Groups, notes: Mapping[str, Rows], **more: Any):
        self.examples, self.groups, self.notes = examples, groups, notes
        commands = [command for group in groups.values() for command in group]
        super().__init__(commands=commands, context_settings=CONTEXT, **more)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Raises SettingsError."""
        if args[:1] == [HELP_ALL]:
            ctx.meta[HELP_ALL] = True
            args = ["--help"]
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise explain_usage(error, self) from None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command, which other programs may call by another name. Raises SettingsError."""
        if args[0] not in self.commands and args[0] in COMMANDS and not Path(args[0]).exists():
            args = [COMMANDS[args[0]], *args[1:]]
        if args[0] not in self.commands and not ctx.resilient_parsing:
            raise _explain_unknown_command(args[0], args[1:], list(self.commands))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What the program does, examples, and the commands."""
        formatter.write_usage("epigone", "COMMAND [OPTIONS]")
        self.format_help_text(ctx, formatter)
        write_examples(formatter, self.examples)
        for group, commands in self.groups.items():
            write_section(formatter, group, [(str(one.name), one.get_short_help_str(100)) for one in commands])
        write_section(formatter, "Options", OPTIONS)
        for title, rows in self.notes.items() if ctx.meta.get(HELP_ALL) else ():
            write_section(formatter, title, rows)
        self.format_epilog(ctx, formatter)


def write_examples(formatter: click.HelpFormatter, examples: str) -> None:
    """The examples, line by line as they are."""
    if examples:
        with formatter.section("Examples"):
            formatter.write("".join(f"  {line.strip()}\n" for line in examples.strip().splitlines()))


def write_section(formatter: click.HelpFormatter, title: str, rows: Rows) -> None:
    """Names and what they do under a title; nothing where there are none."""
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


# -- options that several commands have

QUIET = click.option("-q", "--quiet", cls=Option, is_flag=True, group=OTHER, help="Show only errors.")
JSON = click.option(
    "as_json",
    "--json",
    cls=Option,
    is_flag=True,
    group=OTHER,
    help="Print one JSON object on standard output and nothing else, also for errors.",
)
SETTINGS_FILE = click.option(
    "settings_file",
    "--settings",
    cls=Option,
    synonyms=["--config"],
    metavar="FILE",
    type=click.Path(),
    help="TOML file with settings. Options on the command line override it.",
)
PATH = click.Path(path_type=Path)


def out_option(metavar: str, text: str, *synonyms: str, required: bool = False) -> Decorator:
    """The option for where a result goes."""
    return click.option(
        "-o",
        "--out",
        cls=Option,
        synonyms=["--output", "--output-dir", "--output-file", *synonyms],
        type=PATH,
        metavar=metavar,
        required=required,
        help=text,
    )


def complete_runs(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the runs in runs/; where none fits, files."""
    from epigone.runs.listing import RUNS, list_run_folders

    names = [run.name for run in list_run_folders(RUNS) if run.name.startswith(incomplete)]
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]


def complete_bases(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the included bases and of GPT-2; where none fits, files."""
    from epigone.model.base_profile import BASES
    from epigone.model.hub import GPT2

    names = [name for name in (*BASES, *GPT2, "distilgpt2", "none") if name.startswith(incomplete)]
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]


def complete(choices: Sequence[str]) -> Callable[..., list[CompletionItem]]:
    """Completion of a value that is one of some words."""

    def find(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(choice) for choice in choices if choice.startswith(incomplete)]

    return find


COMPLETIONS = {"base": complete_bases, "mix": complete_runs, "size": complete([*SIZES]), "teacher": complete_runs}
"""How a shell completes the values of settings whose type does not list them."""
RUN = click.argument(
    "run",
    cls=Argument,
    required=False,
    type=PATH,
    shell_complete=complete_runs,
    text="Name or folder of a run. [default: the newest run]",
)


# -- options made from fields


def list_options(kind: type[Frozen]) -> Iterator[Option]:
    """One option for each field: the common ones first, then the others in their groups."""
    groups, group = {}, OTHER
    for name in kind.model_fields:
        group = kind.groups.get(name, group)
        groups[name] = COMMON if name in kind.common else group
    for name in dict.fromkeys([*kind.common, *kind.model_fields]):
        field = kind.model_fields[name]
        choices = list_choices(field.annotation)
        value = {"metavar": describe_value(name, field), "shell_complete": COMPLETIONS.get(name, complete(choices))}
        yield Option(
            [name, flag_name(name), *([SHORT[name]] if name in SHORT else [])],
            synonyms=[flag_name(old) for old, new in kind.synonyms.items() if new == name],
            group=groups[name],
            help=f"{field.description}{_list_other_choices(field, choices)}",
            default_text=_describe_default(field),
            multiple=isinstance(field.default, tuple),
            **({"is_flag": True} if field.annotation is bool else value),
        )


def list_choices(annotation: object) -> list[str]:
    """The words that a field may be."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    inner = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return [choice for one in inner for choice in list_choices(one)]


def describe_value(name: str, field: FieldInfo) -> str:
    """What stands for the value in the help."""
    if name in PLACEHOLDERS:
        return PLACEHOLDERS[name]
    types = set(_list_types(field.annotation))
    for kind, placeholder in ((int, "N"), (float, "NUMBER"), (str, "TEXT")):
        if kind in types:
            return placeholder
    return "|".join(list_choices(field.annotation))


def _list_types(annotation: object) -> Iterator[object]:
    if get_origin(annotation) is Annotated:
        yield from _list_types(get_args(annotation)[0])
    elif get_origin(annotation) is Literal:
        return
    elif get_args(annotation):
        for one in get_args(annotation):
            yield from _list_types(one)
    else:
        yield annotation


def _describe_default(field: FieldInfo) -> str:
    if field.default is None or field.default == "" or isinstance(field.default, (bool, tuple)):
        return ""
    if field.default == "auto":
        return "" if '"auto"' in (field.description or "") else " [default: auto]"
    return f" [default: {field.default}]"


def _list_other_choices(field: FieldInfo, choices: Sequence[str]) -> str:
    """The values that neither the placeholder nor the help names, as a sentence."""
    said = field.description or ""
    others = [choice for choice in choices if f'"{choice}"' not in said]
    return f" Also: {', '.join(others)}." if len(others) > MOST_SHOWN else ""


# -- errors


def explain_usage(error: click.UsageError, command: click.Command) -> SettingsError:
    """click's error in our words, with what may have been meant."""
    see = f"epigone {command.name} --help" if command.name != "epigone" else "epigone --help"
    if isinstance(error, click.NoSuchOption):
        name = error.option_name.lstrip("-").replace("-", "_")
        if isinstance(command, click.Group) and name in command.commands:
            return SettingsError(f"{name} is a command, not an option.", hint=f"Did you mean: epigone {name}")
        known = _list_flags(command)
        if name == "v":
            return SettingsError("There is no option -v.", hint="The version: epigone -V")
        hint = POINTERS_OF.get((str(command.name), name)) or ("" if name in known else POINTERS.get(name, ""))
        hint = hint or _name_owners(name, error.ctx) or _suggest_option(name, known)
        return SettingsError(f"{command.name} has no option {error.option_name}.", hint=hint or f"See: {see}")
    if isinstance(error, click.MissingParameter) and error.param is not None:
        what = error.param.make_metavar(error.ctx).strip("[].…") if error.ctx else error.param.name
        if isinstance(error.param, click.Option):
            what = f"{next(name for name in error.param.opts if name.startswith('--'))} {what}"
        return SettingsError(f"{command.name} needs {what}.", hint=f"{_explain_need(command, what)}See: {see}")
    if isinstance(error, click.BadOptionUsage):
        takes_none = "not take" in error.message
        return SettingsError(
            f"{error.option_name} {'takes no' if takes_none else 'needs a'} value.", hint=f"See: {see}"
        )
    return SettingsError(f"{command.name}: {error.format_message().rstrip('.')}.", hint=f"See: {see}")


def _name_owners(name: str, ctx: click.Context | None) -> str:
    """The commands that have the option which this one lacks, as a sentence, or ""."""
    group = ctx and ctx.find_root().command
    if not isinstance(group, Commands):
        return ""
    owners = [str(one.name) for one in group.commands.values() if name in _list_names(one)]
    *others, last = owners or [""]
    names = f"{', '.join(others)} and {last}" if others else last
    return f"It is an option of epigone {names}." if names else ""


def _suggest_option(name: str, known: Mapping[str, str]) -> str:
    """The option that may have been meant: one that begins with the name, or is very much like it."""
    longer = {shown for other, shown in known.items() if len(name) > 2 and other.startswith(name)}
    if len(longer) == 1:
        return f"Did you mean {longer.pop()}?"
    return "".join(f"Did you mean {known[found]}?" for found in nearest(name, known, cutoff=ALIKE))


def _explain_need(command: click.Command, what: str | None) -> str:
    """What could be given, as a sentence, or ""."""
    if command.name == "score" and what == "RUN":
        return "A text: epigone score RUN TEXT. "
    examples = command.examples.strip().splitlines() if isinstance(command, Command) else []
    return f"For example: {re.split(r' {3,}', examples[0].strip())[0]}. " if examples else ""


def _check_words(args: Sequence[str], command: click.Command) -> None:
    """Raise SettingsError for an option with one dash, and for the rest of a text without quotation marks."""
    known = _list_flags(command)
    for number, word in enumerate(args):
        name = word.lstrip("-").partition("=")[0].replace("-", "_")
        if re.fullmatch(r"-[a-z][a-z-]{2,}(?:=.*)?", word) and name in known:
            raise SettingsError(f"{command.name} has no option {word}.", hint=f"Did you mean {known[name]}?")
        before = args[number - 2] if number > 1 else ""
        if word.startswith(tuple(DASHES)) and word.lstrip(DASHES + "-").partition("=")[0].replace("-", "_") in known:
            meant = f"--{word.lstrip(DASHES + '-')}"
            raise SettingsError(f"{word} begins with a long dash.", hint=f"Type two hyphens instead: {meant}")
        if word in UNITS_OF_TIME and "minutes" in known and not Path(word).exists() and args[number - 1].isdecimal():
            value, option = f"{args[number - 1]}{UNITS_OF_TIME[word]}", before if before == "-m" else "--minutes"
            raise SettingsError(f"There is no file {word}.", hint=f"Write the time in one word: {option} {value}")
        if before == "--sample-prompt" and not word.startswith("-") and not Path(word).expanduser().exists():
            joined = " ".join([args[number - 1], *takewhile(lambda other: not other.startswith("-"), args[number:])])
            raise SettingsError(f"There is no file {word}.", hint=f'A text needs quotation marks: {before} "{joined}"')


def _list_names(command: click.Command) -> set[str]:
    """Each name that an option is known by, with underscores and without dashes, also of one letter."""
    options = [option for option in command.params if isinstance(option, Option)]
    return {name.lstrip("-").replace("-", "_") for option in options for name in option.opts}


def _list_flags(command: click.Command) -> dict[str, str]:
    """Each name that an option is known by, with underscores and without dashes, and the name that is shown."""
    return {
        name.removeprefix("--").replace("-", "_"): option.shown[-1]
        for option in command.params
        if isinstance(option, Option)
        for name in option.opts
        if name.startswith("--")
    }


def _explain_unknown_command(name: str, rest: Sequence[str], known: Sequence[str]) -> SettingsError:
    path = Path(name)
    if path.exists():
        command = "write" if (path / "run.json").exists() else "train"
        hint = f"Did you mean: {quote_command('epigone', command, name, *rest)}"
        return SettingsError(f"{name} is not a command.", hint=hint)
    if name == "epigone":
        return SettingsError("epigone is not a command.", hint=f"Did you mean: {quote_command('epigone', *rest)}")
    if name.lower() in INSTEAD:
        return SettingsError(f'There is no command "{name}".', hint=INSTEAD[name.lower()])
    meant = next(iter(nearest(name, known, cutoff=ALIKE)), "")
    hint = f"Did you mean: {quote_command('epigone', meant, *rest[:1])}" if meant else "See: epigone --help"
    return SettingsError(f'There is no command "{name}".', hint=hint)
