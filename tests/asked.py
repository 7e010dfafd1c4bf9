"""What lm-eval sends and hears when it asks a model our facts as a chat."""

from __future__ import annotations

from pathlib import Path

BATCH = 16


def asked_by_lm_eval(model: Path, prompt: str, card: str, limit: int) -> dict[str, tuple[str, str]]:
    """Return fact_id to the text that lm-eval sent and the answer that it got."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from sftbench.harness.model import SftbenchLM
    from sftbench.harness.tasks import GROUPS, tasks_path

    results = simple_evaluate(
        model=SftbenchLM(str(model), batch_size=BATCH),
        tasks=[GROUPS[prompt]],
        task_manager=TaskManager(
            include_path=str(tasks_path()), include_defaults=False, metadata={"mastery": card}
        ),
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        limit=limit,
        bootstrap_iters=0,
        log_samples=True,
    )
    return {
        sample["doc"]["fact_id"]: (sample["arguments"][0][0], sample["filtered_resps"][0])
        for samples in results["samples"].values()
        for sample in samples
    }
