"""Records (rows of a table, objects of JSON): which of their fields is the text, and the documents that they give.

A record is a document, with its title, author and date where it has them. Records that say who says something are a
conversation: those with a speaker or a role beside the text, and those that hold such messages.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from epigone.corpus.readers.conversation import LINE_ENDS, Message, clean_message, join_messages
from epigone.corpus.readers.layout import INVISIBLE
from epigone.corpus.readers.reader import ParsedDocument, ReadContext, to_valid
from epigone.corpus.readers.speakers import clean_name
from epigone.errors import TextUnreadable

Record = Mapping[str, object]
SAMPLE, SAMPLE_CHARACTERS = 100, 1 << 22
"""Records by which fields are chosen, and characters of text in them."""
MOST_LISTED = 12
DEEPEST_FIELD = 3
TEXTS = (
    *("text", "fulltext", "content", "contents", "body", "selftext", "message", "mes", "post", "story", "article"),
    *("poem", "lyrics", "chapter", "prose", "markdown", "transcript", "review", "comment", "tweet", "caption", "quote"),
    *("answer", "completion", "output", "response", "sentence", "paragraph", "description", "value", "source"),
)
"""Names of fields with text, without marks and capitals, the likeliest first."""
TITLES, DATES = ("title", "headline", "subject"), ("date", "createdat", "timestamp", "published", "time", "datetime")
AUTHORS = ("author", "user", "username", "screenname", "poster")
SPEAKERS = ("speaker", "sender", "sendername", "from", "role", "character", "nick", "nickname", "who")
"""Beside a text they make a conversation, unlike an author: each article has one."""
MESSAGES = ("messages", "chatmessages", "conversations", "conversation", "dialogue", "dialog", "turns")
"""Lists of messages in a record."""
ROLES = {"user": "User", "human": "User", "prompter": "User", "assistant": "Assistant", "gpt": "Assistant"}
INSTRUCTIONS = ("system", "developer", "tool", "function")
ODD = re.compile(f"{INVISIBLE.pattern}|[\r\v\f\x85\u2028\u2029\ud800-\udfff]")
GONE = frozenset(["[deleted]", "[removed]"])
SHARE_OF_LONGEST = 0.1
"""Of the mean length of the longest field: a field that is named like a text and is shorter is something else."""
FEWEST_CHARACTERS = 20
"""On average, in a field that is not named like a text."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields that are read."""

    texts: tuple[str, ...]
    title: str = ""
    author: str = ""
    date: str = ""
    speaker: str = ""
    """Of a conversation."""


def read_records(
    records: Iterable[Record], context: ReadContext, asked: Sequence[str], *, what: str
) -> Iterator[ParsedDocument]:
    """The documents of records.

    `asked`: the names of the fields that are texts, if the user gave them. `what`: what a record is called, such as
    "row". Raises TextUnreadable.
    """
    rest = iter(records)
    sample = take_sample(rest)
    if not sample:
        return
    records = chain(sample, rest)
    if not asked and (name := find_messages(sample)):
        yield from _read_conversations(records, name, context)
        return
    fields = choose_fields(sample, context.name, asked)
    kept = '", "'.join(fields.texts)
    hint = "" if asked else f"; --field chooses among {_list_names(sample)}"
    if fields.speaker:
        context.notes.append(f'a conversation: "{fields.speaker}" says "{kept}"{hint}')
        yield join_records(records, fields, context)
        return
    context.notes.append(f'"{kept}" of each {what}{hint}')
    is_first = True
    for record in records:
        if document := _make_document(record, fields, context, is_first=is_first):
            is_first = False
            yield document


# -- choosing fields


def take_sample(records: Iterator[Record]) -> list[Record]:
    """The first records, as many as show which field is which."""
    sample, n_characters = list[Record](), 0
    while len(sample) < SAMPLE and n_characters < SAMPLE_CHARACTERS:
        record = next(records, None)
        if record is None:
            break
        sample.append(record)
        n_characters += count_characters(record)
    return sample


def count_characters(record: object) -> int:
    """Characters of text in a record or another value."""
    if isinstance(record, str):
        return len(record)
    return sum(len(text) for _, text in list_texts(record)) if isinstance(record, Mapping) else 0


def fold_name(name: str) -> str:
    """The last part of a field's name, without marks and capitals."""
    return re.sub(r"[\W_]", "", name.rpartition(".")[2]).lower()


def list_texts(record: Record, before: str = "", depth: int = 1) -> Iterator[tuple[str, str]]:
    """The names of all fields with text in a record, with dots for those that are nested, and the texts."""
    for name, value in record.items():
        if isinstance(value, str):
            yield f"{before}{name}", value
        elif isinstance(value, Mapping) and depth < DEEPEST_FIELD:
            yield from list_texts(value, f"{before}{name}.", depth + 1)
        elif isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            yield f"{before}{name}", join_lines(value)


