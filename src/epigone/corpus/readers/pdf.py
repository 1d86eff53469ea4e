"""PDF: the text of its pages, found by PDFium in a process of its own, with limits on time and memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, BinaryIO

from epigone.corpus.readers.layout import ITALIC, ITALIC_END, MARKS, join_blocks
from epigone.corpus.readers.limits import PIECE_BYTES
from epigone.corpus.readers.print_layout import Line, Run, build_lines, drop_furniture, join_pages
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.zipped import CHECK_FILE
from epigone.errors import TextUnreadable, quote_command

WORKER = Path(__file__).with_name("pdf_worker.py")
MARK = b"%PDF-"
MARK_WITHIN = 1_024
"""Bytes in which a file has to say that it is a PDF; some programs put something before."""
WORKER_MB = 300
"""Memory of the process beside twice the file."""
UPRIGHT = 5.0
"""Degrees: text at a larger angle is a stamp or a label."""
SHARE_UNKNOWN = 0.3
"""Of the characters: more without a letter are no text."""
SHARE_ITALIC = 0.6
"""More of a text in italics than this is not emphasis."""
OCR = "Make its text with a program for text recognition (OCR), for example: ocrmypdf {name} text.pdf"
PAGES = "its pages are pictures, as a scanner makes them"
IN_ITALICS = re.compile(f"{ITALIC}([^{ITALIC}{ITALIC_END}]*)")
DATE = re.compile(r"D:(\d{4})(\d\d)?(\d\d)?")
FILE_TITLE = re.compile(r"Microsoft Word - |untitled|.*\.(?:docx?|odt|rtf|txt|tex|indd|pdf)$", re.I)


def recognise(beginning: Beginning) -> bool:
    """A file that says so at its beginning, or near it if it has the objects of one."""
    if beginning.head.lstrip().startswith(MARK):
        return True
    return MARK in beginning.head[:MARK_WITHIN] and re.search(rb"\d \d+ obj\b", beginning.head) is not None


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one document of a file."""
    if find_spec("pypdfium2") is None:
        raise TextUnreadable(
            f"{context.name} is a PDF, which needs an extra to be read.",
            hint="Install it: pip install 'epigone[pdf]'. Or save the text as .txt: "
            + quote_command("pdftotext", context.name),
        )
    reader = _PdfReader(context)
    with _start_worker(file, context) as answers:
        for answer in answers:
            reader.add(answer)
    yield reader.finish()


PDF = Format(name="pdf", title="a PDF", suffixes=(".pdf",), recognise=recognise, read=read)


@contextmanager
def _start_worker(file: BinaryIO, context: ReadContext) -> Iterator[Iterator[dict[str, Any]]]:
    """The answers of a process that reads the file. It is killed when the time is over, and at the end."""
    seconds = max(1.0, context.limits.deadline - time.monotonic())
    n_mb = WORKER_MB + 2 * (context.limits.n_bytes >> 20)
    command = [sys.executable, "-P", str(WORKER), str(n_mb), str(int(seconds) + 1)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    assert process.stdin is not None and process.stdout is not None
    try:
        with suppress(BrokenPipeError):  # it has ended; why is seen below
            _send(file, process.stdin)
        yield _receive(process.stdout, process, context)
    finally:
        timer.cancel()
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()


def _send(file: BinaryIO, stdin: IO[bytes]) -> None:
    try:
        while piece := file.read(PIECE_BYTES):
            stdin.write(piece)
    finally:
        with suppress(BrokenPipeError):
            stdin.close()


def _receive(stdout: IO[bytes], process: subprocess.Popen[bytes], context: ReadContext) -> Iterator[dict[str, Any]]:
    """Its answers one by one. Raises TextUnreadable if it fails."""
    for line in stdout:
        context.limits.expand(len(line))
        answer: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"error": "crash"}
        if error := answer.get("error"):
            _explain(error, context)
        yield answer
    if process.wait():
        context.limits.check_time()
        _explain("damaged" if process.returncode > 0 else "killed", context)  # by a signal: mostly for its memory


def _explain(error: str, context: ReadContext) -> None:
    """Raise what an error of the process means; a page that cannot be read is only noted."""
    name = context.name
    if error == "password":
        raise TextUnreadable(f"{name} is protected by a password.", hint="Give a file without protection.")
    if error == "memory":
        raise context.limits.refuse("reading it takes too much memory")
    if error == "page":
        context.drops.add("damaged pages")
        return
    what = "cannot be read: it is damaged, or needs too much memory" if error == "killed" else "is a damaged PDF"
    raise TextUnreadable(f"{name} {what}.", hint=CHECK_FILE)


class _PdfReader:
    """Collects the lines of all pages, and makes a text of them."""

    def __init__(self, context: ReadContext) -> None:
        self.context = context
        self._about: dict[str, str] = {}
        self._pages: list[list[Line]] = []
        self._widths: list[float] = []
        self._n_images = self._n_unknown = self._n_characters = 0

    def add(self, answer: dict[str, Any]) -> None:
        """What the process says of the document, or of its next page."""
        if "about" in answer:
            self._about = {str(key): " ".join(str(value).split())[:200] for key, value in answer["about"].items()}
            return
        if "runs" not in answer:
            return
        self.context.limits.count_entry()
        runs = []
        for left, right, word, second, y, size, angle, text in answer["runs"]:
            if abs(angle) > UPRIGHT or size <= 0:
                self.context.drops.add("rotated text", MARKS.sub("", text))
            else:
                runs.append(Run(left, right, word, second, y, size, text))
        self._n_images += answer["n_images"]
        self._n_unknown += answer["n_unknown"]
        self._n_characters += sum(len(run.text) for run in runs)
        self._widths.append(answer["width"])
        self._pages.append(build_lines(runs, len(self._pages), self.context.drops))

    def finish(self) -> ParsedDocument:
        """The document. Raises TextUnreadable if it has no text."""
        name = self.context.name
        if self._n_unknown > SHARE_UNKNOWN * (self._n_characters + self._n_unknown):
            why = "its fonts do not say which letters they have"
            raise TextUnreadable(f"{name} is a PDF without text: {why}.", hint=OCR.format(name=name))
        if not self._n_characters:
            why = f": {PAGES}" if self._n_images else ""
            raise TextUnreadable(f"{name} is a PDF without text{why}.", hint=OCR.format(name=name))
        self._forget_italics()
        drop_furniture(self._pages, self.context.drops)
        blocks = join_pages(self._pages, self._widths)
        title = self._about.get("Title", "")
        date = DATE.match(self._about.get("CreationDate", ""))
        return ParsedDocument(
            text=join_blocks(blocks),
            title="" if FILE_TITLE.match(title) else title,
            author=self._about.get("Author", ""),
            date="-".join(filter(None, date.groups())) if date else "",
        )

    def _forget_italics(self) -> None:
        """A text that is printed in italics throughout has none."""
        n_italic = sum(len(part) for page in self._pages for line in page for part in IN_ITALICS.findall(line.text))
        if n_italic > SHARE_ITALIC * self._n_characters:
            for page in self._pages:
                for line in page:
                    line.text = MARKS.sub("", line.text)
