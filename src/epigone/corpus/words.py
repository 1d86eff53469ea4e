"""The patterns for words and for sentence ends, in one place. Where two of them differ, they differ on purpose.

Chinese and Japanese put no spaces between words, so one of their characters counts as a word throughout.
"""

from __future__ import annotations

import re

KANA_AND_HAN = r"\u3040-\u30ff\u3400-\u9fff"
"""Japanese kana and the Chinese characters, to stand in a character class."""
KANA_AND_HAN_ALL = rf"{KANA_AND_HAN}\uf900-\ufaff"
"""With the compatibility forms. The features of the bundled authors were counted without these."""

# -- words

UNSPACED_CHARACTER = re.compile(f"[{KANA_AND_HAN}]")
STYLOMETRY_WORD = re.compile(rf"[{KANA_AND_HAN}]|[^\W\d_{KANA_AND_HAN}]+(?:'[^\W\d_]+)*")
"""A word as style features count it: letters, with straight apostrophes inside ("o'clock"), and no digits.

The bundled authors' counts were made with it, so a change here needs new counts.
"""
WORD_OR_MARK = re.compile(rf"[{KANA_AND_HAN}]|[^\W_{KANA_AND_HAN}]+(?:'[^\W_]+)*|[^\w\s]")
"""A word, digits included, or one punctuation mark: the symbols of the n-gram models of word order."""
PRINTED_WORD = re.compile(rf"[{KANA_AND_HAN_ALL}]|[^\W\d_]+(?:['’-][^\W\d_]+)*")
"""A word as a reader sees it: curly apostrophes and hyphens belong to it ("mother-in-law")."""
SPACED_WORD = re.compile(rf"[{KANA_AND_HAN_ALL}]|[^\s{KANA_AND_HAN_ALL}]+")
"""Whatever stands between white space, punctuation included: for lengths in words."""
WORD_END = re.compile(r"\S(?=\s)")
"""The last character of a word in a text that is still being written."""

# -- where a text that a model writes may end; matches end there

STOP_BOUNDARIES = {
    "sentence": re.compile(
        r"(?:[!?…]|(?<!\b[A-Z])(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)\.)[\"'”’»)\]]*(?=\s)|[。！？][”’」』]*(?=.)", re.S
    ),
    "line": re.compile(r"(?=\n)"),
    "paragraph": re.compile(r"(?=\n[^\S\n]*\n)"),
    "speech": re.compile(r"(?=\n[^\S\n]*\n)|(?=\n[^\W\d_a-z][\w'’ -]{0,30}[.:]\s)"),
}
"""They look one character ahead at most, so a generator can stop in time, and leave the white space that follows.
A speech ends at an empty line, or where the next speaker is named."""
SENTENCE_END = STOP_BOUNDARIES["sentence"]

# -- where a text may be divided into spans for training and validation; matches take in the white space that follows

STOPS = r"[.!?…。！？｡।॥؟۔]"
SENTENCE_STOPS = r"(?:(?<![A-Z])(?<!\b[A-Z][a-z])(?<!\bMrs)(?<!\bMme)[.!?…]|[。！？｡।॥؟۔])"
"""The end of a sentence within a paragraph, but not of an initial or of a title such as "Mr."."""
CLOSERS = r"[\"'”’»)\]_*」』）]*"
LINE_ENDS = r"(?:[ \t]*+\n)++"
SPLIT_BOUNDARIES = {
    "paragraph": re.compile(rf"{STOPS}{CLOSERS}[ \t]*+\n{LINE_ENDS}"),
    "sentence": re.compile(
        rf"{SENTENCE_STOPS}{CLOSERS}(?>{LINE_ENDS}|[ \t]++|\s)(?!\s*+[a-zß-ÿ])|[。！？｡]{CLOSERS}(?:{LINE_ENDS})?"
    ),
    "blank line": re.compile(rf"\n{LINE_ENDS}"),
    "line": re.compile(r"\n"),
    "word": re.compile(r"\s++"),
}
"""They are stricter than the ones above, because the whole text is known: no sentence ends before a small letter. Every
benchmark depends on them. An indentation stays with what follows it; possessive quantifiers keep the search linear."""
