"""Mails give what their authors wrote, and subtitles what is said."""

from __future__ import annotations

from email.message import EmailMessage
from email.mime.text import MIMEText

import pytest

from epigone.corpus.corpus import unwrap_corpus
from epigone.corpus.readers import mail
from epigone.corpus.readers.mail import parse_sender
from epigone.corpus.readers.mail_text import strip_mail
from epigone.corpus.readers.reader import DropLog
from epigone.errors import TextTooShort
from helpers_readers import Write, list_dropped, measure_reading, read, read_text, read_texts


def count_dropped(path: str) -> dict[str, int]:
    return {part.what: part.count for part in read(path).files[0].dropped}


# -- mails


def make_mail(text: str, sender: str = "Ann Smith <ann@example.com>", subject: str = "Re: Rain") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, "ben@example.com", subject
    message["Date"], message["Message-ID"] = "Fri, 3 May 2024 10:00:00 +0000", "<1@example.com>"
    message.set_content(text)
    return message


ANSWER = """\
Hi Ben,

yes, it rained: https://example.com/rain

On Fri, May 3, 2024 at 9:00 AM Ben Jones
<ben@example.com> wrote:
> Did it rain?
>
> Ben

And all night.
--\x20
Ann Smith
+49 170 1234567
"""


def test_a_mail_is_what_its_author_wrote(write: Write) -> None:
    message = make_mail(ANSWER)
    message.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="rain.png")
    path = write("a.eml", message.as_bytes())
    (file,) = read(path).files
    assert read_texts(path) == ["Hi Ben,\n\nyes, it rained:\n\nAnd all night.\n"]
    assert (file.format, file.title, file.author) == ("mail", "Rain", "Ann Smith")
    assert count_dropped(path) == {
        "signatures": 1,
        "lines that announce quotations": 1,
        "quoted lines": 3,
        "links": 1,
        "attachments": 1,
    }
    assert read_texts(write("mail", message.as_bytes().replace(b"\n", b"\r\n"))) == read_texts(path)


def make_mailbox(*messages: EmailMessage | bytes) -> bytes:
    parts = [one if isinstance(one, bytes) else one.as_bytes() for one in messages]
    return b"".join(b"From ann@example.com Fri May  3 10:00:00 2024\n" + part + b"\n" for part in parts)


def test_each_mail_of_a_mailbox_is_a_document(write: Write) -> None:
    escaped = make_mail("From then on it rained.\n").as_bytes().replace(b"\nFrom then", b"\n>From then")
    path = write("Sent.mbox", make_mailbox(make_mail("One.\n"), escaped, make_mail("Two.\n", "Ben <ben@example.com>")))
    assert read_texts(path) == ["One.\n", "From then on it rained.\n", "Two.\n"]
    assert read(path).files[0].notes == ("2 authors: Ann Smith (2), Ben (1); --speaker NAME learns one",)
    assert read_texts(path, speaker=["ben"]) == read_texts(path, speaker=["ben@example.com"]) == ["Two.\n"]
    with pytest.raises(TextTooShort, match=r"Ann Smith \(2\), Ben \(1\)"):
        read(path, speaker=["Carl"])


def test_those_who_are_written_to_are_hidden_too(write: Write) -> None:
    message = make_mail("Hi Ben,\n\nask Dora, ben@example.com or Ann.\n")
    message.replace_header("To", "Ben Jones <ben@example.com>, carl@example.com")
    path = write("a.eml", message.as_bytes())
    assert read_texts(path, anonymize=True) == ["Hi Person A,\n\nask Dora, [email] or Person B.\n"]
    assert read(path, anonymize=True).files[0].author == "Person B"


def test_a_page_is_read_only_where_there_is_no_plain_text(write: Write) -> None:
    page = "<html><body><p>One <i>and</i></p><p>two.</p><div class=gmail_quote>Ben:<blockquote>No.</blockquote></div>"
    both = make_mail("Plain.\n")
    both.add_alternative(page, subtype="html")
    assert read_texts(write("a.eml", both.as_bytes())) == ["Plain.\n"]
    only = MIMEText(page, "html")
    only["From"], only["Subject"] = "ann@example.com", "x"
    assert read_texts(write("b.eml", only.as_bytes())) == ["One _and_\n\ntwo.\n"]


def test_encodings_and_names_of_headers_are_decoded(write: Write) -> None:
    data = (
        b"From: =?iso-8859-1?Q?Zo=EB?= <zoe@example.com>\nSubject: =?utf-8?b?xI1zaw==?=\n"
        b"Content-Type: text/plain; charset=iso-8859-2\nContent-Transfer-Encoding: quoted-printable\n\n=BEe =\nje\n"
    )
    (file,) = read(write("a.eml", data)).files
    assert (file.author, file.title, read_texts(write("a.eml", data))) == ("Zoë", "čsk", ["že je\n"])
    plain = "From: Zoë <zoe@example.com>\nSubject: čsk\n\nže je\n"
    assert read(write("b.eml", plain)).files[0].title == "čsk"
    unknown = data.replace(b"iso-8859-2", b"x-none").replace(b"=BE", "ž".encode())
    assert read_texts(write("a.eml", unknown)) == ["že je\n"]


