"""Further settings of an engine, as text: `--engine-options name=value,name=value`."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from difflib import get_close_matches

from sftbench.common.digests import canonical_json
from sftbench.common.errors import SftbenchError

Value = str | int | float | bool
Option = tuple[str, Value]

FLAG = "--engine-options"


def parse_options(text: str | None) -> tuple[Option, ...]:
    """Return sorted (name, value) pairs from "name=value,name=value" or a JSON object.

    A value is read as JSON (2, 0.8, true) and otherwise taken as text. Names may be written with
    dashes. A list or object in JSON is kept as JSON text, so that settings stay hashable.

    Raises:
        SftbenchError: it cannot be read, or a name is given twice.
    """
    if text is None or not text.strip():
        return ()
    pairs = _json_pairs(text) if text.lstrip().startswith("{") else _plain_pairs(text)
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SftbenchError(f"{', '.join(twice)} is given twice", where=FLAG)
    return tuple(sorted(pairs))


def _json_pairs(text: str) -> list[Option]:
    try:
        content = json.loads(text, object_pairs_hook=lambda pairs: pairs)
        plain = dict(json.loads(text))
    except json.JSONDecodeError as error:
        raise SftbenchError(f"is not JSON: {error}", where=FLAG) from None
    return [(_name(name), _value(plain[name])) for name, _ in content]


def _plain_pairs(text: str) -> list[Option]:
    pairs: list[Option] = []
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise SftbenchError(
                f"{part.strip()!r} is not name=value",
                where=FLAG,
                remedy="For example: tensor_parallel_size=2,gpu_memory_utilization=0.8",
            )
        pairs.append((_name(name), _read(value.strip())))
    return pairs


def _name(name: str) -> str:
    return name.strip().lstrip("-").replace("-", "_")


def _read(text: str) -> Value:
    try:
        return _value(json.loads(text))
    except json.JSONDecodeError:
        pass
    return {"True": True, "False": False}.get(text, text)


def _value(value: object) -> Value:
    if isinstance(value, str | int | float | bool):
        return value
    if value is None:
        raise SftbenchError("null is no value; leave the option out", where=FLAG)
    return canonical_json(value)


def merged(options: tuple[Option, ...], more: Mapping[str, Value]) -> tuple[Option, ...]:
    """Return the options with others added or replaced, sorted."""
    return tuple(sorted({**dict(options), **more}.items()))


def require_known(options: Mapping[str, Value], known: Collection[str], engine: str) -> None:
    """Raise unless every option is one of `known`; the error names the closest.

    Raises:
        SftbenchError: an unknown option.
    """
    for name in options:
        if name in known:
            continue
        close = get_close_matches(name, known, n=1)
        remedy = f"Did you mean {close[0]}?" if close else f"It knows {_listed(known)}."
        raise SftbenchError(f"{engine} has no option {name}", where=FLAG, remedy=remedy)


def _listed(names: Collection[str]) -> str:
    some = sorted(names)
    return ", ".join(some) if len(some) <= 8 else "the fields of vLLM's EngineArgs"
