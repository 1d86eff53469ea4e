"""Chats are read in the languages and forms in which phones export them, and give what people said, or one of them."""

from __future__ import annotations

import io
import json
import time
import zipfile
from pathlib import Path

import pytest

from epigone.corpus.anonymize import Anonymizer
from epigone.corpus.readers.json_stream import JsonReader
from epigone.corpus.readers.limits import Limits
from epigone.corpus.readers.speakers import Speakers
from epigone.corpus.split import read_and_split
from epigone.errors import TextTooShort, TextUnreadable
from epigone.report.views import describe_files
from epigone.settings import TrainSettings
from helpers_readers import Write, list_dropped, measure_reading, read, read_text


def pack(parts: dict[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


ANDROID = """\
12/9/20, 23:15 - Messages and calls are end-to-end encrypted. No one outside of this chat can read them.
12/9/20, 23:16 - Alice created group "Party: the plan"
12/9/20, 23:16 - Alice added you
12/9/20, 23:55 - Bob: hello
12/9/20, 23:55 - Alice: hi
12/9/20, 23:55 - Alice: are you
there?

yes you
12/9/20, 23:56 - Bob: <Media omitted>
12/9/20, 23:56 - Bob: IMG-20201209-WA0001.jpg (file attached)
look at this
12/9/20, 23:57 - Alice: This message was deleted
12/9/20, 23:58 - Alice changed the subject from "Party: the plan" to "Party: really"
13/9/20, 00:10 - Bob: see https://example.com/a?b=c, it is good <This message was edited>
13/9/20, 00:11 - Bob: Missed voice call
"""
CONVERSATION = """\
Bob: hello

Alice: hi
are you
there?
yes you

Bob: look at this


Bob: see , it is good
"""


# -- WhatsApp


def test_a_chat_becomes_a_conversation_with_turns_and_days(write: Write) -> None:
    path = write("WhatsApp Chat with Bob.txt", ANDROID)
    (file,) = read(path).files
    assert read_text(path) == CONVERSATION
    assert (file.format, file.title, file.date) == ("whatsapp", "Bob", "12/9/20")
    assert file.notes == ("2 speakers: Bob (3), Alice (2); --speaker NAME learns one",)


def test_the_plan_shows_who_speaks_and_how_to_choose(write: Write) -> None:
    rows = describe_files(read(write("a.txt", PRIVATE), anonymize=True).files, ())
    (note,) = (row for row in rows if row.name.strip() == "note")
    assert note[1:] == ("3 speakers: Person B (2), Person A (1), Person C (1)", "--speaker NAME learns one")
    assert [row[1] for row in rows if row.name.strip() == "replaced"][:2] == ["e-mail addresses: 1", "phone numbers: 4"]


def test_what_people_did_not_say_is_left_out_and_counted(write: Write) -> None:
    found = list_dropped(write("a.txt", ANDROID))
    assert {what: count for what, (count, _) in found.items()} == {
        "notices": 4,
        "media": 2,
        "deleted messages": 1,
        "links": 1,
        "marks of edited messages": 1,
        "calls": 1,
    }
    assert found["links"][1] == "https://example.com/a?b=c"


LOCALES = {
    "English (US), iOS": "[{m}/{d}/24, 2:05:33\u202fPM] ",
    "English (UK), iOS": "[0{d}/0{m}/2024, 14:05:33] ",
    "English (US), Android": "{m}/{d}/24, 2:05\u202fPM - ",
    "English (India), Android": "0{d}/0{m}/24, 2:05 pm - ",
    "German, iOS": "[0{d}.0{m}.24, 14:05:33] ",
    "German, Android": "0{d}.0{m}.24, 14:05 - ",
    "French, Android": "0{d}/0{m}/2024 à 14:05 - ",
    "Spanish, iOS": "[{d}/{m}/24, 2:05:33 p.\xa0m.] ",
    "Spanish, Android": "{d}/{m}/24, 2:05 p. m. - ",
    "Dutch, iOS": "[0{d}-0{m}-2024 14:05:33] ",
    "Italian, Android": "0{d}/0{m}/24, 14:05 - ",
    "Finnish, Android": "{d}.{m}.2024 klo 14.05 - ",
    "Swedish, Android": "2024-0{m}-0{d} 14:05 - ",
    "Hungarian, Android": "2024. 0{m}. 0{d}. 14:05 - ",
    "Czech, iOS": "[0{d}.0{m}.24 14:05:33] ",
    "Korean, Android": "2024년 {m}월 {d}일 오후 2:05, ",
    "Japanese, Android": "2024/0{m}/0{d} 14:05 - ",
    "iOS of 2015": "{d}/{m}/15 14:05:33: ",
    "Arabic digits": "\u200f٠{d}/٠{m}/٢٠٢٤, ٢:٠٥ م - ",
}


@pytest.mark.parametrize("start", LOCALES.values(), ids=LOCALES.keys())
def test_dates_and_times_of_many_languages_are_known(start: str, write: Write) -> None:
    lines = [(3, "Åsa 🌸", "one: two"), (3, "+49 170 123", "three"), (4, "Åsa 🌸", "four"), (4, "+49 170 123", "5:30?")]
    chat = "".join(f"{start.format(d=day, m=5)}{name}: {text}\n" for day, name, text in lines)
    expected = "Åsa 🌸: one: two\n\n+49 170 123: three\n\n\nÅsa 🌸: four\n\n+49 170 123: 5:30?\n"
    assert read_text(write("chat.txt", chat)) == expected
    assert read_text(write("chat.txt", "\ufeff" + chat.replace("\n", "\r\n"))) == expected


NOTICES = {
    "en": ("image omitted", "You deleted this message", "Missed video call"),
    "de": ("<Medien ausgeschlossen>", "Diese Nachricht wurde gelöscht.", "Verpasster Sprachanruf"),
    "fr": ("<Médias omis>", "Ce message a été supprimé", "Appel vocal manqué"),
    "es": ("<Multimedia omitido>", "Se eliminó este mensaje.", "Llamada de voz perdida"),
    "pt": ("<Mídia oculta>", "Mensagem apagada", "Chamada de voz perdida"),
    "it": ("<Media omessi>", "Questo messaggio è stato eliminato", "Chiamata vocale persa"),
    "nl": ("<Media weggelaten>", "Dit bericht is verwijderd", "Gemiste spraakoproep"),
    "ru": ("<Без медиафайлов>", "Данное сообщение удалено", "Пропущенный аудиозвонок"),
    "iOS": ("\u200eвидео отсутствует", "\u200eMensagem apagada", "\u200e<attached: 0001-PHOTO-2024-05-03.jpg>"),
}


@pytest.mark.parametrize("notices", NOTICES.values(), ids=NOTICES.keys())
def test_media_deleted_messages_and_calls_are_left_out_in_many_languages(
    notices: tuple[str, ...], write: Write
) -> None:
    lines = [
        "Ann: so",
        *(f"Ben: {notice}" for notice in notices),
        "Ben: the image omitted a detail",
        "Ann: lu de bout en bout",
    ]
    chat = "".join(f"[03.05.24, 14:05:{number:02}] {line}\n" for number, line in enumerate(lines))
    assert (
        read_text(write("chat.txt", chat)) == "Ann: so\n\nBen: the image omitted a detail\n\nAnn: lu de bout en bout\n"
    )


def test_an_ios_notice_is_known_by_its_mark_in_any_language(write: Write) -> None:
    chat = (
        "[03/05/2024, 14:05:33] Vrienden: \u200eBerichten zijn versleuteld.\n"
        "[03/05/2024, 14:05:33] Vrienden: \u200eAnn heeft deze groep gemaakt\n"
        "\u200e[03/05/2024, 14:06:01] Ann: een foto \u200e<bijgevoegd: 00000002-PHOTO-2024-05-03-14-06-01.jpg>\n"
        "[03/05/2024, 14:06:02] Ann: rain.pdf \u2022 \u200e4 pages \u200edocument omitted\n"
        "[03/05/2024, 14:06:09] ~\u202fBen: hallo \u2068Ann\u2069 \u200e<Dit bericht is bewerkt>\n"
    )
    path = write("_chat.txt", chat)
    assert read_text(path) == "Ann: een foto\n\nBen: hallo Ann\n"
    assert {what: count for what, (count, _) in list_dropped(path).items()} == {
        "notices": 2,
        "media": 2,
        "marks of edited messages": 1,
    }


def test_an_export_with_media_is_one_chat(write: Write, tmp_path: Path) -> None:
    parts: dict[str, str | bytes] = {"_chat.txt": ANDROID, "00000002-PHOTO.jpg": b"\xff\xd8\xff", "letter.docx": b"PK"}
    path = write("WhatsApp Chat - Alice & Bob.zip", pack(parts))
    (file,) = read(path).files
    assert (file.title, file.n_documents, list_dropped(path)["media files"][0]) == ("Alice & Bob", 1, 2)
    assert read_text(path) == CONVERSATION
    for name, content in parts.items():
        write(f"unpacked/{name}", content)
    corpus = read(str(tmp_path / "unpacked"))
    assert [document.name for document in corpus.documents] == ["_chat.txt"] and len(corpus.skipped) == 1


TEXTS = {
    "a diary": "12/03/2021, 14:05 - I went out.\n13/03/2021, 09:10 - Rain: again.\n14/03/2021, 10:00 - Home: late.\n",
    "a diary with one label": "12.03.2021 14:05 - Wetter: Regen\n13.03.2021 Heute war es schön.\n" * 3,
    "a log": "[2021-03-12 14:05:33] INFO: started\n[2021-03-12 14:05:34] WARN: slow\n" * 5,
    "a play": "ALGERNON: Did you hear what I was playing?\n\nLANE: I didn't think it polite to listen, sir.\n" * 5,
    "a text with one chat line": "He wrote:\n12/9/20, 23:55 - Bob: hello\n12/9/20, 23:56 - Ann: hi\n",
    "a timetable": "12/03/2021, 14:05 - 15:10 Room 4\n12/03/2021, 15:20 - 16:10 Room 5\n" * 4,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_another_text_is_not_taken_for_a_chat(text: str, write: Write) -> None:
    path = write("text.txt", text)
    assert (read_text(path), read(path).files[0].format) == (text, "text")


# -- Telegram and Discord


def make_telegram(name: str, *messages: object) -> dict[str, object]:
    return {"name": name, "type": "personal_chat", "id": 1, "messages": list(messages)}


def say(name: str | None, text: object, day: int = 1, **more: object) -> dict[str, object]:
    return {"type": "message", "date": f"2024-05-0{day}T10:00:00", "from": name, "from_id": "u", "text": text, **more}


TELEGRAM = make_telegram(
    "Ann",
    {"type": "service", "date": "2024-05-01T09:00:00", "action": "phone_call", "text": ""},
    say("Ann", ["so ", {"type": "bold", "text": "bold"}, "!\nyes"]),
    say("Ann", "", photo="a.jpg"),
    say("Ben", "look", photo="b.jpg"),
    say("Ben", "said elsewhere", forwarded_from="X"),
    say("Ben", "a joke", via_bot="@jokes"),
    say(None, [{"type": "pre", "text": "x = 1"}, "later"], day=2),
)


def test_a_telegram_chat_is_a_conversation(write: Write) -> None:
    path = write("result.json", json.dumps(TELEGRAM, ensure_ascii=False, indent=1))
    (file,) = read(path).files
    assert read_text(path) == "Ann: so bold!\nyes\n\nBen: look\n\n\nDeleted account: later\n"
    assert (file.format, file.title, file.date) == ("telegram", "Ann", "2024-05-01")
    assert {what: count for what, (count, _) in list_dropped(path).items()} == {
        "notices": 1,
        "media": 2,
        "forwarded messages": 1,
        "messages of bots": 1,
        "code blocks": 1,
    }
    assert read_text(path, speaker=["Ben"]) == "look\n"
    assert "x = 1" in read_text(path, code="keep")


def say_on_page(name: str, day: int, inner: str) -> str:
    """A message of Telegram's pages; without a name, of the same person as the one before."""
    shown = f'<div class="from_name">\n{name} </div>' if name else ""
    time = f'<div class="pull_right date details" title="0{day}.05.2024 10:11:12 UTC+01:00">10:11</div>'
    kind = "default clearfix" if name else "default clearfix joined"
    picture = '<div class="pull_left userpic_wrap"><div class="initials">A</div></div>'
    return f'<div class="message {kind}" id="m">{picture}<div class="body">{time}{shown}{inner}</div></div>\n'


def test_a_chat_on_telegrams_pages_is_a_conversation(write: Write) -> None:
    page = (
        '<!DOCTYPE html><html><head><title>Exported Data</title></head><body><div class="page_wrap">'
        '<div class="page_header">'
        '<div class="content"><div class="text bold">\nRain club </div></div></div><div class="history">'
        '<div class="message service" id="m-1"><div class="body details">\n1 May 2024 </div></div>\n'
        + say_on_page(
            "Ann",
            1,
            '<div class="text">\nIt <strong>rains</strong> &amp;<br>pours: <a href="x">https://a.b/c</a></div>',
        )
        + say_on_page("", 1, '<div class="text">\nStill. </div><span class="reactions">2</span>')
        + say_on_page(
            "Ben", 1, '<div class="reply_to details">In reply to <a>this</a></div><div class="text">So.</div>'
        )
        + say_on_page(
            "Ben", 1, '<div class="forwarded body"><div class="from_name">Eve</div><div class="text">News</div></div>'
        )
        + say_on_page("Ann", 2, '<div class="media_wrap clearfix"><div class="title bold">Photo</div></div>')
        + say_on_page("", 2, '<div class="text">Sun!</div>')
        + "</div></div></body></html>"
    )
    path = write("messages.html", page)
    assert read_text(path) == "Ann: It rains &\npours:\nStill.\n\nBen: So.\n\n\nAnn: Sun!\n"
    (file,) = read(path).files
    assert (file.format, file.title, file.date) == ("telegram", "Rain club", "01.05.2024")
    assert {part.what: part.count for part in file.dropped} == {
        "notices": 1,
        "links": 1,
        "forwarded messages": 1,
        "media": 1,
    }
    assert read_text(path, speaker=("Ben",)) == "So.\n"


def group_on_page(name: str, *contents: str, tag: str = "") -> str:
    """Messages of one person on a page by DiscordChatExporter."""
    head = (
        "<div class=chatlog__reply><div class=chatlog__reply-author>Eve</div></div><div class=chatlog__header><span "
        f'class=chatlog__author title="x">{name}</span>{tag}'
        "<span class=chatlog__timestamp><a>5/1/2024 10:11 AM</a></span></div>"
    )
    shown = (
        f'<div class="chatlog__content chatlog__markdown"><span class=chatlog__markdown-preserve>{content}</span></div>'
        for content in contents
    )
    return f"<div class=chatlog__message-group>{head}{'<div class=chatlog__message></div>'.join(shown)}</div>"


def test_a_channel_on_discords_pages_is_a_conversation(write: Write) -> None:
    path = write(
        "rain.html",
        "<!DOCTYPE html><html><head><style>.chatlog__message{color:red}</style></head><body><div class=preamble>"
        "<div class=preamble__entry>Club</div><div class=preamble__entry>Rain / talk</div></div><div class=chatlog>"
        + group_on_page("Ann", "It <strong>rains</strong>\nand pours", 'Still <img class=chatlog__emoji alt="🙂">')
        + group_on_page("Robot", "beep", tag="<span class=chatlog__author-tag>BOT</span>")
        + group_on_page("Ben", 'So. <code class="chatlog__markdown-pre chatlog__markdown-pre--multiline">x = 1</code>')
        + "<span class=chatlog__system-notification-content>joined the server.</span></div></body></html>",
    )
    assert read_text(path) == "Ann: It rains\nand pours\nStill 🙂\n\nBen: So.\n"
    (file,) = read(path).files
    assert (file.format, file.title, file.date) == ("discord", "Rain / talk", "5/1/2024")
    assert {part.what for part in file.dropped} == {"messages of bots", "code blocks", "notices"}
    assert read_text(path, speaker=("ann",)) == "It rains\nand pours\nStill 🙂\n"


def test_all_chats_of_a_telegram_account_are_documents(write: Write) -> None:
    channel = make_telegram("News", say("News", "one\n\ntwo"), say("News", "three"))
    account = {
        "about": "Here is the data you requested from Telegram.",
        "personal_information": {"first_name": "Ben"},
        "contacts": {"list": [{"first_name": "Ann", "messages": [{"type": "message"}]}] * 2_000},
        "chats": {"about": "", "list": [TELEGRAM, make_telegram("Empty"), channel]},
    }
    corpus = read(write("result.json", json.dumps(account)))
    assert [str(document.text)[:9] for document in corpus.documents] == ["Ann: so b", "one\n\ntwo\n"]
    assert str(corpus.documents[1].text) == "one\n\ntwo\n\nthree\n"
    assert len(read(write("result.json", json.dumps(account)), speaker=["Ann"]).documents) == 1


def post(name: str, content: str, kind: str = "Default", **author: object) -> dict[str, object]:
    return {
        "id": "1",
        "type": kind,
        "timestamp": "2024-05-01T10:00:00+00:00",
        "content": content,
        "author": {"name": name.lower(), "nickname": name, "isBot": False, **author},
        "attachments": [{"fileName": "a.png"}] if content == "this" else [],
    }


def test_a_discord_channel_is_a_conversation(write: Write) -> None:
    posts = [
        post("Ann", "Joined the server.", "GuildMemberJoin"),
        post("Ann", "this"),
        post("Ben", "what? ```py\nx = 1\n``` <@123> <:smile:456> ||so||", "Reply"),
        post("Bot", "+1 for Ben", isBot=True),
        post("Ben", "https://example.com"),
    ]
    channel = {"guild": {"name": "Friends"}, "channel": {"name": "general"}, "messages": posts}
    path = write("general.json", json.dumps(channel))
    assert read_text(path) == "Ann: this\n\nBen: what? :smile: so\n"
    (file,) = read(path).files
    assert (file.format, file.title) == ("discord", "general")
    assert {what: count for what, (count, _) in list_dropped(path).items()} == {
        "notices": 1,
        "media": 1,
        "code blocks": 1,
        "messages of bots": 1,
        "links": 1,
    }


def test_own_messages_in_discords_package_are_read_from_the_oldest(write: Write) -> None:
    mine = [{"ID": n, "Timestamp": f"2024-05-0{n} 10:00:00", "Contents": f"no {n}", "Attachments": ""} for n in (2, 1)]
    path = write("messages.json", json.dumps(mine))
    assert read_text(path) == "no 1\n\n\nno 2\n"
    with pytest.raises(TextUnreadable, match="has no speakers"):
        read(path, speaker=["Ann"])


def test_values_of_json_are_read_whatever_pieces_it_comes_in() -> None:
    text = json.dumps(TELEGRAM | {"n": 12.5, "last": [1, "\\", {"a": None}]}, ensure_ascii=False)
    for size in (1, 2, 7, 10_000):
        pieces = (text[start : start + size] for start in range(0, len(text), size))
        found = list(JsonReader(pieces, Limits("x", 1)).walk(lambda path: path in ((), ("messages",))))
        assert [one.value for one in found if one.path == ("messages", None)] == TELEGRAM["messages"]
        assert [one.value for one in found if one.path in (("n",), ("last",))] == [12.5, [1, "\\", {"a": None}]]


@pytest.mark.parametrize(
    "damage", ['"messages": 1 2', '"messages": [{"a": 1} 3', '"messages": [', '"messages": [{"a": ']
)
def test_damaged_json_is_an_error(damage: str, write: Write) -> None:
    with pytest.raises(TextUnreadable, match=r"result\.json is damaged"):
        read(write("result.json", '{"type": "personal_chat", ' + damage))


def test_deep_json_is_refused(write: Write) -> None:
    with pytest.raises(TextUnreadable, match="nested"):
        read(write("result.json", '{"type": "personal_chat", "messages": [' + "[" * 200_000))


# -- X


def tweet(number: int, text: str, to: int | None = None) -> dict[str, object]:
    reply = {} if to is None else {"in_reply_to_status_id_str": str(to)}
    return {"tweet": {"id_str": str(number), "full_text": text, "created_at": "Wed May 01", **reply}}


def test_posts_of_x_are_documents_and_threads_one(write: Write, tmp_path: Path) -> None:
    posts = [
        tweet(12, "Third &amp; last https://t.co/abc"),
        tweet(10, "First"),
        tweet(11, "RT @other: not mine"),
        tweet(13, "@friend @other you too!", to=5),
        tweet(14, "@me second", to=10),
        tweet(15, "https://t.co/only"),
    ]
    script = "window.YTD.tweets.part0 = " + json.dumps(posts)
    path = write("x/data/tweets.js", script)
    write("app/tweets.js", "export const tweets = []")
    write("app/a.txt", "A text.")
    assert [document.name for document in read(str(tmp_path / "app")).documents] == ["a.txt"]
    write("x/data/ad-engagements.js", "window.YTD.ad_engagements.part0 = []")
    write("x/Your archive.html", "<html><body><p>Not mine.</p></body></html>")
    zipped = write("x.zip", pack({"data/tweets.js": script, "data/like.js": "", "Your archive.html": "<html>"}))
    for place in (path, zipped, str(tmp_path / "x"), str(tmp_path / "x" / "data")):
        corpus = read(place)
        assert [str(document.text) for document in corpus.documents] == [
            "First\n\nsecond\n",
            "Third & last\n",
            "you too!\n",
        ]
    assert {what: count for what, (count, _) in list_dropped(path).items()} == {
        "links": 2,
        "reposts": 1,
        "names that replies begin with": 2,
    }


# -- IRC


LOGS = {
    "irssi": """--- Log opened Tue May 29 21:20:00 2018
21:20 -!- ann [~ann@example.com] has joined #rust
21:20 <@ann> hi
21:21 < ben> hello
21:21  * ben waves
--- Day changed Wed May 30 2018
00:01 <@ann> bye
""",
    "WeeChat": """2018-05-29 21:20:00	-->	ann (~ann@example.com) has joined #rust
2018-05-29 21:20:01	@ann	hi
2018-05-29 21:21:00	ben	hello
2018-05-29 21:21:02	 *	ben waves
2018-05-29 21:22:02	--	carl is now known as carla
2018-05-30 00:01:00	@ann	bye
""",
    "HexChat": """**** BEGIN LOGGING AT Tue May 29 21:20:00 2018
May 29 21:20:00 *	Now talking on #rust
May 29 21:20:01 <ann>	hi
May 29 21:21:00 <ben>	hello
May 29 21:21:02 * ben waves
May 29 21:21:03 * carl (~c@example.com) has joined
May 30 00:01:00 <ann>	bye
""",
    "mIRC": """Session Start: Tue May 29 21:20:00 2018
[21:20] * ann (~ann@example.com) has joined #rust
[21:20] <ann> 04hi
[21:21] <ben> hello
[21:21] * ben waves
Session Close: Wed May 30 00:00:00 2018
[00:01] <ann> bye
""",
    "a bouncer": """[2018-05-29 21:20:00] *** Joins: ann (~ann@example.com)
[2018-05-29 21:20:01] <ann> hi
[2018-05-29 21:21:00] <ben> hello
[2018-05-29 21:21:02] * ben waves
[2018-05-29 21:21:03] -bot- now logging
[2018-05-30 00:01:00] <ann> bye
""",
    "with its channel": """rust 2018-05-29 [21:20:01] <ann> hi
rust 2018-05-29 [21:21:00] <ben> hello
rust 2018-05-29 [21:21:02] * ben waves
rust 2018-05-30 [00:01:00] <ann> bye
""",
}


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS.keys())
def test_logs_of_irc_are_conversations(log: str, write: Write) -> None:
    path = write("rust.txt", log)
    assert read_text(path) == "ann: hi\n\nben: hello\n_waves_\n\n\nann: bye\n"
    assert read(path).files[0].format == "irc"
    assert read_text(path, speaker=["ben"]) == "hello\n_waves_\n"


def test_a_log_without_times_is_read_if_asked_for(write: Write) -> None:
    path = write("log.txt", "<ann> hi\n<ben> hello\n")
    assert read_text(path) == "<ann> hi\n<ben> hello\n"
    assert read_text(path, format="irc") == "ann: hi\n\nben: hello\n"


def test_a_folder_takes_chats_and_leaves_other_data(write: Write, tmp_path: Path) -> None:
    write("all/rust.log", LOGS["irssi"])
    write("all/result.json", json.dumps(TELEGRAM))
    write("all/a.txt", "Just a text.\n")
    write("all/package.json", '{"name": "x", "messages": []}')
    write("all/server.log", "12:00:01 started\n12:00:02 stopped\n")
    write("all/chat.zip", pack({"tsconfig.json": "{}", "b.txt": "Another text.\n"}))
    corpus = read(str(tmp_path / "all"))
    assert [file.format for file in corpus.files] == ["text", "text", "telegram", "irc"]
    assert corpus.skipped == (
        "3 files are not read: 2 ending in .json, 1 ending in .log. To read one of them, name it itself.",
    )


# -- speakers


def test_one_speaker_is_learned_without_names(write: Write) -> None:
    path = write("chat.txt", ANDROID)
    assert read_text(path, speaker=["alice"]) == "hi\nare you\nthere?\n\nyes you\n"
    assert read_text(path, speaker=["Bob"]) == "hello\n\nlook at this\n\n\nsee , it is good\n"
    assert read_text(path, speaker=["Bob", "Alice"]).startswith("hello\n\nhi\nare you\n")


def test_a_wrong_name_is_an_error_with_the_right_ones(write: Write) -> None:
    path = write("chat.txt", ANDROID)
    with pytest.raises(TextTooShort, match=r'no speaker "Alise" in chat\.txt.*Bob \(3\), Alice \(2\)') as error:
        read(path, speaker=["Alise"])
    assert error.value.hint == 'Did you mean --speaker "Alice"?'
    with pytest.raises(TextTooShort, match="Carol"):
        read(path, speaker=["Alice", "Carol"])


def test_a_speaker_of_one_of_several_chats_is_enough(write: Write, tmp_path: Path) -> None:
    write("chats/a.txt", ANDROID)
    write("chats/b.txt", ANDROID.replace("Alice", "Carol"))
    write("chats/c.txt", "No chat at all.")
    corpus = read(str(tmp_path / "chats"), speaker=["Carol"])
    assert [document.name for document in corpus.documents] == ["b.txt"]
    assert [line.split(":")[0] for line in corpus.skipped] == [
        'There is no speaker "Carol" in a.txt. The speakers, with their messages',
        "c.txt has no speakers",
    ]
    with pytest.raises(TextTooShort, match=r"these texts.*Bob \(6\)"):
        read(str(tmp_path / "chats"), speaker=["Caroline"])


def test_a_text_without_speakers_is_an_error_if_one_is_wanted(write: Write, tmp_path: Path) -> None:
    write("all/a.txt", "Just a text.")
    with pytest.raises(TextTooShort, match="no speakers in these texts"):
        read(str(tmp_path / "all"), speaker=["Ann"])
    with pytest.raises(TextUnreadable, match=r"a\.txt has no speakers: it is read as plain text"):
        read(write("a.txt", "Just a text."), speaker=["Ann"])


# -- who is meant


PRIVATE = """\
12/9/20, 23:55 - Anna Schmidt: hi Will, call +49 170 1234567 or (030) 1234567, or write to a.b+c@example.co.uk
12/9/20, 23:56 - Will: anna's number is 555-123-4567, ok. Will Anna's mum, Mrs Schmidt, come? @\u2068Anna Schmidt\u2069
12/9/20, 23:57 - \u202a+49 171 7654321\u202c: it will be 10:30 on 2020-12-10 or 12.12.2020, 1 000 000 people, 1914-1918
12/9/20, 23:58 - Will: @some.one said 9876543210 is 3.1415926535, don't @everyone
"""
HIDDEN = """\
Person A: hi Person B, call [phone] or [phone], or write to [email]

Person B: Person A's number is [phone], ok. Person B Person A's mum, Mrs Person A, come? @Person A

Person C: it will be 10:30 on 2020-12-10 or 12.12.2020, 1 000 000 people, 1914-1918

Person B: [handle] said [phone] is 3.1415926535, don't @everyone
"""


def test_names_numbers_addresses_and_handles_are_replaced_and_counted(write: Write) -> None:
    corpus = read(write("WhatsApp Chat with Anna Schmidt.txt", PRIVATE), anonymize=True)
    (file,) = corpus.files
    assert str(corpus.documents[0].text) == HIDDEN
    assert {part.what: part.count for part in file.replaced} == {
        "phone numbers": 4,
        "e-mail addresses": 1,
        "names": 6,
        "handles": 1,
    }
    assert (file.name, file.title) == ("WhatsApp Chat with Person A.txt", "Person A")
    assert "Anna" not in repr(corpus) and "170" not in repr(corpus)
    assert (file.n_characters, file.n_bytes_utf8) == (len(HIDDEN), len(HIDDEN.encode()))


def test_a_person_has_one_label_in_all_texts(write: Write, tmp_path: Path) -> None:
    write("all/a.txt", PRIVATE)
    write("all/b.txt", PRIVATE.replace("Will", "Berta"))
    write("all/c.txt", "A letter to Berta, of Anna@example.com.\n")
    corpus = read(str(tmp_path / "all"), anonymize=True)
    assert str(corpus.documents[1].text).startswith("Person A: hi Person D, call")
    assert str(corpus.documents[2].text) == "A letter to Person D, of [email].\n"


def test_a_person_has_one_label_in_the_text_that_is_held_out_too(write: Write, tmp_path: Path) -> None:
    chat = PRIVATE + "".join(f"12/9/20, 23:59 - Will: so it was, and so it is, {number}\n" for number in range(200))
    held_out = "12/9/20, 23:58 - Carl: hi Anna\n12/9/20, 23:58 - Will: hi\n" + chat[-9_000:]
    settings = TrainSettings(anonymize=True, validation=write("WhatsApp Chat with Carl.txt", held_out))
    _, validation, _ = read_and_split([write("chat.txt", chat)], settings, tmp_path)
    assert validation is not None
    assert str(validation.documents[0].text).startswith("Person D: hi Person A\n\nPerson B: hi\n")


def test_a_nick_that_is_a_word_is_replaced_where_it_is_addressed(write: Write) -> None:
    log = "21:20 <ball> ann: the ball\n21:20 <ann> ball: mine\n21:21 <m_x> ball, ask M_X or @ball\n"
    text = read_text(write("log.txt", log), anonymize=True)
    assert (
        text
        == "Person A: Person B: the ball\n\nPerson B: Person A: mine\n\nPerson C: Person A, ask Person C or @Person A\n"
    )


def test_what_one_person_says_can_be_hidden_too(write: Write) -> None:
    path = write("chat.txt", PRIVATE)
    assert read_text(path, anonymize=True, speaker=["Anna Schmidt"]) == HIDDEN.split("\n")[0][10:] + "\n"
    with pytest.raises(TextTooShort, match="Anna Schmidt"):
        read(path, anonymize=True, speaker=["Ann"])


def test_a_text_without_names_and_numbers_stays(write: Write) -> None:
    text = "In 1914-1918, 12345678 people; ISBN 978-3-16-148410-0; 192.168.100.100; mail @ home.\n" * 3
    corpus = read(write("a.txt", text), anonymize=True)
    assert str(corpus.documents[0].text) == text and corpus.files[0].replaced == ()


# -- all of them


BEGINNING = "12/9/20, 23:55 - Bob: hi\n" * 2 + "12/9/20, 23:55 - Ann: yo\n"
LONG = {
    "starts": (BEGINNING, "12/9/20, 23:55 - a "),
    "names": (BEGINNING, "<a: b.c "),
    "links": (BEGINNING, "https://....."),
    "notices": (BEGINNING, "end-to-end сквозн"),
    "logs": ("21:20 <ann> hi\n" * 20, "21:20 <a "),
    "actions": ("21:20 <ann> hi\n" * 20, "21:20  * a (b) [c] "),
    "open code": ('{"guild": {}, "channel": {}, "messages": [{"content": "', "``` || <@ "),
    "posts": ('window.YTD.tweets.part0 = [{"tweet": {"full_text": "', "@a @b "),
    "objects": ('{"type": "personal_chat", "messages": [', '{"text": ["a'),
}


PIECES = ["a@", "a.b@c.", "1 2 ", "+1 ", "@a.", "Anna Schmid ", "(0", "Don't "]


@pytest.mark.parametrize("piece", PIECES)
def test_hiding_takes_time_that_grows_with_length_only(piece: str) -> None:
    speakers = Speakers(hidden=True)
    for name in ("Anna Schmidt", "Don", "a"):
        speakers.count(name)

    def measure(count: int) -> float:
        begin = time.process_time()
        Anonymizer(speakers).replace(piece * count)
        return time.process_time() - begin

    short, long = measure(2_000), measure(20_000)
    assert long < 30 * short + 0.3


@pytest.mark.parametrize(("start", "part"), LONG.values(), ids=LONG.keys())
def test_time_grows_with_length_only(start: str, part: str, write: Write) -> None:
    def measure(count: int) -> float:
        path = write("chat.txt", start + part * count + ('"}}]' if "window" in start else '"}]}'))
        return measure_reading(path)

    short, long = measure(2_000), measure(20_000)
    assert long < 30 * short + 0.3


# -- Messenger and Instagram


def test_a_short_chat_of_messenger_is_known_by_its_content_and_mended(write: Write, tmp_path: Path) -> None:
    messages = [
        {"sender_name": "Zo\u00c3\u00ab", "timestamp_ms": 1_700_090_000_000, "content": "sp\u00c3\u00a4t"},
        {
            "sender_name": "Ben",
            "timestamp_ms": 1_700_000_090_000,
            "content": "Reacted \u00e2\u009d\u00a4 to your message ",
        },
        {
            "sender_name": "Ben",
            "timestamp_ms": 1_700_000_080_000,
            "content": "Ben sent a photo.",
            "photos": [{"uri": "a"}],
        },
        {"sender_name": "Ben", "timestamp_ms": 1_700_000_070_000, "call_duration": 0, "content": "Ben called you."},
        {"sender_name": "Zo\u00c3\u00ab", "timestamp_ms": 1_700_000_060_000, "content": "?"},
        {"sender_name": "Ben", "timestamp_ms": 1_700_000_001_000, "content": "I left a note. You called me."},
        {"sender_name": "Ben", "timestamp_ms": 1_700_000_000_000, "content": "hm"},
    ]
    chat = {
        "participants": [{"name": "Ben"}],
        "messages": messages,
        "title": "Zo\u00c3\u00ab",
        "thread_path": "inbox/x",
    }
    path = write("inbox/message_1.json", json.dumps(chat))
    assert read_text(path) == "Ben: hm\nI left a note. You called me.\n\nZoë: ?\n\n\nZoë: spät\n"
    assert (file := read(str(tmp_path / "inbox")).files[0]).format == "messenger"  # a folder takes it too
    assert (file.title, file.date) == ("Zoë", "2023-11-14")
    assert {what: count for what, (count, _) in list_dropped(path).items()} == {"notices": 3, "media": 1}


def test_messengers_newer_form_is_read_in_order_of_time(write: Write) -> None:
    messages = [
        {"senderName": "Ann", "text": "Ça va?", "timestamp": 1_700_000_000_000, "isUnsent": False, "media": []},
        {"senderName": "Ben", "text": "gone", "timestamp": 1_700_000_001_000, "isUnsent": True, "media": []},
        {
            "senderName": "Ben",
            "text": "Oui.",
            "timestamp": 1_700_000_002_000,
            "isUnsent": False,
            "media": [{"uri": "a"}],
        },
    ]
    path = write(
        "Ann_1.json", json.dumps({"participants": ["Ann", "Ben"], "threadName": "Ann_1", "messages": messages})
    )
    assert read_text(path) == "Ann: Ça va?\n\nBen: Oui.\n"
    assert list_dropped(path)["deleted messages"] == (1, "gone")
    for impossible in (1e300, 10**400, -(10**400)):
        messages = [{"senderName": "A", "text": "x", "timestamp": impossible}]
        damaged = write("b.json", json.dumps({"participants": [], "messages": messages}))
        assert read_text(damaged) == "x\n"
