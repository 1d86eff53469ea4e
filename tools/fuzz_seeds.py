"""Small documents of every family, with as much of its structure as fits, which `fuzz_readers.py` damages."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zlib
from collections.abc import Mapping

BODY = (
    "<h1 class='c'>Chapter One</h1><p class='noindent' id='a'>It <i>rained</i> &amp; snowed<a href='#n1'>1</a>.<br/>So."
    "</p><div class='stanza'><p>A line of verse</p><p>and <em>another</em></p></div><hr/>"
    "<table><tr><td>1</td><td>2</td></tr></table><ul><li>One</li><li>Two</li></ul>"
    "<blockquote>Quoted.</blockquote><aside epub:type='footnote' id='n1'><p>A note.</p></aside>"
)
XHTML = (
    "<?xml version='1.0'?><!DOCTYPE html><html xmlns='http://www.w3.org/1999/xhtml' "
    "xmlns:epub='http://www.idpf.org/2007/ops'><head><title>A</title><link rel='stylesheet' href='s.css'/>"
    f"<style>p.c {{ margin: 0 }}</style></head><body epub:type='bodymatter'>{BODY}</body></html>"
)
PAGE = (
    "<!DOCTYPE html><html><head><meta charset='utf-8'><title>Rain</title><meta name='author' content='Ann'>"
    "<script>var a = '</p>';</script></head><body><nav><ul><li><a href='/'>Home</a></ul></nav><main><article>"
    f"{BODY}<pre>x = 1</pre><p>Not closed<p hidden>Hidden<b><i>nested</b></i></article></main>"
    "<div class='comments'>No.</div><footer>&copy; 2020</footer></body></html>"
)
MARKDOWN = """---
title: "Rain"
date: 2020-01-02
---

# One

