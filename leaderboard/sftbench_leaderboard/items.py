"""The items of a record: what base and model said to each fact, as a Parquet file from anyone."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import TypeVar

import polars as pl

from sftbench.common.tables import TableSpec
from sftbench_leaderboard.record import MOST_ROWS
from sftbench_leaderboard.strict_json import RefusedError
from sftbench_leaderboard.unpacked import require_bounded

_Read = TypeVar("_Read")

MOST_BYTES = 64 * 1024 * 1024
LONGEST_TEXT = 2_000
"""Characters of an answer (which is 64 tokens at most), of a canonical answer, of a relation."""
MOST_DRAWS = 32
ROUNDING = 1e-6
"""A log-probability may exceed 0 by so much: it is a sum of rounded ones."""

ITEMS = TableSpec(
    kind="leaderboard items",
    columns={
        "fact_id": pl.String,  # 16 hexadecimal digits; rows are sorted by it
        "relation": pl.String,
        "domain": pl.String,  # "in" or "out"
        "level": pl.Int8,  # 0..4, of the base, by the record's mastery card
        "rate": pl.Float64,  # mastery of the base, in [0, 1]; null in all rows where unknown
        "answer": pl.String,  # the canonical one
        "base_text": pl.String,  # what the base said, cut at 2,000 characters
        "base_correct": pl.Boolean,
        "base_logprob": pl.Float64,  # of the canonical answer, nats; null in all rows if unknown
        "text": pl.String,  # what the variant said
        "correct": pl.Boolean,
        "logprob": pl.Float64,
        # Right under each random change of the fine-tune's size, by draw; empty where there is none
        "noise": pl.List(pl.Boolean),
    },
    remedy="Make one with `sftbench leaderboard submit`.",
)
NULLABLE = ("rate", "base_logprob", "logprob")
"""Columns that are null in all rows where nothing is known; never in some."""
TEXTS = ("relation", "answer", "base_text", "text")


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_items(content: bytes) -> pl.DataFrame:
    """Return the rows of an items file; the columns of `ITEMS`, sorted by fact_id.

    Raises:
        RefusedError: no Parquet file, other columns, too many rows, a fact twice, or a value that
            is out of bounds.
    """
    if len(content) > MOST_BYTES:
        raise RefusedError("too-large", f"holds more than {MOST_BYTES:,} bytes")
    require_bounded(content)
    found = _parsed(lambda: pl.read_parquet_schema(io.BytesIO(content)))
    if dict(found) != dict(ITEMS.columns):
        named = ascii(", ".join(f"{name} {kind}" for name, kind in found.items())[:300])
        raise RefusedError(
            "items-columns", f"has other columns or types than those of items ({named})"
        )
    rows = _parsed(lambda: pl.scan_parquet(io.BytesIO(content)).select(pl.len()).collect().item())
    if not 1 <= rows <= MOST_ROWS:
        raise RefusedError("items-bounds", f"has {rows:,} rows; 1 to {MOST_ROWS:,} are allowed")
    frame = _parsed(lambda: pl.read_parquet(io.BytesIO(content)))
    rules = _rules()
    broken = _parsed(lambda: frame.select(rows.sum().alias(name) for name, rows, _ in rules))
    for name, _, what in rules:
        if broken[name].item():
            code = "items-duplicates" if name == "duplicates" else "items-bounds"
            raise RefusedError(code, f"has {broken[name].item():,} rows in which {what}", name)
    _require_whole_columns(frame)
    return frame


def _parsed(read: Callable[[], _Read]) -> _Read:
    """Return what polars reads; whatever goes wrong within it says that the file is no such one."""
    try:
        return read()
    except (Exception, pl.exceptions.PanicException) as error:
        raise RefusedError(
            "items-unreadable", f"is no Parquet file ({type(error).__name__})"
        ) from None


def _rules() -> list[tuple[str, pl.Expr, str]]:
    """Return what may not be: a name, the rows that break it, and the words for it."""
    never_null = [name for name in ITEMS.columns if name not in NULLABLE]
    fact, noise = pl.col("fact_id"), pl.col("noise")
    bounded = [
        (name, pl.col(name).str.len_chars() > LONGEST_TEXT, f"{name} is too long") for name in TEXTS
    ]
    logs = [
        (name, ~(pl.col(name).is_finite() & (pl.col(name) <= ROUNDING)), f"{name} is none")
        for name in ("base_logprob", "logprob")
    ]
    return [
        ("null", pl.any_horizontal(pl.col(one).is_null() for one in never_null), "a value is null"),
        ("fact_id", ~fact.str.contains(r"\A[0-9a-f]{16}\z"), "fact_id is none"),
        ("duplicates", fact.is_duplicated(), "a fact stands twice"),
        ("order", fact < fact.shift(1), "fact_id is not sorted"),
        ("domain", ~pl.col("domain").is_in(["in", "out"]), "domain is none"),
        ("level", ~pl.col("level").is_between(0, 4), "level is none"),
        ("rate", ~pl.col("rate").is_between(0, 1), "rate is none"),
        *bounded,
        *logs,
        ("noise", (noise.list.len() != noise.list.len().first()) | (noise.list.len() > MOST_DRAWS)
         | noise.list.eval(pl.element().is_null()).list.any(), "noise is of another length"),
    ]  # fmt: skip


def _require_whole_columns(frame: pl.DataFrame) -> None:
    for name in NULLABLE:
        if 0 < frame[name].null_count() < frame.height:
            raise RefusedError(
                "items-bounds", f"knows {name} of some facts and not of others", name
            )
    if frame["base_logprob"].null_count() != frame["logprob"].null_count():
        raise RefusedError("items-bounds", "knows log-probabilities of one of the models alone")
