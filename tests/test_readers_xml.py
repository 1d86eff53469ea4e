"""Blogs exported as XML, feeds, and any other XML give their words, divided as their elements divide them."""

from __future__ import annotations

from pathlib import Path

import pytest

from epigone.corpus.corpus import Corpus, read_corpus
from epigone.corpus.readers import feeds
from epigone.errors import TextUnreadable
from epigone.settings import ReadSettings

NAMES = (
    'xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:excerpt="http://wordpress.org/export/1.2/excerpt/" xmlns:wp="http://wordpress.org/export/1.2/"'
)
LONG = "It was a dark night, and nobody in the house had thought of the cat before it came to the window. "


def make_item(text: str, title: str = "A post", kind: str = "post", status: str = "publish") -> str:
    return (
        f"<item><title>{title}</title><pubDate>Mon, 05 Mar 2012 10:11:12 +0000</pubDate>"
        f"<dc:creator>anna</dc:creator><description>A summary</description>"
        f"<content:encoded><![CDATA[{text}]]></content:encoded><excerpt:encoded>no</excerpt:encoded>"
        f"<wp:status>{status}</wp:status><wp:post_type>{kind}</wp:post_type>"
        f"<wp:comment><wp:comment_content>Nice post!</wp:comment_content></wp:comment></item>"
    )


def read(folder: Path, source: str, name: str = "x.xml") -> Corpus:
    (folder / name).write_text(f'<?xml version="1.0"?>\n{source}', "utf-8")
    return read_corpus([str(folder / name)], ReadSettings(), smallest_bytes=1)


def list_names(folder: Path) -> list[str]:
    return [Path(one.name).name for one in read_corpus([str(folder)], ReadSettings(), smallest_bytes=1).documents]


def test_an_export_of_wordpress_gives_its_posts_and_nothing_else(tmp_path: Path) -> None:
    classic = "It was a <em>dark</em> night & wet.\n\n[gallery ids='1']\n\nAnd so,\nto bed."
    blocks = "<!-- wp:paragraph --><p>One “word”.</p><!-- /wp:paragraph --><p>Two.</p>"
    items = [
        make_item(classic, "First &amp; last"),
        make_item(blocks),
        make_item("a cat", "cat.jpg", kind="attachment"),
        make_item("not yet", "Later", status="draft"),
    ]
    corpus = read(tmp_path, f"<rss version='2.0' {NAMES}><channel><title>B</title>{''.join(items)}</channel></rss>")
    first, second = corpus.documents
    assert str(first.text) == "It was a _dark_ night & wet.\n\nAnd so,\nto bed.\n"
    assert str(second.text) == "One “word”.\n\nTwo.\n"
    file = first.receipt  # it is called after the file, not after its first post
    assert (file.format, file.title, file.author, file.date) == ("blog", "", "anna", "2012-03-05")
    assert {part.what for part in file.dropped} == {"marks of pictures and players", "pictures and files", "drafts"}


@pytest.mark.parametrize("year", ["99999999999", "0", "x"])
def test_an_impossible_date_is_left_as_it_is(year: str, tmp_path: Path) -> None:
    item = make_item("It rained.").replace("2012", year)
    corpus = read(tmp_path, f"<rss version='2.0' {NAMES}><channel>{item}</channel></rss>")
    assert str(corpus.documents[0].text) == "It rained.\n"


def test_a_feed_of_atom_is_read_as_markup_and_as_escaped_text(tmp_path: Path) -> None:
    page = '<div xmlns="http://www.w3.org/1999/xhtml"><p>A &lt; B &amp; <em>C</em>.</p><p>Next.</p></div>'
    entries = f"<entry><title>Hi</title><author><name>Ben</name></author><content type='xhtml'>{page}</content></entry>"
    entries += "<entry><content type='html'>&lt;p&gt;One &amp;amp; two.&lt;/p&gt;</content></entry>"
    corpus = read(tmp_path, f'<feed xmlns="http://www.w3.org/2005/Atom"><title>B</title>{entries}</feed>')
    assert [str(one.text) for one in corpus.documents] == ["A < B & _C_.\n\nNext.\n", "One & two.\n"]
    assert corpus.documents[0].author == "Ben" and corpus.documents[0].receipt.format == "feed"


def test_of_blogger_s_entries_only_posts_are_read(tmp_path: Path) -> None:
    kind = "http://schemas.google.com/blogger/2008/kind"
    entries = "".join(
        f"<entry><category scheme='http://schemas.google.com/g/2005#kind' term='{kind}#{name}'/>"
        f"<content type='html'>A {name}.</content></entry>"
        for name in ("template", "settings", "post", "comment")
    )
    corpus = read(tmp_path, f'<feed xmlns="http://www.w3.org/2005/Atom">{entries}</feed>')
    assert [str(one.text) for one in corpus.documents] == ["A post.\n"]


def test_a_feed_in_a_folder_is_left_out_and_an_export_is_not(tmp_path: Path) -> None:
    (tmp_path / "post.txt").write_text(LONG * 10)
    read(tmp_path, f"<rss><channel><item><description>{LONG}</description></item></channel></rss>", "index.xml")
    assert list_names(tmp_path) == ["post.txt"]
    read(tmp_path, f"<rss {NAMES}><channel>{make_item(LONG)}</channel></rss>", "export.xml")
    assert list_names(tmp_path) == ["export.xml", "post.txt"]


def test_a_play_in_xml_has_its_lines_and_speeches(tmp_path: Path) -> None:
    lines = "<LINE>Who's there?</LINE>\n<LINE>Nay, <STAGEDIR>Aside</STAGEDIR> answer me.</LINE>"
    speeches = "".join(f"<SPEECH>\n<SPEAKER>{who}</SPEAKER>\n{lines}\n</SPEECH>\n" for who in "ABCDEFGHIJKLMNOP")
    play = f"<PLAY>\n<TITLE>Hamlet</TITLE>\n<SCENE>\n{speeches}</SCENE></PLAY>"
    (document,) = read(tmp_path, play).documents
    said = "\n\n".join(f"{who}\nWho's there?\nNay, Aside answer me." for who in "ABCDEFGHIJKLMNOP")
    assert str(document.text) == f"Hamlet\n\n{said}\n"


def test_prose_in_xml_has_its_paragraphs_and_words(tmp_path: Path) -> None:
    header = "<teiHeader><p>Encoded by a person</p></teiHeader>"
    body = f"<div><head>I</head><p>{LONG}</p><p><hi>It</hi> <w>rained</w> <w>again</w>.</p></div>"
    source = f'<TEI xmlns="http://www.tei-c.org/ns/1.0">{header}<text><body>{body}</body></text></TEI>'
    corpus = read(tmp_path, source)
    assert str(corpus.documents[0].text) == f"I\n\n{LONG.strip()}\n\nIt rained again.\n"
    assert [part.what for part in corpus.documents[0].receipt.dropped] == ["descriptions of the file"]


@pytest.mark.parametrize("source", ["<a><b>One</b>", "<rss><item>", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"])
def test_damaged_xml_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(TextUnreadable, match=r"damaged|declares"):
        read(tmp_path, source)


def test_a_feed_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MOST_PART_BYTES", 1_000)
    with pytest.raises(TextUnreadable, match="MB of text"):
        read(tmp_path, f"<rss><channel><item><description>{LONG * 20}</description></item></channel></rss>")
