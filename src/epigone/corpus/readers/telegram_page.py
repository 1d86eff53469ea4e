"""Chats exported by Telegram Desktop as web pages, which is what it does unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from epigone.corpus.readers.conversation import Message, clean_message, join_messages
from epigone.corpus.readers.page import Element, Page
from epigone.corpus.readers.reader import Beginning, ParsedDocument, ReadContext
from epigone.corpus.readers.speakers import clean_name

BY_BOT = " via @"


def is_page(beginning: Beginning) -> bool:
    """Whether a page has the parts of such an export."""
    text = beginning.text
    return '<div class="page_wrap' in text and '<div class="history">' in text and '<div class="message ' in text


def read_page(page: Page, context: ReadContext) -> ParsedDocument:
    """The conversation of a page. Messages of one person that follow each other have the name once."""
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