def test_lines_that_go_on_are_joined_where_the_mail_says_so(write: Write) -> None:
    head = b"From: a@example.com\nSubject: x\nContent-Type: text/plain; charset=us-ascii; format=flowed\n\n"
    assert read_texts(write("a.eml", head + b"It rained \nall night.\n From the sky.\n")) == [
        "It rained all night.\nFrom the sky.\n"
    ]


def test_wrapped_mails_are_unwrapped_as_texts_are(write: Write) -> None:
    words = ("the rain fell on the roof of the old house by the river and no one heard it that night " * 30).split()
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) > 70:
            lines.append(line.strip())
            line = ""
        line += f" {word}"
    corpus = read(write("a.eml", make_mail("\n".join(lines) + ".\n").as_bytes()))
    assert unwrap_corpus(corpus, "auto").files[0].n_lines_joined > 30


QUOTATIONS = {
    "German": "Ja.\n\nAm 3. Mai 2024 um 10:00 schrieb Ben Jones <ben@example.com>:\n\n> Nein?\n",
    "French": "Ja.\n\nLe ven. 3 mai 2024 à 10:00, Ben Jones <ben@example.com> a écrit :\n> Non ?\n",
    "Outlook": "Ja.\n\nFrom: Ben Jones\nSent: Friday\nTo: Ann\nSubject: Rain\n\nNo?\n",
    "older Outlook": "Ja.\n\n-----Original Message-----\nFrom: Ben\n\nNo?\n",
    "a forwarded mail": "Ja.\n\n---------- Forwarded message ---------\nFrom: Ben\n\nNo?\n",
    "a list": "Ja.\n\n_______________________________________________\nRain mailing list\nhttps://example.com/unsubscribe\n",
    "a telephone": "Ja.\n\nSent from my iPhone\n",
    "dashes": "Ja.\n--\nAnn\n",
    "a signed mail": "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nJa.\n-----BEGIN PGP SIGNATURE-----\n\nabc\n",
}


@pytest.mark.parametrize("text", QUOTATIONS.values(), ids=QUOTATIONS.keys())
def test_what_others_and_machines_wrote_is_left_out(text: str) -> None:
    drops = DropLog()
    assert strip_mail(text, drops) == "Ja.\n" and drops.list()


def test_a_text_that_is_similar_stays() -> None:
    text = "From: here to there\nit rained.\n\n-- no, twice --\n\nShe wrote:\n\nIt rains.\n\n------------\n\nAll day.\n"
    assert strip_mail(text, DropLog()) == text


def test_a_novel_in_mails_is_a_text(write: Write) -> None:
    text = "From: Ann\nTo: Ben\nSubject: Rain\n\nIt rained.\n\nFrom: Ben\nTo: Ann\n\nSo it did.\n"
    assert read_texts(write("novel.txt", text)) == [text]
    text = "From then on, in the summer of 1924: rain.\n\nDate: none.\n"
    assert read_texts(write("novel.txt", text)) == [text]


def test_what_is_damaged_does_not_end_a_mailbox(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "MOST_MAIL_BYTES", 1 << 12)
    deep = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(40))
    head = b"From: a@example.com\nSubject: x\n"
    path = write(
        "a.mbox", make_mailbox(make_mail("One.\n"), head + deep, make_mail("so " * 3_000), make_mail("Two.\n"))
    )
    assert read_texts(path) == ["One.\n", "Two.\n"]
    assert count_dropped(path) == {"damaged mails": 1, "mails of more than 0 MB": 1}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('"Smith, Ann" <ann@example.com>', ("Smith, Ann", "ann@example.com")),
        ("ann@example.com (Ann Smith)", ("Ann Smith", "ann@example.com")),
        ("<ann@example.com>", ("ann@example.com", "ann@example.com")),
        ("Ann", ("Ann", "")),
        ("((((((<", ("((((((<", "")),
    ],
)
def test_a_sender_has_a_name_and_an_address(header: str, expected: tuple[str, str]) -> None:
    assert parse_sender(header) == expected


# -- subtitles


SRT = """\
1
00:00:01,000 --> 00:00:02,500
<i>It rained</i> all night,

2
00:00:02,600 --> 00:00:04,000 X1:100 X2:600
{\\an8}and no one
heard it. [thunder]

3
00:00:09,000 --> 00:00:11,000
- Did you?
- No.

4
00:00:11,100 --> 00:00:12,000
♪ la la ♪

5
00:00:12,100 --> 00:00:13,000
(laughs)
"""


def test_subtitles_become_paragraphs_and_lines_of_dialogue(write: Write) -> None:
    expected = ["It rained all night, and no one heard it.\n\n– Did you?\n– No.\nla la\n"]
    path = write("film.srt", "\ufeff" + SRT)
    assert read_texts(path) == read_texts(write("film.txt", SRT.replace("\n", "\r\n"))) == expected
    assert count_dropped(path) == {"sounds": 4}


