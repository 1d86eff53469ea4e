"""An exported page in a browser, opened from the disk, on a desk and on a phone, in light and dark."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright")

from playwright.sync_api import Browser, Page, expect

from epigone.export.offline_page import export_page
from epigone.export.source import open_source
from epigone.tokens.tokenizer import encode
from helpers_export import open_model
from helpers_front import command, shared_run
from helpers_serve_page import CHROMIUM, HOSTILE_NAME, Faults, assert_fits
from test_export_page import page_of, write_greedily

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PROMPT = "From fairest creatures"
LEAST_RATE, TRIES = 50, 5
"""Tokens a second of processor time, all of Chromium's processes together."""


@contextmanager
def opened(browser: Browser, path: Path, look: str = "desk-light") -> Iterator[Page]:
    """The page, when it is ready; fails where the browser complains or asks for anything but the file."""
    device, _, scheme = look.partition("-")
    context = browser.new_context(
        viewport={"width": 1280, "height": 900} if device == "desk" else {"width": 390, "height": 844},
        has_touch=device == "phone",
        color_scheme=scheme,  # type: ignore[arg-type]
        offline=True,
    )
    page, faults, asked = context.new_page(), Faults(), []
    faults.watch(page)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    expect(page.locator("#state")).to_contain_text("Ready.")
    try:
        yield page
        assert_fits(page)
        assert not faults.found, faults.found
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        assert page.evaluate("window.hacked") is None
    finally:
        context.close()


def write(page: Page, prompt: str = "", *, temperature: float = 0.8, length: int = 60, seed: int = 0) -> str:
    page.fill("#prompt", prompt)
    for name, value in (("temperature", temperature), ("length", length)):
        page.locator(f"#{name}").evaluate("(slider, value) => { slider.value = value; slider.oninput(); }", value)
    page.fill("#seed", str(seed))
    page.click("#write")
    return written(page)


def written(page: Page) -> str:
    """The text, when it is done."""
    expect(page.locator("#text")).to_have_attribute("aria-busy", "false", timeout=60_000)
    expect(page.locator("#state")).to_contain_text("per second")
    return page.locator("#text").text_content() or ""


def test_it_writes_goes_on_and_repeats_itself_by_seed(browser: Browser, look: str):
    with opened(browser, page_of("run"), look) as page:
        text = write(page, PROMPT, seed=3)
        assert text.startswith(PROMPT) and page.locator(".token").count() >= 60
        page.click("#more")
        assert written(page).startswith(text) and page.locator(".token").count() >= 120
        page.click("#other")
        assert not written(page).startswith(text[:60]) and page.input_value("#seed") == "4"
    with opened(browser, page_of("run"), look) as page:
        assert write(page, PROMPT, seed=3) == text, "the same on another load"
        assert write(page, PROMPT, seed=3, temperature=1.2) != text


@pytest.mark.parametrize("name", ["run", "standin"])
def test_its_greedy_text_is_that_of_python(browser: Browser, name: str):
    source = open_model(name)
    ids = encode(PROMPT, source.tokenizer)
    with opened(browser, page_of(name)) as page:
        text = write(page, PROMPT, temperature=0, length=100)
        n_tokens = page.locator(".token").count()
    (own,) = write_greedily(name, [ids], n_tokens)
    assert text == PROMPT + source.tokenizer.backend.decode(own, skip_special_tokens=False)


def test_what_could_have_followed_is_shown_and_can_be_chosen(browser: Browser, look: str):
    with opened(browser, page_of("run"), look) as page:
        before = write(page, PROMPT, seed=1)
        token = page.locator(".token").nth(20)
        token.tap() if look.startswith("phone") else token.hover()
        choices = page.locator("#choices")
        expect(choices).to_be_visible()
        assert 10 <= choices.locator("button").count() <= 11
        shares = [
            float(number.split()[0])
            for number in choices.locator(".number").all_text_contents()[:10]
            if "<" not in number
        ]
        assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 101
        box = choices.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= (1280 if "desk" in look else 390)
        head = "".join(page.locator(".token").all_text_contents()[:20])
        other = choices.locator("button:not([aria-current])").first
        other.tap() if look.startswith("phone") else other.click()
        text = written(page)
        assert text.startswith(PROMPT + head) and text != before
        expect(choices).to_be_hidden()


def test_all_of_it_goes_by_keyboard(browser: Browser):
    with opened(browser, page_of("run")) as page:
        page.locator("#prompt").focus()
        page.keyboard.type(PROMPT)
        page.keyboard.press("Control+Enter")
        before = written(page)
        page.locator("#text").focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        expect(page.locator(".token").nth(2)).to_have_class(re.compile(r"\bat\b"))
        page.keyboard.press("Enter")
        expect(page.locator("#choices button").first).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator("#choices")).to_be_hidden()
        expect(page.locator("#text")).to_be_focused()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert written(page) != before


def test_a_text_can_be_stopped_and_gone_on_with(browser: Browser):
    with opened(browser, page_of("run")) as page:
        whole = write(page, PROMPT, length=1000, seed=5)
        page.evaluate(
            "() => { const get = id => document.getElementById(id); get('write').click();"
            " setTimeout(() => get('stop').click(), 40); }"
        )
        expect(page.locator("#state")).to_have_text("Stopped.")
        page.wait_for_timeout(100)
        assert page.locator("#text").text_content() != whole
        page.click("#more")
        assert written(page).startswith(whole[:500])


def test_a_hostile_name_stays_a_name(browser: Browser, tmp_path: Path):
    run = tmp_path / HOSTILE_NAME
    shutil.copytree(shared_run().path, run)
    out = tmp_path / "page.html"
    assert command("export", run, "--to", "page", "--out", out).code == 0
    with opened(browser, out) as page:
        expect(page.locator("h1")).to_have_text("<img src=x onerror=hacked=1>⟨202E⟩x")
        assert page.locator("img").count() == 0


def test_what_is_typed_stays_text(browser: Browser):
    odd = "<img src=x onerror='hacked=1'> \u202e שלום 👩‍👩‍👧 \u0000"
    with opened(browser, page_of("run")) as page:
        assert write(page, odd, length=20).startswith("<img src=x onerror='hacked=1'>")
        assert page.locator("img").count() == 0


def test_the_modern_base_writes_fifty_tokens_a_second(browser: Browser, tmp_path: Path):
    path = export_page(open_source("modern"), tmp_path / "modern.html")
    rates, shown = [], []
    with opened(browser, path) as page:
        for seed in range(TRIES):
            before = count_seconds()
            write(page, "It was a dark night, and", length=200, seed=seed)
            n_tokens = page.locator(".token").count()
            rates.append(round(n_tokens / (count_seconds() - before)))
            shown.append(int(re.findall(r"(\d+) per second", page.text_content("#state") or "")[0]))
    print(f"modern: {rates} tokens a second of processor time, {shown} on this clock")
    assert max(rates) >= LEAST_RATE


def count_seconds() -> float:
    """Processor time of all processes of Chromium, and of what drives it."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(spent.user + spent.system for spent in times)
