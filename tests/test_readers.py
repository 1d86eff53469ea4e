"""Documents of all formats give the text that a plain-text editor would show, and say what was left out."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import get_args

import pytest

from epigone.corpus.corpus import read_corpus
from epigone.corpus.excerpts import PLACES, choose_excerpts
from epigone.corpus.readers import limits
from epigone.corpus.readers.formats import FORMATS, list_formats
from epigone.corpus.readers.layout import Block, clean_block, join_blocks
from epigone.corpus.readers.limits import Limits, is_safe_name
from epigone.corpus.readers.markdown import strip_markdown
from epigone.corpus.readers.reader import DropLog
from epigone.errors import SettingsError, TextTooShort, TextUnreadable
from epigone.settings import FormatName, ReadSettings
from helpers_readers import Write, list_dropped, measure_reading, read, read_text

# -- the seam


def test_every_reader_is_a_value_of_format() -> None:
    assert list_formats() == list(get_args(FormatName))
    assert all(known.title for known in FORMATS)


def test_a_text_that_is_named_txt_is_read_as_it_is(write: Write) -> None:
    text = "# No heading\n\n*stars* and <b>tags</b> &amp; [links](x)\n"
    assert read_text(write("a.txt", text)) == text
    assert read_text(write("a.md", text), format="text") == text
    assert read(write("a.txt", text)).files[0].format == "text"


def test_a_page_is_recognised_whatever_it_is_called(write: Write) -> None:
    page = "<!-- saved -->\n<!DOCTYPE html><html><body><p>One.</p><p>Two.</p></body></html>"
    assert read_text(write("page.txt", page)) == read_text(write("page", page)) == "One.\n\nTwo.\n"
    assert read_text(write("part.html", "<p>One.<p>Two.")) == "One.\n\nTwo.\n"
    prose = "He wrote <html> on the wall, and nothing else. 1 < 2.\n"
    assert read_text(write("prose.html", prose)) == prose


def test_a_format_can_be_asked_for(write: Write) -> None:
    assert read_text(write("a.txt", "*so*"), format="markdown") == "_so_\n"
    with pytest.raises(SettingsError):
        read_corpus([write("a.txt", "x")], ReadSettings.model_construct(encoding="auto", format="wordstar"))


def test_a_folder_takes_all_kinds_and_says_in_one_line_what_it_left_out(write: Write, tmp_path: Path) -> None:
    for name in ("a.txt", "b.md", "c.html", "d.markdown"):
        write(f"blog/{name}", f"<p>Post</p> <p>{name}</p>")
    for name in ("x.png", "y.png", "z.css"):
        write(f"blog/{name}", b"\x89PNG")
    corpus = read(str(tmp_path / "blog"))
    assert [file.format for file in corpus.files] == ["text", "markdown", "html", "markdown"]
    assert corpus.skipped == (f"3 files in {tmp_path / 'blog'} are not read: 2 ending in .png, 1 ending in .css.",)


def test_the_receipt_has_the_file_and_what_was_left_out(write: Write) -> None:
    page = (
        "<html><head><title>A Day</title><meta name=author content='Ann'></head><body><nav>Home</nav><p>It rained.</p>"
    )
    (file,) = read(write("day.html", page)).files
    assert (file.title, file.author, file.n_bytes, file.n_characters) == ("A Day", "Ann", len(page), 11)
    assert [(part.what, part.count, part.example) for part in file.dropped] == [("navigation", 1, "Home")]
    assert file.n_bytes_kept == file.n_bytes_utf8 == 11


def test_a_document_without_text_is_an_error(write: Write) -> None:
    with pytest.raises(TextTooShort, match="a web page"):
        read(write("a.html", "<html><body><img src=x></body></html>"))


# -- limits


def test_limits_stop_what_asks_for_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TextUnreadable, match="times its size"):
        Limits("x", 1_000).expand(limits.RATIO_FROM_BYTES + 1)
    with pytest.raises(TextUnreadable, match="more than 512 MB"):
        Limits("x", 1 << 40).expand(limits.MOST_BYTES + 1)
    with pytest.raises(TextUnreadable, match="entries"):
        Limits("x", 1).count_entry(limits.MOST_ENTRIES + 1)
    with pytest.raises(TextUnreadable, match="nested"):
        Limits("x", 1).check_depth(limits.DEEPEST_ELEMENTS + 1)
    late = Limits("x", 1)
    monkeypatch.setattr(time, "monotonic", lambda: late.deadline + 1)
    with pytest.raises(TextUnreadable, match="too long"):
        late.check_time()


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", "C:\\x", "\\\\host\\x", "a\nb", "", "a\0b"])
def test_names_that_lead_out_of_an_archive_are_not_safe(name: str) -> None:
    assert not is_safe_name(name)
    assert is_safe_name("chapters/I. Of Men.xhtml")


# -- layout


def test_space_between_paragraphs_is_a_blank_line() -> None:
    assert join_blocks([Block("One."), Block("Two."), Block(""), Block("Three.")]) == "One.\n\nTwo.\n\n\nThree.\n"
    assert join_blocks([Block("")]) == ""


def test_paragraphs_of_prose_without_space_get_blank_lines_and_keep_scene_breaks() -> None:
    prose = [Block("He went out into the rain, and did not come back that day or the next. " * 3, "body", False)] * 30
    text = join_blocks([*prose[:20], Block("", "body", False), *prose[20:]])
    assert text.count("\n\n\n") == 1 and text.count("\n\n") == 29
    assert "day or the next.\nHe went" not in text


def test_short_paragraphs_without_space_are_lines_and_empty_ones_divide_stanzas() -> None:
    lines = [Block(f"Line {i} of the song", "verse", False) for i in range(4)]
    text = join_blocks([*lines, Block("", "verse", False), *lines])
    stanza = "".join(f"Line {i} of the song\n" for i in range(4))
    assert text == f"{stanza}\n{stanza}"


def test_long_lines_with_frequent_empty_paragraphs_are_lines() -> None:
    lines = [Block("I celebrate myself, and sing myself, and what I assume you shall assume, for all", "", False)] * 5
    assert join_blocks([*lines, Block("", "", False), *lines, Block("", "", False), *lines]).count("\n\n") == 2


def test_italics_stand_in_underscores_next_to_letters() -> None:
    assert clean_block("a\ue000 b \ue001\ue000c\ue001 d\ue000 \ue001") == "a _b c_ d"
    assert clean_block("\ue000one\ntwo\ue001") == "_one\ntwo_"


# -- web pages


def test_a_page_gives_its_paragraphs_lines_and_quotes(write: Write) -> None:
    page = """<html><body><h1>Songs</h1><p>He said: &ldquo;<em>Never</em>
    again&rdquo;.</p><p>Line one<br>Line two<br/><br>Line three</p><hr><blockquote><p>Old&nbsp;words.</p></blockquote>
    <ul><li>salt<li>oil</ul><pre>  as  it\n is</pre></body></html>"""
    assert read_text(write("a.html", page)) == (
        "Songs\n\nHe said: “_Never_ again”.\n\nLine one\nLine two\n\nLine three\n\n\nOld words.\n\n- salt\n- oil\n\n"
        "  as  it\n is\n"
    )


def test_a_page_loses_menus_scripts_forms_and_code(write: Write) -> None:
    page = """<html><body><header>My Blog</header><div class="main-menu"><a href=/>Home</a> <a href=/a>About</a></div>
    <p>It rained<sup><a href="#fn1">1</a></sup> all day.</p><pre><code>x = 1</code></pre><script>var x</script>
    <ul><li><a href=a>One</a><li><a href=b>Two</a><li><a href=c>Three</a></ul>
    <form><input>Search</form><footer>Copyright</footer></body></html>"""
    path = write("a.html", page)
    assert read_text(path) == "It rained all day.\n"
    assert list_dropped(path) == {
        "page headers": (1, "My Blog"),
        "navigation": (2, "Home About"),
        "footnote marks": (1, "1"),
        "code blocks": (1, "x = 1"),
        "scripts and styles": (1, "var x"),
        "forms": (1, "Search"),
        "page footers": (1, "Copyright"),
    }
    assert "x = 1" in read_text(path, code="keep")


def test_a_page_with_one_article_gives_the_article(write: Write) -> None:
    page = (
        "<body><div>About this site</div><article><header><h1>Rain</h1></header><p>" + "It rained. " * 20 + "</article>"
    )
    assert read_text(write("a.html", page)).startswith("Rain\n\nIt rained.")


def test_items_of_lists_keep_their_marks_beside_their_text_and_empty_ones_go(write: Write) -> None:
    page = (
        "<html><body><p>Shop:</p><ul><li><img src=a></li><li><p>Salt</p><p>fine</p></li>"
        "<li><a href=x><img src=b></a> </li><li><ul><li>Oil</li></ul></li></ul>"
        "<ol><li>One</li><li></li><li><i>Three</i></li></ol></body></html>"
    )
    assert read_text(write("a.html", page)) == "Shop:\n\n- Salt\n\nfine\n\n- Oil\n\n1. One\n3. _Three_\n"


@pytest.mark.parametrize(
    "mark", ["class='entry-content'", "itemprop=articleBody", "class='post e-content'", "id=post-body"]
)
def test_an_article_that_marks_its_own_text_gives_that(write: Write, mark: str) -> None:
    page = (
        "<html><body><article><header><h1>Rain</h1><div>Ann, 4 May, 3 minutes</div></header>"
        f"<div {mark}><div class='post-meta'>Filed under rain</div><p>It rained for days.</p><p>Then it snowed.</p>"
        "<div class='jp-relatedposts'><p>You may also like: Snow</p></div></div>"
        "<div><p>Follow me.</p></div></article></body></html>"
    )
    assert read_text(write("a.html", page)) == "It rained for days.\n\nThen it snowed.\n"


def test_a_story_is_read_without_its_summary_and_what_is_only_heard(write: Write) -> None:
    page = (
        "<html><body><div id=main><h3 class='landmark heading'>Summary</h3><div class=userstuff><p>Of rain.</p></div>"
        f"<div class='userstuff module'><h3 class='landmark'>Text</h3>{'<p>It rained for days.</p>' * 3}"
        "<p>So<span class='screen-reader-text'> (a link)</span>.</p></div></div></body></html>"
    )
    assert read_text(write("a.html", page)) == "It rained for days.\n\n" * 3 + "So.\n"


def test_an_article_whose_mark_is_on_a_part_of_it_is_read_whole(write: Write) -> None:
    page = "<html><body><article>%s<div class='entry-content'><p>So.</p></div></article></body></html>"
    long = "<p>It rained for days, and nobody went out.</p>" * 3
    assert read_text(write("a.html", page % long)).endswith("out.\n\nSo.\n")
    twice = "<div class='entry-content'><p>It rained.</p></div><div class='entry-content'><p>It snowed.</p></div>"
    assert (
        read_text(write("b.html", f"<html><body><article>{twice}</article></body></html>"))
        == "It rained.\n\nIt snowed.\n"
    )


def test_verse_in_divs_keeps_its_stanzas(write: Write) -> None:
    stanza = "<div class='stanza'><div class='line'>Tyger, tyger</div><div class='line'>burning</div></div>"
    assert read_text(write("a.html", f"<html><body>{stanza * 3}</body></html>")) == "\n".join(
        ["Tyger, tyger\nburning\n"] * 3
    )


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("<html><meta charset=windows-1251><p>Мастер</p>".encode("cp1251"), "auto"),
        ("<html><meta http-equiv=a content='text/html; charset=iso-8859-1'><p>“Œuvre”</p>".encode("cp1252"), "auto"),
        ("<html><meta charset=utf-8><p>“Œuvre” et café, déjà vu à l’été</p>".encode("cp1252"), "auto"),
        ("<html><p>Œuvre</p>".encode("utf-16"), "auto"),
        ("<html><meta charset=utf-8><p>Œuvre</p>".encode("cp1252"), "cp1252"),
    ],
)
def test_the_encoding_of_a_page_is_what_it_says_if_that_fits(write: Write, data: bytes, encoding: str) -> None:
    assert read_text(write("a.html", data), encoding=encoding).strip("“”\n")[:5] in ("Масте", "Œuvre")


def test_a_page_that_is_nested_deeply_is_read_at_once(write: Write) -> None:
    start = time.process_time()
    assert read_text(write("a.html", "<html>" + "<div>" * 100_000 + "x")) == "x\n"
    italics = "".join(f"<i id={i}>" for i in range(1_000))
    assert read_text(write("b.html", f"<html>{italics}" + "<p>x" * 10_000)).count("x") == 10_000
    assert time.process_time() - start < 3


def test_no_page_takes_quadratic_time(write: Write) -> None:
    parts = ["<!--", "<a ", '<a x="', "<a x='", "<", "</", "<!", "<?", "&#", "&", "<script>", "<p>", "<ul><li>", "</p>"]
    for part in parts:
        start = time.process_time()
        with contextlib.suppress(TextTooShort):
            read(write("a.html", "<html>" + part * (30_000 // len(part))))
        assert time.process_time() - start < 1, part


# -- Markdown


def strip(text: str) -> str:
    return strip_markdown(text, DropLog())


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("# Title #\n\nText\n", "Title\n\nText\n"),
        ("Title\n=====\nText", "Title\nText\n"),
        ("a [link](http://x/y_(z)) and [another][1]\n\n[1]: http://x\n", "a link and another\n"),
        ("![cat](cat.png)\nIt *is* a **cat**, __so__ there_is_a cat", "\nIt _is_ a cat, so there_is_a cat\n"),
        ("a\n```py\nx = 1\n```\nb", "a\nb\n"),
        ("a\n{% highlight rust %}\nx\n{% endhighlight %}\nb\n{{< high py >}}\ny\n{{< /high >}}\nc", "a\nb\nc\n"),
        ("`Vec<u8>` and ``a*b*c``", "Vec<u8> and a*b*c\n"),
        ("> quoted\n> lines", "quoted\nlines\n"),
        ("one  \ntwo\\\nthree<br>\nfour", "one\ntwo\nthree\nfour\n"),
        ("a\n\n***\n\nb", "a\n\n\nb\n"),
        ("note[^1]\n\n[^1]: The note.", "note\n"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n\nafter", "\nafter\n"),
        ("- [One](#one)\n- [Two](#two)\n\n- salt\n* oil", "\n- salt\n* oil\n"),
        (
            "[[Page|words]] [[Page]] <https://x.org/a> <b>bold</b> &amp; \\*star\\*",
            "words Page https://x.org/a bold & *star*\n",
        ),
        ("a <!-- b\nc -->d", "a d\n"),
        ("    Indented\n  verse", "    Indented\n  verse\n"),
        ("```\nnever closed", "never closed\n"),
        ("It was 100%% so.\n%%\nA remark\nof mine\n%%\nAnd 50%% %%here%% so.\n", "It was 100%% so.\nAnd 50%% so.\n"),
        ("* TOC\n{:toc}\n\n[TOC]\n\nRain\n: It falls.\n\nThe CSS\n\n*[CSS]: styles\n", "Rain\nIt falls.\n\nThe CSS\n"),
        (
            "One.\n\n<script async>\nvar a = '*b*';\n</script>\n<style>p { x: y }</style>\n\n"
            "<pre>\nverse\n  here</pre>\n\n"
            '<pre class="a"><code>x = 1\n</code></pre>\n\nTwo <script>never closed',
            "One.\n\nverse\n  here\n\nTwo never closed\n",
        ),
        (
            "One.\n\n![cat](cat.png)\n\nTwo.\n{{< video a >}}\nThree.\n\n```\nx\n```\n\n<hr/>\n\nFour.",
            "One.\n\nTwo.\nThree.\n\nFour.\n",
        ),
        ("One.\n\n\n[a]: http://x\n\nTwo.\n\n<!-- a -->\n", "One.\n\n\nTwo.\n"),
        ("A ![cat](cat.png) and a <b>dog</b> {{ x }}.\n- ![cat](a.png)\n- \n1. {{ x }}\n", "A and a dog .\n"),
        (
            "It rained.[^1]\n\n[^1]: The note goes\n  on.\n\n    And on.\n\nSo.\n[^2]: Another\nhere.\n\nEnd.",
            "It rained.\n\nSo.\n\nEnd.\n",
        ),
        ("> [!TIP] Rain\n> It *rains*.\n>\n> ```sh\n> x\n> ```\n\n> [!note]-\n> So.\n", "Rain\nIt _rains_.\n\nSo.\n"),
        ("> | a | b |\n> |---|---|\n> | 1 | 2 |\n>\n> after", "after\n"),
        ("- [ ] salt\n- [x] oil\n- [y](http://x)\n1. [X] a list[x]", "- salt\n- oil\n- y\n1. a list[x]\n"),
        (
            "==marked==, ~~struck\nout~~, a == b, :smile: at 12:30:45 %%remark%% end ^block-1\n#tag #other/one\nnot #1",
            "marked, struck\nout, a == b, at 12:30:45 end\nnot #1\n",
        ),
        (
            '# One {#one}\n\n[a](http://x){:target="_blank"}\n{: .a}\n:::tip Rain\nSo.\n:::\n!!! b "Rain"\n    Here.',
            "One\n\na\nRain\nSo.\nRain\n    Here.\n",
        ),
        ('import A from "./a.mdx";\n\nimport is a word from here.\n', "import is a word from here.\n"),
        ('![a [b] (c)](d.png "e (f) + (g)")', ""),
    ],
)
def test_markdown_gives_its_words(markdown: str, text: str) -> None:
    assert strip(markdown) == text.lstrip("\n")


@pytest.mark.parametrize(
    "matter",
    [
        'author: "Ann Lee"  # that is me',
        "author: [Ann Lee]",
        "Authors:\n  - 'Ann Lee'",
        "authors:\n- name: Ann Lee\n  url: https://example.org",
        "author:\n  name: Ann Lee\n  twitter: ann",
    ],
    ids=["comment", "list", "lines", "fields", "named"],
)
def test_front_matter_names_an_author_in_many_ways(write: Write, matter: str) -> None:
    path = write("a.md", f"---\ntitle: Rain\n{matter}\ndraft: no\n---\nIt rained.\n")
    assert read(path).files[0].author == "Ann Lee"


def test_several_authors_of_a_post_are_all_named(write: Write) -> None:
    for number, matter in enumerate(('authors: ["Ann", Ben]', "authors:\n  - Ann\n  - Ben")):
        assert read(write(f"{number}.md", f"---\n{matter}\n---\nIt rained.\n")).files[0].author == "Ann, Ben"


@pytest.mark.parametrize(
    "matter",
    [
        '---\ntitle: "Rain"\nauthor: Ann\ndate: 2020-01-02\n---\n',
        "+++\ntitle = 'Rain'\nauthor = 'Ann'\ndate = 2020-01-02\n+++\n",
    ],
)
def test_front_matter_gives_title_author_and_date(write: Write, matter: str) -> None:
    path = write("a.md", matter + "It rained.\n")
    (file,) = read(path).files
    assert (file.title, file.author, file.date) == ("Rain", "Ann", "2020-01-02")
    assert read_text(path) == "It rained.\n"


def test_a_line_before_a_scene_is_not_front_matter(write: Write) -> None:
    assert read_text(write("a.md", "---\n\nAnn: It rains.\n\n---\n\nBen: So.\n")).startswith("Ann: It rains.")
    assert read_text(write("c.md", "---\n\ntags: [a]\n\n---\nIt rained.\n")) == "It rained.\n"
    assert read_text(write("b.md", "---\n\nA scene.\n\n---\n\nAnother.\n")) == "A scene.\n\n\nAnother.\n"


def test_a_list_of_authors_is_searched_in_linear_time(write: Write) -> None:
    start = time.process_time()
    matter = f"title: A\nauthor:\n  -{' ' * 5_000}:\n  - Ann Bell"
    assert read_text(write("a.md", f"---\n{matter}\n---\n\nIt rained.\n")) == "It rained.\n"
    assert time.process_time() - start < 1.5


def test_no_markdown_takes_quadratic_time() -> None:
    parts = ["<!--", "[", "[a](", "*a", "**a", "__a", "`", "``a", "<a ", "{{", "{%"]
    parts += [
        "%%",
        "%%a",
        "==a",
        "~~a",
        ":a",
        " ^abcd",
        "> [!",
        "[^a]: b",
        "- [ ] ",
        "[a](b(c)",
        "![a[b]",
        "[a](()",
        "\ue004",
        "<b>",
    ]
    parts += ["![", "[[", "> ", "# ", "\\", "&", "|-|", "* ", "[^"]
    texts = [text for part in parts for text in (part * (30_000 // len(part)), (part + "\n") * 5_000)]
    spaces = " " * 5_000
    texts += [f":::{spaces}[[", f"!!! a{spaces}b"]
    for text in texts:
        start = time.process_time()
        strip(text)
        assert time.process_time() - start < 1.5, text[:20]


# -- what is shown


def test_excerpts_show_the_beginning_the_end_and_places_between(write: Write) -> None:
    text = "".join(f"Line {i} of the text.\n" for i in range(1_000))
    found = choose_excerpts(read(write("a.txt", text)))
    assert [excerpt.place for excerpt in found] == list(PLACES)
    assert found[0].text.startswith("Line 0 of") and found[-1].text.endswith("Line 999 of the text.")
    assert all(excerpt.text.startswith("Line") for excerpt in found)
    assert [excerpt.text for excerpt in choose_excerpts(read(write("b.txt", "One.")))] == ["One."]


def test_comments_in_an_article_go_however_long_they_are_where_there_is_an_article(write: Write) -> None:
    story = "<p>It rained, and nobody went out that day.</p>" * 30
    comment = "<li id='comment-%d'><p>" + "I was there, and it did not rain at all. " * 200 + "</p></li>"
    comments = "<div id='comments'><h2>Comments</h2><ol>" + "".join(comment % n for n in range(3)) + "</ol></div>"
    page = "<!doctype html><html><body><article>%s</article></body></html>"
    path = write("a.html", page % (story + comments))
    assert "I was there" not in read_text(path) and read_text(path).count("It rained") == 30
    assert list_dropped(path)["comments"][0] == 1
    assert "I was there" in read_text(write("b.html", page % ("<p>What do you say?</p>" + comments)))
    about = "<div class='comments'>" + "<p>Some comments on the weather, which is a long story.</p>" * 90 + "</div>"
    assert "Some comments" in read_text(write("c.html", page % (story + about)))
    nested = "<div class='comments'>" * 300 + comments * 40
    assert measure_reading(write("d.html", page % (story + nested))) < 3


def test_the_source_of_a_latex_document_is_an_error_that_says_what_to_do(write: Write) -> None:
    source = "% My thesis\n\\documentclass{book}\n\\begin{document}\nIt rained.\n\\end{document}\n"
    path = write("thesis.tex", source)
    with pytest.raises(TextUnreadable, match="LaTeX") as error:
        read(path)
    assert "pandoc thesis.tex" in error.value.hint
    assert read_text(path, format="text") == source
    assert read_text(write("plain.tex", "It rained.\n")) == "It rained.\n"
