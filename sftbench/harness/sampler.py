"""The few-shot sampler: the examples are those that the asked document carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.samplers import ContextSampler

from sftbench.common.errors import SftbenchError
from sftbench.facts.shots import MOST_SHOTS


class ShotSampler(ContextSampler):  # type: ignore[misc]  # lm-eval is not typed
    """Takes the first `n` shots of the fact's own set, for every model and seed alike.

    lm-eval's own machinery formats them, so that --num_fewshot, --apply_chat_template and
    --fewshot_as_multiturn work as for any task.
    """

    def sample(
        self,
        n: int,
        eval_doc: dict[str, Any] | None = None,
        df: Sequence[dict[str, Any]] | None = None,
        **kwargs: object,
    ) -> list[dict[str, Any]]:
        """Return up to `n` documents with `question` and `answer`.

        A small relation may have fewer shots than `n`; then all of them are shown.

        Raises:
            SftbenchError: `n` is more than a set can hold, or the fact set reserves no shots.
        """
        del df, kwargs
        if n > MOST_SHOTS:
            raise SftbenchError(
                f"{n} examples are more than the {MOST_SHOTS} that a shot set holds",
                where="--num_fewshot",
                remedy=f"Ask for at most {MOST_SHOTS}.",
            )
        shots: list[dict[str, Any]] = eval_doc["shots"] if eval_doc else []
        if n > 0 and not shots:
            raise SftbenchError(
                "no fact is reserved as an example",
                where="the fact table",
                remedy="Use --num_fewshot 0, or a fact table with a train split.",
            )
        return shots[:n]
