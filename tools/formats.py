"""Makes documents of every format from three texts with office programs, and compares what is read with the texts.

It needs pandoc, soffice (LibreOffice) and ebook-convert (Calibre), and three texts: a novel, a play and a book of verse
in plain text. `python tools/formats.py FOLDER NOVEL PLAY VERSE` makes the documents in the folder; --table prints rows.
"""

from __future__ import annotations

import argparse
import html
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from epigone.corpus.corpus import read_corpus, unwrap_corpus
from epigone.corpus.line_layout import LineJoiner, find_wrapping
from epigone.errors import EpigoneError
from epigone.settings import ReadSettings

CHARACTERS = 150_000
PANDOC = ("epub3", "epub2", "docx", "odt", "rtf", "fb2", "html", "markdown")
ENDINGS = {"epub3": "3.epub", "epub2": "2.epub", "markdown": "md"}
OFFICE = ("docx", "odt", "rtf", "html", "epub", "fodt", "pdf")
CALIBRE = ("epub", "docx", "fb2", "htmlz", "rtf", "pdf")
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@dataclass(frozen=True)
class Comparison:
    """How a text that was read differs from the plain text."""

    n_words: int
    n_missing: int
    n_added: int
    n_breaks: int
    n_wrong_breaks: int
    """Of the breaks of the plain text and of those that were read, between words that both have."""
    differences: list[str]

    def __str__(self) -> str:
        same = 1 - max(self.n_missing, self.n_added) / max(1, self.n_words)
        return f"{same:.3%} of {self.n_words:,} words, {self.n_wrong_breaks:,} of {self.n_breaks:,} breaks differ"


def main() -> int:
    """Make the documents that are missing, read all, and print how they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("texts", nargs=3, type=Path, metavar="NOVEL PLAY VERSE")
    parser.add_argument("--only", default="", help="compare only files whose names contain this")
    parser.add_argument("--differences", type=int, default=3, help="how many differences to show")
    given = parser.parse_args()
    for name, path in zip(("novel", "play", "verse"), given.texts, strict=True):
        text = prepare_text(path.read_text("utf-8-sig"))
        for made in make_documents(given.folder, name, text):
            if given.only in made.name:
                show(made, text, given.differences)
    return 0


def show(path: Path, text: str, n_most: int) -> None:
    """Print one line about a document, and its first differences."""
    try:
        corpus = unwrap_corpus(read_corpus([str(path)], ReadSettings(), smallest_bytes=1), "auto")
    except EpigoneError as error:
        print(f"{path.name:24} {error} {error.hint}")
        return
    found = compare(text, "\n\n".join(str(document.text) for document in corpus.documents))
    print(f"{path.name:24} {found}")
    for line in found.differences[:n_most]:
        print(f"    {line}")


def prepare_text(text: str) -> str:
    """A part of a text with whole paragraphs in lines, without what is left out of documents anyway."""
    text = "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").strip().split("\n"))
    wrapping = find_wrapping(text)
    text = "".join(LineJoiner(wrapping).join([text])) if wrapping else text
    text = re.sub(r"\n{3,}", "\n\n", text)
    return text[: text.rfind("\n\n", 0, CHARACTERS)] + "\n"


def as_html(text: str) -> str:
    """The text as a page: paragraphs, lines and italics."""
    body = "\n".join(
        "<p>" + "<br/>\n".join(_mark_line(line) for line in part.split("\n")) + "</p>" for part in text.split("\n\n")
    )
    head = "<head><meta charset='utf-8'/><title>A Text</title></head>"
    return f"<!DOCTYPE html>\n<html>{head}<body>\n{body}\n</body></html>\n"


def _mark_line(line: str) -> str:
    indent = len(line) - len(line.lstrip())
    text = html.escape(line.strip(), quote=False)
    return "&#160;" * indent + re.sub(r"_([^_]+)_", r"<em>\1</em>", text)


def make_documents(folder: Path, name: str, text: str) -> Iterator[Path]:
    """The documents of a text, made unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    page, plain = folder / f"{name}.source.html", folder / f"{name}.txt"
    page.write_text(as_html(text), "utf-8")
    plain.write_text(text, "utf-8")
    for kind in PANDOC:
        target = folder / f"{name}.pandoc.{ENDINGS.get(kind, kind)}"
        yield make(target, ["pandoc", "-s", "--metadata=title:A Text", "-f", "html", "-t", kind, str(page), "-o"])
    for source, label in ((plain, "office-txt"), (folder / f"{name}.pandoc.docx", "office-docx")):
        for kind in OFFICE:
            yield make_with_office(source, folder / f"{name}.{label}.{kind}", kind)
    for source, label in (
        (folder / f"{name}.pandoc.3.epub", "calibre"),
        (folder / f"{name}.office-docx.docx", "calibre-docx"),
    ):
        for kind in CALIBRE:
            yield make(folder / f"{name}.{label}.{kind}", ["ebook-convert", str(folder / source)])


