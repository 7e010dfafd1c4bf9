"""The lm-eval tasks from Python: one model, per-item answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftbench.common.errors import SftbenchError
from sftbench.harness.tasks import GROUPS, tasks_path

if TYPE_CHECKING:
    import polars as pl


def evaluate(
    model_path: str | Path,
    card: str | Path,
    facts: str | Path | None = None,
    *,
    prompt: str = "fewshot",
    batch_size: int = 16,
    dtype: str = "float32",
    limit: int | None = None,
) -> pl.DataFrame:
    """Ask a model every levelled test fact through lm-eval and return the answers.

    Args:
        model_path: "lab", "smollm2" or a checkpoint folder.
        card: mastery card, a file or a shipped name.
        facts: fact table, a file or a shipped name; None for the one that the card names.
        prompt: "fewshot" or "paper".
        batch_size: prompts in one batch.
        dtype: "float32", "bfloat16" or "float16".
        limit: at most so many facts of each level and domain.

    Returns:
        One row per fact, sorted by fact_id: fact_id, domain, level (Int8), text (what the model
        answered, cut at the prompt's stop string), correct (Boolean).

    Raises:
        SftbenchError: an unknown prompt, or a card, table or checkpoint that does not fit.
    """
    from lm_eval import simple_evaluate

    if prompt not in GROUPS:
        raise SftbenchError(f"there is no prompt {prompt!r}; there is {', '.join(GROUPS)}")
    results = simple_evaluate(
        model=_model(model_path, batch_size, dtype),
        tasks=[GROUPS[prompt]],
        task_manager=_task_manager(card, facts),
        limit=limit,
        bootstrap_iters=0,
        log_samples=True,
    )
    return _answers(results, GROUPS[prompt])


def _model(model_path: str | Path, batch_size: int, dtype: str) -> Any:
    from sftbench.harness.model import SftbenchLM

    return SftbenchLM(str(model_path), dtype=dtype, batch_size=batch_size)


def _task_manager(card: str | Path, facts: str | Path | None) -> Any:
    from lm_eval.tasks import TaskManager

    metadata = {"mastery": str(card), **({} if facts is None else {"facts": str(facts)})}
    # Without lm-eval's own tasks the index takes milliseconds instead of ten seconds.
    return TaskManager(include_path=str(tasks_path()), include_defaults=False, metadata=metadata)


def _answers(results: Any, group: str) -> pl.DataFrame:
    import polars as pl

    rows = []
    for task, samples in results["samples"].items():
        domain, _, level = task.removeprefix(f"{group}_").partition("_level")
        rows += [
            (
                sample["doc"]["fact_id"],
                domain,
                int(level),
                sample["filtered_resps"][0],
                sample["acc"] == 1.0,
            )
            for sample in samples
        ]
    schema = {
        "fact_id": pl.String,
        "domain": pl.String,
        "level": pl.Int8,
        "text": pl.String,
        "correct": pl.Boolean,
    }
    return pl.DataFrame(rows, schema=schema, orient="row").sort("fact_id")
