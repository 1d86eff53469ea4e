"""Words of a command line in; the first thing that is wrong with them out, as an error in our words.

tyro parses what passes; its own messages speak of Python's types and are no JSON.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, get_args, get_origin

from pydantic import ValidationError

from epigone.errors import SettingsError
from epigone.settings import Frozen, Settings, explain, nearest, spell


@dataclass(frozen=True, slots=True)
class Verb:
    """What may follow a verb. `kind` are the settings whose values are checked."""

    name: str
    flags: frozenset[str]
    switches: frozenset[str]
    """Flags without a value."""
    short: Mapping[str, str]
    """The name of the flag that a short one such as -i stands for."""
    kind: type[Frozen]
    needs: tuple[str, ...]
    """Words that must be there."""


def check_words(words: Sequence[str], verbs: Mapping[str, Callable[..., object]]) -> None:
    """Refuse an unknown verb, an unknown flag, or a value that a setting cannot have. Raises SettingsError."""
    if not words or words[0].startswith("-") or {"-h", "--help"} & set(words):
        return
    if words[0] not in verbs:
        hint = "".join(f" Did you mean {verb}?" for verb in nearest(words[0], verbs))
        raise SettingsError(f"There is no verb {words[0]}.", hint=f"There are {', '.join(verbs)}.{hint}")
    verb = _describe(words[0], verbs[words[0]])
    others = 0
    for name, value in _read_flags(words[1:], verb):
        others += not name
        if name:
            _check_flag(verb, name, value)
    if others < len(verb.needs):
        raise SettingsError(f"{verb.name} needs a {verb.needs[others]}.", hint=f"See: epigone {verb.name} --help")


def _describe(name: str, function: Callable[..., object]) -> Verb:
    parameters = inspect.signature(function).parameters.values()
    kind = next((type(item.default) for item in parameters if isinstance(item.default, Frozen)), None)
    plain = [item for item in parameters if item.kind is item.KEYWORD_ONLY and not isinstance(item.default, Frozen)]
    fields = kind.model_fields if kind else {}
    switches = {item.name for item in plain if _strip(item.annotation) is bool}
    switches |= {field for field, info in fields.items() if info.annotation is bool}
    return Verb(
        name=name,
        flags=frozenset({item.name for item in plain} | set(fields)),
        switches=frozenset(switches),
        short={short: item.name for item in plain for short in _list_short(item.annotation)},
        kind=kind or Settings,
        needs=tuple(item.name for item in parameters if item.default is item.empty),
    )


def _strip(annotation: object) -> object:
    """The type itself, without what tyro is told beside it."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _list_short(annotation: object) -> Iterator[str]:
    """The other names that tyro is told of."""
    for told in getattr(annotation, "__metadata__", ()):
        yield from getattr(told, "aliases", None) or ()


def _read_flags(words: Sequence[str], verb: Verb) -> Iterator[tuple[str, str | None]]:
    """Each flag's name and its value, which is None where none follows; a word that is no flag has the name ""."""
    rest = iter(words)
    for word in rest:
        flag, equals, value = (spell(verb.short[word]) if word in verb.short else word).partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or not name:
            yield "", word
        elif equals:
            yield name, value
        else:
            yield name, None if name in verb.switches else next(rest, None)


def _check_flag(verb: Verb, name: str, value: str | None) -> None:
    if name not in verb.flags:
        hint = " ".join(f"Did you mean {spell(other)}?" for other in nearest(name, verb.flags))
        raise SettingsError(f"{verb.name} has no flag {spell(name)}.", hint=hint or f"See: epigone {verb.name} --help")
    if name in verb.switches:
        return
    if value is None:
        raise SettingsError(f"{spell(name)} needs a value.", hint=f"See: epigone {verb.name} --help")
    if name in verb.kind.model_fields:
        many = isinstance(verb.kind.model_fields[name].default, tuple)
        try:
            verb.kind.model_validate({name: (value,) if many else value}, strict=False)
        except ValidationError as error:
            raise explain(verb.kind, error) from None
