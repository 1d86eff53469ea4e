"""Program that reads a PDF with PDFium, in a process of its own: JSON lines with the runs of text on each page.

PDFium is a large program in C++ that reads what strangers wrote: here it can crash, hang or fill the memory without
harm to the process that asks. This module imports nothing of the package, for it is run as a file:
`python -P pdf_worker.py MEGABYTES SECONDS < FILE`. It writes one object with what the document says of itself, then
one for each page, or {"error": NAME}.
"""

from __future__ import annotations

import ctypes
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

ITALIC, ITALIC_END = "\ue000", "\ue001"
"""As in layout.py, which this program does not import."""
ITALIC_FLAG = 64
"""In a font's flags (PDF 1.7, table 123)."""
PASSWORD, SECURITY = 4, 5
"""Errors of FPDF_GetLastError."""
MOST_CHARACTERS = 200_000
"""Of one page: no page has more."""
MOST_OBJECTS = 1_000
NEW_RUN, COLUMN_GAP = 0.25, 1.5
"""In sizes of the letters: from one run to the next up or down, and sideways."""
IMAGE = 3
"""FPDF_PAGEOBJ_IMAGE."""


def main() -> int:
    """Read standard input, write lines."""
    limit(int(sys.argv[1]), int(sys.argv[2]))
    try:
        for found in read(sys.stdin.buffer.read()):
            sys.stdout.write(json.dumps(found, separators=(",", ":")) + "\n")
    except MemoryError:
        sys.stdout.write('{"error":"memory"}\n')
    sys.stdout.flush()
    return 0


