"""The tensors of each variant: from the two folders as they lie, one tensor at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sftbench.checkpoints.lazy import Folder, Weights
from sftbench.checkpoints.measure import require_finite_pair, require_finite_rows
from sftbench.checkpoints.pairing import Pair
from sftbench.checkpoints.perturb import PerturbedWeights
from sftbench.checkpoints.planning import Planned, plan
from sftbench.checkpoints.restored import RestoredWeights
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.update import update_norm
from sftbench.checkpoints.variants import Again, Base, Noise, Variant
from sftbench.compare.plan import Plan


@dataclass(frozen=True)
class VariantWeights:
    """The weights of all variants of a comparison.

    Whatever part of a comparison needs weights first opens them; all others share them, with what
    the rules come to, which takes a pass over both models.

    Attributes:
        plan: names the models and what is restored.
    """

    plan: Plan

    @cached_property
    def pair(self) -> Pair:
        """Both models laid side by side, read once and checked against each other.

        Raises:
            SftbenchError: names or shapes differ, or a model holds NaN or infinity.
        """
        pair = Pair.open(self.plan.base.path, self.plan.tuned.path)
        require_finite_pair(pair, [name for name in pair.outside() if pair.is_float(name)])
        require_finite_rows(pair)
        return pair

    def require_fit(self) -> None:
        """Raise as `pair` does, before an engine is made."""
        _ = self.pair

    @cached_property
    def update_norm(self) -> float:
        """L2 norm of the update from base to tuned."""
        return update_norm(self.pair.before, self.pair.after)

    @cached_property
    def _planned(self) -> dict[Restored, Planned]:
        """Every rule of the comparison, worked out together.

        Raises:
            SftbenchError: see `planning.plan`.
        """
        rules = self.plan.request.restored
        return dict(zip(rules, plan(self.pair, rules), strict=True))

    def of(self, variant: Variant) -> Weights:
        """Return the weights of a variant."""
        if isinstance(variant, Base | Again):
            return Folder(self.plan.base.path)
        if isinstance(variant, Noise):
            return PerturbedWeights(
                self.pair,
                variant.draw,
                self.plan.variant_id(variant),
                self.plan.request.engine.dtype,
            )
        if isinstance(variant, Restored):
            return RestoredWeights(self.pair, self._planned[variant])
        return Folder(self.plan.tuned.path)

    def record(self, variant: Variant, weights: Weights) -> dict[str, Any]:
        """Return what to record of how a variant's weights were made, once they were."""
        if isinstance(weights, PerturbedWeights):
            return {"noise": weights.perturbation.record()}
        if isinstance(variant, Restored):
            report = self._planned[variant].report
            assert report is not None
            return {"restore": dict(report.record())}
        if isinstance(variant, Base | Again):
            return {}
        return {"update_norm": self.update_norm, "notes": self.pair.notes}
