"""How a JSON file from anyone is read: bounded, without double keys, NaN or text that hides."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from sftbench_leaderboard.text import LONG, SHORT, flaw_of

DEEPEST = 16
"""Lists and objects within each other."""
LONGEST_NUMBER = 32
"""Characters of a number: every float and every count is shorter."""


class RefusedError(Exception):
    """A file that is no such thing, with a code for programs, a sentence for people, and a place.

    Args:
        code: one of `sftbench_leaderboard.problems.CODES`.
        what: what is wrong.
        where: the field, such as "suite.name"; "" for the whole file.
    """

    def __init__(self, code: str, what: str, where: str = "") -> None:
        self.code, self.what, self.where = code, what, where
        super().__init__(what)


def read_strictly(content: bytes) -> Any:
    """Return the value that JSON in UTF-8 holds.

    Raises:
        RefusedError: no JSON, a key twice in one object, a number that is not finite or absurdly
            long, too many levels, or text that a record may not hold; `where` names its place.
    """
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_no_number,
            parse_float=_float,
            parse_int=_int,
        )
    except RecursionError:
        raise RefusedError("json", "holds too many levels of lists and objects") from None
    except ValueError as error:  # also: no UTF-8
        raise RefusedError("json", f"is no JSON ({_short(error)})") from None
    _require_plain(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedError("json", "holds a key twice in one object")
    return found


def _no_number(name: str) -> NoReturn:
    raise RefusedError("not-finite", f"holds {name}, which is no number")


def _float(text: str) -> float:
    number = float(text) if len(text) <= LONGEST_NUMBER else math.inf
    if not math.isfinite(number):
        raise RefusedError("not-finite", "holds a number that is too large or too long")
    return number


def _int(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise RefusedError("not-finite", "holds a number that is too large or too long")
    return int(text)


def _require_plain(value: Any) -> None:
    """Raise for the first text, key or depth that a record may not hold."""
    left: list[tuple[Any, tuple[str, ...]]] = [(value, ())]
    while left:
        one, place = left.pop()
        if len(place) > DEEPEST:
            raise RefusedError("json", "holds too many levels of lists and objects")
        if isinstance(one, str):
            _require_text(one, place, LONG)
        elif isinstance(one, dict):
            for key in one:
                _require_text(key, place, SHORT)
            left += [(inner, (*place, key)) for key, inner in one.items()]
        elif isinstance(one, list):
            left += [(inner, (*place, str(at))) for at, inner in enumerate(one)]


def _require_text(text: str, place: tuple[str, ...], most: int) -> None:
    flaw = flaw_of(text, most)
    if flaw is not None:
        raise RefusedError("text", flaw, ".".join(place))


def _short(error: ValueError) -> str:
    return str(error).encode("ascii", "backslashreplace").decode()[:SHORT]
