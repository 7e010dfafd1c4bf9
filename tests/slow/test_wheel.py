"""The wheel: what it holds, and plain lm_eval on an installation that is no checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Build the sdist, the wheel from it, and unpack that where no checkout is in sight."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def run(installed, code):
    """Run Python with the installed package first on its path, and nothing of the checkout."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"},
        check=True,
        capture_output=True,
        text=True,
    )


def test_only_our_own_names_are_at_the_top(installed):
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"sftbench", "sftbench_leaderboard"}


def test_the_data_travels(installed):
    for name in (
        "_tasks/sft_knowledge/_sft_knowledge",
        "facts/data/geography.parquet",
        "facts/data/entityquestions_aliases.yaml",
        "facts/data/templates/entityquestions.yaml",
        "lab/data/model/model.safetensors",
        "mastery/cards/smollm2-135m-instruct.geography.parquet",
        "mastery/cards/canonical/lab.canonical.parquet",
        "mastery/cards/canonical/smollm2-135m-instruct.entityquestions.canonical.parquet",
        "mastery/cards/canonical/smollm2-135m-instruct.geography.canonical.parquet",
        "report/templates/page.html.jinja",
        "report/vendor/plot.umd.min.js",
    ):
        assert (installed / "sftbench" / name).exists(), name
    for name in (
        "site/templates/index.html.jinja",
        "site/static/paired.js",
        "site/static/site.css",
    ):
        assert (installed / "sftbench_leaderboard" / name).exists(), name


def test_plain_lm_eval_runs_from_the_installation(installed):
    code = """
import sys, sftbench
from pathlib import Path
from sftbench.harness.tasks import tasks_path
from sftbench.checkpoints.reference import resolve
assert Path(sftbench.__file__).is_relative_to(SITE), sftbench
from lm_eval.__main__ import cli_evaluate
sys.argv = ["lm_eval", "--include_path", str(tasks_path()), "--tasks", "sft_knowledge",
    "--model", "hf", "--model_args", f"pretrained={resolve('lab')},dtype=float32",
    "--limit", "2", "--batch_size", "16", "--device", "cpu"]
cli_evaluate()
"""
    output = run(installed, f"SITE = {str(installed)!r}\n{code}").stdout
    rows = {line.split("|")[1].strip(" -") for line in output.splitlines() if line.count("|") > 5}
    assert {"sft_knowledge", "sft_knowledge_in", "sft_knowledge_out"} < rows
    assert {f"sft_knowledge_{domain}_level{i}" for domain in ("in", "out") for i in range(5)} < rows
