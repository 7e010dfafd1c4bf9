"""The task class: lm-eval's own configurable task, which may also hold no fact at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from sftbench.common.errors import SftbenchError
from sftbench.harness.data import is_placeholder

USAGE_ERROR = 2
"""Exit code of what the user can mend, as for every sftbench command."""


class KnowledgeTask(ConfigurableTask):  # type: ignore[misc]  # lm-eval is not typed
    """One mastery level of one domain.

    lm-eval cannot run a task without documents: it looks at the first one when it builds the
    task, raises when there are no requests, and reads the filters off the first request. A level
    without facts is a real result, though: n = 0, no accuracy, left out of the macro mean. So the
    data of such a level holds one placeholder, which is taken out again here, and its task has
    one request with 0 repeats: lm-eval sends a request as often as it says, so no model sees it.
    """

    dataset: Mapping[str, Any]

    def __init__(
        self,
        data_dir: str | None = None,
        cache_dir: str | None = None,
        download_mode: Any = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Build the task from its YAML; `config` also holds the key ``class``, which names us."""
        end_plainly_on_our_errors()
        fields = {key: value for key, value in (config or {}).items() if key != "class"}
        super().__init__(data_dir, cache_dir, download_mode, fields)
        docs = self.dataset[self.config.test_split]
        self._placeholder: dict[str, Any] | None = None
        if is_placeholder(docs[0]):
            self._placeholder = docs[0]
            self.dataset = {self.config.test_split: docs.select([])}

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Load the documents; lm-eval's own version warns once per task that this is possible."""
        del kwargs
        self.dataset = self.config.custom_dataset(
            **(self.config.metadata or {}), **(dataset_kwargs or {})
        )

    def fewshot_docs(self) -> list[dict[str, Any]]:
        """Return nothing: each document carries its own shots (see `ShotSampler`)."""
        return []

    def build_all_requests(self, **kwargs: Any) -> None:
        """Build the requests; without documents, one that is sent 0 times."""
        if self._placeholder is None:
            super().build_all_requests(**kwargs)
            return
        self._instances = [
            Instance(
                request_type=self.OUTPUT_TYPE,
                doc=self._placeholder,
                arguments=("", dict(self.config.generation_kwargs)),
                idx=0,
                metadata=(self.config.task, None, 0),
            )
        ]

    def apply_filters(self) -> list[Instance] | None:
        """Apply the filters; without documents there is no response to filter."""
        if self._placeholder is None:
            filtered: list[Instance] | None = super().apply_filters()
            return filtered
        for instance in self._instances:
            instance.filtered_resps = {ensemble.name: "" for ensemble in self._filters}
        return None


def end_plainly_on_our_errors() -> None:
    """Let an uncaught error of ours end plain lm_eval with its message and exit code 2.

    Every other error is shown as before; so is ours with LMEVAL_LOG_LEVEL=DEBUG.
    """
    shown = sys.excepthook
    if getattr(shown, "of_sftbench", False) or os.environ.get("LMEVAL_LOG_LEVEL") == "DEBUG":
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, SftbenchError):
            print(f"Error: {error}", file=sys.stderr)
            sys.exit(USAGE_ERROR)  # a SystemExit from the hook sets the exit code of Python
        else:
            shown(kind, error, trace)

    hook.of_sftbench = True  # type: ignore[attr-defined]
    sys.excepthook = hook
