"""Progress in a log: not a line per item, and always the last."""

import pytest

from sftbench.common.progress import progress, rate_of

pytestmark = pytest.mark.unit


def test_a_log_gets_the_first_and_the_last_line(capsys):
    with progress("levelling", 100, unit="facts") as advance:
        for _ in range(100):
            advance(1, "a note")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("levelling: 1 of 100 facts, a note")
    assert lines[1].startswith("levelling: 100 of 100 facts, ")
    assert lines[1].endswith("a note")


def test_what_an_earlier_run_did_counts_but_not_in_the_rate(capsys, monkeypatch):
    clock = iter((0.0, 10.0, 50.0))
    monkeypatch.setattr("sftbench.common.progress.time.monotonic", lambda: next(clock))
    with progress("levelling", 100, unit="facts", done=50) as advance:
        advance(1)
        advance(4)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "levelling: 51 of 100 facts"  # one item tells no rate
    assert second == "levelling: 55 of 100 facts, 10.0 s each, 7.5 min left"


@pytest.mark.parametrize(("speed", "text"), [(0, ""), (12.34, "12.3/s"), (0.05, "20.0 s each")])
def test_rates_read_well(speed, text):
    assert rate_of(speed) == text
