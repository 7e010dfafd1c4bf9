"""The tensors of each variant: both models read once, restored or perturbed in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.perturb import perturbed
from sftbench.checkpoints.restore import Ranking, rank
from sftbench.checkpoints.update import pair_notes, shared_names, update_norm
from sftbench.checkpoints.variants import Again, Base, Noise, Restored, Variant
from sftbench.checkpoints.weights import read_tensors, require_finite
from sftbench.compare.plan import Plan

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Weights:
    """The tensors of base and tuned, checked against each other.

    Attributes:
        base: by name, in the stored dtypes.
        tuned: the same names and shapes; dtypes may differ.
        plan: names the arithmetic of the ranking.
    """

    base: Mapping[str, torch.Tensor]
    tuned: Mapping[str, torch.Tensor]
    plan: Plan

    @classmethod
    def read(cls, plan: Plan) -> Weights:
        """Read both models.

        Raises:
            SftbenchError: names or shapes differ, or a weight is NaN or infinite.
        """
        base, tuned = read_tensors(plan.base.path), read_tensors(plan.tuned.path)
        shared_names(base, tuned, where=(plan.base.path, plan.tuned.path))
        require_finite(base, plan.base.path)
        require_finite(tuned, plan.tuned.path)
        return cls(base, tuned, plan)

    @cached_property
    def update_norm(self) -> float:
        """L2 norm of the update from base to tuned."""
        return update_norm(self.base, self.tuned)

    @cached_property
    def _ranking(self) -> Ranking:
        folders = (self.plan.base.path, self.plan.tuned.path)
        return rank(self.base, self.tuned, self.plan.request.arithmetic, where=folders)

    def of(self, variant: Variant) -> tuple[Mapping[str, torch.Tensor], dict[str, Any]]:
        """Return a variant's tensors and what to record of how they were made."""
        if isinstance(variant, Base | Again):
            return self.base, {}
        if isinstance(variant, Noise):
            digest = self.plan.variant_id(variant)
            folders = (self.plan.base.path, self.plan.tuned.path)
            changed, said = perturbed(
                self.base,
                self.tuned,
                variant.draw,
                digest,
                dtype=self.plan.request.engine.dtype,
                where=folders,
            )
            return changed, {"noise": said.record()}
        if not isinstance(variant, Restored):
            notes = pair_notes(self.base, self.tuned)
            return self.tuned, {"update_norm": self.update_norm, "notes": notes}
        tensors, report = self._ranking.apply(variant.percent)
        return tensors, {"restore": dict(report.record())}
