"""XML of documents, read by expat: no entities, no document type with declarations, limits on depth, size and time."""

from __future__ import annotations

import html.entities
from collections.abc import Container, Iterable
from typing import BinaryIO, Protocol
from xml.parsers import expat

from epigone.corpus.readers.limits import DEEPEST_ELEMENTS, PIECE_BYTES, Limits
from epigone.corpus.readers.reader import ReadContext
from epigone.corpus.readers.zipped import CHECK_FILE
from epigone.errors import TextUnreadable

PREFIXES = {
    "http://www.w3.org/1999/xhtml": "",
    "http://www.w3.org/XML/1998/namespace": "xml:",
    "http://www.idpf.org/2007/ops": "epub:",
    "http://www.idpf.org/2007/opf": "",
    "http://purl.org/dc/elements/1.1/": "dc:",
    "http://purl.org/dc/terms/": "dcterms:",
    "urn:oasis:names:tc:opendocument:xmlns:container": "",
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main": "w:",
    "http://purl.oclc.org/ooxml/wordprocessingml/main": "w:",
    "http://schemas.openxmlformats.org/markup-compatibility/2006": "mc:",
    "http://schemas.openxmlformats.org/package/2006/metadata/core-properties": "cp:",
    "http://schemas.openxmlformats.org/officeDocument/2006/math": "m:",
    "http://schemas.openxmlformats.org/package/2006/relationships": "",
    "urn:oasis:names:tc:opendocument:xmlns:office:1.0": "office:",
    "urn:oasis:names:tc:opendocument:xmlns:text:1.0": "text:",
    "urn:oasis:names:tc:opendocument:xmlns:style:1.0": "style:",
    "urn:oasis:names:tc:opendocument:xmlns:table:1.0": "table:",
    "urn:oasis:names:tc:opendocument:xmlns:drawing:1.0": "draw:",
    "urn:oasis:names:tc:opendocument:xmlns:meta:1.0": "meta:",
    "urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0": "fo:",
    "http://www.gribuser.ru/xml/fictionbook/2.0": "",
    "http://www.gribuser.ru/xml/fictionbook/2.1": "",
    "http://www.w3.org/1999/xlink": "xlink:",
}
"""Short prefixes of the namespaces that are read, whatever a file calls them; others keep their address."""
MOST_NAMES, LONGEST_NAME = 10_000, 200
"""Of names that are kept."""
MOST_TOKEN_BYTES = 1 << 24
"""A tag or a comment without an end would otherwise be searched for its end again and again."""


class Handler(Protocol):
    """What is told of elements and text. Names have the prefixes of `PREFIXES`."""

    def start(self, tag: str, attributes: dict[str, str], /) -> None:
        """An element begins."""

    def end(self, tag: str, /) -> None:
        """An element ends."""

    def data(self, text: str, /) -> None:
        """Characters."""


class XmlDamaged(ValueError):
    """A part is not XML. Its text says where."""


def parse_xml(pieces: Iterable[bytes], handler: Handler, limits: Limits, wanted: Container[str] | None = None) -> None:
    """Tell `handler` of everything in a part. Raises XmlDamaged, or TextUnreadable for what is beyond the limits.

    `wanted`: the only elements whose beginnings and ends it is told of.
    """
    _Parser(handler, limits, wanted).parse(pieces)


def parse_file(file: BinaryIO, handler: Handler, context: ReadContext) -> None:
    """Tell `handler` of everything in a file that is one XML document. Raises TextUnreadable if it is damaged."""
    try:
        parse_xml(context.limits.read_pieces(file), handler, context.limits)
    except XmlDamaged as error:
        raise TextUnreadable(f"{context.name} is damaged: {error}.", hint=CHECK_FILE) from None


class _Names(dict[str, str]):
    """Names as handlers are told them, by those of expat."""

    def __missing__(self, name: str) -> str:
        space, _, local = name.rpartition(" ")
        short = PREFIXES.get(space, f"{space}:" if space else "") + local
        if len(self) < MOST_NAMES and len(name) <= LONGEST_NAME:
            self[name] = short
        return short


NAMES = _Names()
"""Of all files, which have the same few."""


class _Parser:
    def __init__(self, handler: Handler, limits: Limits, wanted: Container[str] | None) -> None:
        self.handler, self.limits, self.wanted, self.depth = handler, limits, wanted, 0
        self._tell_start, self._tell_end, self._names = handler.start, handler.end, NAMES
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = handler.data
        parser.StartDoctypeDeclHandler, parser.EntityDeclHandler = self._check_doctype, self._refuse_entity
        parser.SkippedEntityHandler = self._name_character
        parser.UseForeignDTD(True)  # so that &nbsp; is skipped and not an error; nothing is loaded
        parser.ExternalEntityRefHandler = lambda *_: 1

    def parse(self, pieces: Iterable[bytes]) -> None:
        n_bytes = last = 0
        try:
            for piece in pieces:
                for start in range(0, len(piece), PIECE_BYTES):
                    self._parser.Parse(piece[start : start + PIECE_BYTES], False)
                    n_bytes += len(piece[start : start + PIECE_BYTES])
                    last = max(last, self._parser.CurrentByteIndex)
                    if n_bytes - last > MOST_TOKEN_BYTES:
                        raise self.limits.refuse("one of its tags has no end")
                    self.limits.check_time()
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise XmlDamaged(str(error)) from None
        except (ValueError, LookupError) as error:  # an encoding that Python does not know
            raise XmlDamaged(str(error)) from None
        finally:
            del self._parser  # the two refer to each other, and it holds much memory

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > DEEPEST_ELEMENTS:
            self.limits.check_depth(self.depth)
        names = self._names
        tag = names[name]
        if self.wanted is None or tag in self.wanted:
            self._tell_start(tag, {names[key]: value for key, value in attributes.items()} if attributes else {})

    def _end(self, name: str) -> None:
        self.depth -= 1
        tag = self._names[name]
        if self.wanted is None or tag in self.wanted:
            self._tell_end(tag)

    def _check_doctype(self, name: str, system: str | None, public: str | None, has_subset: int) -> None:
        if has_subset:
            raise self.limits.refuse("its XML declares a document type of its own")

    def _refuse_entity(self, *_: object) -> None:
        raise self.limits.refuse("its XML declares entities")

    def _name_character(self, name: str, is_parameter: bool) -> None:
        if not is_parameter:
            self.handler.data(html.entities.html5.get(f"{name};", ""))
