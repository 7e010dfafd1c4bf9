"""Drift on the lab model: transformers against itself, against plain torch, and against vLLM."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from lab_models import lab_request, write_damaged
from scipy.special import log_softmax

from sftbench.analysis.summary import Summary
from sftbench.compare.drift import DRIFT_FILE, FLOOR, run_drift
from sftbench.compare.request import Request
from sftbench.compare.run import run
from sftbench.drift.table import DRIFT
from sftbench.engines.settings import EngineSettings, make_engine, vllm_installed

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> Request:
    folder = tmp_path_factory.mktemp("drift")
    return lab_request(
        write_damaged(folder / "tuned", 0.1),
        folder / "out",
        noise=1,
        limit=30,
        drift=True,
        base_name="lab",
        tuned_name="tuned",
    )


def nothing(_: str) -> None:
    """There is nothing to say."""


def test_the_divergence_is_that_of_plain_torch(request_: Request) -> None:
    found, moved = run_drift(request_, make_engine, nothing)
    assert found.exact
    assert moved.total.norm > 0
    written = json.loads((request_.out / DRIFT_FILE).read_text())
    assert written["drift"]["facts"] == 30
    tuned = found.row("tuned", "question")
    floor = found.row(FLOOR.name, "question")
    null = found.row("base+noise(1)", "question")
    assert tuned is not None
    assert floor is not None
    assert null is not None
    assert floor.tuned_base.value < 1e-9 < null.tuned_base.value

    from transformers import AutoModelForCausalLM, AutoTokenizer

    frame, _ = DRIFT.read(request_.out / "drift" / "tuned.parquet")
    one = frame.filter(pl.col("form") == "cloze", pl.col("position") == 0).row(0, named=True)
    fact = request_.facts.frame.filter(pl.col("fact_id") == one["fact_id"]).row(0, named=True)
    prompt = found.templates[fact["relation"]].replace("{subject}", fact["subject"])
    ids = AutoTokenizer.from_pretrained(request_.base)(prompt, return_tensors="pt")["input_ids"]
    logits = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids)
        .logits[0, -1]
        .detach()
        .double()
        .numpy()
        for folder in (request_.base, request_.tuned)
    ]
    q, p = (log_softmax(side) for side in logits)
    assert one["kl_tuned_base"] == pytest.approx(
        (torch.tensor(p).exp().numpy() * (p - q)).sum(), rel=1e-4
    )
    assert one["kl_base_tuned"] == pytest.approx(
        (torch.tensor(q).exp().numpy() * (q - p)).sum(), rel=1e-4
    )
    ten = p.argsort()[::-1][:10]
    p10, q10 = log_softmax(logits[1][ten]), log_softmax(logits[0][ten])
    wanted = (torch.tensor(p10).exp().numpy() * (p10 - q10)).sum()
    assert one["paper_kl"] == pytest.approx(wanted, rel=1e-4)


def test_a_comparison_holds_it_and_reads_nothing_twice(request_: Request) -> None:
    found, _ = run_drift(request_, make_engine, nothing)
    summary: Summary = run(request_, make_engine).summary
    assert summary.drift is not None
    assert summary.movement is not None
    assert summary.drift.rows == found.rows
    page = (request_.out / "report.html").read_text()
    assert "How the predictions moved" in page
    assert "How the weights moved" in page
    # ... and a comparison that does not ask for it keeps it.
    again = run(replace(request_, drift=False), make_engine).summary
    assert again.drift == summary.drift


def test_the_angle_to_another_update_stays_in_the_folder(request_: Request) -> None:
    _, moved = run_drift(request_, make_engine, nothing, request_.tuned)
    assert moved.against is not None
    assert moved.total.cosine == pytest.approx(1)
    summary = run(request_, make_engine).summary
    assert summary.movement == moved


@pytest.mark.skipif(not vllm_installed(), reason="vLLM is not installed")
def test_vllm_gives_a_lower_bound(request_: Request, tmp_path: Path) -> None:
    exact, _ = run_drift(request_, make_engine, nothing)
    settings = EngineSettings("vllm", "float32", 64, ())
    wanted = replace(request_, out=tmp_path / "out", engine=settings)
    found, _ = run_drift(wanted, make_engine, nothing)
    assert not found.exact
    for form in ("cloze", "question"):
        for variant in ("tuned", "base+noise(1)"):
            bound, whole = found.row(variant, form), exact.row(variant, form)
            assert bound is not None
            assert whole is not None
            assert 0 < bound.tuned_base.value <= whole.tuned_base.value * 1.001
            assert bound.covered is not None
            assert 0.5 < bound.covered <= 1
    floor = found.row(FLOOR.name, "question")
    assert floor is not None
    assert floor.tuned_base.value < 1e-3
    paper, theirs = found.paper_row("tuned", None), exact.paper_row("tuned", None)
    assert paper is not None
    assert theirs is not None
    assert paper.kl.value == pytest.approx(theirs.kl.value, rel=0.2)
