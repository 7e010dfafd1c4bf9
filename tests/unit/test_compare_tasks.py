"""Tasks of lm-eval beside the facts: which figures are kept, and when a task is run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import FakeEngine, factory_of, never

from sftbench.analysis.summary import TaskResult
from sftbench.cli.compare import compare, require_auto
from sftbench.common.errors import SftbenchError
from sftbench.compare import plan as plan_module
from sftbench.compare import tasks as tasks_module
from sftbench.compare.request import Request, TaskRequest
from sftbench.compare.run import run
from sftbench.compare.tasks import Tasks, figures

pytestmark = pytest.mark.unit


@dataclass(frozen=True)
class CountedTasks(Tasks):
    """Tasks whose figure is the number of positive scalars that the engine holds."""

    runs: tuple[list[str], ...] = ([],)

    def run(self, name: str, engine: Any, *, chat: bool) -> tuple[TaskResult, ...]:
        self.runs[0].append(name)
        value = float(sum(scalar > 0 for scalar in engine.scalars))
        return (TaskResult(task=name, metric="acc,none", value=value, stderr=None, n=40),)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the tasks that are run, each name as often as it is; none needs lm-eval."""
    found: list[str] = []

    def load(request: TaskRequest) -> Tasks:
        digests: Mapping[str, str] = {name: f"digest of {name}" for name in request.names}
        return CountedTasks(request, {}, digests, (found,))

    monkeypatch.setattr(plan_module, "load_tasks", load)
    return found


def test_every_variant_gives_its_figures(request_: Request, runs: list[str]) -> None:
    request = replace(request_, tasks=TaskRequest(("sums", "words")))
    found = run(request, factory_of(FakeEngine())).summary
    assert runs == ["sums", "words"] * 4
    assert [[one.value for one in variant.tasks] for variant in found.variants] == [
        [30.0, 30.0], [26.0, 26.0], [30.0, 30.0], [34.0, 34.0],
    ]  # fmt: skip
    assert [one.task for one in found.tuned.tasks] == ["sums", "words"]


def test_a_task_joins_a_finished_comparison_without_asking_the_facts_again(
    request_: Request, runs: list[str]
) -> None:
    run(request_, factory_of(FakeEngine()))
    engine = FakeEngine()
    run(replace(request_, tasks=TaskRequest(("sums",))), factory_of(engine))
    assert (engine.loads, engine.asked) == (4, [])
    both = run(replace(request_, tasks=TaskRequest(("sums", "a/b"))), factory_of(engine)).summary
    assert runs == ["sums"] * 4 + ["a/b"] * 4
    again = run(replace(request_, tasks=TaskRequest(("sums", "a/b"))), never).summary
    assert again.variants == both.variants
    assert run(request_, never).summary.tuned.tasks == ()


def test_another_limit_runs_the_task_again(request_: Request, runs: list[str]) -> None:
    run(replace(request_, tasks=TaskRequest(("sums",))), factory_of(FakeEngine()))
    run(replace(request_, tasks=TaskRequest(("sums",), limit=5)), factory_of(FakeEngine()))
    assert runs == ["sums"] * 8


def test_a_kill_between_tasks_loses_one_task(request_: Request, runs: list[str]) -> None:
    class Dying(CountedTasks):
        def run(self, name: str, engine: Any, *, chat: bool) -> tuple[TaskResult, ...]:
            if len(self.runs[0]) == 3:
                raise KeyboardInterrupt
            return super().run(name, engine, chat=chat)

    request = replace(request_, tasks=TaskRequest(("sums", "words")))
    with pytest.MonkeyPatch.context() as patch:
        digests = {name: f"digest of {name}" for name in ("sums", "words")}
        patch.setattr(plan_module, "load_tasks", lambda wanted: Dying(wanted, {}, digests, (runs,)))
        with pytest.raises(KeyboardInterrupt):
            run(request, factory_of(FakeEngine()))
    engine = FakeEngine()
    run(request, factory_of(engine))
    assert runs == ["sums", "words"] * 4
    assert engine.loads == 3  # the base was done


def test_a_broken_file_of_figures_is_an_error(request_: Request, runs: list[str]) -> None:
    request = replace(request_, tasks=TaskRequest(("sums",)))
    run(request, factory_of(FakeEngine()))
    path = request_.out / "tasks" / "base" / "sums.json"
    path.write_text(path.read_text().replace('"value"', '"walue"'))
    with pytest.raises(SftbenchError, match=r"sums\.json: does not hold the figures of a task"):
        run(request, never)


ROWS = {
    "sums": {"alias": "sums", "sample_len": 6, "acc,none": 0.5, "acc_stderr,none": 0.2},
    "words": {"sample_len": 6, "exact_match,strict": 1, "exact_match_stderr,strict": "N/A"},
    "both": {"alias": "both", "name": "both"},
}


def test_a_group_without_a_figure_gives_those_of_its_members() -> None:
    assert figures("both", ROWS) == (
        TaskResult(task="sums", metric="acc,none", value=0.5, stderr=0.2, n=6),
        TaskResult(task="words", metric="exact_match,strict", value=1.0, stderr=None, n=6),
    )
    assert [one.task for one in figures("sums", ROWS)] == ["sums"]
    with pytest.raises(SftbenchError, match="--tasks both: gives no figure"):
        figures("both", {"both": ROWS["both"]})


