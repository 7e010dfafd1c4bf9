"""What kind of loss it is, from the summary's records to the rows and charts of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sftbench.analysis.intervals import Interval, wilson
from sftbench.analysis.loss import KINDS, Calibration, Kind, LevelTable, LossKinds, LossResult
from sftbench.analysis.summary import BASE, TUNED, Summary
from sftbench.report.loss_words import FORM_NAMES
from sftbench.report.words import MINUS, MISSING, at_a_glance, label

ITSELF = "base against itself"
KEPT = "facts that both answer"
COUNTED = ("lost", *KINDS)


class KindRow(NamedTuple):
    """Facts that a variant lost, by kind: counts, or their mean over draws of noise.

    Attributes:
        series: "tuned", "restored", "noise" (mean over the draws), "draw", or "itself" for
            what was measured again and asked in no other form.
        forms: facts that came right in each further form, by its name as shown.
    """

    name: str
    series: str
    lost: float
    format: float
    access: float
    knowledge: float
    undecided: float
    forms: dict[str, float]


class HealedCell(NamedTuple):
    """Of the tuned model's losses of one kind, those that a restored variant answers again.

    `bounds` is the 95 % Wilson interval of the share, as fractions.
    """

    healed: int
    lost: int
    bounds: Interval


class HealingRow(NamedTuple):
    """A restored variant: a cell for each kind, None where the tuned model has no such loss."""

    name: str
    cells: tuple[HealedCell | None, ...]


class LevelRow(NamedTuple):
    """Facts of one level measured again: rates as fractions, with intervals of the differences."""

    name: str
    n: int
    levelled: float
    before: float
    after: float
    chance: float
    chance_bounds: Interval | None
    change: float
    change_bounds: Interval | None


class Moved(NamedTuple):
    """Facts whose level measured again is lower or higher than in the card, of how many."""

    lower: int
    higher: int
    n: int


class GridCell(NamedTuple):
    """Facts of one level of the card that stand in one level measured again.

    Attributes:
        share: of the facts of the card's level, a fraction.
        move: "fell", "rose" or "stayed".
    """

    level: int
    again: int
    facts: int
    of: int
    share: float
    move: str


def kind_rows(summary: Summary, domain: str) -> list[KindRow]:
    """Return the tuned model and restored variants in a domain, then what they are held against.

    That is noise, facts that were not lost, and the base measured against itself.
    """
    loss = _loss(summary)
    models = [
        _kind_row(_name(summary, one.variant), "tuned" if one.variant == TUNED else "restored", one)
        for one in loss.kinds
        if one.domain == domain
    ]
    draws = [one for one in loss.noise if one.domain == domain]
    controls = [
        _kind_row(name, "itself", one)
        for name, those in ((KEPT, loss.kept), (ITSELF, loss.against_itself))
        for one in those
        if one.domain == domain and one.counts.lost
    ]
    return [*models, *_noise_rows(draws), *controls]


def short_kind_rows(summary: Summary, domain: str) -> list[KindRow]:
    """Return those of `kind_rows` that are at a glance: no single draws, few of many restores."""
    left_out = left_out_names(summary)
    rows = kind_rows(summary, domain)
    return [one for one in rows if one.series != "draw" and one.name not in left_out]


def left_out_names(summary: Summary) -> set[str]:
    """Return the names of the variants that short tables and charts leave out."""
    shown = {label(one) for one in at_a_glance(summary)}
    return {label(one) for one in summary.variants} - shown


def _noise_rows(draws: Sequence[LossKinds]) -> Iterator[KindRow]:
    singles = [_kind_row(f"draw {i}", "draw", one) for i, one in enumerate(draws, start=1)]
    if not singles:
        return
    n = len(singles)
    name = f"noise of its size (mean of {n})" if n > 1 else "noise of its size (1 draw)"
    means = {one: sum(getattr(row, one) for row in singles) / n for one in COUNTED}
    forms = {form: sum(row.forms[form] for row in singles) / n for form in singles[0].forms}
    yield KindRow(name=name, series="noise", forms=forms, **means)
    yield from singles if n > 1 else ()


def _kind_row(name: str, series: str, one: LossKinds) -> KindRow:
    forms = {shown: float(one.forms.get(form, 0)) for form, shown in FORM_NAMES.items()}
    counts = {counted: float(getattr(one.counts, counted)) for counted in COUNTED}
    return KindRow(name=name, series=series, forms=forms, **counts)


def _name(summary: Summary, variant: str) -> str:
    """Return a variant's name as shown; one that the summary does not hold keeps its own."""
    return next((label(one) for one in summary.every if one.name == variant), variant)


def form_names(summary: Summary) -> list[str]:
    """Return the further forms in which facts were asked, as shown."""
    return [FORM_NAMES[one] for one in _loss(summary).forms]


