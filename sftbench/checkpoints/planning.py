"""The plan of a restore: for every rule where its ranking is cut and what that does.

Nothing is written and no model is held: a plan is a few numbers for each rule, made in a constant
number of passes over both models, from which any tensor of any variant follows
(`restored.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sftbench.checkpoints import kernels
from sftbench.checkpoints.criteria import SCORES, Ranking, dropped_share, ranking_of, share_of_rule
from sftbench.checkpoints.kernels import FIELDS, LOWEST
from sftbench.checkpoints.measure import Sums, measure, require_finite_pair, require_finite_rows
from sftbench.checkpoints.null_model import NullShares, null_shares
from sftbench.checkpoints.regions import layer_of, module_of
from sftbench.checkpoints.restore_report import RestoreReport, Share
from sftbench.checkpoints.rules import Restored, parse_rule
from sftbench.checkpoints.select import Cut, Size, search
from sftbench.checkpoints.source import as_floats, stored_of
from sftbench.checkpoints.update import is_tied

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sftbench.checkpoints.pairing import Pair, Piece

Advance = Callable[[int], None]
GLOBAL = ""
"""The name under which the cut of all tensors together stands."""
COLUMN = {name: number for number, name in enumerate(FIELDS)}


@dataclass(frozen=True)
class Planned:
    """One rule, worked out for one pair of models.

    Attributes:
        rule: the rule.
        cuts: where its ranking is cut: one for all tensors together, under `GLOBAL`, or one for
            each tensor; empty for a criterion that moves tensors.
        report: what it does.
    """

    rule: Restored
    cuts: Mapping[str, Cut]
    report: RestoreReport | None = None

    def cut(self, name: str) -> Cut:
        """Return the cut that decides about a tensor."""
        return self.cuts[GLOBAL] if GLOBAL in self.cuts else self.cuts[name]

    def record(self) -> dict[str, Any]:
        """Return what makes the variant again, as a JSON value."""
        return {
            "rule": self.rule.text,
            "cuts": {
                name: [cut.key, cut.name, cut.place, cut.count] for name, cut in self.cuts.items()
            },
        }


def planned_of(record: Mapping[str, Any]) -> Planned:
    """Read what `Planned.record` wrote; the report is not part of it."""
    cuts = {name: Cut(*values) for name, values in record["cuts"].items()}
    return Planned(parse_rule(record["rule"]), cuts)


def plan(pair: Pair, rules: Sequence[Restored], advance: Advance | None = None) -> list[Planned]:
    """Work out rules for two models: exact cuts, and a report for each.

    Rules that share a ranking are worked out together.

    Args:
        pair: both models.
        rules: what to plan, in any order.
        advance: called with 1 after each ranking.

    Raises:
        SftbenchError: a region is empty or holds no floats, a weight is NaN or infinite, or a
            relative change is too large for its arithmetic.
    """
    tell = advance or (lambda steps: None)
    found: dict[int, Planned] = {}
    groups: dict[Ranking | None, list[int]] = {}
    for number, rule in enumerate(rules):
        groups.setdefault(ranking_of(rule), []).append(number)
    for ranking, numbers in groups.items():
        those = [rules[number] for number in numbers]
        if ranking is None:
            planned: Iterable[Planned] = (plan_move(pair, rule) for rule in those)
        else:
            planned = _plan_ranked(pair, ranking, those)
        found.update(zip(numbers, planned, strict=True))
        tell(1)
    return [found[number] for number in range(len(rules))]


def count_rankings(rules: Sequence[Restored]) -> int:
    """Return how often `plan` calls `advance`."""
    return len({ranking_of(rule) for rule in rules})


def ranked_size(rule: Restored) -> Size:
    """Return how much of its ranking a rule takes."""
    assert rule.percent is not None
    if rule.criterion == "dare" and rule.measure == "norm":
        return Decimal(repr(dropped_share(rule))) * 100, "scalars"
    return rule.percent, rule.measure


def _plan_ranked(pair: Pair, ranking: Ranking, rules: Sequence[Restored]) -> list[Planned]:
    names = pair.region(ranking.region)
    hows = {name: ranking.how(pair, name) for name in names}
    sizes = [ranked_size(rule) for rule in rules]
    groups = [(name,) for name in names] if ranking.per_tensor else [names]
    cuts: list[dict[str, Cut]] = [{} for _ in rules]
    sums: dict[str, NDArray[np.float64]] = {}
    for group in groups:
        measured = measure(pair, group, hows, search(pair, group, hows, ranking, sizes))
        sums.update(measured.sums)
        for mine, cut in zip(cuts, measured.cuts, strict=True):
            mine[group[0] if ranking.per_tensor else GLOBAL] = cut
    whole = _Region(names, sums, _outside_equal(pair, names))
    return [
        Planned(rule, mine, _report(whole, rule, number, _last(ranking, mine)))
        for number, (rule, mine) in enumerate(zip(rules, cuts, strict=True))
    ]


def _last(ranking: Ranking, cuts: Mapping[str, Cut]) -> float | None:
    """Return the last score that a cut of all tensors restores; None where all or none goes."""
    cut = cuts.get(GLOBAL)
    if cut is None or not cut.count or cut.key <= LOWEST + 1 or ranking.criterion == "random":
        return None
    key = cut.key - 1 if cut.name else cut.key
    value = float(np.array([~key if ranking.is_lowest else key], np.int32).view(np.float32)[0])
    return value if math.isfinite(value) and value > 0 else 0.0


@dataclass(frozen=True)
class _Region:
    """Sums over the tensors of a region.

    Attributes:
        names: the tensors, sorted.
        sums: see `measure`.
        outside_equal: whether all other tensors are the base's.
    """

    names: Sequence[str]
    sums: Sums
    outside_equal: bool

    @cached_property
    def whole(self) -> NDArray[np.float64]:
        """Sums over everything: shape [cuts + 1, fields]."""
        total: NDArray[np.float64] = sum(
            (self.sums[name] for name in self.names if name in self.sums),
            start=np.zeros_like(next(iter(self.sums.values()))),
        )
        return total

    def column(self, row: int, field: str) -> list[float]:
        """Return one field of each tensor."""
        return [float(self.sums[name][row, COLUMN[field]]) for name in self.names]


def _outside_equal(pair: Pair, names: Sequence[str]) -> bool:
    """Return whether all tensors but these are the base's, in the tuned model's dtypes.

    Raises:
        SftbenchError: one of them is NaN or infinite.
    """
    others = [name for name in pair.outside() if name not in names]
    require_finite_pair(pair, [name for name in others if pair.is_float(name)])
    require_finite_rows(pair)
    if is_tied(pair.after) and not is_tied(pair.before):
        return False  # the base's own head is gone
    if not all(pair.is_whole(name) for name in names):
        return False
    return all(pair.is_equal(name) for name in others)


def _report(region: _Region, rule: Restored, row: int, last: float | None) -> RestoreReport:
    whole = dict(zip(FIELDS, region.whole[-1].tolist(), strict=True))
    mine = dict(zip(FIELDS, region.whole[row].tolist(), strict=True))
    scalars, count, written = int(whole["count"]), int(mine["count"]), int(mine["written"])
    change = whole["change"] + whole["zero_base_change"]
    l1, l2 = mine["l1"], mine["l2_squared"]
    if rule.criterion == "dare":
        # What is kept is enlarged: it moves too, by q / (1 - q) of itself.
        more = count / scalars / (1 - count / scalars) if count < scalars else 0.0
        l1 += more * (whole["l1"] - mine["l1"])
        l2 += more**2 * (whole["l2_squared"] - mine["l2_squared"])
        written = int(whole["written"]) if count else 0
    null = _null(region, rule, count / scalars)
    return RestoreReport(
        rule=rule.text,
        percent=None if rule.percent is None else float(rule.percent),
        measure=rule.measure,
        arithmetic=rule.arithmetic,
        region=scalars,
        count=count,
        share=count / scalars,
        changed_share=share_of(mine["changed"], whole["changed"]),
        threshold=last,
        unchanged=scalars - int(whole["changed"]),
        unchanged_share=share_of(scalars - whole["changed"], scalars),
        zero_base=int(whole["zero_base"]),
        zero_base_restored=int(mine["zero_base"]),
        zero_base_change_share=share_of(whole["zero_base_change"], change),
        change_share=_of_change(rule, mine["change"] + mine["zero_base_change"], change),
        change_share_without_zero_base=_of_change(rule, mine["change"], whole["change"]),
        l1_removed=l1 / whole["l1"] if whole["l1"] else 0.0,
        l2_removed=math.sqrt(l2 / whole["l2_squared"]) if whole["l2_squared"] else 0.0,
        changed=written,
        equals_base=rule.criterion != "dare"
        and written == int(whole["written"])
        and region.outside_equal,
        equals_tuned=written == 0,
        null=None if null is None else null.record(),
        layers=_spread(region, row, null, _layer),
        modules=_spread(region, row, null, module_of),
        distance=math.sqrt(l2),
    )


def _of_change(rule: Restored, part: float, whole: float) -> float | None:
    """Return the share of the summed relative change that goes; None where nothing is restored."""
    if rule.criterion == "interpolation":
        return share_of_rule(rule) if whole else 0.0
    return share_of(part, whole) if rule.criterion in SCORES else None


def _null(region: _Region, rule: Restored, share: float) -> NullShares | None:
    if rule.per_tensor:
        return None
    counts = np.maximum(region.column(-1, "count"), 1)
    weights = np.sqrt(np.array(region.column(-1, "base_squared")) / counts)
    updates = np.sqrt(np.array(region.column(-1, "l2_squared")) / counts)
    sizes = [int(count) for count in region.column(-1, "count")]
    return null_shares(rule.criterion, share, sizes, weights.tolist(), updates.tolist())


def _layer(name: str) -> str:
    layer = layer_of(name)
    return "outside" if layer is None else f"layer {layer}"


def _spread(
    region: _Region, row: int, null: NullShares | None, part_of: Callable[[str], str]
) -> tuple[Share, ...]:
    """Return how the restored scalars spread over parts of the region, in natural order."""
    sizes, restored = region.column(-1, "count"), region.column(row, "count")
    by_null = (
        None
        if null is None
        else [size * share for size, share in zip(sizes, null.spread, strict=True)]
    )
    found: dict[str, list[int]] = {}
    for number, name in enumerate(region.names):
        found.setdefault(part_of(name), []).append(number)
    ordered = sorted(
        found, key=lambda part: (len(part), part) if part[:5] == "layer" else (0, part)
    )

    def share(values: Sequence[float], numbers: Sequence[int]) -> float:
        return share_of(sum(values[number] for number in numbers), sum(values))

    return tuple(
        Share(
            part,
            share(sizes, found[part]),
            share(restored, found[part]),
            None if by_null is None else share(by_null, found[part]),
        )
        for part in ordered
    )


def share_of(part: float, whole: float) -> float:
    """Return part / whole, kept in [0, 1] against rounding; 0 where there is nothing to share."""
    return min(1.0, max(0.0, part / whole)) if whole else 0.0


def plan_move(pair: Pair, rule: Restored) -> Planned:
    """Work out a rule that moves whole tensors, by moving each and measuring how far."""
    from sftbench.checkpoints.restored import moved

    names = pair.region(rule.region)
    require_finite_pair(pair, names)
    rows = {name: _moved_sums(pair, name, lambda n: moved(pair, rule, n)) for name in names}
    region = _Region(names, rows, _outside_equal(pair, names))
    return Planned(rule, {}, _report(region, rule, 0, None))


def _moved_sums(pair: Pair, name: str, move: Callable[[str], Any]) -> NDArray[np.float64]:
    """Return the sums of one tensor: how far it moves, and those of the whole update."""
    how = Ranking("relative", "fp32", False, False, "all", 1).how(pair, name)
    whole = measure(pair, (name,), {name: how}, []).sums[name][-1]
    dtype = pair.tuned.dtype(name)
    made = as_floats(stored_of(move(name), dtype), dtype)

    def work(piece: Piece) -> NDArray[np.float64]:
        found = np.zeros(len(FIELDS) + 1)
        there = made[piece.start : piece.stop]
        kernels.moved(piece.base, piece.tuned, piece.written, there, found)
        return found

    sums = np.zeros(len(FIELDS) + 1)
    for _, found in pair.sweep((name,), work):
        sums += found
    # A ranking is at the base when it has written all that differs; this when it missed none.
    whole[COLUMN["written"]] = sums[COLUMN["written"]] + sums[-1]
    return np.stack([sums[:-1], whole])
