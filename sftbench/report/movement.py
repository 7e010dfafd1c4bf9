"""How the weights moved, from the summary's records to the rows and charts of the page."""

from __future__ import annotations

from typing import Any, NamedTuple

from sftbench.analysis.movement import Moved, MovementResult
from sftbench.analysis.summary import Summary
from sftbench.report.words import count, short_name

MEASURES: dict[str, str] = {
    "relative": "Update over weights, % (L2 norms)",
    "rank": "Effective rank, % of the smaller side",
    "unchanged": "Unchanged scalars, %",
    "cosine": "Cosine to the other update",
}
"""What a heat map may show of each module in each layer, and what it is called."""
LEAST = {"unchanged": 1.0, "cosine": 0.01}
"""A map in which no two cells differ by more shows nothing."""


class Cell(NamedTuple):
    """One module of one layer in a heat map; `value` is None where it has no such figure."""

    layer: int
    module: str
    value: float | None


def maps(result: MovementResult) -> list[str]:
    """Return the measures that are worth a map: those that differ between cells."""
    return [name for name in MEASURES if _differs(result, name)]


def _differs(result: MovementResult, measure: str) -> bool:
    values = [one.value for one in cells(result, measure) if one.value is not None]
    least = LEAST.get(measure, 0.0)
    return bool(values) and max(values) - min(values) > least


def cells(result: MovementResult, measure: str) -> list[Cell]:
    """Return a measure of each module in each layer, in percent but for the cosine."""
    return [
        Cell(one.layer, one.module, _value(one, measure))
        for one in result.cells
        if one.layer is not None and one.module is not None
    ]


def _value(one: Moved, measure: str) -> float | None:
    values = {
        "relative": one.relative,
        "rank": one.rank_share,
        "unchanged": one.unchanged,
        "cosine": one.cosine,
    }
    value = values[measure]
    return value if value is None or measure == "cosine" else 100 * value


def modules(result: MovementResult) -> list[str]:
    """Return the modules that are in blocks, those of the most scalars first."""
    inside = {one.module for one in result.cells}
    return [one.module for one in result.modules if one.module in inside and one.module]


def movement_sentence(summary: Summary) -> str:
    """Return how far the weights moved, in a sentence or two; "" where that was not measured."""
    found = summary.movement
    if found is None:
        return ""
    total = found.total
    if not total.norm:
        return "No weight differs from the base's."
    relative = "" if total.relative is None else f" ({100 * total.relative:.3g} % of the base's)"
    kept = f" {100 * total.unchanged:.1f} % of its {count(total.size, 'scalar')} are unchanged."
    said = f"The update has the L2 norm {total.norm:.4g}{relative}.{kept}"
    if total.cosine is not None:
        said += (
            f" Its cosine to the update of {short_name(found.against or 'the other model')} is "
            f"{total.cosine:.3f}; random directions of this size have {total.cosine_chance:.1g}."
        )
    return said


def chart_data(summary: Summary) -> dict[str, Any]:
    """Return what the page's script draws, ready for JSON; {} where nothing was measured."""
    if summary.movement is None:
        return {}
    order = modules(summary.movement)
    return {
        "movement": {
            name: {
                "modules": order,
                "cells": [one._asdict() for one in cells(summary.movement, name)],
            }
            for name in maps(summary.movement)
        }
    }
