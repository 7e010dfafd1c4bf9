"""What a user names becomes a side: a baseline file, comparisons, or folders of lm-eval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sftbench.common.errors import SftbenchError
from sftbench.gate.baseline import Baseline, read_baseline
from sftbench.gate.from_compare import comparison_at, side_of_comparison
from sftbench.gate.from_lm_eval import is_lm_eval, side_of_lm_eval
from sftbench.gate.sides import Side, joined, require_same

SIDES = (
    "a folder of `sftbench compare` or `check`, FOLDER:VARIANT, or a folder that lm_eval "
    "--log_samples --output_path wrote"
)


def read_side(refs: Sequence[str], base: str | None = None) -> Side:
    """Return the runs that references name, one each, as a side.

    Args:
        refs: folders of comparisons or of lm-eval outputs.
        base: the base's own lm-eval outputs, for retention where no comparison tells it.

    Raises:
        SftbenchError: a reference is neither, the runs are not comparable, or the base was asked
            otherwise.
    """
    side = joined(", ".join(refs), [_one(ref) for ref in refs])
    if base is None or side.base is not None:
        return side
    asked = _one(base)
    require_same(side, asked)
    return replace(side, base=asked.runs[0].right if asked.base is None else asked.base)


def read_baseline_or_side(refs: Sequence[str], base: str | None = None) -> Baseline | Side:
    """Return a baseline file where one is named, else a side.

    Raises:
        SftbenchError: as `read_side`; or a baseline file among other references.
    """
    files = [ref for ref in refs if Path(ref).is_file()]
    if not files:
        return read_side(refs, base)
    if len(refs) > 1:
        raise SftbenchError(
            "a baseline file holds all its runs and stands alone",
            where=files[0],
            remedy="Name it alone, or name the results of the runs.",
        )
    return read_baseline(Path(files[0]))


def _one(ref: str) -> Side:
    comparison = comparison_at(ref)
    if comparison is not None:
        return side_of_comparison(comparison)
    if is_lm_eval(Path(ref)):
        return side_of_lm_eval(Path(ref))
    what = "there is no such folder" if not Path(ref).exists() else "holds no answers"
    raise SftbenchError(what, where=ref, remedy=f"Name {SIDES}.")
