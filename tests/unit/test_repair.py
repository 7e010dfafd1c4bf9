"""The repair: facts kept for the choice, the choice itself, and the two runs that belong to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from fakes import (
    FACT_COUNT,
    FakeEngine,
    card_for,
    fact_set,
    factory_of,
    never,
    write_model,
)

from sftbench.analysis.summary import RepairChoice, Summary, TaskResult
from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.rules import Restored, parse_rule
from sftbench.checkpoints.variants import BASE, TUNED, Variant
from sftbench.common.errors import SftbenchError
from sftbench.compare.answered import Answered
from sftbench.compare.bench import Bench
from sftbench.compare.finished import Finished, read_result
from sftbench.compare.repair import _worse, choose, default_candidates, run_with_repair
from sftbench.compare.request import Request
from sftbench.compare.rescored import Rescoring, rescore_result
from sftbench.compare.run import run
from sftbench.compare.select import Part, select
from sftbench.compare.store import VALIDATION
from sftbench.engines.protocol import Engine
from sftbench.engines.settings import EngineSettings
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.table import FactSet
from sftbench.report.words import NARROW

pytestmark = pytest.mark.unit

GENTLE, MIDDLE, HARSH = (parse_rule(f"relative,{size}%norm") for size in (20, 40, 60))
OTHER = parse_rule("absolute,20%norm")
REMOVED = {GENTLE: 0.2, OTHER: 0.2, MIDDLE: 0.4, HARSH: 0.6}


def answered(
    variant: Variant, right: Iterable[int], facts: int, task: float | None = None, **record: Any
) -> Answered:
    """Return a variant that answers these of so many facts right, perhaps with a task's figure."""
    known = set(right)
    frame = pl.DataFrame(
        {"fact_id": list(map(str, range(facts))), "correct": [i in known for i in range(facts)]}
    )
    figure = {"task": "gsm8k", "metric": "acc", "value": task, "stderr": 0.02, "n": 9}
    tasks = [] if task is None else [figure]
    return Answered(variant, frame, {**record, "tasks": tasks})


def validated(
    tuned: Sequence[int],
    restored: dict[Restored, Sequence[int]],
    *,
    answers: Sequence[str] | None = None,
    tasks: Sequence[float | None] = (),
    facts: int = 100,
) -> Finished:
    """Return what validation found: which facts the tuned model and each restore get right."""
    rows = pl.DataFrame(
        {
            "fact_id": list(map(str, range(facts))),
            "relation": "city_country",
            "answers": [[one] for one in answers or map(str, range(facts))],
        }
    )
    figures = iter([*tasks, *[None] * (1 + len(restored) - len(tasks))])
    those = [
        answered(BASE, range(facts), facts),
        answered(TUNED, tuned, facts, next(figures)),
        *(
            answered(rule, right, facts, next(figures), restore={"l2_removed": REMOVED[rule]})
            for rule, right in restored.items()
        ),
    ]
    return Finished(Path("v"), cast("Summary", None), rows, tuple(those))


def chosen_from(found: Finished) -> RepairChoice:
    return choose(
        found, [one.variant for one in found.answered if isinstance(one.variant, Restored)]
    )


def test_the_gentlest_within_one_standard_error_of_the_best_is_chosen() -> None:
    # Off the best by 9 facts where the standard error is 3, and by 1 where it is 1.
    found = chosen_from(
        validated(range(40), {GENTLE: range(50), MIDDLE: range(58), HARSH: range(59)})
    )
    assert (found.best, found.chosen) == ("relative,60%norm", "relative,40%norm")
    assert found.facts == 100
    assert [(one.rule, one.right, one.removed) for one in found.candidates] == [
        ("", 40, 0.0), ("relative,20%norm", 50, 0.2), ("relative,40%norm", 58, 0.4),
        ("relative,60%norm", 59, 0.6),
    ]  # fmt: skip


def test_the_error_is_of_the_paired_difference() -> None:
    # Two facts fewer are told where the two agree on all others, and not where they differ on 12.
    agreeing = validated(range(40), {MIDDLE: range(57), HARSH: range(59)})
    assert chosen_from(agreeing).chosen == "relative,60%norm"
    apart = validated(range(40), {MIDDLE: [*range(52), *range(60, 65)], HARSH: range(59)})
    assert chosen_from(apart).chosen == "relative,40%norm"


