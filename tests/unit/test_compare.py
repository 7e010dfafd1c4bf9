"""What a comparison finds: with a fake engine, and a model in which each scalar is one fact."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from fakes import BASE, FACT_COUNT, FakeEngine, factory_of, record, write_model

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.compare.request import Request
from sftbench.compare.result import Compared
from sftbench.compare.run import run
from sftbench.recipes.record import write_record
from sftbench.scoring.answers import ANSWERS, rescore

pytestmark = pytest.mark.unit


def test_lost_gained_and_healed_are_those_of_the_weights(compared: Compared) -> None:
    summary, lost, gained = compared
    assert [one.name for one in summary.variants] == [
        "base",
        "tuned",
        "tuned+restore(relative,10%)",
        "tuned+restore(relative,20%)",
    ]
    totals = [
        tuple(
            sum(getattr(one.outcomes, name) for one in variant.domains)
            for name in ("kept", "lost", "gained", "wrong")
        )
        for variant in summary.variants
    ]
    # 10 % of 40 scalars restores facts 0..3, 20 % restores 0..7; the gains change least.
    assert totals == [(30, 0, 0, 10), (22, 8, 4, 6), (26, 4, 4, 6), (30, 0, 4, 6)]
    repairs = [one.repair for one in summary.variants[2].domains]
    assert all(one is not None for one in repairs)
    assert sum(one.healed for one in repairs if one) == 4
    assert (lost.height, gained.height) == (8, 4)
    both = [f"tuned+restore(relative,{percent}%)" for percent in (10, 20)]
    healed = dict(zip(lost["question"], lost["healed_by"].to_list(), strict=True))
    assert healed["What is number 0?"] == both
    assert healed["What is number 7?"] == both[1:]
    assert lost["rate"].is_sorted(descending=True)


def test_accuracy_and_retention_per_domain(compared: Compared) -> None:
    base, tuned = compared.summary.base, compared.summary.tuned
    assert compared.summary.domains == ("in", "out")
    for domain in ("in", "out"):
        before, after = base.domain(domain), tuned.domain(domain)
        assert before is not None
        assert after is not None
        assert before.n == 20
        # Numbers 2k and 2k + 1 are in level k % 5; 15 of 20 pairs known, 3 in each level.
        assert [one.n for one in before.levels] == [4] * 5
        assert before.macro == pytest.approx(0.75)
        assert before.retention.score == 1.0
        # Pairs 0..3 are lost: one of three in the levels 0 to 3, none in level 4.
        assert after.retention.score == pytest.approx((3 * 2 / 3 + 1) / 4)
        # Pairs 15 and 16 are gained.
        assert after.macro == pytest.approx((3 + 3 + 2 + 2 + 3) / 20)
        assert after.retention.gained == 2


def test_files_hold_what_was_returned(compared: Compared, request_: Request) -> None:
    written = json.loads((request_.out / "summary.json").read_text())
    assert written["schema_version"] == 1
    assert written["variants"][1]["domains"][0]["outcomes"]["lost"] == 4
    assert written["run"]["command"] == request_.command
    restore = written["variants"][2]["restore"]
    assert (restore["count"], restore["region"]) == (4, 40)
    assert pl.read_csv(request_.out / "lost.csv").height == 8
    names = sorted(path.name for path in (request_.out / "answers").iterdir())
    assert names == [
        "base.parquet",
        "tuned+restore-relative-10pct.parquet",
        "tuned+restore-relative-20pct.parquet",
        "tuned.parquet",
    ]
    frame, record = ANSWERS.read(request_.out / "answers" / "tuned.parquet")
    assert frame.height == FACT_COUNT
    assert record["variant"] == "tuned"
    assert rescore(frame, request_.facts.frame).equals(frame)


def test_the_page_escapes_what_users_and_models_wrote(
    compared: Compared, request_: Request
) -> None:
    page = (request_.out / "report.html").read_text()
    assert "&lt;nothing&gt;" in page
    assert "<nothing>" not in page
    assert "<b>tuned</b>" not in page


def test_the_recipe_of_the_tuned_model_is_kept(request_: Request) -> None:
    made = record(checkpoint_digest(request_.base), checkpoint_digest(request_.tuned))
    write_record(request_.tuned, made)
    found = run(request_, factory_of(FakeEngine())).summary
    assert found.recipe == made.model_dump(mode="json")
    assert not any("recipe record" in warning for warning in found.warnings)


def test_a_fine_tune_that_changed_nothing_is_said(request_: Request, tmp_path: Path) -> None:
    same = write_model(tmp_path / "same", BASE, rope_theta=5.0)
    told: list[str] = []
    found = run(
        replace(request_, tuned=same, restored=()), factory_of(FakeEngine()), told.append
    ).summary
    assert told == list(found.warnings)
    assert [text.split(":")[0].split(";")[0] for text in told] == [
        "The two config.json differ in rope_theta",
        "The tuned model has the base's weights",
    ]
    assert found.tuned.domains[0].retention.score == 1.0
    assert found.run.update_norm == 0.0
