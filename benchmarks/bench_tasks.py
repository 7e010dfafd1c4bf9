"""Task index: lm-eval finds the tasks in our folder."""

from __future__ import annotations

from benchmarks.conftest import Measure
from benchmarks.references import INTERPRETER
from sftbench.harness.tasks import tasks_path


def bench_task_index(measure: Measure) -> None:
    """Index our lm-eval tasks, without lm-eval's own."""
    from lm_eval.tasks import TaskManager

    folder = str(tasks_path())
    measure(INTERPRETER, lambda: TaskManager(include_path=folder, include_defaults=False))
