"""`RetentionCallback` in data parallel training: one process asks, all stop at the same step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TESTS = Path(__file__).resolve().parent.parent


def both(folder: Path, what: str) -> list[dict]:
    """Run two processes and return what each saw."""
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    subprocess.run(
        [*run, str(TESTS / "watched_processes.py"), str(folder), what],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)},
        check=True,
        timeout=300,
        capture_output=True,
    )
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_one_asks_and_all_stop_together(tmp_path):
    first, second = both(tmp_path, "train")

    assert first["world"] == second["world"] == 2
    assert first["stopped_at"] == second["stopped_at"] == 2
    assert first["steps"] == second["steps"] == [0, 2]
    assert first["highs"] == second["highs"]
    assert first["logged"] == second["logged"] == 2
    assert (first["asked"], second["asked"]) == (1, 0)


def test_where_one_gives_up_the_others_do_not_wait(tmp_path):
    first, second = both(tmp_path, "fail")

    assert first["error"] == "RuntimeError: this process gave up"
    assert second["error"].endswith("the main process failed: RuntimeError: this process gave up")
