"""Baseline files: what they hold, and that a changed one is refused."""

from __future__ import annotations

import polars as pl
import pytest
from gates import TERMS, facts_of, side

from sftbench.common.errors import SftbenchError
from sftbench.gate.baseline import BASELINE, read_baseline, write_baseline
from sftbench.gate.judge import judge

pytestmark = pytest.mark.unit


def test_a_baseline_file_says_what_the_runs_said(tmp_path):
    mine = side(0.9, 0.8)
    terms = TERMS.model_copy(update={"seeds": 2})
    write_baseline(tmp_path / "b.parquet", mine, terms)
    read = read_baseline(tmp_path / "b.parquet")
    assert read.terms == terms
    assert read.side.identity == mine.identity
    assert read.side.record.runs == mine.record.runs
    candidate = side(0.85, 0.88, name="new", seed=5)
    direct, through = (judge(one, candidate, terms) for one in (mine, read.side))
    assert direct.endpoints == through.endpoints
    assert [one.fact_id for one in direct.lost] == [one.fact_id for one in through.lost]


def test_a_baseline_without_a_base(tmp_path):
    terms = TERMS.model_copy(update={"primary": ("accuracy:in",)})
    write_baseline(tmp_path / "b.parquet", side(0.9, base=None), terms)
    assert read_baseline(tmp_path / "b.parquet").side.base is None


@pytest.mark.parametrize(
    "change", ["suite", "digest", "runs", "terms", "identity", "margin", "circumstances"]
)
def test_a_baseline_that_was_changed_is_refused(tmp_path, change):
    path = tmp_path / "b.parquet"
    write_baseline(path, side(0.9, 0.8), TERMS)
    frame, record = BASELINE.read(path)
    if change == "digest":
        frame = frame.with_columns(level=pl.lit(4, pl.Int8))
    elif change == "runs":
        record["runs"] = record["runs"][:1]
    elif change == "margin":
        record["terms"]["margin"] = 0.5
    elif change in ("identity", "circumstances"):
        record[change] = {} if change == "identity" else "x"
    else:
        record[change] = "0.9" if change == "suite" else {"margin": 3}
    BASELINE.write(frame, path, record)
    with pytest.raises(SftbenchError, match=r"suite|digest|whole") as error:
        read_baseline(path)
    assert "gate init" in error.value.remedy


def test_another_table_is_no_baseline(tmp_path):
    facts_of().write_parquet(tmp_path / "x.parquet")
    with pytest.raises(SftbenchError):
        read_baseline(tmp_path / "x.parquet")
