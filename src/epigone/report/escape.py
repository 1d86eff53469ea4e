"""Escaping: text that someone wrote, made unable to control a terminal or to act as Markdown or HTML."""

from __future__ import annotations

import html
import re
import unicodedata


def clean_text(text: str) -> str:
    """The text without control characters except newlines and tabs."""
    text = text.replace("\r\n", "\n")
    return "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) != "Cc")


_TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
"""Characters that change the direction of what follows, even of the words around them."""


def show_controls(text: str) -> str:
    """The text with a visible sign for each control character: "␛" for escape, "⟨202E⟩" for a change of direction."""
    if text.isprintable():  # a picture in an address has 100,000 letters
        return text
    return "".join(_SIGNS.get(letter) or _sign(letter) for letter in text.replace("\r\n", "\n"))


def _sign(letter: str) -> str:
    code = ord(letter)
    acts = code in _TURNING or (unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t")
    return f"⟨{code:04X}⟩" if acts else letter


_SIGNS = {chr(code): chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {"\x7f": "␡"}


def show_name(name: object) -> str:
    """A file's name on one line, with a visible sign for each control character."""
    return show_controls(str(name)).replace("\n", "␊").replace("\t", "␉")


def on_one_line(text: str) -> str:
    """The clean text with every run of white space as one space."""
    return " ".join(clean_text(text).split())


def escape_markdown(text: str) -> str:
    """The text on one line, with no effect as Markdown or HTML."""
    text = html.escape(on_one_line(text), quote=False)
    text = re.sub(r"([\\`*_{}\[\]#!|~$])", r"\\\1", text)
    return re.sub(r"^(\d*)([-+.)])(?=[\s-]|$)", r"\1\\\2", text)  # would begin an item of a list, or be a rule


def code_markdown(text: str) -> str:
    """The text as code on one line. As an HTML tag, since a "|" ends a cell of a table even inside backticks."""
    return f"<code>{escape_markdown(text)}</code>"


def fence_text(text: str) -> str:
    """The text in a fenced block of Markdown, with a fence longer than any run of backticks in the text."""
    text = clean_text(text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"