def test_an_unknown_task_names_what_is_near() -> None:
    manager = SimpleNamespace(all_tasks=["hellaswag", "arc_easy", "winogrande"])
    with pytest.raises(SftbenchError, match=r"knows no task 'helaswag'\nDid you mean hellaswag\?"):
        tasks_module._require_known("helaswag", manager)
    tasks_module._require_known("arc_easy", manager)


@pytest.mark.parametrize(
    ("attribute", "said"), [("UNSAFE_CODE", "runs code"), ("MULTIMODAL", "shows pictures")]
)
def test_tasks_that_an_engine_cannot_run_are_refused(attribute: str, said: str) -> None:
    with pytest.raises(SftbenchError, match=said):
        tasks_module._require_plain_text("task", SimpleNamespace(**{attribute: True}))


def test_a_folder_of_tasks_must_be_there(request_: Request) -> None:
    request = TaskRequest(("sums",), folder=request_.out / "nowhere")
    with pytest.raises(SftbenchError, match="no such folder of tasks"):
        tasks_module.load_tasks(request)


HELPER = """
import json
from pathlib import Path

from datasets import Dataset

HERE = Path(__file__).parent


def docs(**kwargs):
    rows = [{"question": f"One and {i}?", "label": i % 2} for i in range(4)]
    shots = json.loads((HERE / "shots.json").read_text())
    return {"test": Dataset.from_list(rows), "train": Dataset.from_list(shots)}
"""
TEXT = """
def text(doc):
    return doc["question"]
"""
TASK = """
task: tiny
custom_dataset: !function helper.docs
output_type: multiple_choice
test_split: test
fewshot_split: train
num_fewshot: SHOTS
doc_to_text: !function wording.text
doc_to_choice: ["two", "three"]
doc_to_target: "{{label}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""
SHOTS = '[{"question": "Two and 1?", "label": 1}, {"question": "Two and 2?", "label": 0}]'


def digest_with(folder: Path, shots: int) -> str:
    """Return the digest of the task in this folder, shown so many shots."""
    (folder / "task.yaml").write_text(TASK.replace("SHOTS", str(shots)))
    return tasks_module.load_tasks(TaskRequest(("tiny",), limit=2, folder=folder)).digests["tiny"]


def test_a_changed_shot_or_helper_is_another_task(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "wording.py").write_text(TEXT)
    (tmp_path / "shots.json").write_text(SHOTS)
    none, one = digest_with(tmp_path, 0), digest_with(tmp_path, 1)
    assert digest_with(tmp_path, 1) == one
    (tmp_path / "shots.json").write_text(SHOTS.replace("Two and 2?", "Two and 3?"))
    other_shot = digest_with(tmp_path, 1)
    assert digest_with(tmp_path, 0) == none  # it is not shown
    (tmp_path / "wording.py").write_text(TEXT.replace("]", "].upper()"))
    other_text = digest_with(tmp_path, 1)
    (tmp_path / "unnamed.py").write_text("FACTOR = 2")  # a helper may import it
    assert len({none, one, other_shot, other_text, digest_with(tmp_path, 1)}) == 5


def test_what_a_task_sends_is_digested_beside_its_documents() -> None:
    def lines(end: str) -> list[str]:
        task = SimpleNamespace(
            config=SimpleNamespace(),
            eval_docs=[{"n": 1}, {"n": 2}, {"n": 3}],
            dump_config=dict,
            get_config={"doc_to_choice": "ab"}.get,
            doc_to_text=lambda doc: f"{doc['n']}{end}",
            doc_to_target=lambda doc: doc["n"],
            doc_to_choice=lambda _: ["a", "b"],
        )
        return list(tasks_module._content(task, 2))

    assert lines("?") == [
        "{}",
        '[{"n": 1}, ["1?", 1, ["a", "b"]]]',
        '[{"n": 2}, ["2?", 2, ["a", "b"]]]',
    ]
    assert lines("!")[1] == '[{"n": 1}, ["1!", 1, ["a", "b"]]]'


def test_flags_of_tasks_need_a_task(request_: Request) -> None:
    models = {"base": str(request_.base), "tuned": str(request_.tuned), "facts": "lab"}
    with pytest.raises(SftbenchError, match="do nothing without --tasks"):
        compare(output=request_.out, engine="hf", tasks_limit=5, **models)
    with pytest.raises(SftbenchError, match="--tasks: names no task"):
        compare(output=request_.out, engine="hf", tasks=" , ", **models)


def test_which_way_is_better_the_task_says() -> None:
    better = {"sums": {"acc": True}, "words": {"exact_match": False}}
    assert [one.higher_is_better for one in figures("both", ROWS, better)] == [True, False]


def test_a_task_that_chooses_is_not_scored_as_well() -> None:
    require_auto("sums", "words", auto=True)
    with pytest.raises(SftbenchError, match="sums would choose the restore and score it too"):
        require_auto("sums", "words,sums", auto=True)
    with pytest.raises(SftbenchError, match="does nothing without --auto"):
        require_auto("sums", None, auto=False)
