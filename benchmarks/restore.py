"""Measure `sftbench restore`, its speed and memory, against plain sums and the whole-model way.

    python benchmarks/restore.py --sizes 0.25,1,4 -o out/restore.json --folder out/bench

Every measurement is a process of its own, after the weights were read into the page cache; what
is compared is measured in turns. A bound that is missed ends the command with status 1.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftbench.common.digests import software_versions
from sftbench.common.files import read_json, write_json

if TYPE_CHECKING:
    import torch

PERCENTS = (1, 3, 5, 10, 20, 40, 60)
MEDIAN = 20
BOUNDED = 0.25  # billions of parameters from which on the bounds hold
LARGEST_WHOLE = 1.0  # billions of parameters up to which the whole-model way is compared
CORES = len(os.sched_getaffinity(0))

MOST_MEMORY, FLAT = 2.0, 1.1  # GiB; largest size against 1B
MOST_SUMS, LEAST_PLAN, LEAST_WRITTEN, LEAST_LEANER = 2.0, 100.0, 15.0, 9.0

SAMPLING = 0.02  # seconds between two looks at the memory
SETTLED = 2.5  # seconds after which the digest of a new file is kept
PIECE = 1 << 20  # scalars that fit a core's cache
GIB = 1 << 30

SUM, PIECES = "sum", "sum in pieces"
PLAN, COMMAND, COLD, APPLY = "plan", "plan, command", "plan, command, first", "apply, command"
WHOLE = "whole {} %"


# What is measured: each runs in a process of its own.


def plan_once(base: Path, tuned: Path, percents: Sequence[int]) -> None:
    """Plan all percentages as `sftbench restore plan` does."""
    from sftbench.checkpoints.restored_folders import plan_folders
    from sftbench.checkpoints.rules import parse_rule

    plan_folders(base, tuned, [parse_rule(f"relative,{percent}%") for percent in percents])


def job_plan(base: Path, tuned: Path) -> dict[str, float]:
    """Return the seconds of planning, without imports, and of planning again."""
    import scipy.optimize  # noqa: F401
    import torch  # noqa: F401

    import sftbench.checkpoints.restored_folders  # noqa: F401

    watch = Watch()
    for name in ("seconds", "again"):
        plan_once(base, tuned, PERCENTS)
        watch.lap(name)
    return watch.laps


def job_sum(base: Path, tuned: Path) -> dict[str, float]:
    """Return the seconds of two passes over both sides, each tensor summed by torch."""
    import torch

    torch.set_num_threads(CORES)
    return _two_passes(base, tuned, lambda tensor: float(tensor.sum()))


def job_pieces(base: Path, tuned: Path) -> dict[str, float]:
    """Return the seconds of two passes, summed in float32 in pieces that fit a core's cache."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    torch.set_num_threads(1)
    with ThreadPoolExecutor(CORES) as threads:

        def total(tensor: torch.Tensor) -> float:
            parts = torch.split(tensor.view(-1), PIECE)
            return sum(threads.map(lambda part: float(part.float().sum()), parts))

        return _two_passes(base, tuned, total)


def _two_passes(
    base: Path, tuned: Path, total: Callable[[torch.Tensor], float]
) -> dict[str, float]:
    from safetensors import safe_open

    began = time.perf_counter()
    sums = 0.0
    for _ in range(2):
        for folder in (base, tuned):
            for file in sorted(folder.glob("*.safetensors")):
                with safe_open(file, framework="pt") as stored:
                    sums += sum(total(stored.get_tensor(name)) for name in stored.keys())  # noqa: SIM118
    return {"seconds": time.perf_counter() - began, "sum": sums}


def job_whole(base: Path, tuned: Path, percent: str, ordered: str, out: Path) -> dict[str, float]:
    """Return the seconds of the whole-model way for one percentage, and of its steps."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401

    torch.set_num_threads(CORES)
    watch = Watch()
    models = [AutoModelForCausalLM.from_pretrained(p, dtype=torch.bfloat16) for p in (base, tuned)]
    before, after = (dict(model.named_parameters()) for model in models)
    names = [name for name in before if "layers" in name and "norm" not in name]
    watch.lap("load")
    with torch.no_grad():
        change = torch.cat([_relative(before[name], after[name]) for name in names])
        count = int(len(change) * int(percent) / 100)
        top = torch.topk(change, count, sorted=ordered == "sorted").indices
        watch.lap("rank")
        restored = torch.zeros(len(change), dtype=torch.bool)
        restored[top] = True
        parts = torch.split(restored, [before[name].numel() for name in names])
        for name, part in zip(names, parts, strict=True):
            mask = part.view_as(before[name])
            after[name][mask] = before[name][mask]
        watch.lap("set back")
    models[1].save_pretrained(out)
    watch.lap("save")
    return {"seconds": sum(watch.laps.values()), **watch.laps}


def _relative(base: torch.Tensor, tuned: torch.Tensor) -> torch.Tensor:
    p, s = base.float(), tuned.float()
    return ((s - p).abs() / (p.abs() + 1e-8)).flatten()


class Watch:
    """Seconds by step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._began = time.perf_counter()

    def lap(self, name: str) -> None:
        """End a step; the next begins."""
        now = time.perf_counter()
        self.laps[name], self._began = now - self._began, now


