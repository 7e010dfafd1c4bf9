"""Tasks of lm-eval on every variant, in the engine that answers the facts."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sftbench.analysis.summary import TaskResult
from sftbench.common.digests import digest_of_lines, software_versions
from sftbench.common.errors import SftbenchError
from sftbench.common.logs import errors_only
from sftbench.compare.request import TaskRequest
from sftbench.engines.protocol import Engine

SEED = 1234
"""lm-eval's own default, for shots that are drawn."""
BOOTSTRAPS = 1000
"""Resamples for the standard error of metrics that have no formula for it."""
NEAR_NAMES = 3
LM_EVAL = "lm_eval"
"""Whose warnings at every start say nothing of a variant."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class Tasks:
    """Tasks that lm-eval knows and could load.

    Attributes:
        request: what was asked for.
        loaded: name to what lm-eval loaded under it.
        digests: name to the digest of what is asked: configuration, documents and their text,
            shots, code beside the task's file, lm-eval's version.
    """

    request: TaskRequest
    loaded: Mapping[str, Any]
    digests: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks, groups or tags that were asked for."""
        return self.request.names

    def run(self, name: str, engine: Engine, *, chat: bool) -> tuple[TaskResult, ...]:
        """Run one of the tasks with the weights that the engine holds now.

        A group without a figure of its own, or a tag, gives the figures of its members.

        Args:
            name: one of the names asked for.
            engine: holds the variant's weights.
            chat: ask through the chat template, shots as turns.

        Raises:
            SftbenchError: lm-eval fails; the message is its own.
        """
        from lm_eval.evaluator import evaluate

        from sftbench.harness.live import lm_of

        with errors_only(LM_EVAL), _plainly(name, "failed"):
            _seed()
            for task in self.loaded[name]["tasks"].values():
                task.set_fewshot_seed(seed=SEED)
            # Not simple_evaluate: at each call it collects the packages of the whole machine.
            results = evaluate(
                lm=lm_of(engine),
                task_dict=self.loaded[name],
                limit=self.request.limit,
                bootstrap_iters=BOOTSTRAPS,
                apply_chat_template=chat,
                fewshot_as_multiturn=chat,
                log_samples=False,
            )
        return figures(name, results["results"], results.get("higher_is_better") or {})


def load_tasks(request: TaskRequest) -> Tasks:
    """Find and load the tasks, so that what is missing is said before any model is loaded.

    Raises:
        SftbenchError: lm-eval is not installed, knows no task of that name, or cannot load it;
            or the task runs code that a model writes, or shows pictures or sound.
    """
    with errors_only(LM_EVAL):
        manager = _manager(request)
        for name in request.names:
            _require_known(name, manager)
        loaded = {name: _load(name, manager) for name in request.names}
        digests = {name: _digest(name, loaded[name], request.limit) for name in request.names}
    return Tasks(request, loaded, digests)


def _manager(request: TaskRequest) -> Any:
    try:
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError:
        raise SftbenchError(
            "lm-eval is not installed", where="--tasks", remedy="pip install 'sftbench[harness]'"
        ) from None
    if request.folder is None:
        return TaskManager()
    if not request.folder.is_dir():
        raise SftbenchError(
            "there is no such folder of tasks", where=request.folder, remedy="See --tasks-path."
        )
    # Indexing lm-eval's own tasks takes ten seconds: only where the folder does not do.
    own = TaskManager(include_path=str(request.folder), include_defaults=False)
    if set(request.names) <= set(own.all_tasks):
        return own
    return TaskManager(include_path=str(request.folder))


def _require_known(name: str, manager: Any) -> None:
    if name in manager.all_tasks:
        return
    near = difflib.get_close_matches(name, manager.all_tasks, n=NEAR_NAMES)
    raise SftbenchError(
        f"lm-eval knows no task {name!r}",
        where="--tasks",
        remedy=(f"Did you mean {', '.join(near)}? " if near else "")
        + "`sftbench lm-eval ls tasks` lists them all; --tasks-path adds a folder of your own.",
    )


def _load(name: str, manager: Any) -> Any:
    """Load a task as lm-eval's own `simple_evaluate` does."""
    with _plainly(name, "cannot be loaded"):
        loaded = manager.load([name])
    for leaf, task in loaded["tasks"].items():
        _require_plain_text(leaf, task)
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    return loaded


