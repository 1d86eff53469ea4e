"""The texts that the bundled base learns from: read, cleaned, deduplicated, checked against the test texts, packed.

Two collections go in: `library.tar.xz` (books before 1930, AUTHOR/NUMBER.txt) and `modern.tar.xz` (openly licensed
modern English, KIND/SOURCE/NAME.txt). What comes out is a folder with `train.bin` (uint16 token ids, each document
after an end-of-text token), `tokenizer/` and `data.json` (counts), and beside it `documents.jsonl` (what is learned
from), `held_out.jsonl` (what is only tested on) and `left_out.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from epigone.tokens.tokenizer import BPETokenizer, cut_into_blocks, encode_each, train_tokenizer
from library import Book, open_library, read_books, sample_passages

SEED = 1
KINDS = ("fiction", "howto", "dialogue", "news_gov", "textbooks", "blogs", "markdown")
BOOKS = "books"
N_HELD_OUT_BOOKS = 12
SIZES_HELD_OUT = (60_000, 180_000)
"""Characters of a book that is held out: long enough to say something, short enough to be tested on often."""
MOST_SHARED = 0.01
"""Share of a held-out book that stands in other books."""
HELD_OUT_SOURCES = (
    "fiction/standard_ebooks_midcentury/andre-norton_star-hunter",
    "howto/og_equity",
    "dialogue/gum_interview",
    "news_gov/moj_guidance",
    "textbooks/cc_certificate",
    "blogs/brianbuccola",
    "markdown/artsy_readme",
)
"""Sources, or beginnings of names, that are never learned from: no document of theirs is."""
RECIPES = ("howto/public_domain_recipes", "howto/based_cooking")
"""Measured by themselves, as the kind `recipes`: users bring them, and they are a thirtieth of how-to."""
HELD_OUT_BYTES = 150_000
"""Of each kind of modern text; half of it from held-out sources."""
TIMES = {"fiction": 2, "recipes": 3}
"""How often a pass holds each document of a kind; once where it is not said."""
SAME_WORK = 0.5
"""A modern document of which a larger share than this stands in longer documents is left out."""
SHINGLE = 13
"""Words: a paragraph that has so many in a row from a test text is not learned from (Brown et al. 2020, appendix C)."""
MOST_REMOVED = 0.2
"""Share of a document's words that the check may remove; of more than that the whole document goes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A text, its kind and its name: AUTHOR/NUMBER or KIND/SOURCE/FILE."""

    name: str
    kind: str
    text: str

    @property
    def draw(self) -> int:
        """A number that depends on nothing but the name, for choices that stay the same when others are added."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8], "big")


# -- cleaning

ILLUSTRATION = re.compile(r"\[Illustration[^\]]{0,600}\]|\[(Pg|Page|p\.) ?\d+\]|\{\d{1,4}\}|\[\d{1,3}\](?=\W|$)")
MARGIN_NUMBER = re.compile(r"(?m)(?<=\S) {3,}\[?\d{1,4}\]?$")
NUMBER_LINE = re.compile(r"(?m)^[ \t]*[-\[(–—]*[ \t]*\d{1,4}[ \t]*[-\])–—]*[ \t]*\n")
NOTE = re.compile(r"(?im)^\W*transcriber['’]?s? notes?\b.*")
EMPTY_LINES = re.compile(r"\n[ \t]+(?=\n)")


def clean_book(text: str) -> str:
    """A Gutenberg book without marks of illustrations, pages, verse numbers and the transcriber's notes at its ends."""
    text = ILLUSTRATION.sub("", text)
    text = NUMBER_LINE.sub("", MARGIN_NUMBER.sub("", text))
    notes = [match.start() for match in NOTE.finditer(text)]
    if notes and notes[-1] > 0.9 * len(text):
        text = text[: notes[-1]]
    return re.sub(r"\n{6,}", "\n\n\n\n\n", EMPTY_LINES.sub("\n", text)).strip() + "\n"


def unwrap(text: str) -> str:
    """The text with every paragraph that was wrapped at a fixed width on one line; verse, lists and tables stay.

    A paragraph was wrapped if each of its lines is so long that the next line's first word would not have fitted.
    """
    paragraphs = re.split(r"\n{2,}", text)
    lengths = sorted(len(line) for paragraph in paragraphs for line in paragraph.split("\n"))
    width = lengths[int(0.98 * len(lengths))]
    if not 50 <= width <= 90:
        return text
    return "\n\n".join(_unwrap_paragraph(paragraph, width) for paragraph in paragraphs).strip() + "\n"


