"""Where a record lies in a results folder: names that can be nothing but names."""

from __future__ import annotations

import re
from pathlib import Path

from sftbench.common.errors import SftbenchError

RECORD, ITEMS = ".json", ".items.parquet"
BETWEEN = "__"
"""Stands between organisation and model, for the slash that a folder's name cannot hold."""
LONGEST = 96
_PART = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
_DIGEST = re.compile("[0-9a-f]{32}", re.ASCII)
_SUITE = re.compile("[a-z0-9][a-z0-9._-]{0,95}", re.ASCII)
_RESERVED = frozenset(
    ("con", "prn", "aux", "nul", *(f"{one}{at}" for one in ("com", "lpt") for at in range(10)))
)
"""What Windows takes for a device, whatever follows the first dot."""


def model_name(name: str) -> str:
    """Return the name of a model, "org/model", if it is one.

    Both parts are of letters, digits, ".", "_" and "-", begin and end with a letter or digit, and
    are no device of Windows; the first has no "__", so that the folder's name says both.

    Raises:
        SftbenchError: it is none; the message says why.
    """
    org, slash, model = name.partition("/")
    flaw = None
    if not slash or "/" in model:
        flaw = "is not of two parts with a slash between"
    elif any(len(part) > LONGEST for part in (org, model)):
        flaw = f"has a part of more than {LONGEST} characters"
    elif not all(_PART.fullmatch(part) for part in (org, model)):
        flaw = "holds more than letters, digits, '.', '_' and '-', or begins or ends with a mark"
    elif BETWEEN in org or ".." in name:
        flaw = "has '__' in its organisation, or '..'"
    elif any(part.partition(".")[0].lower() in _RESERVED for part in (org, model)):
        flaw = "is what Windows calls a device"
    if flaw is not None:
        raise SftbenchError(
            f"{_shown(name)} is no name of a model: it {flaw}",
            remedy="Name it as on the hub, with --name ORG/MODEL.",
        )
    return name


def suite_name(facts: str, prompt: str, *, chat: bool) -> str:
    """Return the name of a suite, such as "geography-fewshot" or "geography-fewshot-chat".

    Raises:
        SftbenchError: the name of the facts has no letter or digit.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", facts.lower()).strip("-")[:64].strip("-")
    if not plain:
        raise SftbenchError(f"{_shown(facts)} is no name of a fact set that a file can have")
    return f"{plain}-{prompt}{'-chat' if chat else ''}"


def place_of(name: str, digest: str, suite: str) -> Path:
    """Return where a record lies within a results folder.

    Args:
        name: "org/model".
        digest: of the variant, 32 hexadecimal digits.
        suite: as `suite_name` makes it.

    Raises:
        SftbenchError: one of them is none, and could lie anywhere.
    """
    org, _, model = model_name(name).partition("/")
    if not _DIGEST.fullmatch(digest):
        raise SftbenchError(f"{_shown(digest)} is no digest of a variant")
    if not _SUITE.fullmatch(suite):
        raise SftbenchError(f"{_shown(suite)} is no name of a suite")
    return Path(f"{org}{BETWEEN}{model}") / digest / f"{suite}{RECORD}"


def items_beside(record: Path) -> Path:
    """Return the file of a record's items."""
    return record.with_name(record.name.removesuffix(RECORD) + ITEMS)


def _shown(text: str) -> str:
    """Return a text for a message: short, and nothing in it can break a terminal."""
    return ascii(text[:60] + ("..." if len(text) > 60 else ""))