def _digest(name: str, loaded: Any, limit: int | None) -> str:
    tasks = loaded["tasks"]
    _seed()  # some tasks draw while they write a document
    with _plainly(name, "cannot be read"):
        lines = [line for leaf in sorted(tasks) for line in _content(tasks[leaf], limit)]
    return digest_of_lines([*lines, *software_versions("lm-eval").values()])


def _content(task: Any, limit: int | None) -> Iterator[str]:
    """Yield, as text, all of a task that decides what is asked and how answers are judged."""
    config = {k: v for k, v in task.dump_config().items() if k != "metadata"}
    yield _text(config)
    for doc in islice(task.eval_docs, limit):
        yield _text([doc, _written(task, doc)])
    if task.get_config("num_fewshot"):
        yield from map(_text, task.fewshot_docs() or ())
    for file in _code_of(task):
        yield _text([file.name, file.read_text(encoding="utf-8")])


def _written(task: Any, doc: object) -> list[object]:
    """Return what the task makes of a document: prompt, target and, where it has them, choices."""
    has_choices = task.get_config("doc_to_choice") is not None
    choices = task.doc_to_choice(doc) if has_choices else None
    return [task.doc_to_text(doc), task.doc_to_target(doc), choices]


def _code_of(task: Any) -> list[Path]:
    """Return the Python files in the folders of the task's YAML and of the functions it names."""
    metadata = task.get_config("metadata")
    source = metadata.get("config_source") if isinstance(metadata, dict) else None
    named = [getattr(value, "__code__", None) for value in vars(task.config).values()]
    files = [source or "", *(code.co_filename for code in named if code is not None)]
    folders = {Path(file).resolve().parent for file in files if Path(file).is_file()}
    return sorted(file for folder in folders for file in folder.glob("*.py"))


def _text(value: object) -> str:
    return _ADDRESS.sub("", json.dumps(value, sort_keys=True, default=str, ensure_ascii=False))


def _require_plain_text(name: str, task: Any) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise SftbenchError(
            "this task runs code that the model writes, which compare does not do",
            where=f"--tasks {name}",
            remedy="Run it apart, where that is safe: `sftbench lm-eval --tasks ... "
            "--confirm_run_unsafe_code`.",
        )
    if getattr(task, "MULTIMODAL", False):
        raise SftbenchError(
            "this task shows pictures or sound, and the engines here read text alone",
            where=f"--tasks {name}",
        )


def figures(
    name: str,
    rows: Mapping[str, Mapping[str, Any]],
    better: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> tuple[TaskResult, ...]:
    """Return the figures of a task, or those of its members where it has none of its own.

    Args:
        name: what was asked for.
        rows: lm-eval's ``results``: by task, keys such as "acc,none" and "acc_stderr,none".
        better: lm-eval's ``higher_is_better``: by task and metric, such as "acc".

    Raises:
        SftbenchError: there is no figure at all.
    """
    own = _figures_of(name, rows.get(name, {}), better.get(name) or {})
    found = own or [
        one
        for member, row in rows.items()
        if member != name
        for one in _figures_of(member, row, better.get(member) or {})
    ]
    if not found:
        raise SftbenchError("gives no figure", where=f"--tasks {name}")
    return tuple(found)


def _figures_of(name: str, row: Mapping[str, Any], better: Mapping[str, Any]) -> list[TaskResult]:
    found = []
    for key, value in row.items():
        metric, comma, chosen = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        stderr = row.get(f"{metric}_stderr,{chosen}")
        found.append(
            TaskResult(
                task=name,
                metric=key,
                value=float(value),
                stderr=float(stderr) if isinstance(stderr, int | float) else None,
                n=int(row["sample_len"]),
                higher_is_better=better.get(metric),
            )
        )
    return found


def _seed() -> None:
    """Set the seeds that lm-eval's own `simple_evaluate` sets."""
    import random

    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(SEED)  # lm-eval's tasks draw from the global state
    torch.manual_seed(SEED)


@contextmanager
def _plainly(name: str, what: str) -> Iterator[None]:
    """Turn whatever lm-eval, a task file or a data set library raises into one message."""
    try:
        yield
    except SftbenchError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise SftbenchError(
            f"{what}: {type(error).__name__}{': ' + lines[0] if lines else ''}",
            where=f"--tasks {name}",
            remedy="Its data must be in reach: the hub, its cache, or local files. "
            f"`sftbench lm-eval --tasks {name} ...` shows all that lm-eval says.",
        ) from error
