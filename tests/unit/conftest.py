"""Fixtures of the tests of a comparison: two tiny models, and what comparing them gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import BASE, TUNED, FakeEngine, card_for, fact_set, factory_of, write_model
from two_models import relative

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.compare.request import Request
from sftbench.compare.result import Compared
from sftbench.compare.run import run
from sftbench.facts.prompts import PROMPTS


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    """Return a comparison that loses facts 0..7, gains 30..33 and restores 10 and 20 %."""
    base = write_model(tmp_path / "base", BASE)
    facts = fact_set()
    return Request(
        base=base,
        tuned=write_model(tmp_path / "tuned", TUNED),
        out=tmp_path / "out",
        facts=facts,
        card=card_for(facts, checkpoint_digest(base)),
        prompt=PROMPTS["paper"],
        restored=relative(10, 20),
        base_name="tiny",
        tuned_name="<b>tuned</b>",
        command="sftbench compare --tuned '<b>tuned</b>'",
    )


@pytest.fixture
def compared(request_: Request) -> Compared:
    """Return the result of that comparison, which is also in its folder."""
    return run(request_, factory_of(FakeEngine()))
