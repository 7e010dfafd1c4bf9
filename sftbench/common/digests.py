"""Digests: one way to turn what made a thing into the key that names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

DIGEST_LENGTH = 32  # hexadecimal digits: 128 bits


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys, no spaces and no escapes: equal values, equal text.

    Raises:
        TypeError: for a value that JSON cannot hold.
        ValueError: for NaN or infinity.
    """
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )


def digest_of(value: object) -> str:
    """Return the digest of a JSON value (32 hexadecimal digits of SHA-256)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:DIGEST_LENGTH]


def digest_of_lines(lines: Iterable[str]) -> str:
    """Return the digest of a sequence of strings without holding them together in memory."""
    hasher = hashlib.sha256()
    for line in lines:
        hasher.update(line.encode())
        hasher.update(b"\x1e")  # record separator: ("ab", "c") is not ("a", "bc")
    return hasher.hexdigest()[:DIGEST_LENGTH]


def seed_of(*parts: object) -> int:
    """Return a seed in [0, 2**63) from what it is for, so that two users draw alike."""
    text = canonical_json(list(parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def software_versions(*packages: str) -> Mapping[str, str]:
    """Return the versions of installed packages; one that is not installed is left out."""
    from importlib import metadata

    versions: dict[str, str] = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
