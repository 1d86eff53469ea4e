"""A value of the plan with the reason for it."""

from __future__ import annotations

from typing import Generic, Literal, NamedTuple, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Choice(NamedTuple, Generic[T_co]):
    """A value, and in a few words why it was chosen."""

    value: T_co
    reason: str


def resolve(asked: T | Literal["auto"], best: Choice[T]) -> Choice[T]:
    """The user's value, or the recommended one where the user left it open."""
    return best if asked == "auto" else Choice(asked, "as asked")
