"""How the weights moved, from the summary's records to the rows and charts of the page."""

from __future__ import annotations

from typing import Any, NamedTuple

from sftbench.analysis.movement import LayerGroup, Moved, MovementResult, layer_groups
from sftbench.analysis.summary import Summary
from sftbench.report.movement_tables import (
    GROUPS,
    cosine,
    cosine_by_chance,
    figure,
    layers_said,
)
from sftbench.report.words import count, short_name

__all__ = ["cosine", "cosine_by_chance", "layers_said"]  # the page's template takes them from here

MEASURES: dict[str, str] = {
    "relative": "Update over weights, %",
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


class LayerRow(NamedTuple):
    """One layer of a map, in words: a figure for each of `modules`."""

    layer: int
    figures: tuple[str, ...]


def layer_rows(result: MovementResult, measure: str) -> list[LayerRow]:
    """Return what a map shows as a table: a row for each layer, first to last."""
    found = {(one.layer, one.module): one for one in result.cells}
    return [
        LayerRow(
            layer,
            tuple(_said(found.get((layer, module)), measure) for module in modules(result)),
        )
        for layer in sorted({one.layer for one in result.cells if one.layer is not None})
    ]


def _said(one: Moved | None, measure: str) -> str:
    if one is None:
        return ""
    return cosine(one) if measure == "cosine" else figure(_value(one, measure), 1)


def groups(result: MovementResult) -> tuple[LayerGroup, ...]:
    """Return consecutive layers together, in as many groups as the tables show."""
    return layer_groups(result, GROUPS)


def movement_sentence(summary: Summary) -> str:
    """Return how far the weights moved, in a sentence or two; "" where that was not measured."""
    found = summary.movement
    if found is None:
        return ""
    total = found.total
    if not total.norm:
        return "No weight differs from the base's."
    relative = "" if total.relative is None else f", {figure(total.relative, 100)} % of the base's"
    said = (
        f"The update has the L2 norm {total.norm:.4g}{relative}; {100 * total.unchanged:.1f} % of "
        f"{count(total.size, 'scalar')} are unchanged."
    )
    if total.cosine is not None:
        said += (
            f" Its cosine to the update of {short_name(found.against or 'the other model')} is "
            f"{cosine(total)}; random directions of this size have one of "
            f"±{cosine_by_chance(total)}."
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
