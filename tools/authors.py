"""Make the bundled reference authors from a library of books, a folder or an archive."""

from __future__ import annotations

import argparse
from pathlib import Path

from epigone.evaluation.stylometry import BUNDLE, AuthorCounts, count_authors, write_authors
from library import open_library

PLACE = Path(__file__).resolve().parent.parent / "src" / "epigone" / "evaluation" / BUNDLE
NAMES = """
alger=Horatio Alger, andersen=Hans Christian Andersen, austen=Jane Austen, balzac=Honoré de Balzac, barrie=J. M. Barrie,
blackwood=Algernon Blackwood, bronte=Charlotte Brontë, bunin=Ivan Bunin, burnett=Frances Hodgson Burnett,
burroughs=Edgar Rice Burroughs, burton=Richard F. Burton, carroll=Lewis Carroll, cervantes-saavedra=Miguel de Cervantes,
chekhov=Anton Chekhov, collins=Wilkie Collins, conrad=Joseph Conrad, darwin=Charles Darwin, defoe=Daniel Defoe,
dickens=Charles Dickens, dostoyevsky=Fyodor Dostoyevsky, doyle=Arthur Conan Doyle, dumas=Alexandre Dumas,
franklin=Benjamin Franklin, gibbon=Edward Gibbon, goethe=Johann Wolfgang von Goethe, goldfrap=John Henry Goldfrap,
grimm=The Brothers Grimm, hardy=Thomas Hardy, hawthorne=Nathaniel Hawthorne, henty=G. A. Henty, hesse=Hermann Hesse,
hugo=Victor Hugo, irving=Washington Irving, james=Henry James, joyce=James Joyce, kafka=Franz Kafka,
kipling=Rudyard Kipling, lang=Andrew Lang, lockhart=John Gibson Lockhart, london=Jack London,
maupassant=Guy de Maupassant, melville=Herman Melville, milton=John Milton, montgomery=L. M. Montgomery,
nietzsche=Friedrich Nietzsche, plato=Plato, poe=Edgar Allan Poe, pope=Alexander Pope, potter=Beatrix Potter,
russell=Bertrand Russell, scott=Walter Scott, shaw=George Bernard Shaw, shelley=Mary Shelley,
stevenson=Robert Louis Stevenson, stoker=Bram Stoker, swift=Jonathan Swift, tolstoy=Leo Tolstoy,
trollope=Anthony Trollope, twain=Mark Twain, verne=Jules Verne, voltaire=Voltaire, wharton=Edith Wharton,
zola=Émile Zola
"""
AUTHORS = dict(one.strip().split("=") for one in NAMES.replace("\n", " ").split(",") if one.strip())
"""Names by folder. Illustrators, translators and editors are left out, and poets in several translations."""
NOT_BY_AUTHOR = """
austen/04 balzac/03 barrie/02 barrie/09 barrie/10 blackwood/03 burnett/01 burton/01 carroll/04 carroll/13 carroll/15
chekhov/08 doyle/06 dumas/04 franklin/04 hardy/02 hawthorne/05 irving/02 irving/09 james/12 kipling/07 kipling/11
lang/05 lang/06 lang/07 maupassant/02 maupassant/05 milton/05 poe/01 poe/06 scott/02 stevenson/07 voltaire/05
"""
BY_OTHERS = frozenset(NOT_BY_AUTHOR.split())
"""Files to leave out: anthologies, retellings, school editions, sequels by others, and Latin."""
LEAST = 30_000
"""Characters; shorter files are left out."""


def main() -> None:
    """Make the tables, print what is in them and, with --write, put them into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path, help="a folder of folders, or library.tar.xz")
    parser.add_argument("--write", action="store_true", help=f"write {BUNDLE}")
    asked = parser.parse_args()
    with open_library(asked.library) as library:
        authors = read_library(library)
    print(f"{len(authors.names)} authors, {len(authors.counts)} windows, {authors.counts.shape[1] - 2} features")
    if asked.write:
        write_authors(authors, PLACE)
        print(f"{PLACE.name}: {PLACE.stat().st_size:,} bytes")


def read_library(library: Path) -> AuthorCounts:
    """The authors' tables."""
    return count_authors({name: list(read_books(library, folder).values()) for folder, name in AUTHORS.items()})


def read_books(library: Path, folder: str) -> dict[str, str]:
    """An author's own books by the names of their files, without their first and last pages."""
    found = {}
    for path in sorted((library / folder).glob("*.txt")):
        text = path.read_text("utf-8", errors="replace")
        margin = min(3_000, len(text) // 20)
        if f"{folder}/{path.stem}" not in BY_OTHERS and len(text) >= LEAST:
            found[path.stem] = text[margin : len(text) - margin]
    return found


if __name__ == "__main__":
    main()
