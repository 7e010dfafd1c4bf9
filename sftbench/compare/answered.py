"""A variant with its answers: what a comparison is summed up from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.variants import Variant

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Answered:
    """A variant, its answers (columns as in `ANSWERS`) and the record kept beside them.

    The record holds "seconds", for a restored variant "restore", for a random change "noise", and
    "tasks" (a list of the fields of `TaskResult`) where lm-eval tasks were run too.
    """

    variant: Variant
    answers: pl.DataFrame
    record: Mapping[str, Any]
