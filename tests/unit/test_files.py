"""Outputs: what stands in the way of a file is refused before any work is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sftbench.cli.facts import app
from sftbench.common.errors import SftbenchError
from sftbench.common.files import atomic_folder, require_free, require_free_file

pytestmark = pytest.mark.unit


def test_a_file_needs_a_path_that_does_not_exist(tmp_path: Path) -> None:
    require_free_file(tmp_path / "new" / "facts.parquet")
    (tmp_path / "facts.parquet").touch()
    with pytest.raises(SftbenchError, match="already exists"):
        require_free_file(tmp_path / "facts.parquet")


def test_an_empty_folder_is_free_for_a_folder_and_not_for_a_file(tmp_path: Path) -> None:
    require_free(tmp_path)
    with pytest.raises(SftbenchError, match="is a folder, and a file is to be written"):
        require_free_file(tmp_path)


def test_facts_are_not_written_over_a_folder(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["geography", "-o", str(tmp_path)])
    assert isinstance(done.exception, SftbenchError)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_cleared_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    left = tmp_path / ".out.abc.tmp"
    left.mkdir()
    (left / "weights").write_text("half")

    def two_at_once() -> None:
        with atomic_folder(tmp_path / "out") as one:
            assert not left.exists()
            with atomic_folder(tmp_path / "out") as other:
                assert one.is_dir()
                (other / "file").write_text("whole")

    with pytest.raises(SftbenchError, match="already exists"):
        two_at_once()
    assert (tmp_path / "out" / "file").read_text() == "whole"