def test_facts_of_one_answer_count_as_one_observation() -> None:
    # Six facts more, all of one answer: nothing is told.
    answers = ["same" if i < 6 else str(i) for i in range(12)]
    found = validated(range(6, 12), {GENTLE: range(12)}, answers=answers, facts=12)
    assert chosen_from(found).chosen is None
    found = validated(range(6, 12), {GENTLE: range(12)}, facts=12)
    assert chosen_from(found).chosen == "relative,20%norm"


def test_of_equals_the_one_that_takes_least_back_is_best_and_chosen() -> None:
    found = chosen_from(validated(range(40), {HARSH: range(60), GENTLE: range(60)}))
    assert (found.best, found.chosen) == ("relative,20%norm", "relative,20%norm")


def test_restores_of_different_regions_are_compared_by_how_far_they_are() -> None:
    # 40 % of a region that moved little is less than 20 % of one that moved much.
    found = validated(range(40), {GENTLE: range(60), MIDDLE: range(60)})
    for one, distance in zip(found.answered[2:], (5.0, 2.0), strict=True):
        one.record["restore"]["distance"] = distance
    choice = chosen_from(found)
    assert choice.chosen == "relative,40%norm"
    assert [one.distance for one in choice.candidates] == [0.0, 5.0, 2.0]


def test_of_the_same_removed_norm_the_one_with_more_right_is_chosen() -> None:
    found = chosen_from(validated(range(40), {OTHER: range(59), GENTLE: range(60)}))
    assert found.chosen == "relative,20%norm"


@pytest.mark.parametrize("right", [range(40), range(30), range(41)])
def test_what_is_not_told_from_the_tuned_model_is_not_recommended(right: range) -> None:
    found = chosen_from(validated(range(40), {GENTLE: right}))
    assert found.chosen is None
    assert found.best == ("relative,20%norm" if len(right) > 40 else "")
    assert found.words.endswith("no repair is recommended.")
    assert f"which gets 40 right{' (the best one gets 41 right)' * (len(right) > 40)}:" in (
        found.words
    )


def test_what_does_worse_in_the_task_cannot_be_chosen() -> None:
    restored = {GENTLE: range(50), HARSH: range(60)}
    # A standard error is 0.02: 0.585 is within it, 0.57 is not.
    found = chosen_from(validated(range(40), restored, tasks=(0.6, 0.585, 0.57)))
    assert [one.worse_in_task for one in found.candidates] == [False, False, True]
    assert [one.tasks[0].value for one in found.candidates] == [0.6, 0.585, 0.57]
    assert (found.best, found.chosen) == ("relative,20%norm", "relative,20%norm")
    both = chosen_from(validated(range(40), restored, tasks=(0.6, 0.5, 0.5)))
    assert both.chosen is None


@pytest.mark.parametrize(("higher", "worse"), [(True, 0.57), (None, 0.57), (False, 0.63)])
def test_worse_is_what_the_task_calls_worse(higher: bool | None, worse: float) -> None:
    def figure(value: float) -> TaskResult:
        return TaskResult(
            task="t", metric="m", value=value, stderr=0.02, n=9, higher_is_better=higher
        )

    assert _worse(figure(0.6), figure(worse))
    assert not _worse(figure(0.6), figure(1.2 - worse))
    assert not _worse(figure(0.6), figure(0.6))


@pytest.mark.parametrize("alike", [0.0, 0.8])
def test_where_no_restore_does_anything_one_is_seldom_chosen(alike: float) -> None:
    """Facts flip both ways, by themselves or for all candidates; at most 5 % choose any."""
    rules = [GENTLE, MIDDLE, HARSH, OTHER]
    random, runs, chosen = np.random.default_rng(0), 300, 0
    for _ in range(runs):
        before = random.random(100) < 0.5
        common = random.random(100) < 0.1
        right = {}
        for rule in rules:
            flips = np.where(random.random(100) < alike, common, random.random(100) < 0.1)
            right[rule] = list(map(int, np.flatnonzero(before ^ flips)))
        tuned = list(map(int, np.flatnonzero(before)))
        chosen += chosen_from(validated(tuned, right)).chosen is not None
    assert chosen / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_the_words_name_what_was_chosen_and_on_what() -> None:
    found = chosen_from(validated(range(40), {MIDDLE: range(58), HARSH: range(59)}))
    assert found.words == (
        "Of 2 restores tried on 100 validation facts, which are not scored, relative,40%norm was "
        "chosen: it gets 58 right, the tuned model 40 (p < 0.001, adjusted for all that were "
        "tried); it takes the least of the update back among "
        "those within one standard error of the best one (59)."
    )


def test_by_default_criteria_are_tried_at_equal_removed_norm() -> None:
    assert [rule.text for rule in default_candidates()] == [
        f"{name},{size}%norm"
        for name in ("relative", "absolute", "interpolation")
        for size in (20, 40, 60)
    ]


