"""The repair: a restore chosen on validation facts, so that what it does can be scored honestly.

A size that is picked where it scores best is picked on the test. So candidates are asked the
validation facts alone; the one that is chosen is then asked the others, which had no part in it.

The choice: a candidate counts only if it answers more validation facts right than the tuned model
by more than chance gives the best of so many candidates (`analysis.exact.better_than_chance`, 5 %).
Of those, chosen is the one that takes the least of the update back and is within one standard error
of the one with most right answers (after the one-standard-error rule, Breiman et al. 1984). Facts
that the fine-tune taught count as much as those that it forgot. With a validation task, a
candidate that does worse in it than the tuned model by more than one standard error is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sftbench.analysis.exact import better_than_chance
from sftbench.analysis.summary import RepairCandidate, RepairChoice, TaskResult
from sftbench.checkpoints.rules import Criterion, Measure, Restored, rule_of
from sftbench.common.digests import seed_of
from sftbench.compare.finished import Finished, read_result
from sftbench.compare.plan import make_plan
from sftbench.compare.request import Request, TaskRequest
from sftbench.compare.result import Compared
from sftbench.compare.run import run
from sftbench.compare.store import VALIDATION, Store
from sftbench.engines.settings import EngineFactory

if TYPE_CHECKING:
    from sftbench.compare.answered import Answered

CRITERIA: tuple[Criterion, ...] = ("relative", "absolute", "interpolation")
SIZES = tuple(Decimal(size) for size in (20, 40, 60))
"""Of the update's L2 norm, percent: criteria are tried at equal removed norm."""
LEVEL = 0.05
"""How often a restore may be chosen where none does anything."""


def default_candidates() -> tuple[Restored, ...]:
    """Return what is tried where nobody says what to try."""
    measure: Measure = "norm"
    return tuple(rule_of(name, size, measure, []) for name in CRITERIA for size in SIZES)


def run_with_repair(
    request: Request,
    candidates: Sequence[Restored],
    factory: EngineFactory,
    notify: Callable[[str], None],
    *,
    task: TaskRequest | None = None,
) -> Compared:
    """Choose a restore on the validation facts, then compare on the others, the choice included.

    Args:
        request: the comparison.
        candidates: what to choose among.
        factory: makes engines; a `Bench` makes one for both runs.
        notify: told what a reader must know.
        task: lm-eval task that a candidate must not do worse in.

    Raises:
        SftbenchError: as for a comparison.
    """
    scored = replace(request, part="scored")
    Store(request.out, make_plan(scored)).require_ours()
    validation = replace(
        request,
        out=request.out / VALIDATION,
        part="validation",
        restored=tuple(candidates),
        noise=0,
        tasks=task,
        loss=False,
        remeasure=False,
        drift=False,
    )
    run(validation, factory, lambda _: None)
    choice = choose(read_result(validation.out), candidates)
    notify(choice.words)
    chosen = () if choice.chosen is None else (_rule(candidates, choice.chosen),)
    rules = tuple(dict.fromkeys((*request.restored, *chosen)))
    return run(replace(scored, restored=rules), factory, notify, repair=choice)


def _rule(candidates: Sequence[Restored], text: str) -> Restored:
    return next(rule for rule in candidates if rule.text == text)


def choose(validated: Finished, candidates: Sequence[Restored]) -> RepairChoice:
    """Return what was chosen, with every candidate's figures.

    Args:
        validated: the comparison on the validation facts.
        candidates: the restored variants in it.
    """
    right = _right(validated)
    tuned = validated.variant("tuned")
    chances = _chances(right, validated.rows, candidates)
    figures = [_candidate(validated, right, None, tuned)]
    figures += [
        _candidate(validated, right, rule, validated.variant(rule.name), p)
        for rule, p in zip(candidates, chances, strict=True)
    ]
    allowed = [one for one in figures if not one.worse_in_task]
    best = max(allowed, key=lambda one: (one.right, -_taken(one)))
    told = [one for one in allowed if one.p is not None and one.p <= LEVEL]
    near = [one for one in told if _near(right, validated.rows, one, best)]
    chosen = min(near, key=lambda one: (_taken(one), -one.right), default=None)
    return RepairChoice(
        facts=validated.rows.height,
        candidates=tuple(figures),
        best=best.rule,
        chosen=None if chosen is None else chosen.rule,
    )


