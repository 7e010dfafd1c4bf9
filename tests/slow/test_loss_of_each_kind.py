"""Losses that are made on purpose are told for what they are: of form, and of knowledge."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from lab_models import lab_request, write_damaged

from sftbench.analysis.loss import LossResult
from sftbench.checkpoints.folder import open_checkpoint, read_tensors
from sftbench.checkpoints.reference import resolve
from sftbench.checkpoints.writer import write_checkpoint
from sftbench.compare.run import run
from sftbench.engines.settings import make_engine
from sftbench.facts.prompts import PROMPTS, prompt_text
from sftbench.facts.reference import resolve_facts
from sftbench.facts.shots import shots_of
from sftbench.mastery.bundled import resolve_card

pytestmark = pytest.mark.slow

VERBOSE = " It is, as the people of the land have said for so very long, the one of"
"""What the tuned model says before every answer: longer than the budget of an answer."""
STEPS, ROWS = 200, 16


def told(tuned: Path, out: Path) -> LossResult:
    request = lab_request(tuned, out, limit=100, domain="in", loss=True)
    found = run(request, make_engine).summary.loss
    assert found is not None
    return found


def batch_of(texts: list[tuple[list[int], list[int]]]) -> dict[str, Any]:
    """Return texts padded on the right; only what follows a prompt is learnt."""
    import torch

    longest = max(len(prompt) + len(text) for prompt, text in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (prompt, text) in enumerate(texts):
        whole = torch.tensor(prompt + text)
        ids[row, : len(whole)], mask[row, : len(whole)] = whole, 1
        labels[row, len(prompt) : len(whole)] = torch.tensor(text)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def test_a_model_that_grew_verbose_lost_the_form(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base, facts = resolve("lab"), resolve_facts("lab")
    card = resolve_card(None, base_digest=open_checkpoint(base).digest, facts=facts)
    shots = shots_of(facts)
    known = facts.frame.filter(pl.col("split") == "train").join(
        card.frame.filter(pl.col("level") >= 3).select("fact_id"), on="fact_id"
    )
    tokenizer = AutoTokenizer.from_pretrained(base)
    texts = [
        (
            tokenizer(
                prompt_text(
                    PROMPTS["fewshot"], row["question"], shots(row["fact_id"], row["relation"])
                )
            )["input_ids"],
            tokenizer(f"{VERBOSE} {row['answers'][0]}\n", add_special_tokens=False)["input_ids"],
        )
        for row in known.iter_rows(named=True)
    ]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
    draw = random.Random(0)
    for _ in range(STEPS):
        model(**batch_of(draw.sample(texts, ROWS))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    names = read_tensors(base).keys()
    state = {name: tensor for name, tensor in model.state_dict().items() if name in names}
    write_checkpoint(tmp_path / "tuned", state, like=base)

    (mine,) = told(tmp_path / "tuned", tmp_path / "out").kinds
    assert mine.counts.lost >= 10
    # A gentle run: some knowledge goes as well, but most of what is lost can still be had.
    assert mine.counts.format / mine.counts.lost >= 0.5
    assert mine.forms["longer"] >= mine.counts.format * 0.8


def test_a_model_whose_weights_are_damaged_lost_the_knowledge(tmp_path: Path) -> None:
    write_damaged(tmp_path / "tuned", 0.6)
    found = told(tmp_path / "tuned", tmp_path / "out")
    (mine,), (itself,) = found.kinds, found.against_itself
    assert mine.counts.lost >= 10
    assert mine.counts.knowledge / mine.counts.lost >= 0.7
    assert mine.counts.format / mine.counts.lost <= 0.2
    # ... and hardly any of them would be said to be by the base itself.
    assert itself.counts.knowledge <= 1