JOBS: Mapping[str, Callable[..., dict[str, float]]] = {
    PLAN: job_plan, SUM: job_sum, PIECES: job_pieces, "whole": job_whole,
}  # fmt: skip


# How it is measured.


@dataclass(frozen=True)
class Run:
    """One measurement.

    Attributes:
        wall: seconds of the whole process.
        peak: bytes, the largest seen of anonymous and shared resident memory.
        steps: of a job, seconds inside the process: "seconds" is the figure, others explain it.
        error: why it failed.
    """

    wall: float = math.nan
    peak: int = 0
    steps: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None

    @property
    def seconds(self) -> float:
        """Seconds of the work without imports."""
        return self.steps.get("seconds", math.nan)


def measure(command: Sequence[str | Path], environment: Mapping[str, str]) -> Run:
    """Run a command and watch its memory; a job's last line of output says its own times."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(list(command), stdout=out, stderr=errors, env=environment)
        try:
            # If memory runs out, this is the process to end, not someone else's.
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000", encoding="ascii")
            peak = _watch(process)
        finally:
            process.kill()
        wall = time.perf_counter() - began
        said, wrong = _text(out), _text(errors)
    if process.returncode:
        lines = [line for line in wrong.splitlines() if any(map(str.isalpha, line))]
        return Run(wall, peak, error=f"status {process.returncode}: {(lines or ['no words'])[-1]}")
    steps = json.loads(said.splitlines()[-1]) if "--job" in command else {}
    return Run(wall, peak, steps)


def _text(stream: Any) -> str:
    stream.seek(0)
    return str(stream.read())


def _watch(process: subprocess.Popen[bytes]) -> int:
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        try:
            process.wait(SAMPLING)
        except subprocess.TimeoutExpired:
            continue
    return peak


def resident(pid: int) -> int:
    """Return the anonymous and shared resident bytes of a process and all below it."""
    here = Path(f"/proc/{pid}")
    try:
        lines = (here / "status").read_text(encoding="utf-8").splitlines()
        children = (here / f"task/{pid}/children").read_text(encoding="ascii").split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = [line.split() for line in lines if line.startswith(("RssAnon:", "RssShmem:"))]
    return sum(1024 * int(words[1]) for words in found) + sum(resident(int(c)) for c in children)


@dataclass
class Bench:
    """One pair, and what was measured on it.

    Attributes:
        billions: parameters asked for.
        folder: where the pair is, and the cache, and for a while what is written.
        about: what the pair is, as its generator says.
        runs: measurements by name, in the order in which they were made.
    """

    billions: float
    folder: Path
    about: Mapping[str, float]
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))

    @property
    def sides(self) -> tuple[Path, Path]:
        """The folders of base and tuned."""
        return self.folder / "base", self.folder / "tuned"

    @property
    def written(self) -> Sequence[int]:
        """The percentages that are written: one alone where seven would fill the disk."""
        return PERCENTS if self.billions <= LARGEST_WHOLE else (MEDIAN,)

    def job(self, job: str, *options: str | Path, name: str | None = None) -> None:
        """Measure one of `JOBS`."""
        # -P: or benchmarks/coverage.py is what numba imports as coverage
        script = (sys.executable, "-P", Path(__file__).resolve())
        self._measure(name or job, [*script, "--job", job, *self.sides, *options])

    def command(self, name: str, *options: str | Path) -> None:
        """Measure a subcommand of `sftbench restore`."""
        base, tuned = self.sides
        pair = ("--base", base, "--tuned", tuned, "--criterion", "relative")
        program = Path(sys.executable).with_name("sftbench")
        self._measure(name, [program, "restore", *options[:1], *pair, *options[1:]])

    def plan_command(self, name: str) -> None:
        """Measure `sftbench restore plan`."""
        with self._scratch() as out:
            self.command(name, "plan", "--percent", _comma(PERCENTS), "-o", out / "plan.json")

    def apply_command(self) -> None:
        """Measure `sftbench restore apply`, if the disk has room for what it writes."""
        with self._scratch() as out:
            size = 2 * self.about["parameters"] * len(self.written)
            if not self._has(APPLY, shutil.disk_usage(out).free, 1.1 * size, "free disk"):
                return
            self.command(APPLY, "apply", "--percent", _comma(self.written), "-o", out / "restored")

    def whole(self, percent: int, *, ordered: bool) -> None:
        """Measure the whole-model way for one percentage, if the memory is enough for it."""
        name = WHOLE.format(percent)
        if self._has(name, available(), self.whole_bytes(percent), "available memory"):
            with self._scratch() as out:
                order = "sorted" if ordered else "unsorted"
                self.job("whole", str(percent), order, out / "restored", name=name)

    def whole_bytes(self, percent: int) -> float:
        """Return what the whole-model way takes at its peak, which is in topk.

        The changes as float32, topk's own pairs of value and index of 16 bytes each, what it
        returns (12 bytes each), and Python with its libraries.
        """
        return self.about["ranked"] * (4 + 16 + 12 * percent / 100) + 0.5 * GIB

    def _has(self, name: str, there: float, needed: float, what: str) -> bool:
        if there < needed:
            why = f"not run: needs {needed / GIB:.1f} GiB of {what}, there are {there / GIB:.1f}"
            self._keep(name, Run(error=why))
        return there >= needed

    def _measure(self, name: str, command: Sequence[str | Path]) -> None:
        os.sync()
        for side in self.sides:
            warm(side)
        self._keep(name, measure(command, self._environment))

    def _keep(self, name: str, run: Run) -> None:
        self.runs[name].append(run)
        print(f"{self.billions:g}B {name}: {_words(run)}", flush=True)

    @property
    def _environment(self) -> dict[str, str]:
        """All cores for everyone, nothing asked of the network, digests kept with the pair."""
        threads = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
        return {
            **os.environ,
            **dict.fromkeys(threads, str(CORES)),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "SFTBENCH_CACHE": str(self.folder / "cache"),
        }

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="written-", dir=self.folder) as out:
            yield Path(out)


def _comma(percents: Sequence[int]) -> str:
    return ",".join(map(str, percents))


def _words(run: Run) -> str:
    if run.error:
        return run.error
    inside = ", ".join(f"{name} {value:.2f}" for name, value in run.steps.items() if name != "sum")
    return f"{run.wall:.2f} s, {run.peak / GIB:.2f} GiB" + (f" ({inside})" if inside else "")


def warm(folder: Path) -> None:
    """Read the weights, so that they are in the page cache."""
    buffer = bytearray(1 << 23)
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def available() -> int:
    """Return the bytes of memory that a new process can have."""
    return 1024 * int(_proc("meminfo", "MemAvailable").split()[0])


def _proc(file: str, key: str) -> str:
    lines = Path("/proc", file).read_text(encoding="utf-8").splitlines()
    return next((s.split(":", 1)[1].strip() for s in lines if s.startswith(key)), "0")


@contextmanager
def pair_of(billions: float, folder: Path, *, keep: bool) -> Iterator[Bench]:
    """Yield a generated pair, or one that was kept; it is deleted afterwards unless kept."""
    pair = folder / f"pair-{billions:g}B"
    about = pair / "pair.json"
    if not about.is_file():
        write_json(about, generated(billions, pair))
        time.sleep(SETTLED)
    try:
        yield Bench(billions, pair, read_json(about))
    finally:
        if not keep:
            shutil.rmtree(pair, ignore_errors=True)


def generated(billions: float, pair: Path) -> dict[str, float]:
    """Generate a pair in a process of its own; return what it says of it."""
    script = Path(__file__).with_name("llama_pairs.py")
    size = str(billions * 1e9)
    command = (sys.executable, "-P", str(script), str(pair), "--parameters", size)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(f"{billions:g}B pair: {done.stdout.strip()}", flush=True)
    return dict(json.loads(done.stdout))


def measure_size(bench: Bench, args: argparse.Namespace) -> None:
    """Make all measurements of one size, what is compared in turns."""
    bench.plan_command(COLD)
    for _ in range(args.turns):
        for job in (SUM, PIECES, PLAN):
            bench.job(job)
        bench.plan_command(COMMAND)
    bench.apply_command()
    if bench.billions > LARGEST_WHOLE or args.no_whole:
        return
    for percent in (MEDIAN,) if args.quick else PERCENTS:
        bench.job(PLAN)
        bench.plan_command(COMMAND)
        bench.whole(percent, ordered=not args.unsorted)
    bench.apply_command()


# What comes of it.


@dataclass(frozen=True)
class Check:
    """A figure, and the bound that was promised for it, if there is one at this size."""

    size: str
    what: str
    value: float
    bound: float
    at_most: bool
    promised: bool = True

    @property
    def verdict(self) -> str:
        """Whether the bound holds; a figure that could not be measured does not."""
        if not self.promised:
            return "-"
        holds = self.value <= self.bound if self.at_most else self.value >= self.bound
        return "holds" if holds else "missed"


def seconds_of(runs: Sequence[Run]) -> list[float]:
    """Return the seconds inside the processes that worked."""
    return [run.seconds for run in runs if not run.error]


def walls_of(runs: Sequence[Run]) -> list[float]:
    """Return the seconds of the whole processes that worked."""
    return [run.wall for run in runs if not run.error]


def peak_of(*runs: Sequence[Run], all_must_work: bool = True) -> float:
    """Return the largest peak in GiB; not a number if there is none, or one did not work."""
    every = [run for some in runs for run in some]
    worked = [run.peak / GIB for run in every if not run.error]
    return max(worked) if worked and (len(worked) == len(every) or not all_must_work) else math.nan


def median(values: Sequence[float]) -> float:
    """Return the median; not a number if there is none."""
    return statistics.median(values) if values else math.nan


def seven(bench: Bench, times: Callable[[Sequence[Run]], list[float]]) -> float:
    """Return the time of seven runs of the whole-model way.

    One that was not made (--quick, or for want of memory) counts as the shortest that was: in
    favour of the whole-model way.
    """
    made = [t for percent in PERCENTS for t in times(bench.runs.get(WHOLE.format(percent), []))]
    return sum(made) + (len(PERCENTS) - len(made)) * min(made, default=math.nan)


def ratio_in_turns(bench: Bench, over: str, turns: int, step: str = "seconds") -> float:
    """Return the median over turns of planning against the sums of the same turn."""
    pairs = zip(bench.runs[PLAN][:turns], bench.runs[over][:turns], strict=True)
    return median([plan.steps.get(step, math.nan) / sums.seconds for plan, sums in pairs])


def checks_of(bench: Bench, turns: int) -> list[Check]:
    """Return the figures of one size against their bounds."""
    size, runs, promised = f"{bench.billions:g}B", bench.runs, bench.billions >= BOUNDED
    planning, writing = peak_of(runs[COMMAND], runs[COLD]), peak_of(runs[APPLY])
    most = {
        "memory to plan, GiB": (planning, MOST_MEMORY),
        f"memory to write {len(bench.written)}, GiB": (writing, MOST_MEMORY),
        "plan / two passes of sums": (ratio_in_turns(bench, SUM, turns), MOST_SUMS),
        "plan / the same in pieces": (ratio_in_turns(bench, PIECES, turns), MOST_SUMS),
    }
    found = [Check(size, what, *figures, True, promised) for what, figures in most.items()]
    for over, what in ((SUM, "sums"), (PIECES, "pieces")):
        again = ratio_in_turns(bench, over, turns, "again")
        found.append(Check(size, f"plan again / {what}", again, MOST_SUMS, True, promised=False))
    return found + whole_checks(bench, max(planning, writing), promised=promised)


def whole_checks(bench: Bench, ours: float, *, promised: bool) -> list[Check]:
    """Return how the whole-model way compares, if it was measured; `ours` is a peak in GiB."""
    runs = bench.runs
    whole = [run for p in PERCENTS for run in runs.get(WHOLE.format(p), [])]
    if not whole:
        return []
    inside, outside = seven(bench, seconds_of), seven(bench, walls_of)
    plan, command, write = (
        median(values)
        for values in (seconds_of(runs[PLAN]), walls_of(runs[COMMAND]), walls_of(runs[APPLY]))
    )
    least = {
        "seven whole / plan, without imports": (inside / plan, LEAST_PLAN),
        "seven whole / plan, commands": (outside / command, LEAST_PLAN),
        "seven whole / seven written, commands": (outside / write, LEAST_WRITTEN),
        "whole / ours, memory": (peak_of(whole, all_must_work=False) / ours, LEAST_LEANER),
    }
    size = f"{bench.billions:g}B"
    return [Check(size, what, *figures, False, promised) for what, figures in least.items()]


def flat_checks(benches: Sequence[Bench]) -> list[Check]:
    """Return how memory grows from 1B to the largest size beyond it."""
    by_size = {bench.billions: bench for bench in benches}
    largest = by_size[max(by_size)]
    if 1.0 not in by_size or largest.billions <= 1.0:
        return []
    size = f"1B to {largest.billions:g}B"
    jobs = {"plan": COMMAND, "write": APPLY}
    return [
        Check(size, f"growth of the memory to {verb}", after / before, FLAT, True)
        for verb, name in jobs.items()
        for before, after in [[peak_of(bench.runs[name]) for bench in (by_size[1.0], largest)]]
    ]


def show(benches: Sequence[Bench], checks: Sequence[Check]) -> None:
    """Print the medians, and the figures against their bounds."""
    from rich.console import Console
    from rich.table import Table

    times = Table("size", "what", "runs", "inside, s", "process, s", "memory, GiB", title="Medians")
    for bench in benches:
        for name, runs in bench.runs.items():
            figures = (
                median(seconds_of(runs)),
                median(walls_of(runs)),
                peak_of(runs, all_must_work=False),
            )
            words = ["" if math.isnan(value) else f"{value:.2f}" for value in figures]
            failed = next((run.error for run in runs if run.error), None)
            times.add_row(f"{bench.billions:g}B", name, str(len(runs)), *words)
            if failed:
                times.add_row("", f"  {failed}")
    bounds = Table("size", "what", "measured", "bound", "verdict", title="Bounds")
    for check in checks:
        sign = "≤" if check.at_most else "≥"
        bounds.add_row(
            check.size, check.what, f"{check.value:.2f}", f"{sign} {check.bound:g}", check.verdict
        )
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(times)
    console.print(bounds)


def as_json(
    benches: Sequence[Bench], checks: Sequence[Check], load: float, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return everything that was measured, and on what, as a JSON value."""
    return {
        "options": options,
        "machine": {
            "system": platform.platform(),
            "processor": _proc("cpuinfo", "model name"),
            "cores": CORES,
            "memory, GiB": 1024 * int(_proc("meminfo", "MemTotal").split()[0]) / GIB,
            "load before": load,
            "load after": os.getloadavg()[0],
        },
        "versions": {
            "python": platform.python_version(),
            **software_versions(
                "sftbench", "torch", "numpy", "numba", "transformers", "safetensors"
            ),
        },
        "sizes": [
            {"billions": b.billions, "pair": b.about, "runs": _plain(b.runs)} for b in benches
        ],
        "checks": [{**_plain(asdict(check)), "verdict": check.verdict} for check in checks],
    }


