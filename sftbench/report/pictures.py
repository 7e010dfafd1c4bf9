"""The three pictures of the page: retention per variant, accuracy per level, restore curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sftbench.analysis.summary import DOMAIN_NAMES, DomainResult, Summary, VariantResult
from sftbench.report import svg
from sftbench.report.words import amount, label, percent

if TYPE_CHECKING:
    from markupsafe import Markup

SHAPES = {"in": "circle", "out": "diamond"}
LEVELS = range(5)
TRACK_HEIGHT = 52
PLOT_HEIGHT = 200
GRID = (0.0, 0.25, 0.5, 0.75, 1.0)


def retention_track(variant: VariantResult) -> Markup:
    """Return one row of the retention picture: a dot per domain on a track from 0 to 100 %."""
    parts = [svg.line(0, TRACK_HEIGHT / 2, 1, TRACK_HEIGHT / 2, "track")]
    parts += [svg.line(at, 0, at, TRACK_HEIGHT, "axis" if at == 1 else "grid") for at in GRID]
    said = []
    for place, one in enumerate(variant.domains):
        score = one.retention.score
        if score is None:
            continue
        words = f"{DOMAIN_NAMES[one.domain]}: {percent(score, 1)} retained"
        said.append(words)
        y = TRACK_HEIGHT / 2 + (0 if len(variant.domains) == 1 else 14 * place - 7)
        parts.append(svg.mark(SHAPES[one.domain], score, y, one.domain, words))
    return svg.picture(parts, height=TRACK_HEIGHT, label=f"{label(variant)}. {'; '.join(said)}")


def retention_axis() -> Markup:
    """Return the axis below the rows of the retention picture; 100 % is the base."""
    parts = [svg.text("0", 0, 12, "tick"), svg.text(percent(1), 1, 12, "tick")]
    return svg.picture(parts, height=16, label="axis from 0 to 100 percent")


def level_plot(before: DomainResult, after: DomainResult) -> Markup:
    """Return accuracy per level in one domain: the base's ring, the tuned model's mark."""
    parts = list(_grid())
    counts = {one.level: one.n for one in before.levels}
    for level in LEVELS:
        parts.append(svg.text(str(level), _place(level), PLOT_HEIGHT + 18, "tick strong"))
        n = f"n={counts.get(level, 0):,}"
        parts.append(svg.text(n, _place(level), PLOT_HEIGHT + 34, "tick"))
    said = []
    shape = SHAPES[before.domain]
    for side, kind, one in (("ring", "base", before), (shape, before.domain, after)):
        who = "base" if kind == "base" else "tuned"
        shift = -9 if kind == "base" else 9
        for cell in one.levels:
            words = (
                f"level {cell.level}, {who}: {percent(cell.accuracy, 1)} "
                f"[{percent(cell.low)}, {percent(cell.high)}], {cell.right:,} of {cell.n:,}"
            )
            said.append(words)
            place = _place(cell.level)
            parts.append(_whisker(place, cell.low, cell.high, shift, kind))
            parts.append(svg.mark(side, place, _y(cell.accuracy), kind, words, shift=shift))
    title = f"Accuracy per level {DOMAIN_NAMES[before.domain]}. {'; '.join(said)}"
    return svg.picture(parts, height=PLOT_HEIGHT + 40, label=title)


def _place(level: int) -> float:
    return 0.1 + 0.2 * level


def _y(fraction: float) -> float:
    return PLOT_HEIGHT * (1 - fraction)


def _grid() -> Iterator[Markup]:
    for at in GRID:
        yield svg.line(0, _y(at), 1, _y(at), "axis" if at == 0 else "grid")
        written = percent(at) if at == 1 else f"{100 * at:.0f}"
        yield svg.element("text", written, x=-8, y=_y(at) + 4, class_="tick", text_anchor="end")


def _whisker(place: float, low: float, high: float, shift: float, kind: str) -> Markup:
    drawn = svg.element("line", x1=shift, x2=shift, y1=_y(high), y2=_y(low))
    return svg.element("svg", drawn, x=svg.x(place), y=0, class_=f"mark whisker {kind}")


class Series(NamedTuple):
    """One line of the restore curve: its domain, its (percent, fraction) points, the base's."""

    domain: str
    points: Sequence[tuple[float, float]]
    base: float | None


Measure = Callable[[DomainResult], float | None]


def curve(summary: Summary, measure: Measure, title: str) -> Markup:
    """Return a figure against the restored percentage (square-root scale), one line per domain."""
    lines = [_series(summary, domain, measure) for domain in summary.domains]
    percents = [0.0, *(one.percent or 0.0 for one in summary.restored)]
    far = math.sqrt(max(percents)) or 1.0
    parts = list(_grid())
    said = []
    for at in percents:
        place = _along(at, far)
        parts.append(svg.line(place, PLOT_HEIGHT, place, PLOT_HEIGHT + 5, "axis"))
        parts.append(svg.text(f"{at:g}", place, PLOT_HEIGHT + 20, "tick"))
    for series in lines:
        if series.base is not None:
            y = _y(series.base)
            parts.append(svg.line(0, y, 1, y, f"reference {series.domain}"))
        parts += _joined(series, far)
        for at, value in series.points:
            words = f"{DOMAIN_NAMES[series.domain]}, {amount(at)} restored: {percent(value, 1)}"
            said.append(words)
            place = _along(at, far)
            parts.append(svg.mark(SHAPES[series.domain], place, _y(value), series.domain, words))
    return svg.picture(parts, height=PLOT_HEIGHT + 26, label=f"{title}. {'; '.join(said)}")


def _along(at: float, far: float) -> float:
    return 0.03 + 0.94 * math.sqrt(at) / far


def _series(summary: Summary, domain: str, measure: Measure) -> Series:
    found = []
    for variant in (summary.tuned, *summary.restored):
        result = variant.domain(domain)
        value = None if result is None else measure(result)
        if value is not None:
            found.append((variant.percent or 0.0, value))
    base = summary.base.domain(domain)
    return Series(domain, found, None if base is None else measure(base))


def _joined(series: Series, far: float) -> Iterator[Markup]:
    for (x1, y1), (x2, y2) in zip(series.points, series.points[1:], strict=False):
        yield svg.line(_along(x1, far), _y(y1), _along(x2, far), _y(y2), f"curve {series.domain}")
