"""The command line as a whole: what a missing library says."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

import sftbench
from sftbench.cli import app

pytestmark = pytest.mark.unit

PYPROJECT = Path(sftbench.__file__).resolve().parent.parent / "pyproject.toml"


@pytest.mark.parametrize(("module", "extra"), [("torch", "hf"), ("lm_eval.tasks", "harness")])
def test_a_light_installation_says_which_extra_is_missing(monkeypatch, capsys, module, extra):
    def fail(**_: object) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(app, "app", fail)
    monkeypatch.setattr(sys, "argv", ["sftbench", "mastery"])
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        app.main()

    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"needs {module.partition('.')[0]}" in said
    assert f"sftbench[{extra}]" in said


def test_every_extra_that_is_named_exists():
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]

    assert set(app.EXTRA_OF.values()) <= set(project["optional-dependencies"])
