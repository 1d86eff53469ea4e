"""Word, OpenDocument, RTF, EPUB, FictionBook and Scrivener give the text that their programs show."""

from __future__ import annotations

import contextlib
import io
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from epigone.corpus.corpus import Corpus, read_corpus
from epigone.corpus.readers import limits
from epigone.corpus.readers.css import StyleSheet
from epigone.errors import TextError, TextNotFound, TextUnreadable
from epigone.settings import ReadSettings

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
OFFICE = "urn:oasis:names:tc:opendocument:xmlns:"
ODF = " ".join(f'xmlns:{name}="{OFFICE}{name}:1.0"' for name in ("office", "text", "style"))
ODF += f' xmlns:fo="{OFFICE}xsl-fo-compatible:1.0"'
DC = 'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/"'


def zip_parts(parts: Mapping[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def make_docx(body: str, styles: str = "", **parts: str) -> bytes:
    document = f"<w:document {W}><w:body>{body}</w:body></w:document>"
    core = "<dc:title>T</dc:title><dc:creator>A</dc:creator><dcterms:created>2020-01-02T0</dcterms:created>"
    found = {
        "[Content_Types].xml": "<Types/>",
        "word/document.xml": document,
        "docProps/core.xml": f"<c {DC}>{core}</c>",
    }
    return zip_parts(found | {"word/styles.xml": f"<w:styles {W}>{styles}</w:styles>"} | parts)


def make_odt(body: str, styles: str = "") -> bytes:
    content = f"<office:document-content {ODF}><office:automatic-styles>{styles}</office:automatic-styles>"
    content += f"<office:body><office:text>{body}</office:text></office:body></office:document-content>"
    mimetype = "application/vnd.oasis.opendocument.text"
    return zip_parts({"mimetype": mimetype, "META-INF/manifest.xml": "<m/>", "content.xml": content})


def make_epub(pages: Mapping[str, str], package: str = "", **parts: str) -> bytes:
    items = "".join(
        f"<item id='i{i}' href='{name}' media-type='application/xhtml+xml'/>" for i, name in enumerate(pages)
    )
    spine = "".join(f"<itemref idref='i{i}'/>" for i in range(len(pages)))
    opf = f"""<package xmlns="http://www.idpf.org/2007/opf" {DC}><metadata><dc:title>The Book</dc:title>
    <dc:creator>Ann</dc:creator></metadata><manifest>{items}</manifest><spine>{spine}</spine>{package}</package>"""
    container = '<c xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfile full-path="O/b.opf"/></c>'
    chapters = {
        f"O/{name}": f'<?xml version="1.0"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops">{page}</html>'
        for name, page in pages.items()
    }
    return zip_parts(
        {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "O/b.opf": opf} | chapters | parts
    )


def read(tmp_path: Path, data: bytes, name: str = "novel") -> Corpus:
    (tmp_path / name).write_bytes(data)
    return read_corpus([str(tmp_path / name)], ReadSettings(), smallest_bytes=1)


def read_text(tmp_path: Path, data: bytes, name: str = "novel") -> str:
    (document,) = read(tmp_path, data, name).documents
    return str(document.text)


def list_dropped(corpus: Corpus) -> dict[str, int]:
    return {part.what: part.count for part in corpus.files[0].dropped}


def p(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t xml:space='preserve'>{text}</w:t></w:r></w:p>"


# -- Word


def test_a_word_document_gives_paragraphs_lines_and_italics(tmp_path: Path) -> None:
    body = p("Chapter I") + "<w:p><w:r><w:t>He was </w:t></w:r><w:r><w:rPr><w:i/></w:rPr><w:t>never</w:t></w:r><w:r>"
    body += "<w:t> there.</w:t><w:br/><w:t>A line</w:t><w:tab/><w:t>more</w:t></w:r></w:p>"
    spaced = "<w:docDefaults><w:pPrDefault><w:pPr><w:spacing w:after='160'/></w:pPr></w:pPrDefault></w:docDefaults>"
    corpus = read(tmp_path, make_docx(body, spaced))
    assert str(corpus.documents[0].text) == "Chapter I\n\nHe was _never_ there.\nA line more\n"
    (file,) = corpus.files
    assert (file.format, file.title, file.author, file.date) == ("docx", "T", "A", "2020-01-02")


def test_a_word_document_loses_notes_comments_contents_and_deleted_text(tmp_path: Path) -> None:
    body = p("Kept.") + "<w:p><w:del><w:r><w:t>gone</w:t></w:r></w:del><w:r><w:footnoteReference w:id='2'/></w:r>"
    body += "<w:r><w:instrText>PAGE</w:instrText><w:rPr><w:vanish/></w:rPr><w:t>secret</w:t></w:r></w:p>"
    body += p("Chapter I ... 3", "<w:pStyle w:val='TOC1'/>")
    styles = "<w:style w:type='paragraph' w:styleId='TOC1'><w:name w:val='toc 1'/></w:style>"
    note = "<w:footnote><w:p><w:r><w:t>A note.</w:t></w:r></w:p></w:footnote>"
    parts = {
        "word/footnotes.xml": f"<w:footnotes {W}>{note}</w:footnotes>",
        "word/header1.xml": f"<w:hdr {W}><w:p><w:r><w:t>Ann / Novel</w:t></w:r></w:p></w:hdr>",
    }
    corpus = read(tmp_path, make_docx(body, styles, **parts))
    assert str(corpus.documents[0].text) == "Kept.\n"
    assert list_dropped(corpus) == {
        **{"deleted text": 1, "footnote marks": 1, "hidden parts": 1, "tables of contents": 1},
        **{"footnotes": 1, "running heads": 1},
    }


def test_verse_in_word_is_lines_and_prose_without_space_is_paragraphs(tmp_path: Path) -> None:
    stanza = "".join(p(f"Line {i} of the song") for i in range(4))
    verse = read_text(tmp_path, make_docx(stanza + p("") + stanza))
    lines = "".join(f"Line {i} of the song\n" for i in range(4))
    assert verse == f"{lines}\n{lines}"
    prose = read_text(tmp_path, make_docx(p("He went out into the rain, and did not come back that day. " * 3) * 20))
    assert prose.count("\n\n") == 19


# -- OpenDocument


def test_an_opendocument_text_gives_paragraphs_lines_spaces_and_italics(tmp_path: Path) -> None:
    italic = "<style:text-properties fo:font-style='italic'/>"
    space = "<style:paragraph-properties fo:margin-top='0.2in'/>"
    styles = f"<style:style style:name='T1' style:family='text'>{italic}</style:style>"
    styles += f"<style:style style:name='S' style:family='paragraph'>{space}</style:style>"
    body = "<text:h>Songs</text:h><text:p text:style-name='S'>One<text:line-break/><text:s text:c='2'/>two <text:span "
    body += "text:style-name='T1'>so</text:span>.<text:note><text:note-citation>1</text:note-citation><text:note-body>"
    body += "<text:p>Note</text:p></text:note-body></text:note></text:p><text:p text:style-name='S'>Three.</text:p>"
    corpus = read(tmp_path, make_odt(body, styles))
    assert str(corpus.documents[0].text) == "Songs\n\nOne\n  two _so_.\n\nThree.\n"
    assert list_dropped(corpus) == {"footnotes": 1}


# -- RTF


def test_rtf_gives_text_in_all_its_encodings(tmp_path: Path) -> None:
    text = rb"""{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset0 Times;}{\f1\fcharset204 Times;}}{\info{\title A Tale}}
{\header Ann}\pard\sa200 Caf\'e9 \u8220?\i never\i0\u8221? \{so\}\line two\par
{\f1 \'cc\'e0}\emdash{\footnote note}\uc2\u20320\'c4\'e3.\par{\*\unknown x}{\v hidden}}"""
    corpus = read(tmp_path, text)
    assert str(corpus.documents[0].text) == "Café “_never_” {so}\ntwo\n\nМа—你.\n"
    assert corpus.files[0].title == "A Tale"
    assert list_dropped(corpus) == {"running heads": 1, "footnotes": 1, "hidden parts": 1}


def test_rtf_takes_linear_time(tmp_path: Path) -> None:
    for part in (rb"\'e", rb"\u8220?", rb"\i ", b"\\", rb"{}", rb"\bin9 ", rb"\par "):
        start = time.process_time()
        with contextlib.suppress(TextError):
            read(tmp_path, rb"{\rtf1 x" + part * (20_000 // len(part)))
        assert time.process_time() - start < 2, part
    with pytest.raises(TextUnreadable, match="nested"):
        read(tmp_path, rb"{\rtf1 " + b"{" * 100_000)


# -- EPUB


CHAPTER = "<head><style>.v {{ margin: 0 }} i.n {{ font-style: normal }}</style></head><body>{}</body>"


def test_an_ebook_gives_its_chapters_in_reading_order(tmp_path: Path) -> None:
    verse = "".join(f"<p class='v'>Line {i}&nbsp;of it</p>" for i in range(5))
    pages = {
        "b.xhtml": CHAPTER.format("<h1>One</h1><p>It <i>was</i> <i class='n'>not</i>.<br/>So.</p>"),
        "a.xhtml": CHAPTER.format(f"<h1>Two</h1>{verse}<p>A<a epub:type='noteref' href='n.xhtml#1'>1</a> end.</p>"),
    }
    corpus = read(tmp_path, make_epub(pages))
    lines = "\n".join(f"Line {i} of it" for i in range(5))
    assert str(corpus.documents[0].text) == f"One\n\nIt _was_ not.\nSo.\n\n\nTwo\n\n{lines}\n\nA end.\n"
    assert (corpus.files[0].title, corpus.files[0].author) == ("The Book", "Ann")
    assert list_dropped(corpus)["footnote marks"] == 1


def test_an_ebook_loses_what_is_around_the_text(tmp_path: Path) -> None:
    pages = {
        "cover.xhtml": "<body><img src='c.jpg'/></body>",
        "toc.xhtml": "<body epub:type='toc'><p>Chapter I</p></body>",
        "rights.xhtml": "<body><p>Copyright © 2020 Ann. All rights reserved. ISBN 1234</p></body>",
        "one.xhtml": "<body><p>It rained<span epub:type='pagebreak'>17</span>.</p></body>",
        "ad.xhtml": "<body><p>Also by Ann</p></body>",
        "notes.xhtml": "<body><section epub:type='endnotes'><p>1. A note</p></section></body>",
    }
    guide = "<guide><reference type='title-page' href='ad.xhtml'/></guide>"
    corpus = read(tmp_path, make_epub(pages, guide))
    assert str(corpus.documents[0].text) == "It rained.\n"
    assert list_dropped(corpus) == {
        **{"covers": 1, "tables of contents": 1, "licences and imprints": 1},
        **{"page numbers": 1, "title pages": 1, "footnotes": 1},
    }


def test_a_chapter_that_is_not_xml_is_read_as_a_page(tmp_path: Path) -> None:
    assert read_text(tmp_path, make_epub({"a.html": "<body><p>One & two<p>three<br>four</body>"})) == (
        "One & two\n\nthree\nfour\n"
    )


def test_a_book_on_one_page_loses_its_title_page_and_notes_and_nothing_else(tmp_path: Path) -> None:
    page = (
        "<body><section epub:type='frontmatter'><section epub:type='titlepage'><h1>The Book</h1></section></section>"
        "<section epub:type='bodymatter'><h2>One</h2><p>It rained.<span class='linenum'>10</span></p>"
        "<section><h2>Two</h2><div epub:type='epigraph'><p>So it goes.</p></div><p>It rained on.</p></section>"
        "</section><section epub:type='backmatter rearnotes'><p>1. In spring.</p></section></body>"
    )
    guide = "<guide><reference type='toc' href='a.xhtml#contents'/></guide>"
    corpus = read(tmp_path, make_epub({"a.xhtml": page}, guide))
    assert str(corpus.documents[0].text) == "One\n\nIt rained.\n\nTwo\n\nSo it goes.\n\nIt rained on.\n"
    assert list_dropped(corpus) == {"line numbers": 1, "title pages": 1, "footnotes": 1}


def test_each_chapter_of_a_book_looks_as_its_own_style_sheets_say(tmp_path: Path) -> None:
    said = "<body><p class='x'>It rained.</p></body>"
    link, style = "<link rel='stylesheet' href='s.css'/>", "<style>.x { font-style: normal }</style>"
    pages = {"a.xhtml": link + said, "b.xhtml": said, "c.xhtml": link + style + said, "d.xhtml": link + said}
    book = make_epub(pages, **{"O/s.css": ".x { font-style: italic }"})
    assert read_text(tmp_path, book) == "_It rained._\n\n\nIt rained.\n\n\nIt rained.\n\n\n_It rained._\n"


def test_a_style_sheet_is_read_in_linear_time() -> None:
    start = time.process_time()
    StyleSheet.parse("p" * 300_000)
    StyleSheet.parse("{" * 300_000 + "}")
    assert time.process_time() - start < 2
    sheet = StyleSheet.parse("@media print { p.a { margin: 0 } } .b, i { font-style: italic }")
    assert sheet.looks["p.a"].spaced is False and sheet.looks[".b"].italic and sheet.looks["i"].italic


def test_a_protected_or_damaged_ebook_is_refused(tmp_path: Path) -> None:
    book = make_epub({"a.xhtml": "<body><p>x</p></body>"}, **{"META-INF/encryption.xml": "<encryption/>"})
    with pytest.raises(TextUnreadable, match="DRM"):
        read(tmp_path, book)
    with pytest.raises(TextUnreadable, match="damaged"):
        read(tmp_path, make_epub({"a.xhtml": "<body/>"})[:-200])


# -- FictionBook


def test_fictionbook_gives_chapters_and_verse(tmp_path: Path) -> None:
    book = """<?xml version="1.0" encoding="windows-1251"?>
<FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0"><description><title-info><author><first-name>Анна
</first-name></author><book-title>Дождь</book-title></title-info></description><body><title><p>Глава</p><p>первая</p>
</title><section><p>Шёл <emphasis>дождь</emphasis><a type="note">1</a>.</p><empty-line/><p>Да.</p><poem><stanza>
<v>Раз</v><v>два</v></stanza><stanza><v>три</v></stanza></poem></section></body><body name="notes"><p>Сноска</p></body>
<binary id="x">AAAA</binary></FictionBook>"""
    corpus = read(tmp_path, book.encode("cp1251"))
    assert str(corpus.documents[0].text) == ("Глава\nпервая\n\nШёл _дождь_.\n\n\nДа.\n\nРаз\nдва\n\nтри\n")
    assert (corpus.files[0].title, corpus.files[0].author) == ("Дождь", "Анна")
    assert list_dropped(corpus) == {"footnote marks": 1, "footnotes": 1, "images": 1}


# -- Scrivener


def test_a_scrivener_project_gives_the_manuscript_in_its_order(tmp_path: Path) -> None:
    project = tmp_path / "novel.scriv"
    for name, text in (("B-2", "First."), ("A-1", "Second."), ("C-3", "Research.")):
        (project / "Files" / "Data" / name).mkdir(parents=True)
        (project / "Files" / "Data" / name / "content.rtf").write_bytes(rb"{\rtf1 " + text.encode() + b"}")
    items = "<BinderItem UUID='D' Type='DraftFolder'><Children><BinderItem UUID='B-2' Type='Text'/>"
    items += "<BinderItem UUID='A-1' Type='Text'/></Children></BinderItem><BinderItem UUID='C-3' Type='Text'/>"
    (project / "novel.scrivx").write_text(f"<ScrivenerProject><Binder>{items}</Binder></ScrivenerProject>", "utf-8")
    corpus = read_corpus([str(project)], ReadSettings(), smallest_bytes=1)
    assert [str(document.text) for document in corpus.documents] == ["First.\n", "Second.\n"]
    assert len(corpus.skipped) == 1
    (project / "novel.scrivx").write_text("<ScrivenerProject/>", "utf-8")
    with pytest.raises(TextNotFound, match="manuscript"):
        read_corpus([str(project)], ReadSettings())


# -- what wants too much


BOMB = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]>"


@pytest.mark.parametrize("kind", ["docx", "odt", "epub", "fb2"])
@pytest.mark.parametrize("declaration", [BOMB, "<!DOCTYPE x [<!ENTITY % p SYSTEM 'file:///etc/passwd'> %p;]>"])
def test_documents_that_declare_entities_are_refused(tmp_path: Path, kind: str, declaration: str) -> None:
    page = f"{declaration}<FictionBook><body><p>&b;</p></body></FictionBook>"
    data = {
        "docx": make_docx("", **{"word/document.xml": page}),
        "odt": zip_parts({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": page}),
        "epub": make_epub({"a.xhtml": ""}, **{"O/b.opf": page}),
        "fb2": page.encode(),
    }[kind]
    with pytest.raises(TextUnreadable, match="declares"):
        read(tmp_path, data, f"x.{kind}" if kind != "fb2" else "x.xml")


def test_a_document_that_expands_far_beyond_its_size_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RATIO_FROM_BYTES", 1 << 20)
    with pytest.raises(TextUnreadable, match="times its size"):
        read(tmp_path, make_docx(p("a" * 3_000_000)))


def test_elements_that_are_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TextUnreadable, match="nested"):
        read(tmp_path, make_docx("<w:p>" * 5_000 + "</w:p>" * 5_000))


def test_a_text_box_of_word_is_read_once_behind_the_paragraph_that_it_is_in(tmp_path: Path) -> None:
    box = "<w:txbxContent>" + p("In the box.") + p("Still in it.") + "</w:txbxContent>"
    modern = (
        '<w:r><mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        f"<mc:Choice><w:drawing>{box}</w:drawing></mc:Choice><mc:Fallback><w:pict>{box}</w:pict></mc:Fallback>"
        "</mc:AlternateContent></w:r>"
    )
    old = f"<w:r><w:pict>{box}</w:pict></w:r>"
    around = "<w:p><w:r><w:t>One </w:t></w:r>%s<w:r><w:t>and two.</w:t></w:r></w:p>" + p("Three.")
    expected = "One and two.\n\nIn the box.\n\nStill in it.\n\nThree.\n"
    for made in (modern, old):
        corpus = read(tmp_path, make_docx(around % made))
        assert str(corpus.documents[0].text) == expected
        assert not corpus.files[0].dropped
    alone = read(tmp_path, make_docx(p("One.") + f"<w:p>{modern}</w:p>" + p("Two.")))
    assert str(alone.documents[0].text) == "One.\n\nIn the box.\n\nStill in it.\n\nTwo.\n"
    inner = f"<w:txbxContent>{p('Deep.')}<w:p>{old}</w:p></w:txbxContent>"
    nested = read(tmp_path, make_docx(f"<w:p><w:r><w:pict>{inner}</w:pict><w:drawing/></w:r></w:p>" + p("End.")))
    assert str(nested.documents[0].text) == "Deep.\n\nIn the box.\n\nStill in it.\n\nEnd.\n"
    assert [(part.what, part.count) for part in nested.files[0].dropped] == [("images", 1)]


def test_a_line_that_is_drawn_in_rtf_counts_for_nothing_and_a_text_box_shows_its_text(tmp_path: Path) -> None:
    shape = r"{\shp{\*\shpinst\shpleft0{\sp{\sn shapeType}{\sv 1}}{\sp{\sn lineColor}{\sv 0}}%s}}"
    line, box = shape % "", shape % r"{\shptxt A box.}"
    body = rf"{{\rtf1\ansi One.\par {line}\par Two.\par {box}\par Three.\par}}"
    corpus = read(tmp_path, body.encode(), "x.rtf")
    assert str(corpus.documents[0].text).split() == ["One.", "Two.", "Three."]
    (dropped,) = corpus.documents[0].receipt.dropped
    assert (dropped.what, dropped.count, dropped.example) == ("text boxes", 1, "A box.")


def test_notes_as_calibre_and_libreoffice_write_them_are_left_out(tmp_path: Path) -> None:
    note = "<dl id='note_1' class='footnote'><dt>[<a href='a.xhtml#b'>\u21901</a>]</dt><dd><p>A note.</p></dd></dl>"
    chapter = "<p>One.<a href='b.xhtml#note_1' class='footnote'>1</a></p><p class='x'>Two.</p>"
    book = read(tmp_path, make_epub({"a.xhtml": chapter, "b.xhtml": f"<h1>Notes</h1>{note}"}), "x.epub")
    assert str(book.documents[0].text) == "One.\n\nTwo.\n"
    assert {part.what: part.count for part in book.files[0].dropped} == {"footnote marks": 1, "footnotes": 2}
    page = (
        "<!DOCTYPE html><html><body><div title='header'><p>1</p></div><p>One.</p><p>Notes</p>"
        "<div id='sdfootnote1'><p class='sdfootnote'>1 A note.</p></div><div title='so'><p>Two.</p></div></body></html>"
    )
    made = read(tmp_path, page.encode(), "x.html")
    assert str(made.documents[0].text) == "One.\n\nNotes\n\nTwo.\n"


def test_a_row_of_a_table_is_a_line_and_a_cell_with_a_text_in_it_is_that_text(tmp_path: Path) -> None:
    def row(*cells: str) -> str:
        return "<w:tr>" + "".join(f"<w:tc>{cell}</w:tc>" for cell in cells) + "</w:tr>"

    table = f"<w:tbl>{row(p('Name'), p('Age'))}{row(p('Ann'), p('3'))}{row(p(''), p(''))}</w:tbl>"
    long = [
        "It rained on the left. " * 9,
        "It rained some more. " * 9,
        "It rained on the right. " * 9,
        "It ended. " * 9,
    ]
    laid_out = f"<w:tbl>{row(p(long[0]) + p(long[1]), p(long[2]))}</w:tbl>"
    made = read(tmp_path, make_docx(p("One.") + table + p("Two.") + laid_out + p(long[3])))
    expected = ["One.", "Name Age\nAnn 3", "Two.", *(text.strip() for text in long)]
    assert str(made.documents[0].text) == "\n\n".join(expected) + "\n"
    cells = "".join(f"<table:table-cell><text:p>{text}</text:p></table:table-cell>" for text in ("Ann", "3"))
    space = "xmlns:table='urn:oasis:names:tc:opendocument:xmlns:table:1.0'"
    table = f"<table:table {space}><table:table-row>{cells}</table:table-row></table:table>"
    body = f"<text:p>One.</text:p>{table}<text:p>Two.</text:p>"
    assert str(read(tmp_path, make_odt(body), "x.odt").documents[0].text) == "One.\n\nAnn 3\n\nTwo.\n"