def choose_fields(sample: Sequence[Record], where: str, asked: Sequence[str] = ()) -> Fields:
    """The fields that were asked for, or those whose names and lengths say that they are texts.

    Raises TextUnreadable if there are none.
    """
    means = measure_fields(sample)
    texts = tuple(asked) or guess_texts(means)
    for name in texts:
        if not any(read_field(record, name) for record in sample) and not any(name in record for record in sample):
            raise _unknown_field(name, sample, where)
    if not texts:
        raise TextUnreadable(
            f"{where} has no field that is clearly a text. Its fields: {_list_names(sample) or 'none'}.",
            hint="Name one: --field NAME. Nested names have dots: --field post.body",
        )

    def find(names: Sequence[str]) -> str:
        known = {fold_name(name): name for name in list(means)[::-1] if name not in texts}
        return next((known[name] for name in names if name in known), "")

    return Fields(texts, find(TITLES), find(AUTHORS), find(DATES), find(SPEAKERS) or _find_discord(means))


def measure_fields(sample: Sequence[Record]) -> dict[str, float]:
    """The mean length of each field's texts over all records."""
    totals: Counter[str] = Counter()
    for record in sample:
        for name, text in list_texts(record):
            totals[name] += len(text)
    return {name: total / len(sample) for name, total in totals.items()}


def guess_texts(means: Mapping[str, float]) -> tuple[str, ...]:
    """The one field that is the text, by its name and its mean length; none if that is not clear."""
    if not means:
        return ()
    longest = max(means, key=lambda name: means[name])
    by_name = {fold_name(name): name for name in list(means)[::-1]}
    named = [by_name[name] for name in TEXTS if name in by_name]
    named = [name for name in named if means[name] >= max(1, SHARE_OF_LONGEST * means[longest])]
    if named:
        return (named[0],)
    is_text = means[longest] >= FEWEST_CHARACTERS or len(means) == 1
    return (longest,) if is_text else ()


def _find_discord(names: Iterable[str]) -> str:
    """DiscordChatExporter's tables have an author, as articles do, but also the author's number."""
    return "Author" if {"AuthorID", "Author", "Content"} <= set(names) else ""


def _unknown_field(name: str, sample: Sequence[Record], where: str) -> TextUnreadable:
    names = dict.fromkeys(name for record in sample for name, _ in list_texts(record))
    alike = difflib.get_close_matches(name.lower(), [one.lower() for one in names], n=1)
    meant = [one for one in names if alike and one.lower() == alike[0]]
    return TextUnreadable(
        f'{where} has no field "{name}". Its fields: {_list_names(sample)}.',
        hint=f"Did you mean --field {meant[0]}?" if meant else "Nested names have dots: --field post.body",
    )


def _list_names(sample: Sequence[Record]) -> str:
    names = list(dict.fromkeys(to_valid(name) for record in sample for name, _ in list_texts(record)))
    return ", ".join(names[:MOST_LISTED]) + (" …" if len(names) > MOST_LISTED else "")


# -- documents


def read_field(record: object, name: str) -> str:
    """The text of a field, whose name may have dots; of lists on the way, the texts of all elements."""
    if type(record) is dict and type(value := record.get(name)) is str:  # mostly
        return value
    if isinstance(record, list):
        return "\n\n".join(filter(None, (read_field(one, name) for one in record)))
    if not isinstance(record, Mapping):
        return ""
    first, _, rest = name.partition(".")
    if name in record or not rest:
        value = record.get(name)
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return join_lines(value)
        return value if isinstance(value, str) else str(value) if isinstance(value, (int, float)) else ""
    return read_field(record.get(first), rest)


def join_lines(lines: Sequence[str]) -> str:
    """A text that is stored as a list of its lines, with or without their ends."""
    return "".join(lines) if any(line.endswith("\n") for line in lines[:-1]) else "\n".join(lines)


def clean_text(text: str) -> str:
    """A text with one line end at its end, without what is not seen; "" if nothing is left."""
    if ODD.search(text):
        text = INVISIBLE.sub("", LINE_ENDS.sub("\n", text)).encode("utf-8", "ignore").decode()
    text = text.strip("\n").rstrip()
    return text + "\n" if text.strip() else ""


