"""`sftbench lm-eval` and `sftbench tasks-path`: our tasks in lm-evaluation-harness."""

from __future__ import annotations

import typer

CONTEXT_SETTINGS = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],  # --help is lm-eval's own
}
"""For `app.command`: every argument goes to lm-eval as it is."""


def lm_eval(ctx: typer.Context) -> None:
    """Run lm-evaluation-harness with our tasks; arguments as for lm_eval."""
    from sftbench.harness.wrapper import run

    run(ctx.args)


def tasks_path() -> None:
    """Print the folder of our lm-eval tasks, for lm_eval --include_path."""
    from sftbench.harness import tasks

    typer.echo(tasks.tasks_path())
