"""The card to share quotes the beginning of a text, as a picture of the usual size, or is not drawn."""

from __future__ import annotations

import io

import pytest
from matplotlib.image import imread

from epigone.report.share_card import MOST_CHARACTERS, MOST_LINES, cut_quotation, draw_share_card

VERSE = "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\n"


def test_the_beginning_is_quoted_to_the_end_of_a_sentence() -> None:
    text = "It was a fine day. " * 40
    assert cut_quotation(text) == ("It was a fine day. " * (MOST_CHARACTERS // 19)).strip()
    assert cut_quotation("word " * 200).endswith(" …") and len(cut_quotation("word " * 200)) <= MOST_CHARACTERS + 2
    assert len(cut_quotation("line\n" * 60).split("\n")) == MOST_LINES
    assert cut_quotation("  So it was.  He went. \n") == "So it was. He went."


@pytest.mark.pictures
@pytest.mark.parametrize("text", [VERSE * 5, "a" * 900, "$x^2$ {} \\frac <b>&", "é ß Ж λ “quoted” —"])
def test_the_picture_has_the_size_that_messengers_show(text: str) -> None:
    picture = draw_share_card(text, "A title", "written by a model")
    assert picture is not None and imread(io.BytesIO(picture)).shape[:2] == (630, 1200)
    assert picture == draw_share_card(text, "A title", "written by a model")


@pytest.mark.parametrize("text", ["", " \n ", "吾輩は猫である。", "\x1b[31m red"])
def test_without_letters_or_a_font_for_them_there_is_no_picture(text: str) -> None:
    assert draw_share_card(text, "A title", "written by a model") is None
