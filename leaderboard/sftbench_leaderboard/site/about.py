"""How a record was made, as its page tells it: the commands and the list below them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from sftbench.analysis.evidence import FlipsRecord
from sftbench_leaderboard.record import LeaderboardRecord
from sftbench_leaderboard.site.render import visible

FLAGS = {
    "level": "--level", "size": "--size", "seed": "--seed", "domain": "--domain",
    "prompt": "--prompt", "loss": "--loss", "batch_size": "--batch-size", "epochs": "--epochs",
    "learning_rate": "--learning-rate", "schedule": "--schedule", "warmup": "--warmup",
    "weight_decay": "--weight-decay", "max_grad_norm": "--max-grad-norm",
    "save_dtype": "--save-dtype",
}  # fmt: skip
"""Options of `sftbench finetune` by the fields of a recipe."""
NEEDED = ("level", "size", "seed", "epochs", "learning_rate")
"""Fields without which a recipe is not sftbench's."""


def commands(record: LeaderboardRecord) -> list[str]:
    """Return the commands that make a record again, each one line of plain arguments.

    The submitter wrote them: what a shell would do more with than run sftbench is not returned.
    """
    found = [_finetune(record), record.command]
    return [one for one in found if one is not None and _is_plain(one)]


def _finetune(record: LeaderboardRecord) -> str | None:
    """Return the command of the fine-tune, where the recipe is one of sftbench's."""
    recipe = record.recipe or {}
    if not all(name in recipe for name in NEEDED):
        return None
    options = [
        part for name, flag in FLAGS.items() if name in recipe for part in (flag, str(recipe[name]))
    ]
    base, facts = record.base.name, record.facts.name
    return shlex.join(
        ["sftbench", "finetune", "--base", base, "--facts", facts, *options, "-o", "tuned"]
    )


def _is_plain(command: str) -> bool:
    """Return whether a shell takes a line for one call of sftbench, and for nothing else."""
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    return words[:1] == ["sftbench"] and shlex.join(words) == command


def about(record: LeaderboardRecord) -> list[tuple[str, str]]:
    """Return how a record was made, as pairs of a name and a text."""
    norm, suite, facts = record.update_norm, record.suite, record.facts
    again = record.checks.base_again
    rows = [
        ("Base", f"{record.base.name} ({record.base.digest})"),
        ("Tuned model", record.model.tuned_digest),
        ("Tokenizer", record.model.tokenizer_digest),
        ("Recipe", _pairs(record.recipe or {}) or "unknown"),
        ("Update norm", "unknown" if norm is None else f"{norm:.4g} (L2)"),
        ("Facts", f"{facts.name} ({facts.digest}), {facts.asked:,} asked"),
        ("Mastery card", f"{record.card.digest} ({record.card.estimator})"),
        ("Prompt", f"{suite.prompt}, {suite.shots} shots, suite {suite.version}"),
        ("Base asked again", _again(again)),
        ("Time", _times(record)),
        ("Engine", _pairs(record.engine)),
        ("Software", _pairs(record.software)),
    ]
    return [(key, visible(value)) for key, value in rows]


def _again(flips: FlipsRecord | None) -> str:
    if flips is None:
        return "no"
    return f"yes, {flips.changed:,} of {flips.n:,} facts were right one time and wrong the other"


def _times(record: LeaderboardRecord) -> str:
    cost = record.cost
    return ", ".join([
        *([] if cost.training_seconds is None else [f"training {cost.training_seconds:.0f} s"]),
        *([] if cost.seconds is None else [f"evaluation {cost.seconds:.0f} s"]),
        f"made {record.made}",
    ])  # fmt: skip


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
