"""A judgement as plain values in, its verdicts as parts of a page or of a card out: each number on a ruler of its own.

The values come from a file, so none is taken for granted: what is not as it should be is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from epigone.reporting.elements import draw_paragraph, escape, quote
from epigone.reporting.harmless import escape_markdown

TOPICS = {
    "sounds_like": "Does it sound like the author?",
    "copies": "Does it copy?",
    "repeats": "Does it repeat itself?",
    "learned": "What has it learned?",
}
TONES = {"good": "good", "fair": "look at this", "bad": "not good", "unsure": "cannot tell"}
ENDS = {"floor": "", "ceiling": " top", "base": " other"}
"""What a number is to be seen by, and the class of its key on the page."""
MOST_MEASURES = 24
MOST_NOTES = 12


def list_verdicts(judgement: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Each verdict with the question that it answers, the known ones in their order."""
    names = [*TOPICS, *(name for name in judgement if name not in TOPICS)]
    verdicts = [(name, judgement.get(name)) for name in names]
    return [
        (TOPICS.get(name, name.replace("_", " ")), verdict)
        for name, verdict in verdicts
        if isinstance(verdict, Mapping) and isinstance(verdict.get("sentence"), str)
    ]


def list_notes(judgement: Mapping[str, Any]) -> list[str]:
    """What a reader has to know beside the verdicts."""
    notes = judgement.get("notes")
    return [str(note) for note in notes[:MOST_NOTES]] if isinstance(notes, Sequence) and not _is_text(notes) else []


def describe_judged(judgement: Mapping[str, Any]) -> str:
    """One sentence on what was judged against what."""
    size = _number(judgement.get("n_characters"))
    length = f" ({size:,.0f} characters)" if size is not None else ""
    return f"Judged: {judgement.get('text', 'its text')}{length}, against {judgement.get('against', 'the author')}."


def draw_verdict(question: str, verdict: Mapping[str, Any]) -> str:
    """The answer, and under it each number between its floor and its ceiling."""
    found = _list_measures(verdict)
    shown = "\n".join(_draw_measure(item) for item in found[:MOST_MEASURES])
    rest = len(found) - MOST_MEASURES
    return (
        f"<h3>{escape(question)}</h3>\n<p>{_draw_tone(verdict)}{quote(str(verdict['sentence']), 600)}</p>\n"
        + (f'<ul class="measures">\n{shown}\n</ul>' if shown else "")
        + "".join(f'<p class="quiet">{quote(name)}: “{quote(text, 600)}”</p>' for name, text in _list_passages(verdict))
        + (draw_paragraph(f"{rest} more numbers are in judgement.json.", "quiet") if rest > 0 else "")
    )