VTT = """\
WEBVTT - a talk
Kind: captions

STYLE
::cue { color: red }

NOTE made by hand

intro
00:01.000 --> 00:02.000 align:start
<v Ann>It rained</v>

00:02.000 --> 00:03.000
all <c.yellow>night</c> &amp; day.

00:04.000 --> 00:05.000
<v.loud Ben Jones>Did it?

00:05.000 --> 00:06.000
Really?
"""


def test_speakers_of_webvtt_are_a_conversation(write: Write) -> None:
    path = write("talk.vtt", VTT)
    assert read_texts(path) == ["Ann: It rained all night & day.\n\nBen Jones: Did it?\nReally?\n"]
    assert read_texts(path, speaker=["Ann"]) == ["It rained all night & day.\n"]


def test_a_meeting_whose_lines_begin_with_names_is_a_conversation(write: Write) -> None:
    cues = ["Ann Lee: It rained", "all night.", "Ben: Did it?", "Ann Lee: Yes: all.", "Ben: So."]
    vtt = "WEBVTT\n\n" + "".join(f"00:0{n}.000 --> 00:0{n + 1}.000\n{cue}\n\n" for n, cue in enumerate(cues))
    expected = "Ann Lee: It rained all night.\n\nBen: Did it?\n\nAnn Lee: Yes: all.\n\nBen: So.\n"
    assert read_texts(write("meeting.vtt", vtt)) == [expected]


def test_lines_that_captions_repeat_are_read_once(write: Write) -> None:
    cues = ["so it\nrained", "rained\nall<00:00:03.000><c> night</c>", "all night\nand day"]
    vtt = "WEBVTT\n\n" + "".join(f"00:0{n}.000 --> 00:0{n + 1}.000\n{cue}\n\n" for n, cue in enumerate(cues))
    assert read_texts(write("talk.vtt", vtt)) == ["so it rained all night and day\n"]


SCRIPT = """[Script Info]
Title: Rain
[V4+ Styles]
Format: Name, Fontname
Style: Default,Arial
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:09.00,0:00:10.00,Default,,0,0,0,,Then, it {\\i1}snowed{\\i0}.
Comment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,to do
Dialogue: 0,0:00:01.00,0:00:02.00,Default,Ann,0,0,0,,It rained,\\Nfor days.
Dialogue: 1,0:00:01.00,0:00:02.00,Default,Ann,0,0,0,,It rained,\\Nfor days.
Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,{\\p1}m 0 0 l 1 1
"""


def test_scripts_of_subtitles_are_read_in_order_of_time_without_their_commands(write: Write) -> None:
    path = write("a.ass", SCRIPT)
    assert read_text(path) == "It rained, for days.\n\nThen, it snowed.\n"
    assert list_dropped(path) == {"notes": (1, "to do"), "drawings": (1, "{\\p1}m 0 0 l 1 1")}
    named = SCRIPT.replace("Default,,", "Default,Ben,")
    assert read_text(write("b.txt", named)) == "Ann: It rained, for days.\n\nBen: Then, it snowed.\n"


def test_lyrics_keep_their_lines_stanzas_and_repetitions(write: Write) -> None:
    text = (
        "[ti:Rain]\n[ar: Ann Lee]\n[length: 1:00]\n\n[00:01.00][00:31.00]It rained (oh),\n"
        "[00:05.50]<00:05.50>it <00:06.00>rained\n"
        "[00:20.00]\n[00:21.00]Then it snowed\n[00:30.00]\n"
    )
    path = write("a.lrc", text)
    assert read_text(path) == "It rained (oh),\nit rained\n\nThen it snowed\n\nIt rained (oh),\n"
    (file,) = read(path).files
    assert (file.title, file.author, file.format) == ("Rain", "Ann Lee", "subtitles")
    assert read(write("b.txt", "[by: Ann]\nA text of hers at 10:30.\n")).files[0].format == "text"


def test_a_text_with_numbers_and_times_is_not_subtitles(write: Write) -> None:
    text = "1\nAt 10:00 it rained.\n\n2\n10:00 --> 11:00 is how long it rained.\n"
    assert read_texts(write("a.txt", text)) == [text]


LONG = {
    "a.eml": ("From: a@example.com\nSubject: x\n\n", "> On a wrote: <a@b "),
    "b.eml": ("From: a@example.com\nSubject: x\n\n", "From: a\n"),
    "c.eml": ("From: a@example.com\nContent-Type: multipart/mixed; boundary=a\n\n", "--a\n\n"),
    "d.eml": ("From: a@example.com\nSubject: =?a?q?", "=?a?q? "),
    "a.mbox": ("", "From a@b.c Fri May  3 10:00:00 2024\n\n"),
    "a.srt": ("1\n00:00:01,000 --> 00:00:02,500\n", "[a (b <i "),
    "b.srt": ("1\n00:00:01,000 --> 00:00:02,500\na\n\n", "00:00:01,000 --> "),
}


@pytest.mark.parametrize("name", LONG)
def test_time_grows_with_length_only(name: str, write: Write) -> None:
    def measure(count: int) -> float:
        path = write(name, LONG[name][0] + LONG[name][1] * count)
        return measure_reading(path)

    short, long = measure(1_000), measure(10_000)
    assert long < 30 * short + 0.3