def _plain(value: Any) -> Any:
    """Return a JSON value without NaN."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Run):
        return _plain(asdict(value))
    return None if isinstance(value, float) and math.isnan(value) else value


def main() -> None:
    """Measure and print; with -o also write JSON."""
    if sys.argv[1:2] == ["--job"]:
        job, base, tuned, *others = sys.argv[2:]
        print("\n" + json.dumps(JOBS[job](Path(base), Path(tuned), *others)))
        return
    args, load = _arguments(), os.getloadavg()[0]
    sizes = sorted(float(size) for size in args.sizes.split(","))
    args.folder.mkdir(parents=True, exist_ok=True)
    benches: list[Bench] = []
    for billions in sizes:
        with pair_of(billions, args.folder.resolve(), keep=args.keep) as bench:
            benches.append(bench)
            measure_size(bench, args)
    checks = [check for bench in benches for check in checks_of(bench, args.turns)]
    checks += flat_checks(benches)
    show(benches, checks)
    if args.output is not None:
        options = {"turns": args.turns, "quick": args.quick, "unsorted": args.unsorted}
        write_json(args.output, as_json(benches, checks, load, options))
    sys.exit(any(check.verdict == "missed" for check in checks))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="0.25,1,4", help="billions of parameters")
    parser.add_argument("--folder", type=Path, default=Path("out/bench"), help="for the pairs")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--tiny", action="store_true", help="0.02B, one turn, --quick: does it run?"
    )
    parser.add_argument("--quick", action="store_true", help="the whole-model way once, not seven")
    parser.add_argument("--no-whole", action="store_true", help="the whole-model way not at all")
    parser.add_argument("--unsorted", action="store_true", help="topk with sorted=False: faster")
    parser.add_argument("--keep", action="store_true", help="the pairs")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    if args.tiny:
        args.sizes, args.turns, args.quick = "0.02", 1, True
    return args


if __name__ == "__main__":
    main()
