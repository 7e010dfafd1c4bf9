"""From two checkpoints to restored checkpoint folders, one per rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from sftbench.checkpoints.writer import RECORD, require_room, write_checkpoint
from sftbench.common.digests import software_versions
from sftbench.common.files import read_json, require_free

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
        SftbenchError: one of them is not free, and does not hold a variant of that name either.
    """
    paths = [out] if len(rules) == 1 else [out / rule.slug for rule in rules]
    for rule, path in zip(rules, paths, strict=True):
        if _record(path).get("variant") != rule.name:
            require_free(path)
    return paths


def _record(path: Path) -> Mapping[str, Any]:
    """Return how the checkpoint in a folder was made; empty where it is none of ours."""
    if not (path / RECORD).is_file():
        return {}
    record = read_json(path / RECORD)
    return record if isinstance(record, Mapping) else {}


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
) -> list[Path]:
    """Write each planned variant as a checkpoint, but for those that an earlier run has written.

    Args:
        planning: the plan.
        paths: the folder of each; must be free, or hold this very variant.
        advance: called with 1 after each checkpoint.

    Returns:
        The folders that held their variant already.

    Raises:
        SftbenchError: a folder holds something else, or the disk has no room for all of them.
    """
    there = [path for one, path in _each(planning, paths) if _holds(path, planning, one)]
    missing = [(one, path) for one, path in _each(planning, paths) if path not in there]
    for _, path in missing:
        require_free(path)
    if missing:
        all_ = [RestoredWeights(planning.pair, one) for one, _ in missing]
        require_room(missing[0][1].parent, all_)
    if advance is not None and there:
        advance(len(there))
    for one, path in missing:
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
    return there


def _each(planning: Planning, paths: Sequence[Path]) -> Iterator[tuple[Planned, Path]]:
    return zip(planning.planned, paths, strict=True)


def _holds(path: Path, planning: Planning, one: Planned) -> bool:
    """Return whether a folder holds this variant of these two models; folders appear whole."""
    return _record(path).get("variant_digest") == _digest(planning, one)


def _digest(planning: Planning, one: Planned) -> str:
    return one.rule.digest(planning.base.digest, planning.tuned.digest)


def variant_record(planning: Planning, one: Planned) -> dict[str, Any]:
    """Return what names a variant, what makes it again, and what it does."""
    assert one.report is not None
    return {
        "variant": one.rule.name,
        "variant_digest": _digest(planning, one),
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
