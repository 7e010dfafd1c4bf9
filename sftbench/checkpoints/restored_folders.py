"""From two checkpoints to restored checkpoint folders, one per rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftbench.checkpoints.adapters import is_adapter
from sftbench.checkpoints.folder import Checkpoint, open_checkpoint
from sftbench.checkpoints.merging import laid_over
from sftbench.checkpoints.pairing import Pair
from sftbench.checkpoints.planning import Planned, plan
from sftbench.checkpoints.restored import RestoredWeights
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.source import FolderSource
from sftbench.checkpoints.tokenizers import tokenizer_difference
from sftbench.checkpoints.writer import write_checkpoint
from sftbench.common.digests import software_versions
from sftbench.common.files import require_free

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Planning:
    """Rules worked out for two folders.

    Attributes:
        pair: both models.
        base: the base.
        tuned: the tuned model.
        files: folder that a variant's config and tokenizer are taken from.
        planned: one for each rule, in their order.
        notes: what a reader must know of the two models, a sentence each.
    """

    pair: Pair
    base: Checkpoint
    tuned: Checkpoint
    files: Path
    planned: tuple[Planned, ...]
    notes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Return the plan as a JSON value."""
        return {
            "kind": "restore plan",
            "base": {"path": str(self.base.path), "digest": self.base.digest},
            "tuned": {"path": str(self.tuned.path), "digest": self.tuned.digest},
            "notes": list(self.notes),
            "variants": [variant_record(self, one) for one in self.planned],
            "software": dict(_software()),
        }


def planned_outputs(rules: Sequence[Restored], out: Path) -> list[Path]:
    """Return the folder of each variant: `out` itself for one, `out`/<slug> for several.

    Raises:
        SftbenchError: one of them is not free.
    """
    paths = [out] if len(rules) == 1 else [out / rule.slug for rule in rules]
    for path in paths:
        require_free(path)
    return paths


def plan_folders(
    base: Path, tuned: Path, rules: Sequence[Restored], *, advance: Advance | None = None
) -> Planning:
    """Work out rules for two folders; nothing is written and neither model is read in.

    Args:
        base: checkpoint folder of the base.
        tuned: checkpoint folder of the tuned model, or an adapter that `can_be_laid_over`.
        rules: what to plan.
        advance: called with 1 after each ranking (see `count_rankings`).

    Raises:
        SftbenchError: a checkpoint cannot be used, or see `planning.plan`.
    """
    before = open_checkpoint(base)
    if is_adapter(tuned):
        over = laid_over(tuned, base)
        after, files, pair = over.merged, over.files, Pair(FolderSource(base), over.source)
    else:
        after, files, pair = open_checkpoint(tuned), tuned, Pair.open(base, tuned)
    planned = plan(pair, rules, advance)
    notes = (*pair.notes, *_pair_notes(base, files))
    return Planning(pair, before, after, files, tuple(planned), notes)


def write_restored(
    planning: Planning, paths: Sequence[Path], *, advance: Advance | None = None
) -> None:
    """Write each planned variant as a checkpoint.

    Args:
        planning: the plan.
        paths: the folder of each; must be free.
        advance: called with 1 after each checkpoint.

    Raises:
        SftbenchError: a folder is not free, or the disk is full.
    """
    for one, path in zip(planning.planned, paths, strict=True):
        record = {
            **variant_record(planning, one),
            "kind": "variant",
            "base_digest": planning.base.digest,  # where every record has it; finds the base's card
            "base": {"path": str(planning.base.path), "digest": planning.base.digest},
            "tuned": {"path": str(planning.tuned.path), "digest": planning.tuned.digest},
            "software": dict(_software()),
            "notes": list(planning.notes),
        }
        weights = RestoredWeights(planning.pair, one)
        write_checkpoint(path, weights, like=planning.files, record=record)
        if advance is not None:
            advance(1)


def variant_record(planning: Planning, one: Planned) -> dict[str, Any]:
    """Return what names a variant, what makes it again, and what it does."""
    assert one.report is not None
    return {
        "variant": one.rule.name,
        "variant_digest": one.rule.digest(planning.base.digest, planning.tuned.digest),
        **one.record(),
        "report": dict(one.report.record()),
    }


def _software() -> Mapping[str, str]:
    return software_versions("sftbench", "torch", "numba", "numpy", "transformers", "safetensors")


def _pair_notes(base: Path, tuned: Path) -> list[str]:
    difference = tokenizer_difference(base, tuned)
    if difference is None:
        return []
    return [f"The tokenizers differ: {difference}. The variants take the tuned model's."]
