"""The baseline file: what a recipe's accepted runs answered, and the terms declared with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

import sftbench
from sftbench.analysis.gate import RunName, Terms
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.common.tables import TableSpec
from sftbench.gate.sides import FACT_COLUMNS, Run, Side
from sftbench.scoring.suite import SUITE

AGAIN = "Make it anew: sftbench gate init RESULT ... -o FILE."

BASELINE = TableSpec(
    kind="gate baseline",
    columns={
        "fact_id": pl.String,
        "domain": pl.String,  # in, out
        "level": pl.Int8,  # 0..4, of the base
        "relation": pl.String,
        "question": pl.String,
        "answer": pl.String,  # canonical
        "base": pl.Boolean,  # whether the base answers it right; null where that is not known
        "right": pl.List(pl.Boolean),  # of each run, in the order of the record's runs
    },
    remedy=AGAIN,
)


@dataclass(frozen=True, eq=False)
class Baseline:
    """A baseline file, read.

    Attributes:
        side: the accepted runs.
        terms: what was declared with them.
    """

    side: Side
    terms: Terms


def write_baseline(path: Path, side: Side, terms: Terms) -> None:
    """Write accepted runs with the terms that candidates will be held to, atomically."""
    right = [
        side.facts.select("fact_id").join(
            run.right, on="fact_id", how="left", maintain_order="left"
        )["right"]
        for run in side.runs
    ]
    base = (
        pl.lit(None, pl.Boolean).alias("base")
        if side.base is None
        else side.facts.select("fact_id")
        .join(side.base, on="fact_id", how="left", maintain_order="left")["right"]
        .alias("base")
    )
    frame = side.facts.with_columns(
        base, pl.Series("right", list(zip(*right, strict=True)), pl.List(pl.Boolean))
    )
    record = {
        "suite": SUITE,
        "runs": [run.name.model_dump(mode="json") for run in side.runs],
        "identity": dict(side.identity),
        "circumstances": dict(side.circumstances),
        "terms": terms.model_dump(mode="json"),
        "sftbench": sftbench.__version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    digest = _digest(BASELINE.conform(frame), record)
    BASELINE.write(frame, path, {**record, "digest": digest})


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file.

    Raises:
        SftbenchError: it is no baseline, was changed by hand, or is of another version of the
            suite.
    """
    try:
        frame, record = BASELINE.read(path)
        _require_whole(path, frame, record)
        runs = [RunName.model_validate(one) for one in record["runs"]]
        terms = Terms.model_validate(record["terms"])
        identity = {str(name): str(value) for name, value in record["identity"].items()}
        circumstances = {str(name): str(one) for name, one in record["circumstances"].items()}
        if set(frame["right"].list.len()) != {len(runs)} or frame["fact_id"].is_duplicated().any():
            raise ValueError
    except (KeyError, TypeError, AttributeError, ValueError):  # pydantic's is a ValueError
        raise SftbenchError("is no whole gate baseline", where=path, remedy=AGAIN) from None
    return Baseline(
        Side(
            name=str(path),
            facts=frame.select(FACT_COLUMNS).sort("fact_id"),
            base=None if frame["base"].null_count() else frame.select("fact_id", right="base"),
            runs=_runs(frame, runs),
            identity=identity,
            circumstances=circumstances,
        ),
        terms,
    )


def _require_whole(path: Path, frame: pl.DataFrame, record: dict[str, Any]) -> None:
    if record["suite"] != SUITE:
        raise SftbenchError(
            f"is of version {record['suite']} of the suite, and this is version {SUITE}: "
            "prompts, shots or matching have changed",
            where=path,
            remedy=AGAIN,
        )
    told = {name: value for name, value in record.items() if name not in ("digest", "kind")}
    if record["digest"] != _digest(frame, told):
        raise SftbenchError("does not match its own digest", where=path, remedy=AGAIN)


def _runs(frame: pl.DataFrame, names: Sequence[RunName]) -> tuple[Run, ...]:
    return tuple(
        Run(name, frame.select("fact_id", right=pl.col("right").list.get(place)))
        for place, name in enumerate(names)
    )


def _digest(frame: pl.DataFrame, record: Mapping[str, Any]) -> str:
    """Return the digest of all that a baseline says: of its facts, runs, identity and terms."""
    return digest_of([frame.sort("fact_id").rows(), dict(record)])
