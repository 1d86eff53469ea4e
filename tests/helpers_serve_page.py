"""What the tests of the served page share: a server on a thread, a browser that minds faults, answers made by hand."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import Browser, Page, Route, expect

from epigone.serving.app import make_app
from epigone.serving.guard import AccessRules
from epigone.serving.library import ModelLibrary
from helpers_front import shared_run

CHROMIUM = "/usr/bin/chromium"
HOSTILE = (
    '<img src=x onerror="window.hacked=1"></script><script>window.hacked=1</script> \u202egpj.exe\u202c שלום & "\''
)
HOSTILE_NAME = "<img src=x onerror=hacked=1>\u202ex"
LEARNING = "learning"
WAIT = 20_000
"""Milliseconds for what a machine that is busy may need long for."""
expect.set_options(timeout=WAIT)


class PageServer:
    """The server with a few runs, which can go away and come back at the same port."""

    def __init__(self, folder: Path, token: str = "") -> None:
        self.folder, self.rules = folder, AccessRules(token=token)
        for name in ("sonnets", "other", HOSTILE_NAME):
            if not (folder / name).exists():
                shutil.copytree(shared_run().folder.path, folder / name)
        self.port = 0
        self.start()

    def start(self) -> None:
        app = make_app(ModelLibrary(self.folder, with_bases=False), self.rules)
        config = uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="critical", lifespan="on")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server has not started"
            time.sleep(0.02)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @contextmanager
    def learning_run(self, n_lines: int) -> Iterator[LearningRun]:
        """A run whose metrics have so many lines for now; more can be added."""
        folder = self.folder / LEARNING
        shutil.copytree(shared_run().folder.path, folder)
        lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        (folder / "metrics.jsonl").write_bytes(b"".join(lines[:n_lines]))
        try:
            yield LearningRun(folder / "metrics.jsonl", lines[n_lines:])
        finally:
            shutil.rmtree(folder)


@dataclass
class LearningRun:
    """Metrics that grow."""

    path: Path
    rest: list[bytes]

    def add(self, n_lines: int | None = None) -> None:
        count = len(self.rest) if n_lines is None else n_lines
        with self.path.open("ab") as file:
            file.write(b"".join(self.rest[:count]))
        self.rest = self.rest[count:]


@dataclass
class Faults:
    """What a browser complained of: scripts, the content security policy, requests."""

    found: list[str] = field(default_factory=list)
    allowed: str = ""
    """Complaints with these words are part of the test."""

    def watch(self, page: Page) -> None:
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.found.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self._dismiss(dialog))

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not (self.allowed and self.allowed in text):
            self.found.append(f"{kind}: {text}")

    def _dismiss(self, dialog: Any) -> None:
        with suppress(Exception):
            dialog.accept() if dialog.type == "confirm" else self.found.append(f"dialog: {dialog.message}")


@contextmanager
def open_page(
    browser: Browser, server: PageServer, device: str, scheme: str, *, query: str = "", **options: Any
) -> Iterator[tuple[Page, Faults]]:
    """The page in a new browser profile; fails where the browser complains, or the page is wider than the screen."""
    wide = device == "desk"
    context = browser.new_context(
        viewport={"width": 1280, "height": 900} if wide else {"width": 390, "height": 844},
        has_touch=not wide,
        color_scheme=scheme,  # type: ignore[arg-type]
        accept_downloads=True,
        **options,
    )
    page, faults = context.new_page(), Faults()
    faults.watch(page)
    page.goto(server.address + query)
    choose_model(page, "sonnets")
    try:
        yield page, faults
        assert_fits(page)
        assert not faults.found, faults.found
        assert page.evaluate("window.hacked") is None
    finally:
        context.close()


def choose_model(page: Page, name: str) -> None:
    page.locator(f'#model option[value="{name}"]').wait_for(state="attached")
    page.select_option("#model", name)


def assert_fits(page: Page) -> None:
    width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width[0] <= width[1], f"the page is {width[0]} wide on a screen of {width[1]}"


def write(page: Page, text: str) -> None:
    """Type a text in place of what is there."""
    page.locator("#text").fill(text)


def ready_cards(page: Page) -> list[str]:
    """The texts of three continuations, when they are done."""
    expect(page.locator("#cards .card[aria-busy=false]")).to_have_count(3)
    return [text or "" for text in page.locator("#cards .card .written").all_text_contents()]


def go_on(page: Page, key: str = "Control+Enter") -> list[str]:
    page.locator("#text").focus()
    page.keyboard.press(key)
    return ready_cards(page)


def text_of(page: Page) -> str:
    return page.locator("#text").input_value()


def make_stream(texts: Sequence[Sequence[str]]) -> str:
    """Server-sent events of an answer: for each choice its tokens, each with ten likeliest ones beside it."""
    events = []
    for index, tokens in enumerate(texts):
        for token in tokens:
            likeliest = {f" word{i}": -2.5 - i / 10 for i in range(10)} | {token: -1.0}
            logprobs = {"tokens": [token], "token_logprobs": [-1.0], "top_logprobs": [likeliest], "text_offset": [0]}
            events.append({"index": index, "text": token, "logprobs": logprobs, "finish_reason": None, "seed": index})
        events.append({"index": index, "text": "", "logprobs": None, "finish_reason": "length", "seed": index})
    return "".join(f"data: {json.dumps({'choices': [event]})}\n\n" for event in events) + "data: [DONE]\n\n"


def answer_with(page: Page, texts: Sequence[Sequence[str]]) -> None:
    """Let the model write these from now on."""

    def fulfil(route: Route) -> None:
        if route.request.post_data_json.get("stream"):
            route.fulfill(status=200, headers={"Content-Type": "text/event-stream"}, body=make_stream(texts))
        else:
            route.continue_()

    page.route("**/v1/completions", fulfil)


class MainThread:
    """The processor time of a page's main thread, which a busy machine does not make longer."""

    def __init__(self, page: Page) -> None:
        self._session = page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def read(self) -> float:
        """Seconds so far."""
        found = self._session.send("Performance.getMetrics")["metrics"]
        return next(float(each["value"]) for each in found if each["name"] == "TaskDuration")


def is_idle() -> bool:
    """Whether the machine has so little to do that times by the clock say something."""
    return os.getloadavg()[0] < (os.cpu_count() or 1)
