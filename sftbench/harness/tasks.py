"""Where the lm-eval task files are: in a checkout, and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from sftbench.common.errors import SftbenchError

PACKAGE = Path(__file__).resolve().parent.parent
GROUPS = {"fewshot": "sft_knowledge", "paper": "sft_knowledge_paper"}
"""Prompt name to the lm-eval group that asks with it."""


def tasks_path() -> Path:
    """Return the folder for lm-eval's ``--include_path``.

    A wheel carries the task files as package data (`sftbench/_tasks`); in a checkout they stand
    in `tasks/` beside the package.

    Raises:
        SftbenchError: the installation holds neither.
    """
    for folder in (PACKAGE / "_tasks", PACKAGE.parent / "tasks"):
        if (folder / GROUPS["fewshot"]).is_dir():
            return folder
    raise SftbenchError(
        "the lm-eval task files are not in this installation",
        where=PACKAGE,
        remedy="Install sftbench again.",
    )
