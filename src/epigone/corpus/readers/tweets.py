"""Posts in an archive of X (Twitter): each a document, without reposts, links, and names that replies begin with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from epigone.corpus.readers import json_stream
from epigone.corpus.readers.conversation import clean_message
from epigone.corpus.readers.json_stream import JsonReader
from epigone.corpus.readers.page import unescape
from epigone.corpus.readers.reader import Beginning, DropLog, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.zipped import open_zip

START = re.compile(r"\A\s*window\.YTD\.tweets?\.part\d+\s*=")
FILES = re.compile(r"(?:[^/]+/)?(?:data/)?tweets?(?:-part\d+)?\.js")
REPOST = re.compile(r"RT @\w+:")
ADDRESSED = re.compile(r"(?:@\w+\s+)++")


def recognise(beginning: Beginning) -> bool:
    """A script that assigns posts, or a zip with such scripts."""
    return bool(START.match(beginning.text)) or any(map(FILES.fullmatch, beginning.zip_names))


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """A document for each post, the oldest first; what its author replied to an own post belongs to that."""
    posts = _Posts(context.drops)
    if file.read(4) == b"PK\x03\x04":
        with open_zip(file, context.limits) as parts:
            for name in sorted(filter(FILES.fullmatch, parts.names)):
                with context.open_copy(parts.stream(name)) as copy:
                    posts.read(copy, context)
    else:
        posts.read(file, context)
    yield from posts.finish()


TWEETS = Format(
    name="tweets",
    title="an archive of X (Twitter)",
    suffixes=(),  # scripts in a folder are programs; an archive is known by its files, see list_posts
    begins="wp",
    recognise=recognise,
    read=read,
)


def list_posts(folder: Path) -> list[Path]:
    """The files with posts in a folder that an archive was unpacked into, or in its folder "data"."""
    files = [path for place in (folder, folder / "data") if place.is_dir() for path in sorted(place.glob("tweet*.js"))]
    return [path for path in files if FILES.fullmatch(path.name) and _has_posts(path)]


def _has_posts(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return bool(START.match(file.read(200).decode("utf-8", "replace")))
    except OSError:
        return False


class _Posts:
    """Collects posts by their numbers, which grow with time."""

    def __init__(self, drops: DropLog) -> None:
        self.drops = drops
        self._texts: dict[int, tuple[str, str]] = {}
        """Text and date."""
        self._replies: dict[int, int] = {}
        """Which post a post replies to."""

    def read(self, file: BinaryIO, context: ReadContext) -> None:
        """Add those of one file."""
        reader = JsonReader(context.decode_pieces(file), context.limits)
        reader.skip_to("=")
        for found in reader.walk(_is_entered):
            post = found.value
            if isinstance(post, dict):
                self._add(post.get("tweet", post))

    def finish(self) -> Iterator[ParsedDocument]:
        """All of them, with threads in one."""
        threads: dict[int, list[str]] = {}
        first: dict[int, int] = {}
        for number in sorted(self._texts):
            root = first[number] = first.get(self._replies.get(number, number), number)
            threads.setdefault(root, []).append(self._texts[number][0])
        for number, texts in threads.items():
            yield ParsedDocument(text="\n\n".join(texts) + "\n", date=self._texts[number][1])

    def _add(self, post: object) -> None:
        text = post.get("full_text", post.get("text")) if isinstance(post, dict) else None
        if not isinstance(post, dict) or not isinstance(text, str):
            return
        text = unescape(text)
        if REPOST.match(text):
            self.drops.add("reposts", text)
            return
        number = _read_number(post.get("id_str", post.get("id"))) or len(self._texts)
        replied = _read_number(post.get("in_reply_to_status_id_str", post.get("in_reply_to_status_id")))
        if names := ADDRESSED.match(text):
            self.drops.add("names that replies begin with", names[0])
            text = text[names.end() :]
        if text := clean_message(text, self.drops):
            self._texts[number] = (text, str(post.get("created_at", ""))[:60])
            if replied:
                self._replies[number] = replied


def _read_number(value: object) -> int:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 30 else 0


def _is_entered(path: json_stream.Path) -> bool:
    return path == ()
