"""A side of a gate from what `lm_eval --log_samples --output_path` wrote: one model's answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from sftbench.analysis.gate import RunName
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json
from sftbench.facts.prompts import PROMPTS
from sftbench.gate.sides import FACT_COLUMNS, GREEDY, Run, Side, fact_identity

GROUPS = {"sft_knowledge": "fewshot", "sft_knowledge_paper": "paper"}
"""The task groups, and the prompt that each asks with."""
TASK = re.compile(r"(?P<group>sft_knowledge(?:_paper)?)_(?P<domain>in|out)_level(?P<level>[0-4])")
SAMPLES = re.compile(rf"samples_(?P<task>{TASK.pattern})_(?P<time>\d{{4}}-.+)")
RESULTS = "results_*.json"
MODELS = ("pretrained", "tuned", "base", "peft", "delta", "tokenizer", "revision")
"""Arguments of a model that name it, and so differ between runs."""
AGAIN = (
    "Run lm_eval with --tasks sft_knowledge --log_samples --output_path FOLDER, an empty folder "
    "for each model."
)
SCHEMA: dict[str, Any] = {
    "fact_id": pl.String,
    "domain": pl.String,
    "level": pl.Int8,
    "relation": pl.String,
    "question": pl.String,
    "answer": pl.String,
    "answers": pl.List(pl.String),
    "prompt_id": pl.String,
    "right": pl.Boolean,
    "said": pl.String,
    "decoding": pl.String,  # greedy, and the longest answer in tokens
}


class _Samples(NamedTuple):
    """The samples of one task."""

    path: Path
    group: str
    domain: str
    level: int
    time: str


def is_lm_eval(folder: Path) -> bool:
    """Return whether lm-eval wrote into a folder, or into one below it."""
    return folder.is_dir() and (
        next(folder.rglob(RESULTS), None) is not None
        or next(folder.rglob("samples_*.jsonl"), None) is not None
    )


def side_of_lm_eval(folder: Path) -> Side:
    """Return the answers of one run of lm-eval on a group of ours, as a side without a base.

    Raises:
        SftbenchError: no samples, samples or results of more than one run, a task that is missing
            or broken.
    """
    results, files = _results(folder), _samples(folder)
    rows = pl.DataFrame([row for one in files for row in _rows(one)], SCHEMA, orient="row")
    if rows.height != rows["fact_id"].n_unique():
        raise SftbenchError("holds a fact twice", where=folder, remedy=AGAIN)
    try:
        _require_all(rows, results, folder)
        identity, circumstances = _identity(results, rows, files[0].group), _circumstances(results)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SftbenchError(
            f"holds a results file that is not lm-eval's ({type(error).__name__}: {error})",
            where=folder,
            remedy=AGAIN,
        ) from None
    facts = rows.select(FACT_COLUMNS).sort("fact_id")
    said = rows.select("fact_id", "said").sort("fact_id")
    return Side(
        name=str(folder),
        facts=facts,
        base=None,
        runs=(
            Run(
                RunName(name=str(folder), digest=digest_of(said.rows())),
                rows.select("fact_id", "right"),
                said,
            ),
        ),
        identity={**fact_identity(facts, rows.select("fact_id", "answers"), rows), **identity},
        circumstances=circumstances,
    )


def _results(folder: Path) -> Mapping[str, Any]:
    """Return the one results file below a folder."""
    found = sorted(folder.rglob(RESULTS))
    if len(found) > 1:
        raise SftbenchError(
            f"holds the results of {len(found)} runs ({found[0].name}, {found[1].name} ...), which "
            "would be mixed up",
            where=folder,
            remedy="Name the folder of one run, or take the older files out.",
        )
    if not found:
        raise SftbenchError("holds samples of lm-eval but no results", where=folder, remedy=AGAIN)
    read = read_json(found[0])
    if not isinstance(read, dict) or not isinstance(read.get("configs"), dict):
        raise SftbenchError("is no results file of lm-eval", where=found[0], remedy=AGAIN)
    return read


def _samples(folder: Path) -> list[_Samples]:
    """Return the samples of one group's tasks, of one run."""
    found = []
    for path in sorted(folder.rglob("samples_*.jsonl")):
        match = SAMPLES.fullmatch(path.stem)
        if match:
            found.append(
                _Samples(path, match["group"], match["domain"], int(match["level"]), match["time"])
            )
    if not found:
        raise SftbenchError("holds no samples of sft_knowledge", where=folder, remedy=AGAIN)
    for what, values in (
        ("runs", {one.time for one in found}),
        ("groups", {one.group for one in found}),
    ):
        if len(values) > 1:
            raise SftbenchError(
                f"holds samples of {len(values)} {what} ({', '.join(sorted(values)[:2])} ...), "
                "which would be mixed up",
                where=folder,
                remedy="Name the folder of one run of one group, or take the other files out.",
            )
    return found


