"""The site is made from the pages as they lie in the repository: its links lead somewhere, and it loads nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from site_hooks import rebase_links, replace_links

ROOT = Path(__file__).resolve().parent.parent


def test_links_of_the_first_page_are_seen_from_docs() -> None:
    page = "[a](docs/a.md#b) ![p](docs/p.svg) [c](CHANGELOG.md) [d](#here) [e](https://example.org)"
    assert rebase_links(page) == "[a](a.md#b) ![p](p.svg) [c](../CHANGELOG.md) [d](#here) [e](https://example.org)"


def test_links_out_of_docs_become_words_and_others_stay() -> None:
    page = "[`x.py`](../../src/x.py) [a](../a.md) [gone](gone.md) [e](https://example.org)\n```\n[b](../../b.py)\n```\n"
    assert replace_links(page, "dev", {"a.md"}) == (
        "`x.py` [a](../a.md) [gone](gone.md) [e](https://example.org)\n```\n[b](../../b.py)\n```\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is not installed: pip install '.[docs]'")
def test_the_site_is_built_without_a_warning_and_loads_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0 and "WARNING -" not in done.stderr, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "tutorial.html", "gallery.html", "api.html"} <= {page.name for page in pages}
    for page in pages:
        loaded = re.findall(
            r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(https?:[^"]+)"', page.read_text("utf-8")
        )
        assert loaded == [], page.name
