"""The command serve."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import click
from pydantic import Field

from epigone.cli.options import Argument, Command, complete_runs
from epigone.cli.runs import find_model
from epigone.cli.write import use_idle_threads
from epigone.errors import SettingsError
from epigone.runs.listing import RUNS
from epigone.settings import Frozen

PORT = 8611
"""Others like 8000 and 8080."""
TOKEN = "EPIGONE_TOKEN"


class ServeOptions(Frozen):
    """How to serve."""

    common: ClassVar[tuple[str, ...]] = ("host", "port", "token")

    host: str = "127.0.0.1"
    """Address to listen on. With 0.0.0.0 other machines reach it; then a token is required, and made if not given."""
    port: Annotated[int, Field(ge=0, le=65535)] = PORT
    """Port to listen on; 0 for any that is free."""
    token: str = ""
    """What clients have to send as their API key. Safer in the variable EPIGONE_TOKEN, which other users cannot see."""
    allow_origin: tuple[str, ...] = ()
    """Let pages of this origin use the API, such as https://example.org, or null for files. Can be repeated."""
    allow_host: tuple[str, ...] = ()
    """Another name under which the server can be reached. Can be repeated."""
    defaults: Literal["tuned", "plain"] = "tuned"
    """What applies where a request says nothing. "tuned": as epigone write. "plain": the model's own distribution."""
    queue: Annotated[int, Field(ge=1, le=10_000)] = 96
    """Most requests answered or waiting at the same time; others are told to come back later."""
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Most seconds for one answer; its texts are then cut off where they are."""


@click.command(
    cls=Command,
    kind=ServeOptions,
    examples="""
        epigone serve
        epigone serve runs/novel --port 8000
        EPIGONE_TOKEN=secret epigone serve --host 0.0.0.0
    """,
)
@click.argument(
    "runs",
    cls=Argument,
    nargs=-1,
    type=click.Path(),
    shell_complete=complete_runs,
    text="Runs to serve besides those in runs/ and the included base models. The first one is the default model.",
)
def serve(runs: Sequence[str], settings: ServeOptions) -> int:
    """Serve your models: a page to write on, and an OpenAI-compatible API."""
    if port := next((name for name in runs if name.isdecimal() and not (RUNS / name).exists()), ""):
        raise SettingsError(f"There is no run {port}.", hint=f"If it is the port: --port {port}")
    from epigone.cli.terminal import loading, print_piece

    with loading(quiet=False):
        from epigone.serving.app import Limits, make_app
        from epigone.serving.engine import Engine
        from epigone.serving.library import ModelLibrary, find_runs
        from epigone.serving.server import Server, bind, make_rules
        from epigone.serving.server import serve as run_server
    engine = Engine()  # with a thread for each core, idle or not; only its steps may wait for one another
    use_idle_threads()
    rules = make_rules(
        settings.host,
        names=settings.allow_host,
        origins=settings.allow_origin,
        token=settings.token or os.environ.get(TOKEN, ""),
    )
    library = ModelLibrary(RUNS, find_runs(Path(find_model(name)) for name in runs))
    limits = Limits(most_requests=settings.queue, seconds=settings.timeout)
    address = bind(settings.host, settings.port)
    app = make_app(library, rules, limits, engine=engine, plain=settings.defaults == "plain")
    run_server(Server(app), address, lambda: print_piece(f"epigone serves at {address.name(rules.token)}\n"))
    return 0
