"""How the predictions moved as tables for the terminal, which fit 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from sftbench.analysis.drift import By, DriftResult, DriftRow
from sftbench.analysis.summary import TUNED
from sftbench.report.drift_words import FORM_NAMES, bounds_of, nats_of
from sftbench.report.tables import titled
from sftbench.report.words import cut

if TYPE_CHECKING:
    from rich.table import Table

ROOM = 26
"""Characters of a name in a line."""


def drift_tables(drift: DriftResult, name: Callable[[str], str]) -> Iterator[Table]:
    """Yield the figures by variant and kind of token, then the tuned model's by level.

    Args:
        drift: the figures.
        name: how a variant is shown.
    """
    variants = list(dict.fromkeys(one.variant for one in drift.rows))
    for form in FORM_NAMES:
        keys = _keys(drift, form, "kind")
        if keys:
            yield _of_form(drift, form, variants, keys, name)
    levels = _keys(drift, "question", "level")
    if levels:
        yield _of_levels(drift, levels)


def _keys(drift: DriftResult, form: str, by: By) -> list[str]:
    rows = [one for one in drift.rows if (one.variant, one.form, one.by) == (TUNED, form, by)]
    order = ("lead-in", "answer", "end")
    if by == "kind":
        return sorted((one.key for one in rows), key=order.index)
    return [one.key for one in rows]


def _of_form(
    drift: DriftResult,
    form: str,
    variants: Sequence[str],
    keys: Sequence[str],
    name: Callable[[str], str],
) -> Table:
    bound = "" if drift.exact else ", lower bounds"
    title = f"KL to the base in {FORM_NAMES[form]} texts, nats a token{bound}; reverse: from it"
    covered = [] if drift.exact else ["covered, %"]
    table = titled(title, "variant", "all", *keys, "reverse", *covered)
    for variant in variants:
        whole = drift.row(variant, form)
        if whole is None:
            continue
        rows = [drift.row(variant, form, "kind", key) for key in keys]
        table.add_row(
            cut(name(variant), ROOM),
            _cell(whole),
            *("–" if one is None else nats_of(one.tuned_base) for one in rows),
            nats_of(whole.base_tuned),
            *([] if whole.covered is None else [f"{100 * whole.covered:.1f}"]),
            style="dim" if variant in (drift.floor, *drift.nulls) else None,
        )
    return table


def _cell(row: DriftRow | None) -> str:
    if row is None:
        return "–"
    bounds = bounds_of(row.tuned_base)
    return nats_of(row.tuned_base) + (f"\n{bounds}" if bounds else "")


def _counted(row: DriftRow | None) -> str:
    return "–" if row is None else f"{nats_of(row.tuned_base)}\nn={row.tuned_base.n}"


def _of_levels(drift: DriftResult, levels: Sequence[str]) -> Table:
    headings = ["", *(f"level {one}" for one in levels)]
    table = titled("Tuned model by mastery level, tokens of answers, nats", *headings)
    for form in FORM_NAMES:
        rows = [drift.row(TUNED, form, "level", one) for one in levels]
        if not any(rows):
            continue
        table.add_row(f"KL, {FORM_NAMES[form]} texts", *map(_counted, rows))
    paper = [drift.paper_row(TUNED, int(one)) for one in levels]
    table.add_row(
        "paper's figure",
        *("–" if one is None else f"{nats_of(one.kl)}\nn={one.kl.n}" for one in paper),
    )
    return table
