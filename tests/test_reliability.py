"""What the tests of faults found becomes a page in which nothing is left out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from conftest import ODD, Tries, keeping
from epigone.errors import EpigoneError
from reliability import SECTIONS, write_page


def make_row(group: str, fault: str, survived: int, lost: str = "nothing", **more: object) -> dict[str, object]:
    return {"group": group, "fault": fault, "tried": 3, "survived": survived, "lost": lost, "test": "a"} | more


def test_rows_of_the_same_fault_are_added_up_and_every_loss_is_named() -> None:
    rows = [make_row("Killed", "kill -9", 3), make_row("Disks", "full", 3), make_row("Killed", "kill -9", 2, "a step")]
    page = write_page(rows)
    assert "| kill -9 | 6 | 5 | a step |" in page and "| full | 3 | 3 | nothing |" in page
    assert page.count("kill -9") == 1 and page.index("## Disks") < page.index("## Killed")


def test_a_refusal_does_not_count_as_survival_and_is_counted_by_itself() -> None:
    rows = [make_row(ODD, "any prompt", 3, refused=1), make_row(ODD, "any prompt", 2, refused=2)]
    page = write_page(rows)
    assert "| what was given | tried | read | refused |" in page and "| any prompt | 6 | 2 | 3 |" in page
    assert "survived |" not in page and SECTIONS[ODD].words.split(".")[0] in page.replace("\n", " ")


def test_every_section_with_words_of_its_own_has_rows_that_are_made() -> None:
    """Or a group that was named otherwise in a test would lose its words."""
    written = "".join(
        path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py") if path.name not in __file__
    )
    assert ODD in SECTIONS
    assert all(f'"{group}"' in written for group in SECTIONS if group != ODD)


def test_a_try_is_read_or_refused_and_anything_else_is_missing_in_the_table() -> None:
    tries = Tries()
    with tries.one():
        pass
    with suppress(EpigoneError), tries.one():
        raise EpigoneError("No.")
    with suppress(ValueError), tries.one():
        raise ValueError
    assert tries.end(lambda: 2) == 2 and tries.end(lambda: 0) == 0
    with pytest.raises(ZeroDivisionError):
        tries.end(lambda: 1 // 0)
    assert (tries.n_tried, tries.n_read, tries.n_refused) == (6, 2, 2)


def test_one_try_that_fails_is_in_the_table() -> None:
    rows = []

    def keep(group: str, fault: str, **more: object) -> None:
        rows.append((group, fault, more))

    with keeping(keep, "Killed", "well"):
        pass
    with pytest.raises(AssertionError), keeping(keep, "Killed", "badly"):
        raise AssertionError
    assert [(fault, more["tried"], more["survived"]) for _, fault, more in rows] == [("well", 1, 1), ("badly", 1, 0)]
