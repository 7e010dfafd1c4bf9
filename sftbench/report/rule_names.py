"""A restore's rule as it is typed, such as "absolute,20%norm,mlp", taken apart to be shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sftbench.analysis.summary import RepairChoice, Summary, VariantResult

NORM_IMPLIED = ("interpolation", "noise", "spectral")
"""Criteria that move all scalars, so that their size can only be a share of the norm."""
CONTROLS = ("random", "interpolation", "absolute")
"""Criteria that show what a ranking by relative change is worth."""

_NAME = re.compile(r"tuned\+restore\((.*)\)")
_RULE = re.compile(
    r"(?P<criterion>[a-z-]+)(?:,(?P<size>[0-9.]+)%(?P<of>[a-z]*))?(?P<bf16>,bf16)?"
    r"(?P<per_tensor>,per-tensor)?(?:,(?!draw=)(?P<region>.+?))?(?:,draw=(?P<draw>[0-9]+))?"
)


class Rule(NamedTuple):
    """The parts of a rule.

    Attributes:
        criterion: such as "relative".
        size: percentage as it is typed; None for a criterion's own threshold.
        of: what it is of: "" for the scalars, "norm" or "changed".
        region: which tensors take part; "" for the blocks.
        others: what else departs from the paper's way.
    """

    criterion: str
    size: str | None
    of: str
    region: str
    others: tuple[str, ...]

    @property
    def options(self) -> tuple[str, ...]:
        """All that departs from the paper's way besides criterion and size."""
        return (self.region, *self.others) if self.region else self.others

    @property
    def is_papers(self) -> bool:
        """Whether this is the paper's way, whatever the size and the arithmetic."""
        return (self.criterion, self.of) == ("relative", "") and set(self.options) <= {"bf16"}

    @property
    def series(self) -> str:
        """What rules that differ in their size alone have in common: "absolute (mlp)"."""
        return f"{self.criterion}{bracketed(self.options)}"


def bracketed(options: Sequence[str]) -> str:
    """Return options as they follow a name: " (mlp, bf16)", or "" for none."""
    return f" ({', '.join(options)})" if options else ""


def parse(text: str) -> Rule | None:
    """Return the parts of a rule in its canonical form; None if it is none."""
    found = _RULE.fullmatch(text)
    if found is None:
        return None
    of = "" if found["criterion"] in NORM_IMPLIED else found["of"] or ""
    draw = None if found["draw"] is None else f"draw {found['draw']}"
    others = tuple(one.lstrip(",") for one in (found["per_tensor"], found["bf16"], draw) if one)
    return Rule(found["criterion"], found["size"], of, found["region"] or "", others)


def rule_of(variant: VariantResult) -> Rule | None:
    """Return the rule of a restored variant; None for others, and where it is not recorded."""
    named = _NAME.fullmatch(variant.name)
    return parse(named[1] if named else str((variant.restore or {}).get("rule", "")))


def series_of(variant: VariantResult) -> str:
    """Return the series that a variant belongs to; "" for what is not restored."""
    rule = rule_of(variant)
    if rule is not None:
        return rule.series
    return "" if variant.percent is None else "relative"


def papers_alone(summary: Summary) -> bool:
    """Say whether all that was restored was so in the paper's way, in one arithmetic."""
    restored = summary.restored
    return all(one.percent is not None for one in restored) and len({*map(series_of, restored)}) < 2


def chosen_of(summary: Summary) -> VariantResult | None:
    """Return the restored variant that was chosen on validation facts; None if there is none."""
    name = f"tuned+restore({summary.repair.chosen})" if summary.repair else ""
    return next((one for one in summary.restored if one.name == name), None)


def restores_tried(repair: RepairChoice) -> int:
    """Return how many restores were tried; the tuned model as it is counts as none."""
    return sum(bool(one.rule) for one in repair.candidates)