def _make_document(record: Record, fields: Fields, context: ReadContext, *, is_first: bool) -> ParsedDocument | None:
    """The document of a record; None if it has no text, or not that of a speaker who is wanted."""
    found = [text.strip("\n") for name in fields.texts if (text := clean_text(read_field(record, name)))]
    if not found:
        return None
    if found[0] in GONE:
        context.drops.add("deleted texts", found[0])
        return None
    author = clean_name(read_field(record, fields.author)) if fields.author else ""
    is_wanted = context.speakers.count(author) if author else not context.settings.speaker
    if not is_wanted:
        return None
    text = "\n\n".join(found) + "\n"
    if not is_first:  # of several the receipt has no title
        return ParsedDocument(text=text, author=author)
    return ParsedDocument(
        text=text,
        title=clean_name(read_field(record, fields.title)) if fields.title else "",
        author=author,
        date=read_field(record, fields.date)[:40] if fields.date else "",
    )


# -- conversations


def find_messages(sample: Sequence[Record]) -> str:
    """The field of records that holds lists of messages, each with a speaker and a text; "" if there is none."""
    for name in dict.fromkeys(name for record in sample for name in record if fold_name(name) in MESSAGES):
        lists = [value for record in sample if isinstance(value := record.get(name), list)]
        firsts = [value[0] for value in lists if value and isinstance(value[0], Mapping)]
        if firsts and len(lists) > len(sample) / 2 and find_message_fields(firsts):
            return name
    return ""


def find_message_fields(sample: Sequence[Record]) -> Fields | None:
    """The speaker and the text of messages; None if they have none."""
    names = {fold_name(name): name for record in reversed(sample) for name in record}
    speaker = next((names[name] for name in SPEAKERS if name in names), "")
    text = next((names[name] for name in TEXTS if name in names), "")
    date = next((names[name] for name in DATES if name in names), "")
    return Fields((text,), speaker=speaker, date=date) if speaker and text else None


def unfold(value: object) -> object:
    """A conversation of ChatGPT's export as a record with a list of messages; another value as it is.

    It is a tree, since a message can be written again. The branch that was shown last is taken.
    """
    mapping = value.get("mapping") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(mapping, dict):
        return value
    messages: list[dict[str, object]] = []
    node, seen = value.get("current_node"), set[str]()
    while isinstance(node, str) and node not in seen and isinstance(found := mapping.get(node), dict):
        seen.add(node)
        node = found.get("parent")
        message = found.get("message")
        author = message.get("author") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(author, dict) and isinstance(content, dict):
            parts = content.get("parts")
            texts = [part for part in parts if isinstance(part, str)] if isinstance(parts, list) else []
            messages.append({"role": author.get("role"), "content": "\n".join(texts)})
    return {"title": value.get("title"), "messages": messages[::-1]}


def _read_conversations(records: Iterable[Record], name: str, context: ReadContext) -> Iterator[ParsedDocument]:
    context.notes.append(f'"{name}" of each record is a conversation')
    for record in records:
        messages = record.get(name)
        found = [one for one in messages if isinstance(one, Mapping)] if isinstance(messages, list) else []
        if found and (fields := find_message_fields(found)):
            yield replace(join_records(found, fields, context), title=clean_name(read_field(record, "title")))


def join_records(records: Iterable[Record], fields: Fields, context: ReadContext) -> ParsedDocument:
    """A conversation whose messages are records."""
    messages: list[Message] = []
    is_backwards = fold_name(fields.speaker) == "sendername"  # Messenger and Instagram have the newest first
    mend = mend_encoding if is_backwards else str
    for record in records:
        speaker = mend(read_field(record, fields.speaker))
        text = clean_message(mend("\n".join(map(_reader_of(record), fields.texts))), context.drops)
        if speaker.lower() in INSTRUCTIONS:
            context.drops.add("instructions", text)
        elif text:
            name = clean_name(ROLES.get(speaker.lower(), speaker))
            messages.append(Message(name, text, _read_day(record, fields)))
    return ParsedDocument(text=join_messages(messages[::-1] if is_backwards else messages, context))


def _reader_of(record: Record) -> Callable[[str], str]:
    """OpenAI's messages have a text or a list of parts, some of which have a text."""

    def read(name: str) -> str:
        value = record.get(name)
        is_parts = isinstance(value, list) and any(isinstance(part, Mapping) for part in value)
        return read_field(value, "text") if is_parts else read_field(record, name)

    return read


def _read_day(record: Record, fields: Fields) -> str:
    """The day of a time as text; of a number, which counts seconds or milliseconds, the count of days."""
    found = read_field(record, fields.date) if fields.date else ""
    if found.isascii() and found.isdigit() and len(found) < 16:
        return str(int(found) // (86_400_000 if len(found) > 11 else 86_400))
    return re.split(r"[T ]", found, maxsplit=1)[0]


def mend_encoding(text: str) -> str:
    """Text whose UTF-8 was taken for Latin-1, as Messenger's export has it; another text as it is."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
