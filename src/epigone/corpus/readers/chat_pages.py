"""Chats as web pages, which is what Telegram Desktop and DiscordChatExporter make of them unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from epigone.corpus.readers.conversation import Message, clean_message, join_messages
from epigone.corpus.readers.html import MOST_PAGE_BYTES
from epigone.corpus.readers.page import Element, Page, parse_page
from epigone.corpus.readers.reader import Beginning, ParsedDocument, ReadContext
from epigone.corpus.readers.speakers import clean_name

BY_BOT = " via @"
AUTHORS = frozenset(("chatlog__author", "chatlog__author-name"))
BOTS = frozenset(("chatlog__author-tag", "chatlog__bot-tag"))


def is_telegram(beginning: Beginning) -> bool:
    """Whether a page has the parts of an export by Telegram Desktop."""
    text = beginning.text
    parts = ('<div class="page_wrap', '<div class="history">', '<div class="message ')
    return beginning.markup.startswith(b"<") and all(part in text for part in parts)


def is_discord(beginning: Beginning) -> bool:
    """Whether a page, or the style sheet in it, has the names of an export by DiscordChatExporter."""
    text = beginning.text
    return beginning.markup.startswith(b"<") and "chatlog__" in text and "preamble" in text


def open_page(file: BinaryIO, context: ReadContext) -> Page | None:
    """The page in a file that can be rewound; None if something else is in it."""
    is_page = file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    file.seek(0)
    if not is_page:
        return None
    return parse_page(context.decode(context.limits.read_part(file, MOST_PAGE_BYTES)), context.limits)


def read_discord(page: Page, context: ReadContext) -> ParsedDocument:
    """The conversation of a page by DiscordChatExporter. Of messages that follow each other the first has the name."""
    messages: list[Message] = []
    speaker, day, is_bot = "", "", False
    for number, element in enumerate(page.elements):
        names = set(_list_classes(element))
        if names & AUTHORS:
            speaker, is_bot = clean_name(page.read_text(element)), False
        elif names & BOTS:
            is_bot = True
        elif "chatlog__timestamp" in names:
            day = page.read_text(element).partition(" ")[0]
        elif "chatlog__system-notification-content" in names:
            context.drops.add("notices", page.read_text(element))
        elif "chatlog__attachment" in names:
            context.drops.add("media", page.read_text(element))
        elif "chatlog__content" in names:
            text = clean_message(_read_discord_text(page, number, context), context.drops)
            if is_bot:
                context.drops.add("messages of bots", text)
            elif text:
                messages.append(Message(speaker, text, day))
    entries = [page.read_text(element) for element in page.elements if "preamble__entry" in _list_classes(element)]
    return ParsedDocument(
        text=join_messages(messages, context),
        title=clean_name(entries[1]) if len(entries) > 1 else "",
        date=messages[0].day if messages else "",
    )


def _read_discord_text(page: Page, number: int, context: ReadContext) -> str:
    """What a message says: without code and remarks, with the signs of emoji, which are pictures."""
    element = page.elements[number]
    text: list[str] = []
    place = element.first
    while place < element.end:
        step = page.steps[place]
        place += 1
        if isinstance(step, str):
            text.append(step)
        elif isinstance(step, Element):
            names = _list_classes(step)
            is_code = any(name.endswith("pre--multiline") for name in names) and context.settings.code == "drop"
            if is_code:
                context.drops.add("code blocks", page.read_text(step))
            if is_code or "chatlog__edited-timestamp" in names:
                place = step.end
            elif step.tag == "br":
                text.append("\n")
            elif step.tag == "img":
                text.append(step.attributes.get("alt", ""))
    return "".join(text)


def read_telegram(page: Page, context: ReadContext) -> ParsedDocument:
    """The conversation of a page by Telegram Desktop. Of messages that follow each other the first has the name."""
    messages: list[Message] = []
    title, speaker = "", ""
    elements = page.elements
    for number, element in enumerate(elements):
        names = _list_classes(element)
        if "page_header" in names:
            title = page.read_text(element)
        if "message" not in names:
            continue
        parts = {name: part for part in reversed(list(_list_inside(elements, number))) for name in _list_classes(part)}
        if "service" in names:
            context.drops.add("notices", page.read_text(element))
            continue
        if "from_name" in parts and "forwarded" not in parts:
            speaker = page.read_text(parts["from_name"])
        text = clean_message(_read_lines(page, parts["text"]), context.drops) if "text" in parts else ""
        if "forwarded" in parts:
            context.drops.add("forwarded messages", text)
        elif BY_BOT in speaker:
            context.drops.add("messages of bots", text)
        else:
            if "media_wrap" in parts:
                context.drops.add("media", page.read_text(parts["media_wrap"]))
            day = parts["date"].attributes.get("title", "").partition(" ")[0] if "date" in parts else ""
            messages += [Message(clean_name(speaker), text, day)] if text else []
    return ParsedDocument(
        text=join_messages(messages, context), title=clean_name(title), date=messages[0].day if messages else ""
    )


def _list_classes(element: Element) -> list[str]:
    return element.attributes.get("class", "").split() if element.attributes else []


def _list_inside(elements: Sequence[Element], number: int) -> Iterator[Element]:
    """The elements in another one, in reading order."""
    end = elements[number].end
    for place in range(number + 1, len(elements)):
        if elements[place].first > end:
            return
        yield elements[place]


def _read_lines(page: Page, element: Element) -> str:
    """The text of an element, with the line breaks that are marked."""
    found: list[str] = []
    for step in page.steps[element.first : element.end]:
        if isinstance(step, str):
            found.append(step.replace("\n", " "))
        elif isinstance(step, Element) and step.tag == "br":
            found.append("\n")
    return "".join(found)