def _rows(one: _Samples) -> Iterator[tuple[Any, ...]]:
    """Yield what each line of a samples file says, in the columns of `SCHEMA`."""
    with one.path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                sample = json.loads(line)  # UTF-8; what is not is a ValueError
                doc = sample["doc"]
                asked = sample["arguments"]["gen_args_0"]
                yield (
                    str(doc["fact_id"]),
                    one.domain,
                    one.level,
                    str(doc["relation"]),
                    str(doc["question"]),
                    str(doc["answer"]),
                    [str(answer) for answer in doc["answers"]],
                    digest_of(asked["arg_0"]),
                    _right(sample["acc"]),
                    _text(sample["filtered_resps"][0]),
                    _decoding(asked["arg_1"]),
                )
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise SftbenchError(
                    f"is no sample of sft_knowledge ({type(error).__name__}: {error})",
                    where=f"{one.path}, line {number}",
                    remedy=AGAIN,
                ) from None


def _right(acc: object) -> bool:
    if acc not in (0, 1):
        raise ValueError(f"acc is {acc!r}, not 0 or 1")
    return bool(acc)


def _text(said: object) -> str:
    """Return an answer as text that can be stored: half a surrogate pair cannot."""
    return str(said).encode("utf-8", "replace").decode("utf-8")


def _decoding(how: Mapping[str, Any]) -> str:
    """Return how an answer was drawn, and its longest length."""
    greedy = not how["do_sample"] and float(how.get("repetition_penalty", 1.0)) == 1.0
    beams = int(how.get("num_beams", 1))
    if not greedy or beams != 1:
        return f"{json.dumps(how, sort_keys=True)}|{int(how['max_gen_toks'])}"
    return f"{GREEDY}|{int(how['max_gen_toks'])}"


def _require_all(rows: pl.DataFrame, results: Mapping[str, Any], folder: Path) -> None:
    """Raise unless each task of the results has all its samples."""
    there = {
        (domain, level): count
        for domain, level, count in rows.group_by("domain", "level").len().iter_rows()
    }
    told = {}
    for task, counts in results["n-samples"].items():
        match = TASK.fullmatch(task)
        if match is not None:
            told[match["domain"], int(match["level"])] = int(counts["effective"])
    for key in sorted({*there, *told}):
        if told.get(key, 0) != there.get(key, 0):
            raise SftbenchError(
                f"holds {there.get(key, 0):,} samples of level {key[1]}, domain {key[0]}, and its "
                f"results say {told.get(key, 0):,}",
                where=folder,
                remedy=AGAIN,
            )


def _identity(results: Mapping[str, Any], rows: pl.DataFrame, group: str) -> dict[str, str]:
    """Return what must be the same on both sides, by its name."""
    prompt = PROMPTS[GROUPS[group]]
    drawn = sorted(set(rows["decoding"]))
    decoding, _, longest = drawn[0].rpartition("|")
    dtype = str(results["config"].get("model_dtype") or "").removeprefix("torch.")
    return {
        "suite": ",".join(_of_tasks(results["versions"], float)),
        "prompt": prompt.name,
        "shots": ",".join(_of_tasks(results["n-shot"], int)),
        "longest answer": longest,
        "matching": prompt.how,
        "decoding": decoding if len(drawn) == 1 else "several ways",
        "chat template": "applied" if results.get("chat_template") else "not applied",
        **({"number format": dtype} if dtype else {}),
    }


def _of_tasks(values: Mapping[str, Any], kind: Callable[[Any], Any]) -> list[str]:
    """Return the different values of our tasks; there must be one at least."""
    found = {str(kind(value)) for task, value in values.items() if TASK.fullmatch(task)}
    if not found:
        raise ValueError("no task of ours")
    return sorted(found)


def _circumstances(results: Mapping[str, Any]) -> dict[str, str]:
    """Return what may differ and is only said."""
    config = results["config"]
    arguments = config.get("model_args") or {}
    if isinstance(arguments, Mapping):
        arguments = {name: value for name, value in arguments.items() if name not in MODELS}
    names = {
        "lm-eval": results.get("lm_eval_version"),
        "transformers": results.get("transformers_version"),
        "lm-eval's model": config.get("model"),
        "lm-eval's model arguments": json.dumps(arguments, sort_keys=True),
        "lm-eval's batch size": config.get("batch_size"),
        "lm-eval's system instruction": results.get("system_instruction"),
    }
    return {name: str(value) for name, value in names.items() if value is not None}
