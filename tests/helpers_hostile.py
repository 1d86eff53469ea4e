"""Damaged and malicious versions of a file, from a seed."""

from __future__ import annotations

import json
from random import Random
from typing import Any

OUTSIDE = "a name that leads out of its folder"
ODD_NUMBERS = (True, -1, 0, 0.5, 10**30, 1e308, float("nan"), float("-inf"))
ODD_TEXTS = ("", "x" * 2_000, "../../etc/passwd", "/dev/zero", "\x1b[31m", "\ud800")
ODD_VALUES: tuple[Any, ...] = (None, *ODD_NUMBERS, *ODD_TEXTS, [], {}, [[]], {"a": 1}, [None] * 3)


def spoil(data: bytes, seed: int) -> bytes:
    """The content of a file, changed in one of many ways."""
    random = Random(seed)
    ways = (_cut, _flip, _insert, _spoil_json, _spoil_json, _spoil_json, _spoil_json, _swap_line)
    return random.choice(ways)(data, random)


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _flip(data: bytes, random: Random) -> bytes:
    spoilt = bytearray(data)
    for _ in range(random.choice((1, 3, 50))):
        spoilt[random.randrange(len(spoilt))] = random.randrange(256)
    return bytes(spoilt)


def _insert(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return (
        data[:place] + random.choice((b"\0", b"\xff\xfe", b"[" * 100_000, b"9" * 5_000, b"\x1b]0;x\x07")) + data[place:]
    )


def _swap_line(data: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    first, second = random.randrange(len(lines)), random.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"\n".join(lines)


def _spoil_json(data: bytes, random: Random) -> bytes:
    """One value, in one line where each line is JSON of its own, is another, or lacks."""
    try:
        return spoil_value(data, random)
    except ValueError:
        lines = data.split(b"\n")
    number = random.randrange(len(lines))
    try:
        lines[number] = spoil_value(lines[number], random).replace(b"\n", b"")
    except ValueError:
        return _flip(data, random)
    return b"\n".join(lines)


def spoil_value(data: bytes, random: Random) -> bytes:
    """Raises ValueError where the bytes are no JSON."""
    whole = {"": json.loads(data)}
    places = list(_list_places(whole))
    holder, key = random.choice(places)
    if random.random() < 0.2 and holder is not whole:
        del holder[key]
    else:
        holder[key] = random.choice(ODD_VALUES)
    return json.dumps(whole[""]).encode()


def _list_places(holder: Any) -> Any:
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    for key in keys:
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _list_places(holder[key])
