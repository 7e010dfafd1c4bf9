"""The weights of the variant that `--model_args` ask for, and what results say of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sftbench.checkpoints.folder import Checkpoint, open_checkpoint, require_finite
from sftbench.checkpoints.lazy import Weights
from sftbench.checkpoints.pair import Pair as Models
from sftbench.checkpoints.pair import find_pair
from sftbench.checkpoints.pairing import Pair
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.variants import Base, Noise
from sftbench.harness.variant_args import Asked, TwoModels, in_words_of_lm_eval

LONG = ("layers", "modules")
"""Parts of a restore's report that results leave out: `sftbench restore` prints them."""


@dataclass(frozen=True)
class Found:
    """A variant, ready to be loaded.

    Attributes:
        path: the checkpoint that the engine is made from: the tuned model's, whose tensors,
            configuration and tokenizer a restored variant has; of the base and its random
            changes the base's.
        weights: what the engine is to load; None where it has them already.
        record: which variant it is, and what was done, as a JSON value.
    """

    path: Path
    weights: Weights | None
    record: Mapping[str, Any]


@lru_cache(maxsize=4)
def folders_of(models: TwoModels) -> Models:
    """Return both models as folders; a hub id is downloaded, an adapter merged.

    Raises:
        SftbenchError: see `find_pair`.
    """
    with in_words_of_lm_eval():
        return find_pair(
            models.tuned,
            models.base,
            tuned_revision=models.tuned_revision,
            base_revision=models.base_revision,
        )


def find(asked: Asked, dtype: str) -> Found:
    """Find both models, work the variant out, and say on stderr which one it is.

    Args:
        asked: the models and the variant.
        dtype: number format of the engine's weights; a random change is made in it.

    Raises:
        SftbenchError: a checkpoint cannot be used, the two do not fit together, a weight is NaN
            or infinite, or the rule has nothing to restore (see `planning.plan`).
    """
    folders_of.cache_clear()  # a folder may hold another model by now
    models = folders_of(asked.models)
    base, tuned = open_checkpoint(models.base), open_checkpoint(models.tuned)
    path = base.path if isinstance(asked.variant, Base | Noise) else tuned.path
    weights, made, notes = _made(asked, base, tuned, dtype)
    record = {
        "variant": asked.variant.name,
        "variant_digest": asked.variant.digest(base.digest, tuned.digest),
        "base": _named(models.base_name, base),
        "tuned": _named(models.tuned_name, tuned),
        **made,
        "notes": [*models.notes, *notes],
    }
    print(_line(record), *record["notes"], sep="\n", file=sys.stderr, flush=True)
    return Found(path, weights, record)


def _named(name: str, model: Checkpoint) -> dict[str, str]:
    return {"name": name, "path": str(model.path.resolve()), "digest": model.digest}


def _made(
    asked: Asked, base: Checkpoint, tuned: Checkpoint, dtype: str
) -> tuple[Weights | None, dict[str, Any], list[str]]:
    """Return the weights, the numbers of how they are made, and what a reader must know."""
    variant = asked.variant
    if isinstance(variant, Restored):
        return _restored(variant, base, tuned)
    pair = Pair.open(base.path, tuned.path)
    if isinstance(variant, Noise):
        from sftbench.checkpoints.perturb import PerturbedWeights

        digest = variant.digest(base.digest, tuned.digest)
        noise = PerturbedWeights(pair, variant.draw, digest, dtype)
        return noise, {"noise": noise.perturbation.record()}, pair.notes
    model = base if isinstance(variant, Base) else tuned
    require_finite(pair.before if model is base else pair.after, model.path)
    return None, {}, pair.notes


def _restored(
    rule: Restored, base: Checkpoint, tuned: Checkpoint
) -> tuple[Weights, dict[str, Any], list[str]]:
    from sftbench.checkpoints.restored import RestoredWeights
    from sftbench.checkpoints.restored_folders import plan_folders

    planning = plan_folders(base.path, tuned.path, [rule])
    (planned,) = planning.planned
    assert planned.report is not None
    numbers = {name: one for name, one in planned.report.record().items() if name not in LONG}
    notes = [*planning.notes, *planned.report.warnings()]
    return RestoredWeights(planning.pair, planned), {"restore": numbers}, notes


def _line(record: Mapping[str, Any]) -> str:
    """Return one line: the variant, both models, and how far it is from the tuned one."""
    base, tuned = (
        f"{record[side]['name']} ({record[side]['digest'][:12]})" for side in ("base", "tuned")
    )
    line = f"sftbench: {record['variant']}, where base is {base} and tuned is {tuned}"
    if "restore" in record:
        made = record["restore"]
        line += (
            f": {made['count']:,} of {made['region']:,} scalars and "
            f"{made['l2_removed']:.1%} of the L2 norm of the update in them go back"
        )
    return line
