"""The task files that lm-eval is pointed to: where they lie and what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sftbench.common.errors import SftbenchError
from sftbench.harness.tasks import tasks_path

pytestmark = pytest.mark.unit


def test_task_files_hold_no_logic_and_are_no_links():
    paths = [path for path in tasks_path().rglob("*") if path.is_file()]
    assert {path.suffix for path in paths} == {".yaml", ""}
    assert not any(path.is_symlink() for path in tasks_path().rglob("*"))


def test_macro_means_are_unweighted():
    for path in tasks_path().rglob("*.yaml"):
        config = yaml.safe_load(path.read_text())
        if "group" in config:
            assert config["aggregate_metric_list"] == [
                {"metric": "acc", "aggregation": "mean", "weight_by_size": False}
            ]


def test_an_installation_without_task_files_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("sftbench.harness.tasks.PACKAGE", tmp_path / "sftbench")
    with pytest.raises(SftbenchError, match="not in this installation"):
        tasks_path()


def test_a_wheel_carries_the_task_files_inside_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr("sftbench.harness.tasks.PACKAGE", tmp_path / "sftbench")
    (tmp_path / "tasks" / "sft_knowledge").mkdir(parents=True)
    (tmp_path / "sftbench" / "_tasks" / "sft_knowledge").mkdir(parents=True)
    assert tasks_path() == tmp_path / "sftbench" / "_tasks"


def test_tasks_path_is_printed():
    from typer.testing import CliRunner

    from sftbench.cli.app import app

    result = CliRunner().invoke(app, ["tasks-path"])
    assert result.exit_code == 0
    assert Path(result.stdout.strip()) == tasks_path()
