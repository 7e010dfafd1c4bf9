"""Measure vLLM against transformers on this machine: speed, flips, log-probability noise.

    python benchmarks/engines.py --model smollm2 --dtype bfloat16 -o out/engines.json

Both engines answer the same prompts in one run, one after the other in turns, and the ratio of
each turn is what counts: it moves less with the load of the machine than the speeds do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sftbench.checkpoints.names import name_of
from sftbench.checkpoints.reference import resolve
from sftbench.common.files import write_json
from sftbench.engines.protocol import Completion, Draws, Engine, Sampling
from sftbench.engines.settings import EngineSettings, make_engine
from sftbench.facts.matching import AnswerMatcher
from sftbench.facts.prompts import PROMPTS, prompt_text
from sftbench.facts.reference import resolve_facts
from sftbench.facts.shots import shots_of
from sftbench.facts.templates import SUBJECT

GREEDY = "greedy few-shot, prompts/s"
SCORES = "log-probabilities, pairs/s"

Timed = Callable[[Engine], tuple[int, Any]]
"""Does a job with an engine and returns its size (tokens or prompts) and its result."""


def main() -> None:
    """Measure and print; with -o also write JSON."""
    args = _arguments()
    path = resolve(args.model)
    engines = {
        name: make_engine(path, EngineSettings(name, args.dtype).with_rows(args.rows))
        for name in ("hf", "vllm")
    }
    result: dict[str, Any] = {
        "model": name_of(path),
        "dtype": args.dtype,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load before": os.getloadavg()[0],
        "engines": {name: dict(engine.describe()) for name, engine in engines.items()},
    }
    last: dict[str, dict[str, Any]] = {}
    for name, job in jobs_of(args.facts, args.count, args.levelled).items():
        speeds, last[name] = measure(engines, job, args.turns)
        result[name] = {**speeds, "vllm / hf": speeds["vllm"] / speeds["hf"]}
        print(name, {key: round(value, 2) for key, value in result[name].items()}, flush=True)
    result.update(agreement(last[GREEDY], last[SCORES]))
    result["load after"] = os.getloadavg()[0]
    print(json.dumps(result, indent=1))
    if args.output is not None:
        write_json(args.output, result)
    for engine in engines.values():
        engine.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--facts", default="geography")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--count", type=int, default=100, help="facts asked")
    parser.add_argument("--levelled", type=int, default=2, help="facts sampled, all templates")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rows", type=int, default=420, help="completions at once, both engines")
    parser.add_argument("-o", "--output", type=Path)
    return parser.parse_args()


def jobs_of(facts_name: str, count: int, levelled: int) -> dict[str, Timed]:
    """Return what is timed: mastery's draws, compare's answers and log-probabilities."""
    facts = resolve_facts(facts_name)
    shots, prompt = shots_of(facts), PROMPTS["fewshot"]
    rows = list(facts.scored().sort("fact_id").head(count).iter_rows(named=True))
    texts = [
        prompt_text(prompt, row["question"], shots(row["fact_id"], row["relation"])) for row in rows
    ]
    pairs = [(text, f" {row['answers'][0]}") for text, row in zip(texts, rows, strict=True)]
    watched = [
        Draws(template.replace(SUBJECT, row["subject"]), 1000 * number, 10, matcher.settled)
        for number, row in enumerate(rows[:levelled])
        for matcher in [AnswerMatcher(row["answers"], "words")]
        for template in facts.templates[row["relation"]]
    ]
    free = [replace(one, found=None) for one in watched]
    return {
        "sample to the end, tokens/s": lambda engine: sampled(engine, free),
        "sample until found, tokens/s": lambda engine: sampled(engine, watched),
        GREEDY: lambda engine: greedy(engine, texts),
        SCORES: lambda engine: (len(pairs), engine.logprobs(pairs)),
    }


def measure(
    engines: dict[str, Engine], job: Timed, turns: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the median speed of each engine, measured in turns, and its last result."""
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    last: dict[str, Any] = {}
    for _ in range(turns):
        for name, engine in engines.items():
            began = time.perf_counter()
            size, last[name] = job(engine)
            speeds[name].append(size / (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in speeds.items()}, last


def sampled(engine: Engine, draws: Sequence[Draws]) -> tuple[int, list[list[Completion]]]:
    """Draw everything; return the number of tokens and the completions."""
    completions = list(engine.sample(draws, Sampling()))
    return sum(one.tokens for children in completions for one in children), completions


def greedy(engine: Engine, texts: Sequence[str]) -> tuple[int, list[Completion]]:
    """Answer every prompt as `sftbench compare` does."""
    prompt = PROMPTS["fewshot"]
    answers = engine.greedy(texts, max_new_tokens=prompt.max_new_tokens, stop=prompt.stop)
    return len(texts), answers


def agreement(answers: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
    """Return how many greedy answers differ and how far log-probabilities are apart."""
    flips = [a.text != b.text for a, b in zip(answers["hf"], answers["vllm"], strict=True)]
    gaps = [abs(a.logprob - b.logprob) for a, b in zip(scores["hf"], scores["vllm"], strict=True)]
    tokens = sum(one.tokens for one in scores["hf"])
    return {
        "greedy answers": len(flips),
        "flips": sum(flips),
        "log-probability gap, nats per answer": {
            "largest": max(gaps),
            "mean": sum(gaps) / len(gaps),
            "mean per token": sum(gaps) / tokens,
        },
    }


if __name__ == "__main__":
    main()
