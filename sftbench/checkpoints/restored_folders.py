"""From two checkpoint folders to restored checkpoint folders, one per percentage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from sftbench.checkpoints.folder import Checkpoint, open_checkpoint
from sftbench.checkpoints.restore_report import RestoreReport
from sftbench.checkpoints.tokenizers import tokenizer_difference
from sftbench.checkpoints.variants import Arithmetic, Restored
from sftbench.checkpoints.weights import read_tensors
from sftbench.checkpoints.writer import write_checkpoint
from sftbench.common.digests import software_versions
from sftbench.common.files import require_free

Advance = Callable[[int], None]


@dataclass(frozen=True)
class RestoredFolder:
    """One restored checkpoint: what it is, where it was written, and what the restore did."""

    variant: Restored
    path: Path
    report: RestoreReport


@dataclass(frozen=True)
class RestoreResult:
    """All restored checkpoints of one run, and what a reader must know about the whole."""

    folders: tuple[RestoredFolder, ...]
    warnings: tuple[str, ...]


def planned_outputs(variants: Sequence[Restored], out: Path) -> list[Path]:
    """Return the folder of each variant: `out` itself for one, `out`/<slug> for several.

    Raises:
        SftbenchError: one of them is not free.
    """
    paths = [out] if len(variants) == 1 else [out / variant.slug for variant in variants]
    for path in paths:
        require_free(path)
    if out.is_file():
        require_free(out)
    return paths


def restore_folders(
    base: Path,
    tuned: Path,
    percents: Sequence[Decimal],
    arithmetic: Arithmetic,
    out: Path,
    *,
    advance: Advance | None = None,
) -> RestoreResult:
    """Write the tuned model with the top of its update set back, once per percentage.

    Args:
        base: checkpoint folder of the base.
        tuned: checkpoint folder of the tuned model.
        percents: shares of the region to restore, in percent.
        arithmetic: the number format of the ranking.
        out: see `planned_outputs`; checked before any work.
        advance: called with 1 after ranking and after each checkpoint written.

    Raises:
        SftbenchError: an output is not free, or a checkpoint cannot be used.
    """
    from sftbench.checkpoints.restore import rank
    from sftbench.checkpoints.update import pair_notes

    variants = [Restored("relative", percent, arithmetic) for percent in percents]
    paths = planned_outputs(variants, out)
    opened = open_checkpoint(base), open_checkpoint(tuned)
    base_tensors, tuned_tensors = read_tensors(base), read_tensors(tuned)
    ranking = rank(base_tensors, tuned_tensors, arithmetic, where=(base, tuned))
    notes = pair_notes(base_tensors, tuned_tensors)
    tell = advance or (lambda steps: None)
    tell(1)
    folders: list[RestoredFolder] = []
    for variant, path in zip(variants, paths, strict=True):
        tensors, report = ranking.apply(variant.percent)
        record = _record(variant, *opened, report)
        write_checkpoint(path, tensors, like=tuned, record={**record, "notes": notes})
        folders.append(RestoredFolder(variant, path, report))
        tell(1)
    return RestoreResult(tuple(folders), (*notes, *_pair_warnings(*opened)))


def _record(
    variant: Restored, base: Checkpoint, tuned: Checkpoint, report: RestoreReport
) -> Mapping[str, Any]:
    return {
        "kind": "variant",
        "variant": variant.name,
        "variant_digest": variant.digest(base.digest, tuned.digest),
        "base_digest": base.digest,  # where every record has it; finds the base's mastery card
        "base": {"path": str(base.path), "digest": base.digest},
        "tuned": {"path": str(tuned.path), "digest": tuned.digest},
        "report": dict(report.record()),
        "software": dict(software_versions("sftbench", "torch", "transformers", "safetensors")),
    }


def _pair_warnings(base: Checkpoint, tuned: Checkpoint) -> list[str]:
    difference = tokenizer_difference(base.path, tuned.path)
    if difference is None:
        return []
    return [f"The tokenizers differ: {difference}. The variants take the tuned model's."]
