"""The time given, and the number of facts that fits into it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import BASE, FakeEngine, write_model
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.common.errors import SftbenchError
from sftbench.compare.budget import (
    FEWEST_FACTS,
    SHARE_USED,
    Speed,
    Variants,
    duration_text,
    levelling_size,
    measure,
    parse_duration,
)
from sftbench.facts.prompts import PROMPTS

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("0.5h", 1800), ("1h0m5s", 3605), (" 2M ", 120)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "ten minutes", "0m", "-5m", "1m1h", "1..5m", "∞s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(SftbenchError, match=r"--budget: .* is no length of time\nWrite 90s"):
        parse_duration(text)


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(0, 59), st.integers(1, 59))
def test_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int) -> None:
    text = f"{hours}h{minutes}m{seconds}s"
    assert parse_duration(text) == 3600 * hours + 60 * minutes + seconds


def test_seconds_as_people_say_them() -> None:
    assert [duration_text(one) for one in (45, 570, 7200)] == ["45 s", "9.5 min", "2.0 h"]


times = st.floats(0.001, 10, allow_nan=False)


@settings(deadline=None)
@given(times, times, st.integers(0, 5), st.integers(0, 3), st.floats(1, 1e6))
def test_the_size_fits_the_time_or_is_the_fewest(
    fact: float, read: float, restored: int, noise: int, given: float
) -> None:
    speed, asked = Speed(fact=fact, read=read, scalars=1000), Variants(restored, noise)
    size = speed.facts(given, asked)
    assert size >= FEWEST_FACTS
    if size > FEWEST_FACTS:
        assert speed.seconds(size, asked) <= given * SHARE_USED + 1e-6
        assert speed.seconds(size + 1, asked) > given * SHARE_USED - 1e-6


def test_more_variants_leave_room_for_fewer_facts() -> None:
    speed = Speed(fact=0.1, read=1.0, scalars=100_000_000)
    assert speed.facts(600, Variants()) == int((480 - 4) / 0.2)
    sizes = [speed.facts(600, Variants(*those)) for those in ((0, 0), (1, 0), (4, 0), (4, 2))]
    assert sizes == sorted(set(sizes), reverse=True)
    # Base, tuned model, four restored, two random changes, and the base again.
    assert Variants(4, 2).models == 9


def test_levelling_takes_its_share() -> None:
    assert levelling_size(6.0, 2, 300.0) == 80
    assert levelling_size(600.0, 2, 300.0) == FEWEST_FACTS
    assert levelling_size(6.0, 2, -5.0) == FEWEST_FACTS


def test_measuring_leaves_the_weights_of_the_base(tmp_path: Path) -> None:
    base, engine = write_model(tmp_path / "base", BASE), FakeEngine()
    engine.scalars = list(BASE)
    texts = [f"What is number {number}?" for number in range(30)]
    speed = measure(engine, base, PROMPTS["paper"], texts)
    assert engine.asked == [texts[0], *texts[:16]]
    assert speed.fact > 0
    assert speed.read > 0
    assert engine.scalars == BASE
