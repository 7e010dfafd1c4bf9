"""Mastery levels: how a share of right completions becomes one of five levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

LEVELS = (0, 1, 2, 3, 4)


def level_of(hits: int, draws: int) -> int:
    """Return the level of R = hits / draws: 0 if R = 0, else i with R in ((i-1)/4, i/4].

    In whole numbers, so that 105 of 210 is level 2 and 106 is level 3 (Ye et al., section 3.1).

    Raises:
        ValueError: no draws, or hits outside [0, draws].
    """
    if draws <= 0 or not 0 <= hits <= draws:
        raise ValueError(f"{hits} hits in {draws} draws")
    return -(-4 * hits // draws)


def level_column(hits: pl.Expr, draws: pl.Expr) -> pl.Expr:
    """Return `level_of` as a polars expression (Int8)."""
    import polars as pl

    return (-((-4 * hits.cast(pl.Int64)) // draws.cast(pl.Int64))).cast(pl.Int8)
