"""All formats that can be read besides plain text, and how the format of a file is found."""

from __future__ import annotations

from functools import cache
from typing import BinaryIO

from epigone.corpus.readers.archives import ENDINGS as ARCHIVES
from epigone.corpus.readers.discord import DISCORD
from epigone.corpus.readers.docx import DOCX
from epigone.corpus.readers.epub import EPUB
from epigone.corpus.readers.fb2 import FB2
from epigone.corpus.readers.feeds import EXPORT, FEED
from epigone.corpus.readers.html import HTML
from epigone.corpus.readers.irc import IRC
from epigone.corpus.readers.json_data import JSON, JSON_LINES
from epigone.corpus.readers.mail import MAIL
from epigone.corpus.readers.markdown import MARKDOWN
from epigone.corpus.readers.messenger import MESSENGER
from epigone.corpus.readers.notebook import NOTEBOOK
from epigone.corpus.readers.odt import FODT, ODT
from epigone.corpus.readers.org import ORG
from epigone.corpus.readers.parquet import PARQUET
from epigone.corpus.readers.pdf import PDF
from epigone.corpus.readers.reader import Beginning, Format
from epigone.corpus.readers.rtf import RTF
from epigone.corpus.readers.subtitles import SUBTITLES
from epigone.corpus.readers.table import CSV
from epigone.corpus.readers.telegram import TELEGRAM
from epigone.corpus.readers.tweets import TWEETS
from epigone.corpus.readers.whatsapp import WHATSAPP
from epigone.corpus.readers.xml_text import XML
from epigone.errors import SettingsError

FORMATS: tuple[Format, ...] = (
    *(PDF, EPUB, DOCX, ODT, FODT, RTF, FB2),
    *(WHATSAPP, TELEGRAM, MESSENGER, DISCORD, TWEETS, IRC, MAIL, SUBTITLES),
    *(EXPORT, FEED),
    *(PARQUET, NOTEBOOK, JSON_LINES, JSON),
    *(HTML, MARKDOWN, ORG, XML, CSV),
)
"""In the order in which they are tried: those that are certain come first."""
PLAIN_SUFFIXES = (".txt", ".text", "")
"""Endings of plain text that are taken in a folder."""
NEVER_PLAIN = (".json", ".log", *(suffix for known in FORMATS if known.only_named for suffix in known.suffixes))
"""Endings of files that a folder may have for other reasons: they are taken from it only if they are chats."""
SUFFIXES = frozenset((*PLAIN_SUFFIXES, *ARCHIVES, *(suffix for known in FORMATS for suffix in known.suffixes)))


def find_format(file: BinaryIO, name: str, wanted: str = "auto", *, listed: bool = False) -> Format | None:
    """The format of a file that can be rewound; None for plain text. Raises SettingsError for an unknown name.

    `listed`: whether it is only found in a folder, where data may be there for other reasons than to be learned.
    """
    if wanted == "text":
        return None
    if wanted != "auto":
        found = next((known for known in FORMATS if known.name == wanted), None)
        if found is None:
            raise SettingsError(f'There is no format "{wanted}".', hint=f"There is {', '.join(list_formats())}.")
        return found
    beginning = Beginning(file, name)
    for known in _list_possible(beginning.first_sign, listed):
        if known.recognise(beginning):
            return known
    return None


@cache
def _list_possible(first_sign: str, listed: bool) -> tuple[Format, ...]:
    """The formats of which a file may begin with this sign: of most texts, hardly one."""
    possible = (one for one in FORMATS if not first_sign or not one.begins or first_sign in one.begins)
    return tuple(one for one in possible if not (listed and one.only_named))


def list_formats() -> list[str]:
    """The values of --format."""
    return ["auto", "text", *(known.name for known in FORMATS)]
