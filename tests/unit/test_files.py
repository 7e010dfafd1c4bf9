"""Outputs: what stands in the way of a file is refused before any work is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sftbench.cli.facts import app
from sftbench.common.errors import SftbenchError
from sftbench.common.files import require_free, require_free_file

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