def parts(facts: FactSet, **how: Any) -> dict[Part, pl.DataFrame]:
    card = card_for(facts, "0" * 32)
    names: tuple[Part, ...] = ("all", "validation", "scored")
    return {name: select(facts, card, part=name, **how).rows for name in names}


def grouped() -> FactSet:
    """Return the 40 facts with answers that two or three facts of a relation share."""
    facts = fact_set()
    number = pl.col("subject").cast(pl.Int64)
    shared = pl.concat_list(pl.format("Answer{}", number // 5))
    return replace(facts, frame=facts.frame.with_columns(answers=shared))


@pytest.mark.parametrize("limit", [None, 24])
@pytest.mark.parametrize("facts", [fact_set(), grouped()], ids=["single", "grouped"])
def test_validation_facts_are_whole_answers_about_a_quarter_of_each_domain(
    facts: FactSet, limit: int | None
) -> None:
    found = parts(facts, limit=limit)
    every, kept, scored = (set(one["fact_id"]) for one in found.values())
    assert kept | scored == every
    assert not kept & scored
    assert len(every) == (limit or FACT_COUNT)

    def clusters(rows: pl.DataFrame) -> set[tuple[Any, ...]]:
        return set(rows.select("relation", pl.col("answers").list.first()).iter_rows())

    assert not clusters(found["validation"]) & clusters(found["scored"])
    for domain in ("in", "out"):
        whole, part = ((found[name]["domain"] == domain).sum() for name in ("all", "validation"))
        largest = 3 if facts.frame["answers"].n_unique() < FACT_COUNT else 1
        assert whole / 4 - largest <= part <= whole / 4


def test_the_split_is_the_same_whatever_the_order_and_the_card() -> None:
    facts = fact_set()
    first = parts(facts)["validation"]
    turned = replace(facts, frame=facts.frame.reverse())
    assert parts(turned)["validation"]["fact_id"].to_list() == first["fact_id"].to_list()
    other = select(facts, card_for(facts, "0" * 32, shift=2), part="validation").rows
    assert other["fact_id"].to_list() == first["fact_id"].to_list()


# All facts are known in the base. The fine-tune loses 0..19, the more the lower the number.
ALL_KNOWN = [1.0] * FACT_COUNT
HALF_LOST = [-30.0 + i for i in range(20)] + [1.0] * 20
HEALS_ALL = parse_rule("relative,50%")
HEALS_HALF = parse_rule("relative,25%")
DOES_NOTHING = parse_rule("relative,0%")


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    """Return a comparison of a model that lost half of what it knew."""
    base = write_model(tmp_path / "base", ALL_KNOWN)
    facts = fact_set()
    return Request(
        base=base,
        tuned=write_model(tmp_path / "tuned", HALF_LOST),
        out=tmp_path / "out",
        facts=facts,
        card=card_for(facts, checkpoint_digest(base)),
        prompt=PROMPTS["paper"],
        base_name="tiny",
        tuned_name="mine",
    )


def repaired(request: Request, engine: FakeEngine, *candidates: Restored, **how: Any) -> Summary:
    told: list[str] = []
    compared = run_with_repair(request, candidates, factory_of(engine), told.append, **how)
    assert compared.summary.repair is not None
    assert compared.summary.repair.words in told
    return compared.summary


def test_the_chosen_restore_is_asked_the_facts_that_did_not_choose_it(request_: Request) -> None:
    engine = FakeEngine()
    found = repaired(request_, engine, HEALS_HALF, HEALS_ALL)
    assert found.repair is not None
    assert (found.repair.facts, found.repair.chosen) == (10, HEALS_ALL.text)
    assert [one.name for one in found.variants] == ["base", "tuned", HEALS_ALL.name]
    assert (found.run.facts.asked, found.run.facts.part) == (30, "scored")
    kept = read_result(request_.out / VALIDATION)
    assert kept.summary.run.facts.part == "validation"
    assert not set(kept.rows["fact_id"]) & set(read_result(request_.out).rows["fact_id"])
    # Base, tuned model and two candidates on the one part; one of them on the other.
    assert engine.loads == 4 + 3
    assert len(engine.asked) == 4 * 10 + 3 * 30
    lost = found.tuned.domains[0].outcomes.lost + found.tuned.domains[1].outcomes.lost
    repairs = [one.repair for one in found.restored[0].domains]
    assert sum(one.healed for one in repairs if one) == lost > 0


def test_too_few_facts_to_keep_some_for_the_choice_are_an_error(request_: Request) -> None:
    with pytest.raises(SftbenchError, match="too few facts to keep a quarter of them"):
        run_with_repair(replace(request_, limit=3), [HEALS_ALL], never, lambda _: None)
    assert not request_.out.exists()


def test_scored_again_it_is_still_said_how_the_restore_was_chosen(
    request_: Request, tmp_path: Path
) -> None:
    found = repaired(request_, FakeEngine(), HEALS_HALF, HEALS_ALL)
    again = rescore_result(request_.out, tmp_path / "again", Rescoring(), "sftbench rescore out")
    assert again.summary.repair == found.repair
    assert again.summary.variants == found.variants


def test_a_second_run_asks_nothing_and_chooses_the_same(request_: Request) -> None:
    first = repaired(request_, FakeEngine(), HEALS_HALF, HEALS_ALL)
    told: list[str] = []
    again = run_with_repair(request_, (HEALS_HALF, HEALS_ALL), never, told.append).summary
    assert again.variants == first.variants
    assert again.repair == first.repair
    assert any("was chosen" in line for line in told)


@pytest.mark.parametrize("dies_at", [3, 6])
def test_a_killed_run_goes_on(request_: Request, dies_at: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        repaired(request_, FakeEngine(dies_at=dies_at), HEALS_HALF, HEALS_ALL)
    assert not (request_.out / "summary.json").exists()
    engine = FakeEngine()
    found = repaired(request_, engine, HEALS_HALF, HEALS_ALL)
    assert engine.loads == 7 - (dies_at - 1)
    assert found.repair is not None
    assert found.repair.chosen == HEALS_ALL.text


def test_where_nothing_is_told_no_restore_is_asked_and_the_page_says_so(request_: Request) -> None:
    found = repaired(request_, FakeEngine(), DOES_NOTHING)
    assert found.repair is not None
    assert found.repair.chosen is None
    assert [one.name for one in found.variants] == ["base", "tuned"]
    page = (request_.out / "report.html").read_text(encoding="utf-8")
    assert "no repair is recommended" in page
    assert 'id="repair"' in page
    assert 'id="restore"' not in page


def test_further_restores_are_asked_beside_the_chosen_one_and_once(request_: Request) -> None:
    beside = replace(request_, restored=(HEALS_HALF, HEALS_ALL))
    found = repaired(beside, FakeEngine(), HEALS_ALL)
    assert [one.name for one in found.restored] == [HEALS_HALF.name, HEALS_ALL.name]


def test_a_folder_with_other_things_is_left_alone(request_: Request) -> None:
    request_.out.mkdir()
    (request_.out / "thesis.tex").write_text("mine")
    with pytest.raises(SftbenchError, match="already exists"):
        run_with_repair(request_, (HEALS_ALL,), never, lambda _: None)
    assert [path.name for path in request_.out.iterdir()] == ["thesis.tex"]
    (request_.out / "thesis.tex").unlink()
    (request_.out / VALIDATION).mkdir()
    (request_.out / VALIDATION / "thesis.tex").write_text("mine")
    with pytest.raises(SftbenchError, match="already exists"):
        run_with_repair(request_, (HEALS_ALL,), never, lambda _: None)
    assert [path.name for path in request_.out.iterdir()] == [VALIDATION]


def test_a_folder_of_a_comparison_on_all_facts_is_left_alone(request_: Request) -> None:
    run(request_, factory_of(FakeEngine()))
    with pytest.raises(SftbenchError, match="another selection of facts"):
        run_with_repair(request_, (HEALS_ALL,), never, lambda _: None)
    assert not (request_.out / VALIDATION).exists()


def test_a_bench_lends_one_engine_to_both_runs(request_: Request) -> None:
    engine, made = FakeEngine(), []

    def factory(path: Path, settings: EngineSettings) -> Engine:
        made.append(path)
        return engine.start(path)

    with Bench(factory, request_.base, request_.engine) as bench:
        run_with_repair(request_, (HEALS_ALL,), bench, lambda _: None)
        assert not engine.closed
    assert made == [request_.base]
    assert engine.closed


def test_the_page_shows_what_was_tried_and_what_it_does_on_other_facts(request_: Request) -> None:
    repaired(request_, FakeEngine(), HEALS_HALF, HEALS_ALL)
    page = (request_.out / "report.html").read_text(encoding="utf-8").replace(NARROW, " ")
    assert "<code>relative,25%</code>" in page
    assert (
        "The repair chosen from 2 restores on 10 facts that are not scored, restored 50 %, " in page
    )
    assert "picked on the test set" not in page
