"""Org files of Emacs give the words of their author, in their lines, without what Org keeps beside them."""

from __future__ import annotations

import pytest

from epigone.corpus.readers.org import strip_inline
from epigone.corpus.readers.reader import DropLog
from helpers_readers import Write, list_dropped, measure_reading, read, read_text

POST = """\
#+TITLE: A /rainy/ Day
#+AUTHOR: Ann Lee
#+DATE: <2024-05-01 Wed>
#+OPTIONS: toc:nil

* TODO [#A] Morning [1/2]                                  :diary:home:
  SCHEDULED: <2024-05-01 Wed>
  :PROPERTIES:
  :ID:       abc
  :END:
It /rained/ and *poured* all day [fn:1], see [[https://a.b/c][the report]].
[[file:rain.png]]

- [X] bread
- tea :: hot
1. [ ] one

#+BEGIN_SRC python
x = 1
#+END_SRC

#+begin_quote
To be.
#+end_quote

#+BEGIN_VERSE
A line
  and another
#+END_VERSE
| a | b |
# a comment
** Evening :noexport:
Secret.
*** Below
Secret, too.
** COMMENT Hidden
Secret again.
* Night
: fixed width
The end <<target>> here.

[fn:1] A note that
goes on.

After it.
"""
READ = """\
Morning

It _rained_ and poured all day, see the report.

- bread
- tea: hot
1. one

To be.

A line
  and another

Night

The end here.

After it.
"""


def test_an_org_file_is_read_as_its_author_would_show_it(write: Write) -> None:
    path = write("a.org", POST)
    assert read_text(path) == READ
    (file,) = read(path).files
    assert (file.format, file.title, file.author, file.date) == ("org", "A _rainy_ Day", "Ann Lee", "2024-05-01")
    dropped = list_dropped(path)
    assert dropped["code blocks"] == (2, "x = 1")
    assert dropped["drawers"] == (1, "PROPERTIES :ID: abc")
    assert dropped["footnotes"] == (1, "[fn:1] A note that")
    assert {"settings", "tags", "dates", "tables", "comments", "parts that are hidden", "images"} <= dropped.keys()
    assert "x = 1" in read_text(path, code="keep")


@pytest.mark.parametrize(
    ("marked", "shown"),
    [
        ("and/or a/b/c 1 * 2 * 3 +1 +2 a_b", "and/or a/b/c 1 * 2 * 3 +1 +2 a_b"),
        ('(/so/), "*no*" +gone+.', '(_so_), "no" gone.'),
        ("/two\nlines/ here", "_two\nlines_ here"),
        ("=a *b* /c/= and ~[[x][y]]~", "a *b* /c/ and [[x][y]]"),
        ("*/both/*", "_both_"),
        ("see [[#a][what\nis\nlong]].", "see what\nis\nlong."),
        ("[[https://a.b/x/y/z]] <https://c.d/e/>", "https://a.b/x/y/z https://c.d/e/"),
        ("[[*A heading][=there=]]", "there"),
        ("a {{{date}}} b @@html:<b>@@c", "a \ue004 b \ue004c"),
    ],
)
def test_the_marks_of_org_are_taken_for_what_they_are(marked: str, shown: str) -> None:
    assert strip_inline(marked, DropLog()) == shown


def test_a_block_or_drawer_that_never_ends_is_text(write: Write) -> None:
    assert read_text(write("a.org", "One.\n#+begin_src\nTwo.\n* Three\n")) == "One.\nTwo.\n* Three\n"
    assert read_text(write("b.org", "One.\n:LOGBOOK:\nTwo.\n* Three\n\nFour.\n")) == "One.\nTwo.\n\nThree\n\nFour.\n"


@pytest.mark.parametrize(
    "unit", ["/a ", "*a *", "=a ", "[[a][", "[fn:a:", "<<a ", "{{{a", "@@a:", "* a :b:", ":a:\n", "[", "- a ::"]
)
def test_reading_org_takes_time_that_grows_with_its_length_only(write: Write, unit: str) -> None:
    assert measure_reading(write("a.org", unit * 20_000)) < 1.0
