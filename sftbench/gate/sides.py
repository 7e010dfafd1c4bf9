"""The two sides of a gate: runs of a recipe on the same facts, and what makes them comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sftbench.analysis.gate import RunName, SideRecord
from sftbench.common.digests import digest_of_lines
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    from sftbench.analysis.design import Design, Floats

FACT_COLUMNS = ("fact_id", "domain", "level", "relation", "question", "answer")

NOISE = 0.02
"""Share of the base's own answers that another machine may change; beyond it, it is not the same
engine (docs/ci.md)."""


@dataclass(frozen=True, eq=False)
class Run:
    """One model's answers.

    Attributes:
        name: what it is.
        right: fact_id, right (Boolean).
        said: fact_id, said (the answer as text); None where it is not kept.
    """

    name: RunName
    right: pl.DataFrame
    said: pl.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class Side:
    """Runs of one recipe on the same facts.

    Attributes:
        name: how the user named it.
        facts: `FACT_COLUMNS`, sorted by fact_id.
        base: fact_id, right: what the base answers; None where that is not known.
        runs: the runs.
        identity: what both sides must share, by the name a person calls it; a value that one side
            does not know (an lm-eval folder) is not compared.
        circumstances: what may differ and is only said: software, device.
    """

    name: str
    facts: pl.DataFrame
    base: pl.DataFrame | None
    runs: tuple[Run, ...]
    identity: Mapping[str, str]
    circumstances: Mapping[str, str] = field(default_factory=dict)

    @property
    def record(self) -> SideRecord:
        """What a result says of the side."""
        return SideRecord(name=self.name, runs=tuple(run.name for run in self.runs))

    def right(self, design: Design) -> Floats:
        """Return 1 or 0 of each run and fact of a design, ``[runs, facts]``."""
        wanted = pl.DataFrame({"fact_id": design.fact_ids})
        return np.stack(
            [
                wanted.join(run.right, on="fact_id", how="left", maintain_order="left")["right"]
                .cast(pl.Float64)
                .to_numpy()
                for run in self.runs
            ]
        )

    def rates(self) -> pl.DataFrame:
        """Return fact_id and rate: the share of the runs that answer the fact right."""
        every = pl.concat([run.right for run in self.runs])
        return every.group_by("fact_id").agg(rate=pl.col("right").mean())


def fact_identity(facts: pl.DataFrame, prompts: pl.DataFrame) -> dict[str, str]:
    """Return the digests of which facts were asked, how they are levelled, and by which texts.

    Args:
        facts: `FACT_COLUMNS`.
        prompts: fact_id, prompt_id (digest of the text that was asked).
    """
    rows = facts.sort("fact_id")
    asked = prompts.sort("fact_id")
    return {
        "facts asked": digest_of_lines(rows["fact_id"]),
        "levels": digest_of_lines(
            f"{fact_id} {domain} {level}"
            for fact_id, domain, level in rows.select("fact_id", "domain", "level").iter_rows()
        ),
        "questions": digest_of_lines(
            f"{fact_id} {prompt_id}"
            for fact_id, prompt_id in asked.select("fact_id", "prompt_id").iter_rows()
        ),
    }


def joined(name: str, sides: Sequence[Side]) -> Side:
    """Return runs that were read one by one as one side.

    Raises:
        SftbenchError: they are not comparable, or two of them are the same run.
    """
    first = sides[0]
    for other in sides[1:]:
        require_same(first, other)
    base = next((side.base for side in sides if side.base is not None), None)
    whole = Side(
        name=name,
        facts=first.facts,
        base=base,
        runs=tuple(run for side in sides for run in side.runs),
        identity={key: value for side in reversed(sides) for key, value in side.identity.items()},
        circumstances=first.circumstances,
    )
    _require_different(whole)
    return whole


def _require_different(side: Side) -> None:
    """Raise where two runs are the same model or have the same seed."""
    for what, values in (
        ("weights", [run.name.digest for run in side.runs]),
        ("seed", [run.name.seed for run in side.runs]),
        ("name", [run.name.name for run in side.runs]),
    ):
        seen: dict[object, str] = {}
        for run, value in zip(side.runs, values, strict=True):
            if value is not None and value in seen:
                raise SftbenchError(
                    f"{run.name.name} and {seen[value]} have the same {what}"
                    + (f" ({value})" if what == "seed" else ""),
                    remedy="Name each run once; each is trained with a seed of its own.",
                )
            seen[value] = run.name.name


CAUSES = ("facts asked", "levels", "questions")
"""What follows from the first that differs: other facts have other levels and questions."""


def require_same(first: Side, second: Side) -> None:
    """Raise unless two sides answered the same questions to the same facts, asked alike.

    Raises:
        SftbenchError: it names all that differs, with both values.
    """
    both = [name for name in first.identity if name in second.identity]
    other = [name for name in both if first.identity[name] != second.identity[name]]
    consequences = [name for name in other if name in CAUSES][1:]
    other = [name for name in other if name not in consequences]
    if not other:
        return
    raise SftbenchError(
        "cannot be compared, since they differ in "
        + ", ".join(
            f"{name} ({_short(first.identity[name])} and {_short(second.identity[name])})"
            for name in other
        ),
        where=f"{first.name} and {second.name}",
        remedy="Ask the candidate as the baseline was asked, or, if the change is meant, make the "
        "baseline anew: sftbench gate init.",
    )


def _short(value: str) -> str:
    return value[:12] if len(value) == 32 else value


def notes_on(first: Side, second: Side) -> list[str]:
    """Return what a reader must know of a comparison of two sides, one sentence each.

    Raises:
        SftbenchError: the base itself answers otherwise, by more than another machine explains.
    """
    found = []
    unknown = sorted(set(first.identity) ^ set(second.identity))
    if unknown:
        found.append(f"Not recorded on both sides, so not compared: {', '.join(unknown)}.")
    if first.base is not None and second.base is not None:
        found += _base_flips(first, second)
    names = [
        f"{name} ({first.circumstances[name]} and {second.circumstances[name]})"
        for name in first.circumstances
        if second.circumstances.get(name, first.circumstances[name]) != first.circumstances[name]
    ]
    if names:
        found.append(f"The two sides differ in {', '.join(names)}; that alone can flip an answer.")
    shared = {run.name.digest for run in first.runs} & {run.name.digest for run in second.runs}
    if shared - {None}:
        found.append("A run of the candidate has the very weights of one of the baseline.")
    return found


def _base_flips(first: Side, second: Side) -> list[str]:
    assert first.base is not None
    assert second.base is not None
    both = first.base.join(second.base, on="fact_id", suffix="_other")
    flips = int((both["right"] != both["right_other"]).sum())
    if flips > NOISE * both.height:
        raise SftbenchError(
            f"the base itself is right or wrong otherwise on {flips:,} of {both.height:,} facts "
            f"({flips / both.height:.1%}), more than the {NOISE:.0%} that another machine explains",
            where=f"{first.name} and {second.name}",
            remedy="Use the same dtype, engine and library versions as the baseline, or make the "
            "baseline anew on this kind of machine: sftbench gate init.",
        )
    if not flips:
        return []
    return [
        f"The base's own answers to {flips:,} of {both.height:,} facts are right in one side's "
        f"run and wrong in the other's; those of {first.name} are used."
    ]
