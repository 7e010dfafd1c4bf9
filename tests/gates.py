"""Sides of a gate made up for tests: facts in levels, answers by seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl

from sftbench.analysis.gate import RunName, Terms
from sftbench.gate.sides import FULL, Run, Side, fact_identity

PER_LEVEL = 80
TERMS = Terms(margin=0.05, alpha=0.05, primary=("retention:in",), seeds=1)


def facts_of(per_level=PER_LEVEL, domains=("in", "out")):
    rows = [
        {
            "fact_id": f"{domain}{level}{number:04d}",
            "domain": domain,
            "level": level,
            "relation": f"{domain}_{number % 3}",
            "question": f"Where is {number}?",
            "answer": f"Town {number}",
        }
        for domain in domains
        for level in range(5)
        for number in range(per_level)
    ]
    return pl.DataFrame(rows, schema_overrides={"level": pl.Int8}).sort("fact_id")


def answered(facts, share, seed):
    """Return fact_id and right: so large a share of each level above 0, nothing of level 0."""
    rng = np.random.default_rng(seed)
    right = (rng.random(facts.height) < share) & (facts["level"].to_numpy() > 0)
    return facts.select("fact_id").with_columns(right=pl.Series(right))


def side(*shares, name="recipe", facts=None, base=0.95, seed=0, **identity):
    """Return a side whose runs answer these shares of the levels 1 to 4 right."""
    facts = facts_of() if facts is None else facts
    aliases = facts.select("fact_id", answers=pl.concat_list("answer"))
    prompts = facts.select("fact_id", prompt_id="question")
    runs = []
    for number, share in enumerate(shares):
        right = answered(facts, share, 100 * seed + number + 1)
        words = pl.when("right").then(pl.lit("Town")).otherwise(pl.lit("<b>no|`@x`"))
        said = right.select("fact_id", said=words)
        runs.append(
            Run(
                RunName(name=f"{name}{number}", digest=f"{name}{seed}{number}", seed=number),
                right,
                said,
            )
        )
    return Side(
        name=name,
        facts=facts,
        base=None if base is None else answered(facts, base, 12345),
        runs=tuple(runs),
        identity={
            **dict.fromkeys(FULL, "x"),
            **fact_identity(facts, aliases, prompts),
            "suite": "1.0",
            **identity,
        },
        circumstances={"torch": "2.13"},
    )


TIME = "2026-11-28T02-06-07.063245"


def write_lm_eval(
    folder: Path, facts, right, *, time=TIME, group="sft_knowledge", shots=4, drawn=None
):
    """Write what lm-eval 0.4.13 writes for our tasks, as far as a gate reads it."""
    how = {"until": ["\n"], "do_sample": False, "repetition_penalty": 1.0, "max_gen_toks": 16}
    how.update(drawn or {})
    folder.mkdir(parents=True, exist_ok=True)
    joined = facts.join(right, on="fact_id")
    counts = {}
    for (domain, level), rows in joined.group_by("domain", "level"):
        task = f"{group}_{domain}_level{level}"
        counts[task] = {"original": rows.height, "effective": rows.height}
        lines = [
            json.dumps(
                {
                    "doc": {
                        **{key: row[key] for key in ("fact_id", "relation", "question", "answer")},
                        "answers": [row["answer"]],
                    },
                    "arguments": {"gen_args_0": {"arg_0": row["question"], "arg_1": how}},
                    "filtered_resps": [" " + row["answer"] if row["right"] else " no"],
                    "acc": float(row["right"]),
                }
            )
            for row in rows.to_dicts()
        ]
        (folder / f"samples_{task}_{time}.jsonl").write_text("\n".join(lines) + "\n")
    results = {
        "configs": {},
        "n-samples": counts,
        "versions": dict.fromkeys(counts, 1.0),
        "n-shot": dict.fromkeys(counts, shots),
        "chat_template": None,
        "lm_eval_version": "0.4.13",
        "config": {"model": "hf", "batch_size": 16, "model_dtype": "torch.float32"},
    }
    (folder / f"results_{time}.json").write_text(json.dumps(results))
    return folder
