"""What a restore did, in numbers that can be stored and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

DOMINATING = 0.5
"""Share from which unchanged or zero-base scalars are worth a warning."""


@dataclass(frozen=True)
class RestoreReport:
    """What restoring one percentage of the region did.

    Scalars are counted over the region (the tensors that are ranked). "Unchanged" and
    "zero-base" are judged in the arithmetic of the ranking; norms are taken of s - p in fp32,
    summed in fp64; every share is 0 where there is nothing to share. (p base, s tuned.)

    Attributes:
        percent: the share of the region that was asked for, in percent.
        arithmetic: "fp32" or "bf16".
        region: scalars that are ranked.
        count: scalars that are restored, int(region * percent / 100).
        threshold: the smallest relative change that is restored; None if none is.
        unchanged: scalars with s equal to p; they rank last, and restoring them does nothing.
        unchanged_share: the same as a share of the region.
        zero_base: scalars with p equal to 0, whose relative change is about 1e8 |s|.
        zero_base_restored: how many of them are restored.
        zero_base_change_share: their share of the region's summed relative change.
        change_share: share of the summed relative change that is restored.
        change_share_without_zero_base: the same over the scalars with p not 0.
        l1_removed: share of the update's L1 norm in the region that is removed.
        l2_removed: L2 norm of what is removed over the L2 norm of the update in the region.
        changed: scalars whose stored value the restore really changed.
        equals_base: every tensor of the result, inside and outside the region, equals the base
            as written in the tuned model's dtypes.
        equals_tuned: every tensor of the result equals the tuned model.
    """

    percent: float
    arithmetic: str
    region: int
    count: int
    threshold: float | None
    unchanged: int
    unchanged_share: float
    zero_base: int
    zero_base_restored: int
    zero_base_change_share: float
    change_share: float
    change_share_without_zero_base: float
    l1_removed: float
    l2_removed: float
    changed: int
    equals_base: bool
    equals_tuned: bool

    def record(self) -> Mapping[str, Any]:
        """Return the report as a JSON value."""
        return asdict(self)

    def warnings(self) -> list[str]:
        """Return what a reader must know before trusting this variant, one sentence each."""
        found: list[str] = []
        if self.equals_base and self.equals_tuned:
            found.append("Base and tuned are the same model: there is nothing to restore.")
        elif self.equals_base:
            found.append("This variant equals the base: the whole update is gone.")
        elif self.equals_tuned:
            found.append("This variant equals the tuned model: the restore changed nothing.")
        if self.unchanged_share > DOMINATING:
            found.append(
                f"{self.unchanged_share:.1%} of the ranked scalars are unchanged in "
                f"{self.arithmetic}: they rank last and tie, so that beyond "
                f"{1 - self.unchanged_share:.1%} the ranking says nothing. Training or saving in "
                "low precision does this."
            )
        if self.zero_base_change_share > DOMINATING:
            found.append(
                f"{self.zero_base:,} scalars that are zero in the base hold "
                f"{self.zero_base_change_share:.1%} of the summed relative change: read the "
                "share without them."
            )
        return found