def list_answers(judgement: Mapping[str, Any]) -> str:
    """The verdicts in short, as a list."""
    lines = [f"<li>{_draw_tone(said)}{quote(str(said['sentence']), 600)}</li>" for _, said in list_verdicts(judgement)]
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def list_rows(judgement: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Each question with its answer, and the numbers as rows of name, value and what it is to be seen by."""
    found = []
    for question, verdict in list_verdicts(judgement):
        answer = f"{question} {TONES.get(str(verdict.get('tone')), '').capitalize()}. {verdict['sentence']}"
        rows = []
        for item in _list_measures(verdict):
            ends = [f"{_name_end(end)}{words}" for end, words in _list_ends(item).items() if words]
            rows.append((str(item["name"]), _tell_value(item), "; ".join(ends)))
        rows += [(name, text, "") for name, text in _list_passages(verdict)]
        found.append((answer, rows))
    return found


def write_verdicts(judgement: Mapping[str, Any]) -> str:
    """The verdicts as Markdown: a paragraph each, and a table of the numbers."""
    parts = []
    for question, verdict in list_verdicts(judgement):
        parts.append(f"**{escape_markdown(question)}** {escape_markdown(str(verdict['sentence']))}")
        found = _list_measures(verdict)
        rows = [[item["name"], _tell_value(item), *_list_ends(item).values()] for item in found[:MOST_MEASURES]]
        lines = [
            ["measure", "value", *ENDS],
            ["---"] * (2 + len(ENDS)),
            *([escape_markdown(c) for c in r] for r in rows),
        ]
        parts += ["\n".join(f"| {' | '.join(line)} |" for line in lines)] if rows else []
    parts += [escape_markdown(note) for note in list_notes(judgement)]
    return "\n\n".join(parts)


# -- a number and its ruler


def format_value(value: float, unit: str) -> str:
    """A value in its unit, for a sentence."""
    if unit == "share":
        return f"{100 * value:.3g} %" if value < 0.9995 or value > 1 else f"{100 * value:.0f} %"
    if unit == "characters":
        return f"{value:,.0f} characters"
    if unit == "of 100":
        return f"{value:.0f} of 100"
    return f"{value:.3f} {unit}" if unit else f"{value:,.4g}"


def place_on_ruler(measure: Mapping[str, Any]) -> dict[str, float]:
    """Where value, low, high and ENDS stand, in per cent of the ruler; those that are not known are left out.

    The ruler begins at 0 where nothing is below it, except for bits per byte, and a ruler "of 100" ends there.
    """
    marks = {name: _number(measure.get(name)) for name in ("value", "low", "high")}
    marks |= {name: _number((measure.get(name) or {}).get("value")) for name in ENDS}
    known = {name: value for name, value in marks.items() if value is not None}
    unit = measure.get("unit", "")
    ends = list(known.values()) + ([0.0] if unit != "bits per byte" else []) + ([100.0] if unit == "of 100" else [])
    first, last = min(ends), max(ends)
    length = last - first
    return {name: round(100 * (value - first) / length, 2) if length > 0 else 0.0 for name, value in known.items()}


def _draw_measure(measure: Mapping[str, Any]) -> str:
    ends = _list_ends(measure)
    told = "".join(
        f'<span class="end"><span class="key{ENDS[end]}"></span>{_name_end(end)}{quote(words, 120)}</span>'
        for end, words in ends.items()
        if words
    )
    return (
        f"<li>{quote(measure['name'], 120)}: <strong>{escape(_tell_value(measure))}</strong>\n{_draw_ruler(measure)}"
        + (f'<div class="quiet">{told}</div>' if told else "")
        + "</li>"
    )


def _name_end(end: str) -> str:
    return "" if end == "base" else f"{end}: "  # what that is, its name says


def _draw_ruler(measure: Mapping[str, Any]) -> str:
    places = place_on_ruler(measure)
    band = ""
    if "low" in places and "high" in places:
        band = f'<i class="band" style="left:{places["low"]}%;width:{round(places["high"] - places["low"], 2)}%"></i>'
    marks = [f'<i class="{name}" style="left:{places[name]}%"></i>' for name in (*ENDS, "value") if name in places]
    return f'<div class="ruler" aria-hidden="true"><i class="track"></i>{band}{"".join(marks)}</div>\n'


def _list_passages(verdict: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The longest passage that was found in what was learned from, as it stands on both sides."""
    sides = [verdict.get("passage"), verdict.get("original")]
    ours, theirs = (" ".join(side.split()) if isinstance(side, str) else "" for side in sides)
    if not ours or not theirs:
        return []
    line, document = _number(verdict.get("line")), _number(verdict.get("document"))
    where = f"line {line:,.0f} of text {document + 1:,.0f}" if line is not None and document is not None else "its text"
    return [("longest, in what was judged", ours), (f"the same in the author's text ({where})", theirs)]


def _list_measures(verdict: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    measures = verdict.get("measures")
    return [item for item in measures if _is_measure(item)] if isinstance(measures, Sequence) else []


def _tell_value(measure: Mapping[str, Any]) -> str:
    unit = str(measure.get("unit", ""))
    ends = [end for end in map(_number, (measure.get("low"), measure.get("high"))) if end is not None]
    low_and_high = " to ".join(format_value(end, unit).split()[0] for end in ends)
    band = f" (95 %: {low_and_high})" if len(ends) == 2 else ""
    return format_value(float(measure["value"]), unit) + band


def _list_ends(measure: Mapping[str, Any]) -> dict[str, str]:
    """ENDS in words, empty where there is none."""
    unit, ends = str(measure.get("unit", "")), {}
    for end in ENDS:
        mark = measure.get(end) or {}
        value = _number(mark.get("value"))
        ends[end] = "" if value is None else f"{mark.get('name', '')}, {format_value(value, unit)}"
    return ends


def _draw_tone(verdict: Mapping[str, Any]) -> str:
    tone = verdict.get("tone") if verdict.get("tone") in TONES else "unsure"
    return f'<span class="tone {tone}">{TONES[str(tone)]}</span>'


def _is_measure(item: object) -> bool:
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        return False
    ends = [item.get(end) for end in ENDS]
    return _number(item.get("value")) is not None and all(end is None or isinstance(end, Mapping) for end in ends)


def _is_text(value: object) -> bool:
    return isinstance(value, str | bytes)


def _number(value: object) -> float | None:
    """A finite number, else None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]
