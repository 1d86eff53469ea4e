"""Tables and JSON give the texts in their records, from the field that is meant, and conversations as such."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from epigone.corpus.readers import limits, table
from epigone.corpus.readers.records import guess_texts
from epigone.errors import TextTooShort, TextUnreadable
from helpers_readers import Write, measure_reading, read, read_texts

LINES = [f"The rain of day {day} fell on the roof,\nand no one heard it." for day in range(5)]
POSTS = [
    {
        "id": f"p{day}",
        "title": f"Day {day}",
        "user": {"name": "Ann", "bio": "Writes."},
        "body": text,
        "tags": ["a", "b"],
    }
    for day, text in enumerate(LINES)
]


def make_table(rows: Sequence[Sequence[str]], **how: str) -> str:
    file = io.StringIO()
    csv.writer(file, **how).writerows(rows)  # type: ignore[arg-type]
    return file.getvalue()


def make_lines(*values: object) -> str:
    return "".join(f"{json.dumps(value)}\n" for value in values)


EXPECTED = [f"{text}\n" for text in LINES]
ROWS = [["id", "title", "text"], *([f"{day}", f"Day {day}", text] for day, text in enumerate(LINES))]
FILES = {
    "posts.csv": make_table(ROWS),
    "semicolons.csv": make_table(ROWS, delimiter=";"),
    "nameless.csv": make_table([row[1:] for row in ROWS[1:]]),
    "tabs.tsv": make_table(ROWS, delimiter="\t"),
    "posts.jsonl": make_lines(*POSTS),
    "posts.txt": make_lines(*POSTS),
    "posts.json": json.dumps(POSTS),
    "nested.json": json.dumps(
        {"version": "1", "tags": [{"name": "a long name of a tag"}], "data": {"posts": POSTS}}, indent=1
    ),
    "strings.json": json.dumps(LINES),
    "strings.jsonl": make_lines(*LINES),
}


@pytest.mark.parametrize("name", FILES)
def test_each_record_is_a_document(name: str, write: Write) -> None:
    path = write(name, FILES[name])
    assert read_texts(path) == EXPECTED
    (file,) = read(path).files
    assert file.n_documents == 5


def test_a_file_has_the_title_of_its_only_record_and_none_of_several(write: Write) -> None:
    assert read(write("one.jsonl", make_lines(POSTS[0]))).files[0].title == "Day 0"
    assert read(write("posts.jsonl", make_lines(*POSTS))).files[0].title == ""


def test_the_receipt_says_which_field_it_was(write: Write) -> None:
    (file,) = read(write("posts.jsonl", make_lines(*POSTS))).files
    assert file.notes == ('"body" of each line; --field chooses among id, title, user.name, user.bio, body, tags',)


def test_fields_can_be_chosen_also_nested_ones_and_several(write: Write) -> None:
    lines, whole = write("posts.jsonl", make_lines(*POSTS)), write("posts.json", json.dumps({"posts": POSTS}))
    assert read_texts(lines, field=["user.bio"]) == ["Writes.\n"] * 5
    assert read_texts(lines, field=["title", "tags"])[0] == "Day 0\n\na\nb\n"
    assert read_texts(whole, field=["posts.user.bio"]) == read_texts(whole, field=["user.bio"]) == ["Writes.\n"] * 5
    assert read_texts(write("n.csv", FILES["nameless.csv"]), field=["1"])[1] == "Day 1\n"
    threads = [{"posts": [{"text": "one"}, {"text": "two"}]}]
    assert read_texts(write("t.jsonl", make_lines(*threads)), field=["posts.text"]) == ["one\n\ntwo\n"]


def test_a_wrong_field_is_an_error_with_the_right_ones(write: Write) -> None:
    for name in ("posts.jsonl", "nested.json"):
        with pytest.raises(TextUnreadable, match=r'no field "bdy"\. Its fields: id, title.*body') as error:
            read(write(name, FILES[name]), field=["bdy"])
        assert error.value.hint == "Did you mean --field body?"


def test_no_clear_text_is_an_error(write: Write) -> None:
    with pytest.raises(TextUnreadable, match="no field that is clearly a text. Its fields: id, size") as error:  # noqa: RUF043
        read(write("a.csv", "id,size\n1,20\n2,30\n"))
    assert "--field" in error.value.hint


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ({"title": 20.0, "text": 300.0, "content": 200.0}, "text"),
        ({"text": 3.0, "story": 900.0}, "story"),
        ({"Full_Text": 30.0, "url": 60.0}, "Full_Text"),
        ({"id": 8.0, "notes": 80.0}, "notes"),
        ({"post.body": 80.0, "post.title": 30.0}, "post.body"),
        ({"id": 8.0, "name": 12.0}, ""),
    ],
)
def test_a_field_is_guessed_from_names_and_lengths(means: dict[str, float], expected: str) -> None:
    assert "".join(guess_texts(means)) == expected


def test_quotation_marks_that_belong_to_the_text_stay(write: Write) -> None:
    table = "id\ttext\n" + "".join(f'{day}\t"Well, said one.\n' for day in range(4))
    assert read_texts(write("a.tsv", table)) == ['"Well, said one.\n'] * 4


def test_an_open_quotation_mark_is_an_error(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "LONGEST_FIELD", 1 << 12)
    with pytest.raises(TextUnreadable, match="cannot be read as a table"):
        read(write("a.csv", 'id,text\n1,"open\n' + "2,and so on\n" * 1_000))


def test_what_is_damaged_or_deleted_is_left_out_and_counted(write: Write) -> None:
    lines = [
        json.dumps({"text": LINES[0]}),
        '{"text": "cut',
        "3",
        json.dumps({"text": "[deleted]"}),
        '{"text": "\\ud800 so\\u0000"}',
    ]
    path = write("a.jsonl", "\n".join(lines))
    assert read_texts(path) == [EXPECTED[0], " so\n"]
    assert {part.what: part.count for part in read(path).files[0].dropped} == {
        "lines that are not JSON": 1,
        "values that are not objects": 1,
        "deleted texts": 1,
    }


def test_halves_of_characters_do_not_get_into_texts_and_receipts(write: Write) -> None:
    half = "\\ud800"
    line = f'{{"text": "so {half} it was {half}", "title": "a{half}b", "date{half}": "x{half}", "date": "{half}"}}\n'
    table = write("a.jsonl", line * 3 + f'{{"text": "[deleted]"}}\n"{half}"\n')
    post = f'{{"type": "Pin", "content": "x{half}", "author": {{"name": "a{half}"}}, "timestamp": "{half}"}}'
    post += f', {{"content": "y{half}", "author": {{"name": "a{half}"}}, "timestamp": "{half}"}}'
    channel = write("b.json", f'{{"guild": {{}}, "channel": {{"name": "c{half}"}}, "messages": [{post}]}}')
    corpus = read(table, channel)
    json.dumps([asdict(document) for document in corpus.documents], ensure_ascii=False).encode()
    assert corpus.files[1].format == "discord"


# -- conversations and authors


def test_messages_of_assistants_are_conversations(write: Write) -> None:
    parts = [{"type": "text", "text": "Yes."}]
    openai = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Does it rain?"},
        {"role": "assistant", "content": parts},
    ]
    sharegpt = [{"from": "human", "value": "Does it rain?"}, {"from": "gpt", "value": "Yes."}]
    expected = ["User: Does it rain?\n\nAssistant: Yes.\n"] * 3
    lines = write("a.jsonl", make_lines(*[{"messages": openai}] * 3))
    assert read_texts(lines) == read_texts(write("b.jsonl", make_lines(*[openai] * 3))) == expected
    assert read_texts(write("c.json", json.dumps([{"id": "1", "conversations": sharegpt}] * 3))) == expected
    assert read_texts(lines, speaker=["Assistant"]) == ["Yes.\n"] * 3
    assert read(lines).files[0].dropped[0].what == "instructions"


def test_chatgpts_export_is_read_along_the_branch_that_was_shown(write: Write) -> None:
    def say(role: str, text: str, parent: str | None) -> dict[str, object]:
        return {"parent": parent, "message": {"author": {"role": role}, "content": {"parts": [text]}}}

    tree = {
        "a": {"parent": None, "message": None},
        "b": say("user", "Does it rain?", "a"),
        "c": say("assistant", "No.", "b"),
        "d": say("assistant", "Yes.", "b"),
    }
    chats = [{"title": "Rain", "current_node": "d", "mapping": tree}, {"title": "None", "mapping": {}}]
    path = write("conversations.json", json.dumps(chats))
    assert read_texts(path) == ["User: Does it rain?\n\nAssistant: Yes.\n"]
    assert read(path).files[0].title == "Rain"
    claude = [
        {
            "name": "Rain",
            "chat_messages": [{"sender": "human", "text": "Rain?"}, {"sender": "assistant", "text": "Yes."}],
        }
    ]
    assert read_texts(write("conversations.json", json.dumps(claude))) == ["User: Rain?\n\nAssistant: Yes.\n"]


def test_fields_of_what_has_none_are_an_error(write: Write) -> None:
    for name, text in (("a.txt", "A text."), ("a.md", "A *text*.")):
        with pytest.raises(TextUnreadable, match="has no fields: it is read as"):
            read(write(name, text), field=["text"])


def test_rows_with_a_speaker_are_a_conversation(write: Write) -> None:
    rows = [["speaker", "text", "time"], ["Ann", "Hi.", "2024-05-01 10:00"], ["Ann", "So?", "2024-05-01 10:01"]]
    path = write("a.csv", make_table([*rows, ["Ben", "Yes, that is so.", "2024-05-02 10:01"]]))
    assert read_texts(path) == ["Ann: Hi.\nSo?\n\n\nBen: Yes, that is so.\n"]
    discord = make_table(
        [["AuthorID", "Author", "Date", "Content"], ["1", "Ann", "d", "Hi."], ["2", "Ben", "d", "Yo."]]
    )
    assert read_texts(write("b.csv", discord)) == ["Ann: Hi.\n\nBen: Yo.\n"]


def test_messengers_export_is_put_in_order_and_its_letters_are_mended(write: Write) -> None:
    messages = [
        {"sender_name": "Zo\u00c3\u00ab", "timestamp_ms": 1_700_000_060_000, "content": "sp\u00c3\u00a4t"},
        {"sender_name": "Ben", "timestamp_ms": 1_700_000_000_000, "content": "Good evening"},
    ]
    path = write("message_1.json", json.dumps({"participants": [{"name": "Ben"}], "messages": messages}))
    assert read_texts(path) == ["Ben: Good evening\n\nZoë: spät\n"]


def test_an_author_of_records_can_be_chosen(write: Write) -> None:
    posts = [{"author": name, "text": text} for name, text in zip("ABABA", LINES, strict=True)]
    path = write("a.jsonl", make_lines(*posts, {"text": "Of no one."}))
    assert read_texts(path, speaker=["b"]) == [EXPECTED[1], EXPECTED[3]]
    with pytest.raises(TextTooShort, match=r"A \(3\), B \(2\)"):
        read(path, speaker=["C"])
    assert len(read_texts(path)) == 6


# -- what is taken, and how much


def test_data_in_a_folder_is_read_only_if_it_was_asked_for(write: Write, tmp_path: Path) -> None:
    for name in ("posts.csv", "posts.jsonl", "posts.json"):
        write(f"all/{name}", FILES[name])
    write("all/a.txt", "A text.\n")
    folder = str(tmp_path / "all")
    corpus = read(folder)
    assert [document.name for document in corpus.documents] == ["a.txt"]
    assert corpus.skipped[0].startswith(
        "3 files are not read: 1 ending in .csv, 1 ending in .json, 1 ending in .jsonl."
    )
    assert len(read(folder, format="jsonl").documents) == 5
    assert len(read(f"{folder}/*.json*").documents) == 10


def test_the_only_file_of_an_archive_is_meant(write: Write) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("posts.csv", FILES["posts.csv"])
    assert read_texts(write("a.zip", packed.getvalue())) == EXPECTED
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("readme.txt", "What it is.")
    assert read_texts(write("a.zip", packed.getvalue())) == ["What it is."]


def test_a_value_that_is_too_large_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epigone.corpus.readers.json_stream.MOST_PART_BYTES", 1 << 12)
    monkeypatch.setattr("epigone.corpus.encoding.PIECE_BYTES", 1 << 10)
    with pytest.raises(TextUnreadable, match="a part of it has more than"):
        read(write("a.json", '[{"text": "' + "so " * 20_000))


LONG = {
    "a.json": ('[{"text": "a"}', ',{"text": [['),
    "b.json": ('[{"text": "a"}', ',{"a": 1}'),
    "a.jsonl": ('{"text": "so"}\n', '{"text": \n'),
    "a.csv": ("id,text\n", '1,"so ""'),
    "b.csv": ("id,text\n1,so so\n", ",;|\t"),
}


@pytest.mark.parametrize("name", LONG)
def test_time_grows_with_length_only(name: str, write: Write) -> None:
    def measure(count: int) -> float:
        path = write(name, LONG[name][0] + LONG[name][1] * count)
        return measure_reading(path)

    short, long = measure(2_000), measure(20_000)
    assert long < 30 * short + 0.3


# -- Parquet


def make_parquet(columns: dict[str, list[object]], **how: int) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file, **how)
    return file.getvalue()


def test_a_row_of_parquet_is_a_document(write: Write) -> None:
    posts = {name: [post[name] for post in POSTS] for name in ("title", "body", "user")}
    path = write("a.parquet", make_parquet({**posts, "picture": [b"\0" * 100] * 5}, row_group_size=2))
    assert read_texts(path) == EXPECTED
    assert read_texts(path, field=["user.bio"]) == ["Writes.\n"] * 5
    (note,) = read(path).files[0].notes
    assert note.startswith('"body" of each row; --field chooses among title, body, user.')
    assert {"user.name", "user.bio"} <= set(re.split("[, ]+", note))  # in either order: older pyarrows sort them


def test_conversations_in_parquet_are_read(write: Write) -> None:
    messages = [[{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]] * 2
    assert (
        read_texts(write("a.parquet", make_parquet({"messages": messages}))) == ["User: Hi?\n\nAssistant: Yes.\n"] * 2
    )


def test_damaged_parquet_is_an_error(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_parquet({"text": LINES})
    with pytest.raises(TextUnreadable, match=r"a\.parquet is damaged"):
        read(write("a.parquet", data[:-20]))
    monkeypatch.setattr("epigone.corpus.readers.parquet.MOST_BYTES", 10)
    with pytest.raises(TextUnreadable, match="a part of it has more than"):
        read(write("a.parquet", data))


def test_parquet_is_refused_if_it_expands_too_much(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RATIO_FROM_BYTES", 1 << 16)
    with pytest.raises(TextUnreadable, match="times its size"):
        read(write("a.parquet", make_parquet({"text": ["so " * 10_000] * 1_000})))


def test_parquet_without_its_package_names_the_extra(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TextUnreadable, match="needs the package pyarrow") as error:
        read(write("a.parquet", b"PAR1 and so on"))
    assert error.value.hint == 'Install it: pip install "epigone[parquet]"'


# -- notebooks


def test_a_notebook_gives_the_text_of_its_cells(write: Write, tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# One\n", "\n", "It *rained*, see [this](https://a.b)."]},
        {"cell_type": "code", "source": "x = 1", "outputs": [{"text": ["1"]}]},
        {"cell_type": "markdown", "source": "Two.\n"},
    ]
    path = write("all/a.ipynb", json.dumps({"cells": cells, "nbformat": 4}))
    assert read_texts(path) == ["One\n\nIt _rained_, see this.\n\nTwo.\n"]
    assert read_texts(path, code="keep") == ["One\n\nIt _rained_, see this.\n\nx = 1\n\nTwo.\n"]
    (file,) = read(str(tmp_path / "all")).files  # a folder takes it too
    assert file.format == "notebook"
    assert [(part.what, part.count) for part in file.dropped][-2:] == [("outputs of code", 1), ("code blocks", 1)]
    with pytest.raises(TextTooShort):
        read(write("b.ipynb", json.dumps({"cells": [{"cell_type": "code", "source": None}], "nbformat": 4})))