def _unwrap_paragraph(paragraph: str, width: int) -> str:
    lines = paragraph.strip("\n").split("\n")
    pairs = list(pairwise(lines))
    n_full = sum(len(line) + 1 + len(after.split(" ")[0]) > width - 4 for line, after in pairs)
    indented = any(line.startswith("  ") for line in lines[1:])
    if not pairs or indented or n_full < 0.9 * len(pairs):
        return "\n".join(lines)
    return re.sub(r"(?<=\S) {2,}", " ", " ".join(line.strip() for line in lines))


# -- reading


def read_library(path: Path) -> tuple[list[Document], list[Document]]:
    """The books of the library to learn from and those to test on, which stay as they are."""
    with open_library(path) as folder:
        books = read_books(folder)
    held_out = set(choose_held_out(books))
    documents = [Document(name=book.name, kind=BOOKS, text=book.text) for book in books]
    return ([document for document in documents if document.name not in held_out],
            [document for document in documents if document.name in held_out])  # fmt: skip


def choose_held_out(books: list[Book]) -> list[str]:
    """Twelve books by different authors that share next to nothing with others of the library."""
    low, high = SIZES_HELD_OUT
    fit = [book.name for book in books if low <= len(book.text) <= high and book.shared <= MOST_SHARED]
    random.Random(SEED).shuffle(fit)
    by_author = {name.split("/")[0]: name for name in fit}
    return sorted(list(by_author.values())[:N_HELD_OUT_BOOKS])


def prepare_book(book: Document) -> Document:
    """The cleaned book; every second one unwrapped, since people bring texts of both kinds."""
    text = clean_book(book.text)
    return replace(book, text=unwrap(text) if book.draw % 2 else text)


def read_modern(folder: Path) -> list[Document]:
    """All modern documents, by name."""
    paths = sorted(path for kind in KINDS for path in (folder / kind).glob("*/*.txt"))
    found = []
    for path in paths:
        name = path.relative_to(folder).as_posix().removesuffix(".txt")
        kind = "recipes" if name.startswith(RECIPES) else name.split("/")[0]
        text = path.read_text("utf-8", errors="replace").replace("\r\n", "\n").lstrip("\ufeff").strip()
        if text:
            found.append(Document(name=name, kind=kind, text=text + "\n"))
    return found


def drop_copies(documents: list[Document], known: set[int]) -> list[Document]:
    """The documents without those that stand mostly in longer ones or in what is `known` already, by name."""
    known, kept = set(known), []
    for document in sorted(documents, key=lambda document: (-len(document.text), document.name)):
        mine = sample_passages(document.text)
        if len(mine & known) <= SAME_WORK * len(mine):
            kept.append(document)
            known |= mine
    return sorted(kept, key=lambda document: document.name)