def make(target: Path, command: list[str]) -> Path:
    """Run a program that takes the name of its output last."""
    if not target.exists():
        done = subprocess.run([*command, str(target)], capture_output=True, text=True, timeout=600, env=environment())
        if done.returncode:
            print(f"{target.name}: {done.stderr.strip()[-300:]}", file=sys.stderr)
    return target


def environment() -> dict[str, str]:
    """Calibre's PDF needs a screen and no sandbox."""
    return {**os.environ, "QT_QPA_PLATFORM": "offscreen", "QTWEBENGINE_DISABLE_SANDBOX": "1"}


def make_with_office(source: Path, target: Path, kind: str) -> Path:
    """Convert with LibreOffice, which names its outputs itself."""
    if not target.exists():
        with tempfile.TemporaryDirectory() as folder:
            inputs = ["--infilter=Text (encoded):UTF8,LF,,,"] if source.suffix == ".txt" else []
            command = ["soffice", "--headless", f"-env:UserInstallation=file://{folder}/profile", *inputs]
            command += ["--convert-to", kind, "--outdir", folder, str(source)]
            subprocess.run(command, capture_output=True, timeout=600)
            made = Path(folder) / f"{source.stem}.{kind}"
            if made.exists():
                target.write_bytes(made.read_bytes())
    return target


def split_words(text: str) -> tuple[list[str], list[str]]:
    """The words, and the break before each: "" for none, a line or a paragraph."""
    words, breaks, last = [], [], 0
    for match in WORD.finditer(text):
        between = text[last : match.start()]
        n_lines = re.sub(r"[^\n]", "", between).count("\n")
        words.append(match[0].replace("’", "'"))
        breaks.append("" if not n_lines else "line" if n_lines == 1 else "paragraph")
        last = match.end()
    return words, breaks


def compare(expected: str, found: str) -> Comparison:
    """Compare words and breaks, aligned by diff."""
    (words, breaks), (own_words, own_breaks) = split_words(expected), split_words(found)
    i = j = n_missing = n_added = n_breaks = n_wrong = 0
    differences: list[str] = []
    for sign in align(words, own_words):
        if sign == " ":
            n_breaks += bool(breaks[i])
            if breaks[i] != own_breaks[j] and i and j:
                n_wrong += 1
                around = f"{' '.join(words[max(0, i - 4) : i])} | {' '.join(words[i : i + 4])}"
                differences.append(f"break: {breaks[i] or 'none'} became {own_breaks[j] or 'none'}: {around}")
            i, j = i + 1, j + 1
        elif sign == "-":
            n_missing += 1
            differences.append(f"missing: {show_around(words, i)}")
            i += 1
        else:
            n_added += 1
            differences.append(f"added: {show_around(own_words, j)}")
            j += 1
    return Comparison(len(words), n_missing, n_added, n_breaks, n_wrong, differences)


def show_around(words: list[str], i: int) -> str:
    """A word with those around it."""
    return f"{' '.join(words[max(0, i - 3) : i])} >{words[i]}< {' '.join(words[i + 1 : i + 4])}"


def align(first: list[str], second: list[str]) -> Iterator[str]:
    """A sign for each step: " " both, "-" only the first, "+" only the second."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("a", "b")]
        for path, words in zip(paths, (first, second), strict=True):
            path.write_text("\n".join(words) + "\n", "utf-8")
        formats = ["--old-line-format=-\n", "--new-line-format=+\n", "--unchanged-line-format= \n"]
        done = subprocess.run(["diff", "-d", *formats, *map(str, paths)], capture_output=True, text=True)
    yield from (line[0] for line in done.stdout.split("\n") if line)


if __name__ == "__main__":
    sys.exit(main())
