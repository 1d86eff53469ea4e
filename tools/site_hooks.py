"""Hooks of MkDocs for `make site`: README.md is the first page, and links that lead out of docs/ become plain text.

The pages are written to be read in the repository as well, where such links work.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


def on_config(config: Any) -> Any:
    """List pages that the navigation in mkdocs.yml does not name at its end, so that none is out of reach."""
    named = set(re.findall(r"[\w/]+\.md", str(config.nav)))
    pages = {path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*.md")}
    if more := sorted(pages - named):
        config.nav.append({"More": more})
    return config


def on_files(files: Any, *, config: Any) -> Any:
    """Add README.md as index.md, its links seen from docs/."""
    from mkdocs.structure.files import File

    text = rebase_links((ROOT / "README.md").read_text("utf-8"))
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, files: Any, **_: Any) -> str:
    """The page with what a link out of docs/ says in place of the link."""
    folder = page.file.src_uri.rpartition("/")[0]
    known = {file.src_uri for file in files}
    return replace_links(markdown, folder, known)


def rebase_links(text: str) -> str:
    """Links of a page in the root of the repository as they are from docs/."""

    def move(found: re.Match[str]) -> str:
        is_picture, words, target = found.groups()
        if not re.match(r"[a-z]+:|#", target):
            target = target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"
        return f"{is_picture}[{words}]({target})"

    return LINK.sub(move, text)


def replace_links(markdown: str, folder: str, known: set[str]) -> str:
    """Links to files that are not `known`, seen from `folder`, as the words of the link; those in fences stay."""

    def replace(found: re.Match[str]) -> str:
        is_picture, words, target = found.groups()
        path = target.partition("#")[0]
        if re.match(r"[a-z]+:", target) or not path or is_picture:
            return found[0]
        place = normpath(f"{folder}/{path}" if folder else path)
        return found[0] if place in known or not place.startswith("..") else words

    pieces, end = [], 0
    for fence in FENCE.finditer(markdown):
        pieces += [LINK.sub(replace, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, LINK.sub(replace, markdown[end:])])
