"""The command export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import click

from epigone.cli.options import Argument, Command, complete_runs, out_option
from epigone.cli.runs import choose_run, find_model, using_model
from epigone.errors import SettingsError
from epigone.settings import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from epigone.export.source import SourceModel


class ExportOptions(Frozen):
    """What to export."""

    synonyms: ClassVar[Mapping[str, str]] = {"outtype": "type", "format": "to"}
    common: ClassVar[tuple[str, ...]] = ("to", "type")

    to: Literal["gguf", "page"] | None = None
    """gguf: a folder for llama.cpp, Ollama and LM Studio. page: one HTML file that writes in the browser, offline."""
    type: Literal["f32", "f16", "q8_0"] = "f16"
    """Number format of the weights in a GGUF file: exact, of half the size, or of a quarter. A page
    always has 8 bits."""


@click.command(
    cls=Command,
    kind=ExportOptions,
    examples="""
        epigone export --to gguf                                     the newest run
        epigone export runs/novel --to gguf --type q8_0
        epigone export runs/novel --to page --out ghost.html         a file to open, or to mail
        epigone export modern --to gguf --out models/modern          an included model
    """,
)
@click.argument(
    "run",
    cls=Argument,
    required=False,
    type=click.Path(),
    shell_complete=complete_runs,
    text="Name or folder of a run, folder of a model, modern or small (included), or a GPT-2 on the Hugging Face Hub. "
    "[default: the newest run]",
)
@out_option("PATH", "Folder, or a file's name: .gguf or, for a page, .html. [default: export/ in the run's folder]")
def export(run: str | None, out: Path | None, settings: ExportOptions) -> int:
    """Take a model elsewhere: to llama.cpp and Ollama, or as one HTML file that writes."""
    if not settings.to:
        raise SettingsError("export needs to know what for.", hint="Add --to gguf or --to page.")
    from epigone.cli.terminal import loading, open_screen

    with loading(quiet=False):
        from epigone.export.source import open_source
    with using_model():
        source = open_source(find_model(run) if run else choose_run(None), progress=True)
    lines = _export_page(source, out) if settings.to == "page" else _export_gguf(source, settings, out)
    with open_screen(quiet=False, json=False, must_show=True) as screen:
        for line in lines:
            screen.show_note(line)
    return 0


def _export_gguf(source: SourceModel, settings: ExportOptions, out: Path | None) -> list[str]:
    from epigone.export.llama_cpp import export_gguf
    from epigone.report.escape import show_name

    files = export_gguf(source, settings.type, out)
    size = files.model.stat().st_size / 1e6
    return [
        f"The model is in {show_name(files.model)} ({size:,.1f} MB).",
        f"How to use it with llama.cpp and Ollama is in {show_name(files.readme)}.",
    ]


def _export_page(source: SourceModel, out: Path | None) -> list[str]:
    from epigone.export.offline_page import export_page
    from epigone.report.escape import show_name

    path = export_page(source, out)
    size = path.stat().st_size / 1e6
    return [f"The page is in {show_name(path)} ({size:,.1f} MB): open it in a browser; it needs no network."]
