"""What documents in zip archives say of themselves: title, author and date in Dublin Core."""

from __future__ import annotations

from dataclasses import dataclass, field

from epigone.corpus.readers.reader import ReadContext
from epigone.corpus.readers.xml import XmlDamaged, parse_xml
from epigone.corpus.readers.zipped import ZippedParts

AUTHORS, DATES = ("meta:initial-creator", "dc:creator"), ("dcterms:created", "meta:creation-date", "dc:date")


@dataclass(slots=True)
class Metadata:
    """Filled from XML."""

    fields: dict[str, str] = field(default_factory=dict)
    _text: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The title, or ""."""
        return self.fields.get("dc:title", "")

    @property
    def author(self) -> str:
        """The first name given, or ""."""
        return next((self.fields[name] for name in AUTHORS if name in self.fields), "")

    @property
    def date(self) -> str:
        """The day on which it was made, or ""."""
        return next((self.fields[name][:10] for name in DATES if name in self.fields), "")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self._text = []

    def end(self, tag: str) -> None:
        """An element ends."""
        if text := " ".join("".join(self._text).split())[:200]:
            self.fields.setdefault(tag, text)
        self._text = []

    def data(self, text: str) -> None:
        """Characters."""
        self._text.append(text)


def read_metadata(parts: ZippedParts, name: str, context: ReadContext) -> Metadata:
    """What a part says; nothing if it is missing or damaged, for the text does not depend on it."""
    found = Metadata()
    if name in parts:
        try:
            parse_xml(parts.stream(name), found, context.limits)
        except XmlDamaged:
            return Metadata()
    return found
