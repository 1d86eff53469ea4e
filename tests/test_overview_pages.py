"""Of a folder of a site, pages that only list others are left out, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from epigone.corpus.overview_pages import find_overview_pages
from helpers_readers import read


def write_post(number: int, n_paragraphs: int = 3) -> list[str]:
    """The paragraphs of a post, each of which is long enough to be compared."""
    return [
        f"Post {number}, paragraph {part}: it rained, and we stayed at home and read what there was, until it was dark."
        for part in range(n_paragraphs)
    ]


def join(paragraphs: list[str]) -> str:
    return "\n\n".join(paragraphs) + "\n"


def cut(paragraphs: list[str]) -> str:
    return f"{paragraphs[0][:70]}…"


POSTS = [write_post(number) for number in range(8)]
PAGES = list(map(join, POSTS))


def test_overviews_and_archives_are_left_out() -> None:
    overview, archive = join([cut(post) for post in POSTS[:5]]), join([post[0] for post in POSTS[3:]])
    assert find_overview_pages([overview, *PAGES, archive]) == [0, 9]
    assert find_overview_pages(PAGES) == []
    assert find_overview_pages([join([cut(POSTS[0])]), *PAGES]) == [0]  # the page of a word with one post
    assert find_overview_pages([]) == []


def test_what_only_overviews_have_stays_in_one_of_them() -> None:
    overview = join([post[0] for post in POSTS])
    by_word = [join([post[0] for post in POSTS[:4]]), join([post[0] for post in POSTS[4:]])]
    assert len(find_overview_pages([overview, *by_word])) < 3
    assert find_overview_pages([overview, *PAGES[:4]]) == []  # half of it is nowhere else


def test_short_posts_and_what_all_pages_repeat_are_kept() -> None:
    about = [
        f"{number}. Ann Lee writes about rain, and about the days on which it did not rain." for number in range(3)
    ]
    short = [join([write_post(number, 1)[0], *about]) for number in range(8)]
    assert find_overview_pages(short) == []
    overview = join([write_post(number, 1)[0] for number in range(8)])
    assert find_overview_pages([overview, *[join(write_post(number, 1)) for number in range(8)]]) == [0]


@pytest.mark.parametrize("named", [False, True])
def test_such_a_page_of_a_folder_is_told_of_and_read_if_it_is_named(tmp_path: Path, named: bool) -> None:
    def write(name: str, paragraphs: list[str]) -> str:
        body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
        (tmp_path / name).write_text(f"<html><body>{body}</body></html>", "utf-8")
        return str(tmp_path / name)

    paths = [write(f"{number}.html", post) for number, post in enumerate(POSTS)]
    index = write("index.html", [post[0] for post in POSTS])
    corpus = read(*paths, index) if named else read(str(tmp_path))
    assert [document.name for document in corpus.documents][8:] == (["index.html"] if named else [])
    assert len(corpus.skipped) == (0 if named else 1) and all("index.html" in line for line in corpus.skipped)
