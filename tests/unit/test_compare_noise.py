"""Random changes and the base asked again, as variants of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import pytest
from fakes import FakeEngine, factory_of, never
from two_models import relative

from sftbench.compare.plan import other_batch
from sftbench.compare.request import Request
from sftbench.compare.result import Compared
from sftbench.compare.run import run
from sftbench.engines.protocol import Advance, Completion
from sftbench.engines.settings import EngineSettings
from sftbench.mastery.card import MasteryCard

pytestmark = pytest.mark.unit


class Counting(FakeEngine):
    """Keeps how many prompts were sent at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def greedy(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str],
        advance: Advance | None = None,
    ) -> list[Completion]:
        self.sizes.append(len(prompts))
        return super().greedy(prompts, max_new_tokens=max_new_tokens, stop=stop, advance=advance)


def test_noise_joins_a_folder_and_is_not_asked_twice(compared: Compared, request_: Request) -> None:
    assert compared.summary.noise is not None
    assert compared.summary.noise.forgetting == ()
    noisy = replace(request_, noise=3)
    engine = Counting()
    found = run(noisy, factory_of(engine)).summary
    assert engine.loads == 4
    # Each random change all at once; the base again, 40 facts in batches of 7.
    assert engine.sizes == [40, 40, 40, 7, 7, 7, 7, 7, 5]
    assert found.variants == compared.summary.variants
    assert [one.slug for one in found.perturbed] == [f"base+noise-{i}" for i in (1, 2, 3)]
    assert found.again is not None
    assert found.again.name == "base+again(7)"
    assert run(noisy, never).summary.noise == found.noise


def test_forgetting_is_held_against_the_random_changes(request_: Request) -> None:
    found = run(replace(request_, noise=3), factory_of(FakeEngine())).summary
    assert found.noise is not None
    for one in found.noise.forgetting:
        tuned = found.tuned.domain(one.domain)
        assert tuned is not None
        assert tuned.retention.score == pytest.approx(1 - one.tuned.value)
        assert one.known == tuned.retention.known
        lost = [
            result.retention.known - result.retention.kept
            for draw in found.perturbed
            if (result := draw.domain(one.domain))
        ]
        assert list(one.lost_by_noise) == lost


def test_the_base_asked_again_gives_the_same_answers(request_: Request) -> None:
    found = run(replace(request_, noise=1), factory_of(FakeEngine())).summary.noise
    assert found is not None
    assert found.flips is not None
    assert (found.flips.batch, found.flips.n, found.flips.changed) == (7, 40, 0)


@pytest.mark.parametrize(
    ("batch_size", "other"), [(1, None), (2, 1), (3, 1), (7, 3), (16, 7), (256, 127)]
)
def test_other_batches_are_smaller_and_odd(batch_size: int, other: int | None) -> None:
    assert other_batch(batch_size) == other


def test_single_prompts_cannot_be_batched_otherwise(request_: Request) -> None:
    alone = replace(request_, noise=1, engine=EngineSettings(batch_size=1))
    found = run(alone, factory_of(FakeEngine())).summary
    assert found.again is None
    assert found.noise is not None
    assert found.noise.flips is None


def test_every_share_has_its_interval_and_every_pair_its_test(compared: Compared) -> None:
    summary = compared.summary
    for variant in summary.variants:
        for one in variant.domains:
            for bounds, value in (
                (one.macro_interval, one.macro),
                (one.score_interval, one.retention.score),
                (one.gain_interval, one.retention.gain),
            ):
                assert bounds is not None
                assert bounds.value == pytest.approx(value)
                assert bounds.low <= bounds.value <= bounds.high
    assert [(one.first, one.second) for one in summary.pairs] == [
        ("base", "tuned"),
        ("tuned", "tuned+restore(relative,10%)"),
        ("tuned", "tuned+restore(relative,20%)"),
    ]
    pair = summary.pair("base", "tuned")
    assert pair is not None
    for domain in pair.domains:
        outcomes = summary.tuned.domain(domain.domain)
        assert outcomes is not None
        assert (domain.facts.lost, domain.facts.gained) == (
            outcomes.outcomes.lost,
            outcomes.outcomes.gained,
        )
        assert domain.retention is None
        assert sum(one.n for one in domain.levels) == domain.facts.n


def test_the_levels_of_the_base_are_held_against_its_own_draws(request_: Request) -> None:
    found = run(replace(request_, restored=relative(10)), factory_of(FakeEngine())).summary.noise
    assert found is not None
    assert found.mastery is not None
    assert found.mastery.facts == 40
    assert found.mastery.draws == (4, 4)
    assert [one.level for one in found.mastery.levels][-1] is None


def test_levels_that_were_not_drawn_hold_no_chance(request_: Request) -> None:
    """The default estimator computes probabilities: there are no draws to compare."""
    card = request_.card
    undrawn = card.frame.with_columns(draws=pl.lit(None, pl.Int32))
    asked = replace(request_, card=MasteryCard(undrawn, card.record))
    found = run(asked, factory_of(FakeEngine())).summary.noise
    assert found is not None
    assert found.mastery is None
