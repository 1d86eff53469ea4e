"""What the tests of faults found becomes a page in which nothing is left out."""

from __future__ import annotations

from reliability import write_page


def make_row(group: str, fault: str, survived: int, lost: str = "nothing") -> dict[str, object]:
    return {"group": group, "fault": fault, "tried": 3, "survived": survived, "lost": lost, "test": "a"}


def test_rows_of_the_same_fault_are_added_up_and_every_loss_is_named() -> None:
    rows = [make_row("Killed", "kill -9", 3), make_row("Disks", "full", 3), make_row("Killed", "kill -9", 2, "a step")]
    page = write_page(rows)
    assert "| kill -9 | 6 | 5 | a step |" in page and "| full | 3 | 3 | nothing |" in page
    assert page.count("kill -9") == 1 and page.index("## Disks") < page.index("## Killed")
