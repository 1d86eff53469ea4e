"""Where the panels of the curves stand: in a picture of their own, on a desk and on a phone."""

from __future__ import annotations

from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""Left, bottom, width and height of a panel, in parts of the picture; the right margin holds the lines' names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where the panels stand in a picture of this size."""

    size_inches: tuple[float, float]
    loss: Box
    accuracy: Box
    rate: Box
    samples: Box | None = None
    n_epochs: int = 12
    """Epochs that are named below the losses, about."""


Layouts = tuple[Layout, Layout]
"""Without and with a panel on the samples."""
TITLED: Layouts = (
    Layout(
        size_inches=(10.0, 6.6),
        loss=(0.065, 0.445, 0.795, 0.42),
        accuracy=(0.065, 0.085, 0.325, 0.235),
        rate=(0.535, 0.085, 0.325, 0.235),
    ),
    Layout(
        size_inches=(10.0, 6.6),
        loss=(0.065, 0.445, 0.795, 0.42),
        accuracy=(0.065, 0.085, 0.2, 0.235),
        samples=(0.385, 0.085, 0.2, 0.235),
        rate=(0.76, 0.085, 0.2, 0.235),
    ),
)
WIDE: Layouts = (
    Layout(
        size_inches=(9.6, 5.8),
        loss=(0.055, 0.475, 0.79, 0.46),
        accuracy=(0.055, 0.085, 0.325, 0.255),
        rate=(0.52, 0.085, 0.325, 0.255),
    ),
    Layout(
        size_inches=(9.6, 5.8),
        loss=(0.055, 0.475, 0.79, 0.46),
        accuracy=(0.055, 0.085, 0.2, 0.255),
        samples=(0.375, 0.085, 0.2, 0.255),
        rate=(0.76, 0.085, 0.2, 0.255),
    ),
)
"""For a page on a desk or on paper; the title stands outside."""
NARROW: Layouts = (
    Layout(
        size_inches=(4.6, 7.6),
        loss=(0.095, 0.6, 0.645, 0.36),
        accuracy=(0.095, 0.335, 0.645, 0.165),
        rate=(0.115, 0.06, 0.625, 0.165),
        n_epochs=6,
    ),
    Layout(
        size_inches=(4.6, 9.4),
        loss=(0.095, 0.675, 0.645, 0.29),
        accuracy=(0.095, 0.465, 0.645, 0.13),
        samples=(0.095, 0.255, 0.645, 0.13),
        rate=(0.115, 0.05, 0.625, 0.13),
        n_epochs=6,
    ),
)
"""For a page on a phone: one panel above the other, letters as large as those around them."""
