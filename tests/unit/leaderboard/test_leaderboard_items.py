"""Items that unpack to far more than they are: refused before anything is unpacked."""

from __future__ import annotations

import io
import tracemalloc

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sftbench_leaderboard import unpacked
from sftbench_leaderboard.items import read_items
from sftbench_leaderboard.strict_json import RefusedError
from sftbench_leaderboard.unpacked import require_bounded

pytestmark = pytest.mark.unit


def parquet(frame, **how):
    buffer = io.BytesIO()
    frame.write_parquet(buffer, **how)
    return buffer.getvalue()


def refused(content):
    with pytest.raises(RefusedError) as error:
        read_items(content)
    return error.value.code


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"text": ["x" * 40_000_000]}),
        pl.DataFrame({"noise": pl.Series([[True] * 20_000_000])}),
        pl.DataFrame({"level": pl.repeat(1, 20_000_000, eager=True)}),
    ],
    ids=["text", "list", "rows"],
)
def test_a_small_file_that_unpacks_to_a_large_one(frame, monkeypatch):
    assert unpacked.MOST_UNPACKED == 512 * 1024 * 1024
    monkeypatch.setattr(unpacked, "MOST_UNPACKED", 32 * 1024 * 1024)  # the test itself is small
    content = parquet(frame)
    assert len(content) < 100_000
    tracemalloc.start()
    assert refused(content) == "too-large"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "uncompressed"])
@pytest.mark.parametrize("rows", [1, 5_000])
def test_files_of_every_kind_are_measured(compression, rows):
    frame = pl.DataFrame(
        {"text": [f"an answer {at}" for at in range(rows)], "noise": [[True, None]] * rows}
    )
    require_bounded(parquet(frame, compression=compression, row_group_size=1_000))


@given(st.binary(max_size=60))
def test_anything_else_is_no_parquet(content):
    for one in (content, b"PAR1" + content + b"PAR1", b"PAR1" + content + b"\x04\0\0\0PAR1"):
        assert refused(one) == "items-unreadable"
