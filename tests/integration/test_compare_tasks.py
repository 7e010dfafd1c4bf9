"""lm-eval's own tasks on every variant of the lab model, in the engine that answers the facts."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import never

from sftbench.checkpoints.folder import open_checkpoint
from sftbench.checkpoints.reference import resolve
from sftbench.common.errors import SftbenchError
from sftbench.compare.request import Request, TaskRequest
from sftbench.compare.run import run
from sftbench.compare.tasks import load_tasks
from sftbench.engines.settings import make_engine
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.reference import resolve_facts
from sftbench.mastery.bundled import resolve_card

pytestmark = pytest.mark.integration

DATA = """
from datasets import Dataset


def docs(**kwargs):
    rows = [{"question": f"One and {i}?", "label": i % 2} for i in range(6)]
    return {"test": Dataset.from_list(rows)}
"""
CHOICE = """
task: tiny_choice
tag: tiny_all
custom_dataset: !function tiny_data.docs
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}"
doc_to_choice: ["two", "three"]
doc_to_target: "{{label}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""
WRITE = """
task: tiny_write
tag: tiny_all
custom_dataset: !function tiny_data.docs
output_type: generate_until
test_split: test
doc_to_text: "{{question}}"
doc_to_target: "{{label}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two tasks of six documents under one tag."""
    place = tmp_path / "tasks"
    place.mkdir()
    (place / "tiny_data.py").write_text(DATA)
    (place / "choice.yaml").write_text(CHOICE)
    (place / "write.yaml").write_text(WRITE)
    return place


def test_tasks_run_on_every_variant_and_once(folder: Path, tmp_path: Path) -> None:
    lab, facts = resolve("lab"), resolve_facts("lab")
    card = resolve_card(None, base_digest=open_checkpoint(lab).digest, facts=facts)
    request = Request(
        base=lab,
        tuned=lab,
        out=tmp_path / "out",
        facts=facts,
        card=card,
        prompt=PROMPTS["paper"],
        limit=10,
        tasks=TaskRequest(("tiny_all",), limit=4, folder=folder),
    )
    found = run(request, make_engine).summary
    assert [(one.task, one.metric, one.n) for one in found.base.tasks] == [
        ("tiny_choice", "acc,none", 4), ("tiny_write", "exact_match,none", 4),
    ]  # fmt: skip
    assert found.base.tasks == found.tuned.tasks  # the same weights
    assert run(request, never).summary.variants == found.variants


def test_other_documents_are_another_task(folder: Path) -> None:
    one = load_tasks(TaskRequest(("tiny_choice",), limit=4, folder=folder)).digests
    assert load_tasks(TaskRequest(("tiny_choice",), limit=4, folder=folder)).digests == one
    assert load_tasks(TaskRequest(("tiny_choice",), limit=5, folder=folder)).digests != one
    (folder / "choice.yaml").write_text(CHOICE.replace("three", "four"))
    assert load_tasks(TaskRequest(("tiny_choice",), limit=4, folder=folder)).digests != one


def test_a_task_without_data_is_one_clear_line(folder: Path) -> None:
    (folder / "tiny_data.py").unlink()
    with pytest.raises(SftbenchError, match=r"^--tasks tiny_choice: cannot be loaded: "):
        load_tasks(TaskRequest(("tiny_choice",), folder=folder))
