"""Mastery before and after from two cards: what is shown, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from fakes import card_for, fact_set
from typer.testing import CliRunner

from sftbench.cli.app import app
from sftbench.common.errors import SftbenchError
from sftbench.compare.cards import mastery_of_cards
from sftbench.mastery.card import MasteryCard, with_levels

pytestmark = pytest.mark.unit

FACTS = fact_set()
BASE, TUNED = card_for(FACTS, "a" * 32), card_for(FACTS, "b" * 32, shift=1)


def test_one_card_shows_what_chance_does() -> None:
    found = mastery_of_cards(FACTS, BASE)
    assert found.facts == 40
    assert found.moved is None
    assert all(one.change is None for one in found.levels)


def test_two_cards_show_the_change() -> None:
    found = mastery_of_cards(FACTS, BASE, TUNED)
    assert found.moved is not None
    whole = found.levels[-1]
    assert whole.level is None
    assert whole.change is not None
    # Every fifth fact falls from level 4 to 0, the others rise by a quarter: 0 on the whole.
    assert whole.change.value == pytest.approx(0.0, abs=1e-12)
    assert found.moved > found.moved_by_chance


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"facts_digest": "other"}, "differ in fact set"),
        ({"settings": {"samples": 3}}, "differ in settings"),
        ({"model_digest": "a" * 32}, "are cards of the same model"),
    ],
)
def test_cards_that_do_not_belong_together_are_refused(
    record: dict[str, object], said: str
) -> None:
    other = replace(TUNED, record={**TUNED.record, **record})
    with pytest.raises(SftbenchError, match=said):
        mastery_of_cards(FACTS, BASE, other)


def test_a_card_of_other_facts_or_single_draws_is_refused() -> None:
    other = replace(BASE, record={**BASE.record, "facts_digest": "c" * 32})
    with pytest.raises(SftbenchError, match="levels other facts"):
        mastery_of_cards(FACTS, other)
    first = pl.col("hits").list.eval(pl.element().list.head(1))
    hits = BASE.frame.select("fact_id", hits=first)
    single = MasteryCard(with_levels(hits), BASE.record)
    with pytest.raises(SftbenchError, match="fewer than two draws"):
        mastery_of_cards(FACTS, single)


def test_the_commands_print_and_write(tmp_path: Path) -> None:
    FACTS.write(tmp_path / "facts.parquet")
    BASE.write(tmp_path / "base.parquet")
    TUNED.write(tmp_path / "tuned.parquet")
    base, tuned, facts = (str(tmp_path / f"{one}.parquet") for one in ("base", "tuned", "facts"))
    runner = CliRunner()
    shown = runner.invoke(app, ["card", "noise", base, "--facts", facts])
    assert shown.exit_code == 0, shown.output
    assert "By chance alone" in shown.output
    out = tmp_path / "change.json"
    shown = runner.invoke(app, ["card", "change", base, tuned, "--facts", facts, "-o", str(out)])
    assert shown.exit_code == 0, shown.output
    assert "from base to tuned model" in " ".join(shown.output.split())
    assert json.loads(out.read_text())["facts"] == 40
