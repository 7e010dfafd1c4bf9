"""The folder of a comparison: which answers are there already, and under which key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import ValidationError

from sftbench.analysis.summary import TaskResult
from sftbench.checkpoints.variants import Variant
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json, require_free, write_json
from sftbench.compare.answered import Answered
from sftbench.compare.plan import PROMPT_TEXT, SELECTION, Plan
from sftbench.scoring.answers import ANSWERS, rescore

if TYPE_CHECKING:
    import polars as pl

RUN_FILE = "run.json"
VALIDATION = "validation"
"""In the folder of a comparison: the one that a restore was chosen by (`repair.py`)."""


@dataclass(frozen=True)
class Store:
    """Keeps the answers of one plan in one folder, a file per variant, each written whole.

    The folder belongs to the parts of its first run (`run.json`); further restore percentages
    may join it, anything else needs another folder.
    """

    folder: Path
    plan: Plan

    def require_ours(self) -> None:
        """Raise unless the folder is free or holds an earlier run of the same parts."""
        file = self.folder / RUN_FILE
        if not file.is_file():
            self._require_free()
            return
        found = read_json(file)
        parts = found.get("parts") if isinstance(found, dict) else None
        if not isinstance(parts, dict):
            raise SftbenchError("is not the record of a comparison", where=file)
        wanted = self.plan.parts
        other = [name for name in wanted if parts.get(name) != wanted[name]]
        if SELECTION in other and PROMPT_TEXT in other:
            other.remove(PROMPT_TEXT)  # other facts are other texts
        if other:
            raise SftbenchError(
                f"holds a comparison with another {', '.join(other)}",
                where=self.folder,
                remedy="Name another folder with -o, or remove this one.",
            )

    def _require_free(self) -> None:
        there = list(self.folder.iterdir()) if self.folder.is_dir() else []
        if [path.name for path in there] != [VALIDATION]:
            require_free(self.folder)

    def find(self, variant: Variant) -> Answered | None:
        """Return the answers of a variant if they are here under this plan's key, else None.

        They are matched anew, so that one result never mixes two ways of matching; the file
        follows where that changes what is right.
        """
        path = self._path(variant)
        if not path.is_file():
            return None
        frame, record = ANSWERS.read(path)
        if record.get("key") != self._key(variant):
            return None
        scored = rescore(frame, self.plan.rows)
        if not scored.equals(frame):
            ANSWERS.write(scored, path, record)
        return Answered(variant, scored, record)

    def keep(self, variant: Variant, frame: pl.DataFrame, record: Mapping[str, Any]) -> Answered:
        """Write the answers of a variant and return them as `find` will.

        The first answers claim the folder; a run that fails before leaves nothing.
        """
        self.claim()
        full = {**record, "key": self._key(variant), "variant": variant.name}
        ANSWERS.write(frame, self._path(variant), full)
        return Answered(variant, frame, full)

    def claim(self) -> None:
        """Write down what the folder belongs to, unless that is done."""
        claim = self.folder / RUN_FILE
        if not claim.is_file():
            write_json(claim, {"key": self.plan.key, "parts": dict(self.plan.parts)})

    def find_task(self, variant: Variant, name: str) -> tuple[TaskResult, ...] | None:
        """Return the figures of a task if they are here under this plan's key, else None."""
        path = self._task_path(variant, name)
        if not path.is_file():
            return None
        found = read_json(path)
        if not isinstance(found, dict) or found.get("key") != self._task_key(variant, name):
            return None
        try:
            return tuple(TaskResult.model_validate(one) for one in found["figures"])
        except (KeyError, TypeError, ValidationError):
            raise SftbenchError(
                "does not hold the figures of a task", where=path, remedy="Remove it."
            ) from None

    def keep_task(self, variant: Variant, name: str, figures: Sequence[TaskResult]) -> None:
        """Write the figures of a task."""
        rows = [one.model_dump(mode="json") for one in figures]
        key = self._task_key(variant, name)
        content = {"key": key, "variant": variant.name, "task": name, "figures": rows}
        write_json(self._task_path(variant, name), content)

    def _task_path(self, variant: Variant, name: str) -> Path:
        return self.folder / "tasks" / variant.slug / f"{quote(name, safe='')}.json"

    def _task_key(self, variant: Variant, name: str) -> str:
        assert self.plan.tasks is not None
        limit = self.plan.tasks.request.limit
        return digest_of([self._key(variant), self.plan.tasks.digests[name], limit])

    def _path(self, variant: Variant) -> Path:
        return self.folder / "answers" / f"{variant.slug}.parquet"

    def _key(self, variant: Variant) -> str:
        return digest_of([self.plan.key, self.plan.variant_id(variant)])