def _taken(one: RepairCandidate) -> float:
    """Return how far a candidate is from the tuned model, comparable between regions."""
    return one.removed if one.distance is None else one.distance


def _right(validated: Finished) -> pl.DataFrame:
    """Return which facts each variant answers right: fact_id and a column for each rule."""
    frames = [
        one.answers.select("fact_id", pl.col("correct").alias(_column(one)))
        for one in validated.answered
    ]
    whole = frames[0]
    for frame in frames[1:]:
        whole = whole.join(frame, on="fact_id")
    return whole


def _column(one: Answered) -> str:
    """Return how a variant's column is called: its rule, "" for the tuned model."""
    if isinstance(one.variant, Restored):
        return one.variant.text
    return "" if one.variant.name == "tuned" else one.variant.name


def _candidate(
    validated: Finished,
    right: pl.DataFrame,
    rule: Restored | None,
    one: Answered,
    p: float | None = None,
) -> RepairCandidate:
    text = "" if rule is None else rule.text
    record: dict[str, Any] = dict(one.record.get("restore") or {})
    tasks = [TaskResult.model_validate(task) for task in one.record.get("tasks", ())]
    before = [
        TaskResult.model_validate(task)
        for task in validated.variant("tuned").record.get("tasks", ())
    ]
    return RepairCandidate(
        rule=text,
        right=int(right[text].sum()),
        removed=float(record.get("l2_removed", 0.0)),
        distance=0.0 if rule is None else record.get("distance"),
        p=p,
        tasks=tuple(tasks),
        worse_in_task=any(_worse(*pair) for pair in zip(before, tasks, strict=True)),
    )


def _worse(before: TaskResult, after: TaskResult) -> bool:
    """Return whether a figure got worse by more than its standard error.

    Higher counts as better where the task does not say.
    """
    fall = before.value - after.value
    return (-fall if before.higher_is_better is False else fall) > (before.stderr or 0.0)


def _near(
    right: pl.DataFrame, rows: pl.DataFrame, one: RepairCandidate, best: RepairCandidate
) -> bool:
    """Return whether a candidate is within one standard error of the best one.

    The error is that of the paired difference if there were none, with the facts of one answer as
    one observation.
    """
    paired = _clustered(right, rows).with_columns(
        gap=pl.col(best.rule).cast(pl.Int64) - pl.col(one.rule).cast(pl.Int64)
    )
    gaps = paired.group_by("cluster").agg(pl.col("gap").sum())["gap"]
    error = math.sqrt(sum(gap**2 for gap in gaps))
    return best.right - one.right <= error


def _chances(
    right: pl.DataFrame, rows: pl.DataFrame, candidates: Sequence[Restored]
) -> list[float]:
    """Return the p value of each candidate against the tuned model, adjusted for all of them."""
    facts = _clustered(right, rows)
    before = facts[""].cast(pl.Int8).to_numpy()
    changes = np.stack([facts[rule.text].cast(pl.Int8).to_numpy() - before for rule in candidates])
    seed = seed_of("repair", facts["fact_id"].to_list())
    return better_than_chance(changes.astype(float), facts["cluster"].to_numpy(), seed=seed)


def _clustered(right: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the right answers with the cluster of each fact: a number for relation and answer."""
    named = rows.select("fact_id", "relation", answer=pl.col("answers").list.first())
    facts = right.join(named, on="fact_id").sort("fact_id")
    keys = pl.struct("relation", "answer")
    return facts.with_columns(cluster=keys.rank("dense").cast(pl.Int64) - 1)