It *rained* **all** day, `code` and [a link](https://a.b "t")[^1] ![a](b.png) <b>tag</b> \\*.

| a | b |
|---|---|
| 1 | 2 |

> quoted
- item
1. [first](#one)

```python
x = 1
```

Two
---

<!-- hidden --> {{ x }} [[page|shown]] line  \nnext

[^1]: A note.
[a]: https://a.b
"""
ORG = """#+TITLE: Rain
#+DATE: <2020-01-02 Thu>

* TODO [#A] One [1/2]   :a:b:
  SCHEDULED: <2020-01-02 Thu>
  :PROPERTIES:
  :ID: 1
  :END:
It /rained/ *all* day, =code=, ~x~ +no+ [fn:1] [[https://a.b][a link]] [[file:b.png]] {{{x}}} @@html:b@@ <<t>> \\\\

- [X] item
- term :: words
| a | b |
: x = 1
#+BEGIN_SRC python
x = 1
#+END_SRC
#+begin_quote
Quoted.
#+end_quote
** COMMENT Two
-----
[fn:1] A note.
"""
RTF = (
    r"{\rtf1\ansi\ansicpg1252\uc1{\fonttbl{\f0\fcharset204 Arial;}}{\stylesheet{\s1\sb240 heading 1;}}"
    r"{\info{\title Rain}{\author Ann}}{\header Head\par}\pard\s1 One\par\pard\sa120 It {\i rained} \'e9\u8212?"
    r"{\footnote A note.}\line so\tab x.\par{\*\unknown\bin3 abc}{\field{\*\fldinst HYPERLINK}{\fldrslt link}}\par}"
)
FB2 = (
    '<?xml version="1.0" encoding="utf-8"?><FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0">'
    "<description><title-info><author><first-name>Ann</first-name></author><book-title>Rain</book-title>"
    "<date>2020</date></title-info></description><body><title><p>One</p></title><section><p>It "
    "<emphasis>rained</emphasis><a type='note'>1</a>.</p><empty-line/><poem><stanza><v>A line</v><v>Two</v></stanza>"
    "</poem><cite><p>Quoted.</p></cite></section></body><body name='notes'><section><p>A note.</p></section></body>"
    "<binary id='a'>AAAA</binary></FictionBook>"
)
WORDS = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
OFFICE = "urn:oasis:names:tc:opendocument:xmlns:"
DOCX = {
    "word/document.xml": f'<w:document xmlns:w="{WORDS}"><w:body><w:p><w:pPr><w:pStyle w:val="H"/><w:spacing '
    'w:before="240"/></w:pPr><w:r><w:rPr><w:i/></w:rPr><w:t xml:space="preserve">It rained </w:t></w:r><w:r>'
    '<w:footnoteReference w:id="1"/><w:br/><w:tab/><w:t>so.</w:t></w:r></w:p><w:p><w:pPr><w:numPr><w:numId w:val="1"/>'
    "</w:numPr></w:pPr><w:del><w:r><w:t>gone</w:t></w:r></w:del><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>"
    "</w:p><w:tbl><w:tr><w:tc><w:p><w:r><w:t>Cell</w:t></w:r></w:p></w:tc></w:tr></w:tbl></w:body></w:document>",
    "word/styles.xml": f'<w:styles xmlns:w="{WORDS}"><w:docDefaults><w:pPrDefault><w:pPr><w:spacing w:after="120"/>'
    '</w:pPr></w:pPrDefault></w:docDefaults><w:style w:type="paragraph" w:styleId="H" w:default="1"><w:name '
    'w:val="heading 1"/><w:basedOn w:val="H"/></w:style></w:styles>',
    "word/footnotes.xml": f'<w:footnotes xmlns:w="{WORDS}"><w:footnote w:id="1"><w:p><w:r><w:t>A note.</w:t></w:r>'
    "</w:p></w:footnote></w:footnotes>",
    "docProps/core.xml": '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-prope'
    'rties" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Rain</dc:title></cp:coreProperties>',
}
ODT_BODY = (
    f'xmlns:office="{OFFICE}office:1.0" xmlns:text="{OFFICE}text:1.0" xmlns:style="{OFFICE}style:1.0" '
    f'xmlns:fo="{OFFICE}xsl-fo-compatible:1.0"><office:automatic-styles><style:style style:name="P1" '
    'style:parent-style-name="S"><style:paragraph-properties fo:margin-top="0.2in"/><style:text-properties '
    'fo:font-style="italic"/></style:style></office:automatic-styles><office:body><office:text><text:h>One</text:h>'
    '<text:p text:style-name="P1">It <text:span text:style-name="P1">rained</text:span><text:s text:c="3"/><text:tab/>'
    "<text:note><text:note-body><text:p>A note.</text:p></text:note-body></text:note><text:line-break/>so.</text:p>"
    "<text:list><text:list-item><text:p>Item</text:p></text:list-item></text:list></office:text></office:body>"
)
ODT = {
    "mimetype": "application/vnd.oasis.opendocument.text",
    "content.xml": f"<office:document-content {ODT_BODY}</office:document-content>",
    "styles.xml": f'<office:document-styles xmlns:office="{OFFICE}office:1.0" xmlns:style="{OFFICE}style:1.0">'
    '<office:styles><style:style style:name="S" style:parent-style-name="S"/></office:styles></office:document-styles>',
}
EPUB = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
    'full-path="o/c.opf"/></rootfiles></container>',
    "o/c.opf": '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
    "<dc:title>Rain</dc:title><dc:creator>Ann</dc:creator></metadata><manifest><item id='a' href='a.xhtml' "
    "media-type='application/xhtml+xml'/><item id='n' href='n.xhtml' media-type='application/xhtml+xml' "
    "properties='nav'/><item id='s' href='s.css' media-type='text/css'/></manifest><spine><itemref idref='n'/><itemref "
    "idref='a'/></spine><guide><reference type='toc' href='n.xhtml'/></guide></package>",
    "o/a.xhtml": XHTML,
    "o/n.xhtml": XHTML.replace("bodymatter", "toc"),
    "o/s.css": "p.c, .stanza p { margin: 0 0 1em; font-style: italic } /* x */ @media x { p { margin: 0 } }",
}
WHATSAPP = """\u200e12/31/23, 11:58 PM - Messages and calls are end-to-end encrypted. Tap to learn more.
12/31/23, 11:58 PM - Ann: Happy new year! https://a.b/c
12/31/23, 11:59 PM - Ben: <Media omitted>
12/31/23, 11:59 PM - Ben: And to you,
both of you
1/1/24, 12:00 AM - Ann added Carl
1/1/24, 12:01 AM - Carl: This message was deleted
1/1/24, 12:02 AM - Carl: IMG-1.jpg (file attached) <This message was edited>
"""
IOS = """[31.12.23, 23:58:01] Rain: \u200eNachrichten sind Ende-zu-Ende-verschlüsselt.
[31.12.23, 23:58:02] Ann: Gutes neues Jahr!
\u200e[31.12.23, 23:59:00] Ben: \u200eBild weggelassen
[01.01.24, 00:00:00] Ben: \u200e<Anhang: 1-PHOTO.jpg>
[01.01.24, 00:01:00] ~ Ann: Danke
"""
IRC = """--- Log opened Tue May 29 21:20:00 2018
21:20 -!- ann [~ann@a.b] has joined #rust
21:20 <@ann> hi
21:21 < ben> ann: hello \x0304red
21:21  * ben waves
--- Day changed Wed May 30 2018
00:01 <@ann> bye
"""
MAIL = """From ann@a.b Fri May  3 10:00:00 2024
From: =?utf-8?q?Ann_S=C3=A9?= <ann@a.b>
Subject: Re: Rain
Date: Fri, 03 May 2024 10:00:00 +0000
Message-ID: <1@a.b>
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="=="

--==
Content-Type: text/plain; charset="utf-8"
Content-Transfer-Encoding: quoted-printable

It rained=20
all night=E2=80=94yes.

On Fri, May 3, 2024 at 9:00 AM Ben <ben@a.b> wrote:
> Did it rain?
--=20
Ann
--==
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: base64

PHA+SXQgcmFpbmVkLjwvcD4=
--==--

From ben@a.b Fri May  3 11:00:00 2024
From: ben@a.b
Subject: No
Content-Type: text/html

<p>No.</p><div class="gmail_quote">It rained.</div>
"""
SRT = """1
00:00:01,000 --> 00:00:02,500
<i>It rained</i>

2
00:00:02,600 --> 00:00:04,000
ANN: Did it?
- Yes.

3
00:00:09,000 --> 00:00:10,000
[thunder] {\\an8}So.
"""
TELEGRAM_PAGE = (
    '<!DOCTYPE html><html><body><div class="page_wrap"><div class="page_header"><div class="text bold">Rain</div></div>'
    '<div class="history"><div class="message service"><div class="body details">1 May 2024</div></div>'
    '<div class="message default clearfix" id="message1"><div class="body"><div class="pull_right date details" '
    'title="01.05.2024 10:11:12 UTC+01:00">10:11</div><div class="from_name">Ann</div><div class="text">It <b>rains</b>'
    '<br>and pours.</div></div></div><div class="message default clearfix joined"><div class="body">'
    '<div class="media_wrap">Photo</div></div></div><div class="message default">'
    '<div class="forwarded body"><div class="from_name">Ben</div>'
    '<div class="text">So.</div></div></div></div></div></body></html>'
)
DISCORD_PAGE = (
    "<!DOCTYPE html><html><head><style>.chatlog__message{color:red}</style></head><body><div class=preamble>"
    "<div class=preamble__entry>Club</div><div class=preamble__entry>Rain</div></div><div class=chatlog>"
    "<span class=chatlog__author>Ann</span><span class=chatlog__author-tag>BOT</span><span class=chatlog__timestamp>"
    "5/1/2024 10:11 AM</span><div class='chatlog__content chatlog__markdown'>It <b>rains</b>\n<img alt=x> <code "
    "class='chatlog__markdown-pre--multiline'>x = 1</code><span class=chatlog__edited-timestamp>(edited)</span></div>"
    "<span class=chatlog__author>Ben</span><div class=chatlog__content>So.</div><div class=chatlog__attachment>a</div>"
    "<span class=chatlog__system-notification-content>joined.</span></div></body></html>"
)
ASS = """[Script Info]
Title: Rain
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.00,Default,Ann,0,0,0,,{\\i1}It rained{\\i0},\\Nfor days.
Comment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,to do
Dialogue: 0,0:00:03.00,0:00:04.00,Default,Ben,0,0,0,,{\\p1}m 0 0 l 1 1
Dialogue: 0,0:00:09.00,0:00:10.00,Default,Ben,0,0,0,,Then it snowed.
"""
LRC = """[ti:Rain]
[ar: Ann Lee]

[00:01.00][00:31.00]It rained,
[00:05.50]<00:05.50>it <00:06.00>rained
[00:20.00]
[00:21.00]Then it snowed
"""
VTT = """WEBVTT - Rain

NOTE a note

STYLE
::cue { color: red }

1
00:01.000 --> 00:02.500 align:start
<v Ann>It rained.</v>

00:03.000 --> 00:04.000
<v Ben><00:03.500><c.x>Yes &amp; no.</c>
"""
CSV = 'id,author,title,text\n1,Ann,One,"It rained, and it ""snowed"""\n2,Ben,Two,"All\nnight long, so."\n3,,,\n'
ROWS: list[dict[str, object]] = [
    {
        "id": 1,
        "author": "Ann",
        "title": "One",
        "text": "It rained and \u2014 well \ud83d\ude00 \u0000 so.",
        "tags": ["a", "b"],
    },
    {"id": 2.5e3, "author": None, "text": ["All night", "long."], "meta": {"body": "x", "n": [1, [2, {"a": True}]]}},
]
CHAT = {
    "messages": [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": [{"type": "text", "text": "So."}]},
    ]
}
TELEGRAM: dict[str, object] = {
    "name": "Ann",
    "type": "personal_chat",
    "id": 1,
    "messages": [
        {"type": "service", "date": "2024-05-01T09:00:00", "action": "phone_call", "text": ""},
        {
            "type": "message",
            "date": "2024-05-01T10:00:00",
            "from": "Ann",
            "text": ["so ", {"type": "bold", "text": "yes"}],
        },
        {"type": "message", "date": "2024-05-02T10:00:00", "from": "Ben", "text": "no", "photo": "b.jpg"},
    ],
}
DISCORD = {
    "guild": {"id": "1", "name": "G"},
    "channel": {"id": "2", "name": "c"},
    "messages": [
        {
            "id": "3",
            "type": "Default",
            "timestamp": "2024-05-01T10:00:00",
            "content": "hi <@4>",
            "author": {"name": "ann"},
        },
        {
            "id": "4",
            "type": "Reply",
            "timestamp": "2024-05-02T10:00:00",
            "content": "yo",
            "author": {"name": "b", "isBot": True},
        },
    ],
}
PACKAGE = [{"ID": 2, "Timestamp": "2024-05-02 10:00:00", "Contents": "no 2", "Attachments": ""}]
TWEETS = [
    {
        "tweet": {
            "id_str": "1",
            "full_text": "@a It rained https://t.co/x",
            "created_at": "Wed May 01",
            "entities": {"urls": []},
        }
    },
    {"tweet": {"id_str": "2", "full_text": "RT @b: no", "in_reply_to_status_id_str": "1"}},
]

WORDPRESS = """<?xml version="1.0"?>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:wp="http://wordpress.org/export/1.2/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>B</title><item><title>A &amp; b</title>
<pubDate>Mon, 05 Mar 2012 10:11:12 +0000</pubDate><dc:creator>ann</dc:creator><description></description>
<content:encoded><![CDATA[It <em>rained</em>.

[gallery ids="1,2"]

<!-- wp:paragraph --><p>And so on.</p><!-- /wp:paragraph -->]]></content:encoded><wp:status>publish</wp:status>
<wp:post_type>post</wp:post_type><category domain="category"><![CDATA[x]]></category></item></channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>B</title><entry><title>One</title><author><name>Ben</name></author>
<category scheme="http://schemas.google.com/g/2005#kind" term="http://schemas.google.com/blogger/2008/kind#post"/>
<content type="html">&lt;p&gt;It &amp;amp; rained.&lt;/p&gt;</content></entry><entry><content type="xhtml">
<div xmlns="http://www.w3.org/1999/xhtml"><p>A <em>b</em>.</p></div></content></entry></feed>"""
PLAY = """<?xml version="1.0"?><!DOCTYPE PLAY SYSTEM "play.dtd">
<PLAY><TITLE>Rain</TITLE><ACT><SCENE><STAGEDIR>A room.</STAGEDIR>
<SPEECH><SPEAKER>ANN</SPEAKER><LINE>It rains.</LINE><LINE>All day &#8212; so.</LINE></SPEECH></SCENE></ACT></PLAY>"""


def store(parts: Mapping[str, bytes]) -> bytes:
    """A zip archive with parts that are not compressed: in a tenth of the time that `zipfile` takes."""
    body, index, n = bytearray(), bytearray(), 0
    for name, content in parts.items():
        encoded = name.encode("utf-8", "replace")[:65_535]
        fields = struct.pack(
            "<HHHHIIIHH", 0x800, 0, 0, 33, zlib.crc32(content), len(content), len(content), len(encoded), 0
        )
        index += b"PK\x01\x02\x14\x00\x14\x00" + fields + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + encoded
        body += b"PK\x03\x04\x14\x00" + fields + encoded + content
        n += 1
    return bytes(body + index) + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, n, n, len(index), len(body), 0)


def pack(parts: Mapping[str, str]) -> bytes:
    """The same of texts."""
    return store({name: text.encode() for name, text in parts.items()})


def make_tar() -> bytes:
    """A tar archive with two files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, text in (("a.txt", "It rained.\n"), ("b/c.html", PAGE)):
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return file.getvalue()


def make_parquet() -> bytes:
    """A table; empty where pyarrow is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return b""
    file = io.BytesIO()
    columns = {"id": [1, 2], "author": ["Ann", None], "text": ["It rained all night.", "And the next day, too."]}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "metadata": {}, "source": ["# One\n", "It *rained* `x` [a](b).\n"]},
        {"cell_type": "code", "source": "x = 1", "outputs": [{"output_type": "stream", "text": ["1\n"]}]},
        {"cell_type": "raw", "source": []},
    ],
    "nbformat": 4,
}
MESSENGER = {
    "participants": [{"name": "Ann"}],
    "messages": [
        {"sender_name": "Zo\u00c3\u00ab", "timestamp_ms": 1_700_000_060_000, "content": "sp\u00c3\u00a4t"},
        {
            "sender_name": "Ann",
            "timestamp_ms": 1_700_000_000_000,
            "content": "Ann sent a photo.",
            "photos": [{"uri": "a"}],
        },
        {"sender_name": "Ann", "timestamp_ms": 1_700_000_000_000, "call_duration": 0},
    ],
    "title": "Ann",
}
MESSENGER_NEW = {
    "participants": ["Ann", "Ben"],
    "threadName": "Ann_1",
    "messages": [{"senderName": "Ann", "text": "Hi.", "timestamp": 1_700_000_000_000, "isUnsent": False, "media": []}],
}


def make_seeds() -> dict[str, tuple[tuple[str, bytes], ...]]:
    """For each family documents with their names."""
    texts = {
        "fodt": (("a.fodt", f"<office:document {ODT_BODY}</office:document>"),),
        "rtf": (("a.rtf", RTF),),
        "fb2": (("a.fb2", FB2),),
        "html": (("a.html", PAGE),),
        "xml": (("a.xml", WORDPRESS), ("feed.xml", ATOM), ("play.xml", PLAY)),
        "markdown": (("a.md", MARKDOWN),),
        "org": (("a.org", ORG),),
        "text": (
            ("a.txt", f"CONTENTS\n\nI. One 1\nII. Two 2\n\n[Illustration: x]\n\n12\n\n{MARKDOWN}[1] A note.\f\n\n" * 3),
        ),
        "whatsapp": (("a.txt", WHATSAPP), ("_chat.txt", IOS)),
        "irc": (("a.log", IRC),),
        "mail": (("a.mbox", MAIL), ("a.eml", MAIL.partition("\n")[2])),
        "subtitles": (("a.srt", SRT), ("a.vtt", VTT), ("a.ass", ASS), ("a.lrc", LRC)),
        "csv": (("a.csv", CSV), ("a.tsv", CSV.replace(",", "\t"))),
        "json": (("a.json", json.dumps(ROWS)), ("b.json", json.dumps([CHAT]))),
        "notebook": (("a.ipynb", json.dumps(NOTEBOOK)),),
        "jsonl": (("a.jsonl", "\n".join(map(json.dumps, ROWS))), ("b.jsonl", f"{json.dumps(CHAT)}\n" * 2)),
        "telegram": (
            ("a.json", json.dumps(TELEGRAM)),
            ("b.json", json.dumps({"about": "", "chats": {"list": [TELEGRAM]}})),
            ("messages.html", TELEGRAM_PAGE),
        ),
        "messenger": (("message_1.json", json.dumps(MESSENGER)), ("Ann_1.json", json.dumps(MESSENGER_NEW))),
        "discord": (
            ("a.json", json.dumps(DISCORD)),
            ("messages.json", json.dumps(PACKAGE)),
            ("rain.html", DISCORD_PAGE),
        ),
        "tweets": (("tweets.js", f"window.YTD.tweets.part0 = {json.dumps(TWEETS)}"),),
    }
    seeds = {family: tuple((name, text.encode()) for name, text in found) for family, found in texts.items()}
    archive = pack({"a.txt": "It rained.\n", "b/c.md": MARKDOWN, "d.html": PAGE, "_chat.txt": IOS})
    return {
        "epub": (("a.epub", pack(EPUB)),),
        "docx": (("a.docx", pack(DOCX)),),
        "odt": (("a.odt", pack(ODT)),),
        **seeds,
        "parquet": (("a.parquet", make_parquet()),),
        "zip": (("a.zip", archive), ("chat.zip", pack({"_chat.txt": IOS, "a.jpg": "x"}))),
        "tar": (
            ("a.tar", make_tar()),
            ("a.tgz", gzip.compress(make_tar(), mtime=0)),
            ("a.txt.gz", gzip.compress(b"It rained.\n" * 9, mtime=0)),
        ),
    }