def healing_rows(summary: Summary, domain: str) -> list[HealingRow]:
    """Return of each restored variant which kinds of loss it heals in a domain."""
    found: dict[str, dict[Kind, HealedCell]] = {}
    for one in _loss(summary).healing:
        if one.domain == domain:
            cells = found.setdefault(one.variant, {})
            if one.lost:
                bounds = wilson(one.healed, one.lost)
                cells[one.kind] = HealedCell(one.healed, one.lost, bounds)
    return [
        HealingRow(_name(summary, variant), tuple(cells.get(kind) for kind in KINDS))
        for variant, cells in found.items()
    ]


def level_rows(summary: Summary, domain: str) -> list[LevelRow]:
    """Return the mean mastery rates of a domain before and after, level by level, then of all."""
    return [
        LevelRow(
            "all facts" if one.level is None else f"level {one.level}",
            one.n,
            one.levelled,
            one.before,
            one.after,
            one.before - one.levelled,
            Interval(one.chance.low, one.chance.high) if one.chance else None,
            one.after - one.before,
            Interval(one.change.low, one.change.high) if one.change else None,
        )
        for one in _loss(summary).levels.get(domain, ())
    ]


def tables_of(summary: Summary, domain: str) -> list[LevelTable]:
    """Return the level tables of a domain's relations."""
    found = _loss(summary).tables
    return [one for one in found if one.domain == domain and one.relation is not None]


def table_of(summary: Summary, domain: str) -> LevelTable | None:
    """Return the level table of all facts of a domain, None where there is none."""
    found = _loss(summary).tables
    return next((one for one in found if one.domain == domain and one.relation is None), None)


def grid(counts: Sequence[Sequence[int]]) -> list[list[GridCell]]:
    """Return the cells of a level table, ``[5][5]``, the best known level of the card first."""
    return [
        [_cell(level, again, number, sum(row)) for again, number in enumerate(row)]
        for level, row in reversed(list(enumerate(counts)))
    ]


def _cell(level: int, again: int, number: int, of: int) -> GridCell:
    move = "stayed" if again == level else "fell" if again < level else "rose"
    return GridCell(level, again, number, of, number / of if of else 0.0, move)


def moved(counts: Sequence[Sequence[int]]) -> Moved:
    """Return how many facts of a level table stand lower or higher than in the card."""
    cells = [cell for row in grid(counts) for cell in row]
    lower, higher = (
        sum(cell.facts for cell in cells if cell.move == move) for move in ("fell", "rose")
    )
    return Moved(lower, higher, sum(cell.facts for cell in cells))


def calibrations(summary: Summary, domain: str) -> list[tuple[str, Calibration]]:
    """Return the calibration of each variant in a domain, with its name as shown."""
    return [
        (_name(summary, one.variant), one)
        for one in _loss(summary).calibration
        if one.domain == domain
    ]


def drawn_calibrations(summary: Summary, domain: str) -> list[tuple[str, Calibration]]:
    """Return those of `calibrations` that are drawn: of base and tuned model."""
    return [one for one in calibrations(summary, domain) if one[1].variant in (BASE, TUNED)]


def number(value: float) -> str:
    """Return a count as "1,234", or a mean of counts as "12.3"."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def log_p(nats: float) -> str:
    """Return a mean log-probability with two decimals and a minus sign."""
    return f"{nats:.2f}".replace("-", MINUS)


def part_of(part: float, whole: float) -> float | None:
    """Return a share as a fraction, None of nothing."""
    return part / whole if whole else None


def healed(cell: HealedCell | None) -> str:
    """Return a healed cell as "5 of 21", or a dash where there was nothing to heal."""
    return MISSING if cell is None else f"{cell.healed:,} of {cell.lost:,}"


def chart_data(summary: Summary) -> dict[str, Any]:
    """Return what the page's script draws, ready for JSON, in percent; {} without kinds of loss.

    Keys are those of data-chart, then of data-domain: the domain, and what else tells it apart.
    """
    if summary.loss is None:
        return {}
    return {
        "kinds": {
            domain: [{**row._asdict(), "forms": {}} for row in short_kind_rows(summary, domain)]
            for domain in summary.domains
        },
        "mastery": {
            f"{one.domain} {side}": [cell._asdict() for row in grid(counts) for cell in row]
            for one in summary.loss.tables
            if one.relation is None
            for side, counts in (("before", one.before), ("after", one.after))
        },
        "reliability": {
            f"{domain} {one.variant}": _bins(one)
            for domain in summary.domains
            for _, one in drawn_calibrations(summary, domain)
        },
    }


def _bins(found: Calibration) -> list[dict[str, float]]:
    return [
        {"n": one.n} | {name: 100 * getattr(one, name) for name in _OF_BIN} for one in found.bins
    ]


_OF_BIN = ("confidence", "accuracy", "low", "high")


def _loss(summary: Summary) -> LossResult:
    if summary.loss is None:
        raise ValueError("this summary does not tell kinds of loss apart")
    return summary.loss