def limit(n_mb: int, n_seconds: int) -> None:
    """Limit the memory and the processor time of this process, where the system can, and let it write no file."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for what, most in (
        (resource.RLIMIT_AS, n_mb << 20),
        (resource.RLIMIT_CPU, n_seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.setrlimit(what, (most, most))
        except (OSError, ValueError):  # macOS knows no limit of the address space
            continue


def read(data: bytes) -> Iterator[dict[str, Any]]:
    """What is in a document."""
    import pypdfium2
    import pypdfium2.raw as pdfium

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError:
        code = pdfium.FPDF_GetLastError()
        yield {"error": "password" if code in (PASSWORD, SECURITY) else "damaged"}
        return
    yield {"about": document.get_metadata_dict(), "n_pages": len(document)}
    for number in range(len(document)):
        try:
            page = document[number]
            text = page.get_textpage()
        except pypdfium2.PdfiumError:
            yield {"error": "page"}
            continue
        reader = PageReader(pdfium, text.raw)
        runs = reader.read(min(text.count_chars(), MOST_CHARACTERS))
        width, height = page.get_size()
        n_images = 0 if runs else count_images(page)
        yield {"width": width, "height": height, "runs": runs, "n_images": n_images, "n_unknown": reader.n_unknown}
        text.close()
        page.close()


def count_images(page: Any) -> int:
    """Pictures on a page, as far as its first objects show."""
    found = zip(range(MOST_OBJECTS), page.get_objects(max_depth=2), strict=False)
    return sum(item.type == IMAGE for _, item in found)


class PageReader:
    """Joins the characters of a page to runs: letters of one size that follow each other on one line."""

    def __init__(self, pdfium: Any, page: Any) -> None:
        self.pdfium, self.page = pdfium, page
        self.n_unknown = 0
        """Characters of fonts that do not say what letters they have."""
        self._runs: list[list[Any]] = []
        self._text: list[str] = []
        self._first = self._last = -1
        """Numbers of the characters at the beginning and the end of the open run."""
        self._word = self._second = -1
        """Of the last character of its first word, once that is complete, and of the first one of the second."""
        self._look: tuple[float, ...] = ()
        """x, y, size, angle and whether it is italic."""
        self._fonts: dict[bytes, bool] = {}
        self._italic = False

    def read(self, n_characters: int) -> list[list[Any]]:
        """All runs in the order of the file.

        Of each: x at both ends, where the first word ends and where the second one begins, y, size, angle, and text.
        """
        unicode_of, object_of, cast = self.pdfium.FPDFText_GetUnicode, self.pdfium.FPDFText_GetTextObject, ctypes.cast
        page, last = self.page, None
        for number in range(n_characters):
            character = unicode_of(page, number)
            found = object_of(page, number)
            address = cast(found, ctypes.c_void_p).value if found else None
            if address is None:
                self._add_generated(character)
                continue
            if address != last:
                self._begin_object(number)
                last = address
            if character in (0, 0xFFFE, 0xFFFF):
                self.n_unknown += 1
                continue
            if 0xD800 <= character < 0xE000:
                continue
            self._text.append(chr(character))
            if character == 32:
                self._end_word()
                continue
            self._last = number
            if self._word >= 0 and self._second < 0:
                self._second = number
        self._end_run()
        return self._runs

    def _add_generated(self, character: int) -> None:
        """A space or a line end that PDFium sees between letters."""
        if character in (10, 13):
            self._end_run()
        elif self._text and not self._text[-1].isspace():
            self._text.append(" ")
            self._end_word()

    def _end_word(self) -> None:
        if self._word < 0 and self._last >= self._first:
            self._word = self._last

    def _begin_object(self, number: int) -> None:
        look = self._find_look(number)
        if self._text and not self._follows(look):
            self._end_run()
        if not self._text:
            self._look, self._first, self._last, self._italic = look, number, number, False
            self._word = self._second = -1
        if bool(look[4]) != self._italic:
            self._italic = bool(look[4])
            self._text.append(ITALIC if self._italic else ITALIC_END)

    def _find_look(self, number: int) -> tuple[float, ...]:
        pdfium, matrix = self.pdfium, self.pdfium.FS_MATRIX()
        pdfium.FPDFText_GetMatrix(self.page, number, matrix)
        size = pdfium.FPDFText_GetFontSize(self.page, number) * math.hypot(matrix.c, matrix.d)
        angle = math.degrees(math.atan2(matrix.b, matrix.a))
        return matrix.e, matrix.f, size, angle, self._is_italic(number)

    def _is_italic(self, number: int) -> bool:
        flags, name = ctypes.c_int(), ctypes.create_string_buffer(128)
        self.pdfium.FPDFText_GetFontInfo(self.page, number, name, 128, flags)
        known = self._fonts.get(name.value)
        if known is None:
            lower = name.value.lower()
            known = b"italic" in lower or b"oblique" in lower or bool(flags.value & ITALIC_FLAG)
            self._fonts[name.value] = known
        return known

    def _follows(self, look: tuple[float, ...]) -> bool:
        """Whether an object with this look goes on with the open run."""
        x, y, size, angle, _ = look
        own = max(self._look[2], 0.1)
        if abs(size - own) > 0.05 * own or abs(angle - self._look[3]) > 1:
            return False
        if abs(angle) > 1:
            return True
        end = self._find_box(self._last)[1]
        return abs(y - self._look[1]) < NEW_RUN * own and -0.5 * own < x - end < COLUMN_GAP * own

    def _find_box(self, number: int) -> tuple[float, float]:
        """Where a character begins and ends, with its side bearings."""
        box = self.pdfium.FS_RECTF()
        self.pdfium.FPDFText_GetLooseCharBox(self.page, number, box)
        return box.left, box.right

    def _end_run(self) -> None:
        if self._text and self._first >= 0:
            text = "".join(self._text) + (ITALIC_END if self._italic else "")
            if text.strip(f" {ITALIC}{ITALIC_END}"):
                _, y, size, angle, _ = self._look
                left, right = self._find_box(self._first)[0], self._find_box(self._last)[1]
                word = self._find_box(self._word)[1] if self._word >= self._first else right
                second = self._find_box(self._second)[0] if self._second >= 0 else word
                numbers = (left, right, word, second, y, size, angle)
                self._runs.append([*(round(value, 2) if math.isfinite(value) else 0.0 for value in numbers), text])
        self._text, self._first, self._italic = [], -1, False


if __name__ == "__main__":
    sys.exit(main())
