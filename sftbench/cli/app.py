"""The command line: every verb in one place, and how errors reach a person."""

from __future__ import annotations

import signal
import sys

import typer

from sftbench import __version__
from sftbench.cli.card import app as card
from sftbench.cli.check import check
from sftbench.cli.compare import compare
from sftbench.cli.demo import demo
from sftbench.cli.drift import drift
from sftbench.cli.facts import app as facts
from sftbench.cli.finetune import finetune
from sftbench.cli.gate import app as gate
from sftbench.cli.lab import app as lab
from sftbench.cli.leaderboard import app as leaderboard
from sftbench.cli.lm_eval import CONTEXT_SETTINGS, lm_eval, tasks_path
from sftbench.cli.mastery import mastery
from sftbench.cli.models import model
from sftbench.cli.pair import pair, seeds
from sftbench.cli.rescore import rescore
from sftbench.cli.restore import app as restore

DEBUG = "--debug"
USAGE_ERROR = 2
BROKEN = 70
"""Exit code of an error that should not have happened (EX_SOFTWARE): no verdict of a gate."""
INTERRUPTED = 130

EXTRA_OF = {
    "pyarrow": "datasets",
    "accelerate": "hf", "safetensors": "hf", "torch": "hf", "transformers": "hf",
    "lm_eval": "harness", "datasets": "datasets", "peft": "peft", "trl": "train",
    "gguf": "smollm2", "vllm": "vllm", "huggingface_hub": "hf",
}  # fmt: skip
"""The extra that brings a library which a light installation leaves out."""

app = typer.Typer(
    name="sftbench",
    help="What did a fine-tune do to what the model knows, is it real, and can it be undone?",
    epilog=f"Add {DEBUG} to any command to see the traceback of an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
app.add_typer(facts, name="facts")
app.command()(mastery)
app.command()(finetune)
app.add_typer(restore, name="restore")
app.command()(compare)
app.command()(drift)
app.command()(check)
app.command()(pair)
app.command()(seeds)
app.command()(rescore)
app.add_typer(gate, name="gate")
app.add_typer(card, name="card")
app.add_typer(leaderboard, name="leaderboard")
app.command("lm-eval", context_settings=CONTEXT_SETTINGS)(lm_eval)
app.command("tasks-path")(tasks_path)
app.command()(model)
app.add_typer(lab, name="lab")
app.command()(demo)


def _version(*, value: bool) -> None:
    if value:
        typer.echo(f"sftbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False,
        "--version",
        callback=lambda value: _version(value=value),
        is_eager=True,
        help="Print the version and exit.",
    ),
) -> None:
    """What did a fine-tune do to what the model knows, is it real, and can it be undone?"""


class Stopped(BaseException):
    """Ctrl-C or a polite kill: unwinds every context manager, so that nothing half-written stays.

    Not KeyboardInterrupt, which click would turn into "Aborted!" before we can say more.
    """


def _stop(number: int, frame: object) -> None:
    raise Stopped


def main() -> None:
    """Run the command line; what the user can mend ends in one message and exit code 2."""
    from sftbench.common.errors import SftbenchError

    debug = DEBUG in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != DEBUG]
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    try:
        app(args=arguments, prog_name="sftbench")
    except SftbenchError as error:
        if debug:
            raise
        _say(str(error))
        sys.exit(USAGE_ERROR)
    except Stopped:
        _say(
            "Stopped; nothing half-written is left. mastery, compare and demo can go on from here."
        )
        sys.exit(INTERRUPTED)
    except Exception as error:
        if debug:
            raise
        missing = _missing(error)
        if missing is not None:
            _say(missing)
            sys.exit(USAGE_ERROR)
        _say(
            f"This should not have happened: {type(error).__name__}: {error}\n"
            f"Run the command again with {DEBUG} for the traceback, and please report it."
        )
        sys.exit(BROKEN)


def _missing(error: Exception) -> str | None:
    """Return what to say of a library that is not installed; None of any other error."""
    name = str(error.name).partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name not in EXTRA_OF:
        return None
    return (
        f"This needs {name}, which is not installed.\nRun: pip install 'sftbench[{EXTRA_OF[name]}]'"
    )


def _say(message: str) -> None:
    print(f"sftbench: {message}", file=sys.stderr)
