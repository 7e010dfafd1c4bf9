"""The two sides of a gate: runs of a recipe on the same facts, and what makes them comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sftbench.analysis.gate import RunName, SideRecord
from sftbench.common.digests import digest_of, digest_of_lines
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    from sftbench.analysis.design import Design, Floats

FACT_COLUMNS = ("fact_id", "domain", "level", "relation", "question", "answer")

GREEDY = "greedy"
"""How every answer is drawn."""
CORE = (
    "facts asked", "levels", "answers", "questions", "suite", "prompt", "shots", "longest answer",
    "matching", "decoding", "chat template",
)  # fmt: skip
"""What every side knows and both must share."""
FULL = (
    *CORE, "base", "tokenizer of the base", "fact set", "mastery card", "engine", "number format",
    "batch size",
)  # fmt: skip
"""What comparisons know besides; lm-eval outputs do not."""

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
        identity: what both sides must share, by the name a person calls it: `FULL` of
            comparisons, `CORE` at least of lm-eval outputs.
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


def fact_identity(
    facts: pl.DataFrame, aliases: pl.DataFrame, prompts: pl.DataFrame
) -> dict[str, str]:
    """Return the digests of the facts, their levels, what is right, and the texts of the questions.

    Args:
        facts: `FACT_COLUMNS`.
        aliases: fact_id, answers (all that count as right).
        prompts: fact_id, prompt_id (digest of the text that was asked).
    """
    rows = facts.sort("fact_id")
    asked = prompts.sort("fact_id")
    answers = facts.select("fact_id", "relation", "answer").join(aliases, on="fact_id")
    return {
        "facts asked": digest_of_lines(rows["fact_id"]),
        "answers": digest_of(answers.sort("fact_id").rows()),
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
    """Raise unless the runs are of one recipe, and each is a run of its own."""
    names = [run.name for run in side.runs]
    for what, values in (
        ("weights or answers", [one.digest for one in names]),
        ("seed", [one.seed for one in names]),
        ("name", [one.name for one in names]),
    ):
        seen: dict[object, str] = {}
        for one, value in zip(names, values, strict=True):
            if value is not None and value in seen:
                raise SftbenchError(
                    f"{one.name} and {seen[value]} have the same {what}"
                    + (f" ({value})" if what == "seed" else ""),
                    remedy="Name each run once; each is trained with a seed of its own.",
                )
            seen[value] = one.name
    for what, kinds in (
        ("recipes", {one.recipe for one in names}),
        ("variants", {one.variant for one in names}),
    ):
        if len(kinds - {None}) > 1:
            raise SftbenchError(
                f"are runs of different {what}, and a side is several seeds of one",
                where=", ".join(one.name for one in names),
                remedy="Name runs that differ in nothing but the seed.",
            )


CAUSES = ("facts asked", "levels", "answers", "questions")
"""What follows from the first that differs: other facts have other levels and questions."""


def require_same(first: Side, second: Side) -> None:
    """Raise unless two sides answered the same questions to the same facts, asked alike.

    Raises:
        SftbenchError: it names all that differs, with both values.
    """
    for side in (first, second):
        require_whole(side)
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


def require_whole(side: Side) -> None:
    """Raise unless a side says all that every side knows, and either all or nothing beyond that."""
    missing = [name for name in CORE if name not in side.identity]
    beyond = [name for name in FULL if name in side.identity and name not in CORE]
    if "base" in beyond:
        missing += [name for name in FULL if name not in side.identity and name not in missing]
    if missing:
        raise SftbenchError(
            f"does not say what it must: {', '.join(missing)}",
            where=side.name,
            remedy="Make it anew: with sftbench gate init, sftbench compare or lm_eval.",
        )


def _short(value: str) -> str:
    return value[:12] if len(value) == 32 else value


def notes_on(first: Side, second: Side) -> list[str]:
    """Return what a reader must know of a comparison of two sides, one sentence each.

    Raises:
        SftbenchError: the base itself answers otherwise, by more than another machine explains.
    """
    found = []
    unknown = [name for name in FULL if not (name in first.identity and name in second.identity)]
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
    found += _shared_runs(first, second)
    return found


def _shared_runs(first: Side, second: Side) -> list[str]:
    """Return a sentence where every run of the second side is one of the first's.

    Raises:
        SftbenchError: some are and others are not.
    """
    theirs = {run.name.digest for run in first.runs}
    same = [run.name.name for run in second.runs if run.name.digest in theirs]
    if same and len(same) < len(second.runs):
        raise SftbenchError(
            f"holds runs of {first.name} ({', '.join(same)}) among others",
            where=second.name,
            remedy="Name runs of the candidate's recipe alone.",
        )
    if not same:
        return []
    return ["The candidate is a run of the baseline itself: the same weights, or the same answers."]


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
