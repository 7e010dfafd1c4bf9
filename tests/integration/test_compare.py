"""`sftbench compare` on the lab model with the transformers engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sftbench.compare.request import Request
from sftbench.compare.result import Compared
from sftbench.compare.run import run
from sftbench.engines.protocol import Engine
from sftbench.engines.settings import EngineSettings
from sftbench.engines.transformers import TransformersEngine
from sftbench.scoring.answers import ANSWERS, rescore

if TYPE_CHECKING:
    import polars as pl

from lab_models import lab_request, write_damaged
from two_models import relative

pytestmark = pytest.mark.integration

LIMIT = 100
NOISE = 0.3
"""Standard deviation of the change of a weight, as a share of its tensor's own."""


def transformers(path: Path, settings: EngineSettings) -> Engine:
    return TransformersEngine(path, dtype=settings.dtype, batch_size=settings.batch_size)


def never(path: Path, settings: EngineSettings) -> Engine:
    raise AssertionError("no engine is needed")


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> Request:
    folder = tmp_path_factory.mktemp("compare")
    tuned = write_damaged(folder / "tuned", NOISE)
    return lab_request(tuned, folder / "out", restored=relative(20, 100), limit=LIMIT)


@pytest.fixture(scope="module")
def compared(request_: Request) -> Compared:
    return run(request_, transformers)


def answers(request_: Request, slug: str) -> pl.DataFrame:
    return ANSWERS.read(request_.out / "answers" / f"{slug}.parquet")[0]


def test_the_base_answers_what_its_card_says_it_masters(compared: Compared) -> None:
    right, asked = dict.fromkeys(range(5), 0), dict.fromkeys(range(5), 0)
    for domain in compared.summary.base.domains:
        assert domain.retention.score == 1.0
        for one in domain.levels:
            right[one.level] += one.right
            asked[one.level] += one.n
    accuracy = {level: right[level] / asked[level] for level in asked}
    assert accuracy[4] > 0.5
    assert accuracy[4] > accuracy[1]


def test_damage_loses_facts_and_the_page_names_them(compared: Compared, request_: Request) -> None:
    assert compared.lost.height > 0
    scores = [one.retention.score for one in compared.summary.tuned.domains]
    assert any(score is not None and score < 1 for score in scores)
    page = (request_.out / "report.html").read_text()
    assert compared.lost["answer"][0] in page
    json.loads((request_.out / "summary.json").read_text())


def test_restoring_all_of_it_is_the_base_again_token_for_token(
    compared: Compared, request_: Request
) -> None:
    whole = compared.summary.variants[3]
    assert whole.restore is not None
    assert whole.restore["equals_base"]
    shared = ("fact_id", "text", "finish", "correct", "answer_logprob", "answer_tokens")
    restored = answers(request_, "tuned+restore-relative-100pct").select(shared)
    assert restored.equals(answers(request_, "base").select(shared))


def test_a_resumed_run_asks_nothing_and_says_the_same(
    compared: Compared, request_: Request
) -> None:
    again = run(request_, never)
    assert again.summary.variants == compared.summary.variants


def test_stored_texts_score_as_they_did(compared: Compared, request_: Request) -> None:
    frame = answers(request_, "tuned")
    assert frame.height == LIMIT
    assert frame["answer_logprob"].max() <= 0  # type: ignore[operator]
    assert rescore(frame, request_.facts.frame).equals(frame)
