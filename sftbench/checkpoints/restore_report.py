"""What a restore does, in numbers that can be stored and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sftbench.checkpoints.rules import parse_rule

DOMINATING = 0.5
"""Share from which unchanged or zero-base scalars are worth a warning."""


@dataclass(frozen=True)
class Share:
    """One part of the region: a layer, or a kind of module.

    Attributes:
        name: such as "layer 3" or "down_proj".
        scalars: its share of the region's scalars.
        restored: its share of the scalars that are restored.
        null: the same in the null model (see `null_model.py`); None where that says nothing.
    """

    name: str
    scalars: float
    restored: float
    null: float | None


@dataclass(frozen=True)
class RestoreReport:
    """What one rule does to the update.

    Scalars are counted over the region (the tensors that take part). "Unchanged" and "zero-base"
    are judged in the arithmetic of the ranking; norms are taken of s - p in fp32, summed in fp64;
    every share is 0 where there is nothing to share. (p base, s tuned.)

    Attributes:
        rule: such as "relative,5%".
        percent: how much was asked for; None for a criterion's own threshold.
        measure: what the percentage is of: scalars, changed or norm.
        arithmetic: "fp32" or "bf16".
        region: scalars that take part.
        count: scalars that are restored; of a criterion that moves tensors, that are moved.
        share: the same as a share of the region.
        changed_share: of the scalars that the fine-tune changed, the share that is restored.
        threshold: the last score that is restored; None if everything is, or nothing.
        unchanged: scalars with s equal to p.
        unchanged_share: the same as a share of the region.
        zero_base: scalars with p equal to 0, whose relative change is about 1e8 |s|.
        zero_base_restored: how many of them are restored.
        zero_base_change_share: their share of the region's summed relative change.
        change_share: share of the summed relative change that is restored; None where tensors move
            and nothing is restored (of an interpolation the share that it goes back).
        change_share_without_zero_base: the same over the scalars with p not 0.
        l1_removed: share of the update's L1 norm in the region that is removed; of a criterion
            that moves tensors, L1 norm of the way they move over that of the update.
        l2_removed: L2 norm of the way from the tuned model to the variant over the L2 norm of the
            update in the region.
        distance: L2 norm of that way itself, in the units of the weights, to compare restores of
            different regions; None in files of earlier versions.
        changed: scalars whose stored value differs from the tuned model's.
        equals_base: every tensor of the result, inside and outside the region, equals the base
            as written in the tuned model's dtypes.
        equals_tuned: every tensor of the result equals the tuned model.
        null: the shares that the null model gives for as many scalars (scalars, change, l1, l2);
            None where it says nothing.
        layers: how the restored scalars spread over the layers.
        modules: how they spread over kinds of modules.
    """

    rule: str
    percent: float | None
    measure: str
    arithmetic: str
    region: int
    count: int
    share: float
    changed_share: float
    threshold: float | None
    unchanged: int
    unchanged_share: float
    zero_base: int
    zero_base_restored: int
    zero_base_change_share: float
    change_share: float | None
    change_share_without_zero_base: float | None
    l1_removed: float
    l2_removed: float
    changed: int
    equals_base: bool
    equals_tuned: bool
    null: Mapping[str, float] | None = None
    layers: tuple[Share, ...] = ()
    modules: tuple[Share, ...] = ()
    distance: float | None = None

    def record(self) -> Mapping[str, Any]:
        """Return the report as a JSON value."""
        return asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RestoreReport:
        """Read a report from its record."""
        spread = {
            name: tuple(Share(**one) for one in record[name]) for name in ("layers", "modules")
        }
        return cls(**{**record, **spread})

    def warnings(self) -> list[str]:
        """Return what a reader must know before trusting this variant, one sentence each."""
        found: list[str] = []
        if self.equals_base and self.equals_tuned:
            return ["Base and tuned are the same model: there is nothing to restore."]
        if self.equals_base:
            found.append("This variant equals the base: the whole update is gone.")
        elif self.equals_tuned:
            found.append("This variant equals the tuned model: the restore changed nothing.")
        rule = parse_rule(self.rule)
        by_change = rule.criterion in ("relative", "absolute") and rule.measure == "scalars"
        if self.unchanged_share > DOMINATING and by_change:
            found.append(
                f"{self.unchanged_share:.1%} of the ranked scalars are unchanged in "
                f"{self.arithmetic}: they rank last and tie, so that beyond "
                f"{1 - self.unchanged_share:.1%} the ranking says nothing. Training or saving in "
                "low precision does this."
            )
        if self.zero_base_change_share > DOMINATING and rule.criterion == "relative":
            found.append(
                f"{self.zero_base:,} scalars that are zero in the base hold "
                f"{self.zero_base_change_share:.1%} of the summed relative change: read the "
                "share without them."
            )
        return found