def divide(documents: list[Document]) -> tuple[list[Document], list[Document]]:
    """Those to learn from and, of each kind, about HELD_OUT_BYTES to test on: held-out sources first, then any."""
    train, held_out = [], []
    for kind in sorted({document.kind for document in documents}):
        mine = sorted((one for one in documents if one.kind == kind), key=lambda one: one.draw)
        strange = [one for one in mine if one.name.startswith(HELD_OUT_SOURCES)]
        others = [one for one in mine if not one.name.startswith(HELD_OUT_SOURCES)]
        chosen = _fill(strange, HELD_OUT_BYTES // 2)
        missing = HELD_OUT_BYTES - sum(len(one.text) for one in chosen)
        chosen += _fill(others, missing if kind != "recipes" else HELD_OUT_BYTES // 3)
        names = {one.name for one in chosen}
        held_out += chosen
        train += [one for one in others if one.name not in names]
    return train, held_out


def _fill(documents: list[Document], n_characters: int) -> list[Document]:
    """The first of the documents that fit, none longer than half of all."""
    chosen, left = [], n_characters
    for document in documents:
        if len(document.text) <= min(left, n_characters // 2 + 1):
            chosen.append(document)
            left -= len(document.text)
    return chosen


# -- the check against texts that are tested with

WORD = re.compile(r"[^\W_]+")


class TestTexts:
    """The sequences of 13 words of some texts, and how much of other texts stands in them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.numbers: dict[str, int] = {}
        found = []
        for text in texts:
            words = WORD.findall(text.lower())
            for word in words:
                self.numbers.setdefault(word, len(self.numbers) + 1)
            found.append(self._hash(words)[0])
        self.hashes = np.unique(np.concatenate(found))

    def _hash(self, words: list[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        """A hash of each 13 words in a row, and whether all of them are known: [words - 12] both."""
        ids = np.fromiter((self.numbers.get(word, 0) for word in words), np.uint64, len(words))
        n = max(0, len(ids) - SHINGLE + 1)
        sums, known = np.zeros(n, np.uint64), np.ones(n, np.bool_)
        for place in range(SHINGLE):
            sums = (sums + ids[place : place + n]) * np.uint64(0x9E3779B97F4A7C15)
            sums ^= sums >> np.uint64(29)
            known &= ids[place : place + n] > 0
        return sums, known

    def find(self, text: str) -> npt.NDArray[np.int64]:
        """The numbers of the words of a text at which 13 words of a test text begin."""
        sums, known = self._hash(WORD.findall(text.lower()))
        places = np.flatnonzero(known)
        at = np.minimum(np.searchsorted(self.hashes, sums[places]), len(self.hashes) - 1)
        found: npt.NDArray[np.int64] = places[self.hashes[at] == sums[places]]
        return found

    def remove(self, text: str) -> str:
        """The text without paragraphs that share 13 words in a row; "" where much of it would go."""
        found = self.find(text)
        if not len(found):
            return text
        paragraphs = re.split(r"(\n{2,})", text)
        ends = np.cumsum([len(WORD.findall(paragraph.lower())) for paragraph in paragraphs])
        hit = np.unique(np.concatenate([np.searchsorted(ends, found + more, side="right") for more in range(SHINGLE)]))
        n_removed = sum(int(ends[i] - (ends[i - 1] if i else 0)) for i in hit)
        if n_removed > MOST_REMOVED * int(ends[-1]):
            return ""
        for number in hit:
            paragraphs[number] = ""
        return re.sub(r"\n{6,}", "\n\n\n\n", "".join(paragraphs)).strip() + "\n"


def read_test_texts(folder: Path) -> Iterator[str]:
    """Every text that lies under a folder of test data, archives of training text left out."""
    skipped = {"README.md", "MODERN.md", "vocab.json", "merges.txt"}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".epub":
            with zipfile.ZipFile(path) as book:
                yield from (_strip_tags(book.read(name).decode("utf-8", "replace"))
                            for name in book.namelist() if name.endswith(("html", "htm")))  # fmt: skip
        elif path.is_file() and path.name not in skipped and not path.name.endswith(".tar.xz"):
            text = path.read_text("utf-8", errors="replace")
            yield _strip_tags(text) if path.suffix in (".html", ".xhtml") else text


def _strip_tags(page: str) -> str:
    return re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(script|style).*?</\1>", " ", page))


# -- all of it


def gather(library: Path, modern: Path, tests: Path) -> tuple[list[Document], list[Document], dict[str, object]]:
    """The documents to learn from, those to test on, and what was left out."""
    books, held_books = read_library(library)
    passages = set().union(*(sample_passages(book.text) for book in books + held_books))
    found = read_modern(modern)
    kept = drop_copies(found, passages)
    train, held_out = divide(kept)
    held_out += held_books
    train = [*_each(prepare_book, books), *train]
    unwrapped = sum(book.draw % 2 for book in books)
    checker = TestTexts(read_test_texts(tests))
    clean = _each(checker.remove, [document.text for document in train])
    dropped = [document.name for document, text in zip(train, clean, strict=True) if not text]
    changed = sum(text not in ("", document.text) for document, text in zip(train, clean, strict=True))
    train = [replace(document, text=text) for document, text in zip(train, clean, strict=True) if text]
    left_out: dict[str, object] = {
        "copies": len(found) - len(kept), "test_texts": dropped, "paragraphs_removed_from": changed,
        "books_unwrapped": unwrapped,
        "shared_after_check": sum(_each(_Count(checker), [document.text for document in train])),
        "held_out_shared": {one.name: n for one in held_out if (n := len(checker.find(one.text)))},
    }  # fmt: skip
    return train, held_out, left_out


@dataclass(frozen=True, slots=True)
class _Count:
    checker: TestTexts

    def __call__(self, text: str) -> int:
        return len(self.checker.find(text))


def _each(work: Callable[..., object], items: list) -> list:  # type: ignore[type-arg]
    with ProcessPoolExecutor(2) as pool:
        return list(pool.map(work, items, chunksize=64))


def pack(documents: list[Document], tokenizer: BPETokenizer, path: Path) -> tuple[int, Counter[str]]:
    """Write the ids of all documents, shuffled, each after an end-of-text token; their number, and tokens by kind."""
    order = [document for document in documents for _ in range(TIMES.get(document.kind, 1))]
    random.Random(SEED).shuffle(order)
    counts: Counter[str] = Counter()
    with path.open("wb") as file:
        for document in order:
            ids = [tokenizer.end_of_text_id]
            for some, _ in encode_each(cut_into_blocks(document.text), tokenizer):
                ids += some
            np.array(ids, np.uint16).tofile(file)
            counts[document.kind] += len(ids)
    return sum(counts.values()), counts


def main() -> None:
    """Gather the texts (once), learn a tokenizer and pack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--library", type=Path, help="library.tar.xz or the folder in it")
    parser.add_argument("--modern", type=Path, help="the unpacked modern.tar.xz")
    parser.add_argument("--tests", type=Path, required=True, help="texts of which nothing may be learned from")
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json to use in place of a new one")
    parser.add_argument(
        "--check", action="store_true", help="only hold what was gathered against the tests' texts again"
    )
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    gathered = asked.out.parent / "documents.jsonl"
    if asked.check:
        raise SystemExit(check(read_documents(gathered), asked.tests))
    if not gathered.exists():
        if not (asked.library and asked.modern):
            parser.error(f"{gathered} is not there yet: give --library and --modern to make it.")
        train, held_out, left_out = gather(asked.library, asked.modern, asked.tests)
        (asked.out.parent / "left_out.json").write_text(json.dumps(left_out, indent=1), "utf-8")
        write_documents(held_out, asked.out.parent / "held_out.jsonl")
        write_documents(train, gathered)
    train = read_documents(gathered)
    if asked.tokenizer:
        from tokenizers import Tokenizer

        tokenizer = BPETokenizer(Tokenizer.from_file(str(asked.tokenizer)))
    else:
        tokenizer = train_tokenizer([document.text for document in train], asked.vocab_size)
    tokenizer.as_stock().save_pretrained(asked.out / "tokenizer")
    n_tokens, counts = pack(train, tokenizer, asked.out / "train.bin")
    facts = {
        "n_tokens": n_tokens,
        "vocab_size": len(tokenizer),
        "n_documents": len(train),
        "bytes": dict(_count_bytes(train)),
        "tokens": dict(counts),
        "times": TIMES,
        "held_out_bytes": dict(_count_bytes(read_documents(asked.out.parent / "held_out.jsonl"))),
    }
    (asked.out / "data.json").write_text(json.dumps(facts, indent=1), "utf-8")
    print(json.dumps(facts, indent=1))


def check(documents: list[Document], tests: Path) -> int:
    """Print each document that shares 13 words in a row with a test text; the exit code: 1 if there is one."""
    counts = _each(_Count(TestTexts(read_test_texts(tests))), [document.text for document in documents])
    found = [(document.name, count) for document, count in zip(documents, counts, strict=True) if count]
    for name, count in found:
        print(f"{name}: {count} times {SHINGLE} words in a row of a test text")
    print(f"{len(documents):,} documents, {len(found)} of them share something.")
    return int(bool(found))


def _count_bytes(documents: list[Document]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for document in documents:
        counts[document.kind] += len(document.text.encode())
    return counts


def write_documents(documents: list[Document], path: Path) -> None:
    """One JSON object a line."""
    beside = path.with_suffix(".part")
    with beside.open("w", encoding="utf-8") as file:
        for one in documents:
            file.write(json.dumps({"name": one.name, "kind": one.kind, "text": one.text}, ensure_ascii=False) + "\n")
    beside.replace(path)


def read_documents(path: Path) -> list[Document]:
    """What `write_documents` wrote."""
    with path.open(encoding="utf-8") as file:
        return [Document(**json.loads(line)) for line in file]


if __name__ == "__main__":
    main()
