"""`sftbench lm-eval`: lm-eval's own command line, with our tasks and model known to it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from sftbench.common.errors import SftbenchError
from sftbench.harness.tasks import tasks_path

INCLUDE = "--include_path"
CONFIG = ("--config", "-C")
MODEL, MODEL_CLASS = "sftbench", "sftbench.harness.model:SftbenchLM"


def arguments(args: Sequence[str]) -> list[str]:
    """Return the arguments with our ``--include_path``, unless one is given already.

    lm-eval takes one such folder on its command line; a user who names another gets that one.
    A list of folders fits into lm-eval's ``--config`` file; one that has the key is left alone.
    """
    given = any(arg == INCLUDE or arg.startswith(f"{INCLUDE}=") for arg in args)
    if not args or given or _in_config(args):
        return list(args)
    return [*args, INCLUDE, str(tasks_path())]


def _in_config(args: Sequence[str]) -> bool:
    """Return whether lm-eval's configuration file names folders of tasks."""
    import yaml

    for flag, value in pairwise(args):
        if flag in CONFIG and Path(value).is_file():
            try:
                content = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
            except (yaml.YAMLError, UnicodeDecodeError):
                return False  # lm-eval says what is wrong with it
            return isinstance(content, dict) and "include_path" in content
    return False


def run(args: Sequence[str]) -> None:
    """Run lm-eval's command line in this process.

    Raises:
        SftbenchError: what our own code finds wrong (a card, a fact table ...), and what lm-eval
            does (an unknown task or model, arguments that exclude each other).
        SystemExit: usage errors that lm-eval's parser has already explained.
    """
    from lm_eval.__main__ import cli_evaluate

    _register_model()
    before = sys.argv
    sys.argv = ["lm_eval", *arguments(args)]
    try:
        cli_evaluate()
    except (OSError, ValueError) as error:
        raise SftbenchError(str(error), where="lm-eval") from error
    finally:
        sys.argv = before


def _register_model() -> None:
    """Make the model `sftbench` known to lm-eval, by name: it is imported when it is used."""
    import lm_eval.models  # noqa: F401  # first: lm-eval leaves its own out if it finds any other
    from lm_eval.api.registry import model_registry

    if MODEL not in model_registry:
        model_registry.register(MODEL, target=MODEL_CLASS)
