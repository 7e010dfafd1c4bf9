"""Estimators of mastery beside the sampled card's own re-run: agreement, bias, cost.

    python benchmarks/mastery.py --facts entityquestions.parquet geography -o out/bench/mastery.json
    python benchmarks/mastery.py --facts entityquestions.parquet --cost 96 --engines hf vllm
    python benchmarks/mastery.py --facts entityquestions.parquet --draw ids.json
    python benchmarks/mastery.py --facts geography --draw ids.json --card card.parquet

The yardstick (data/mastery_yardstick.parquet) holds 20 draws of each template of some facts: the
sampled card is made of the first ten, its re-run of the others. An estimator is held against both.
Sampling that stops and sampling with fewer draws are taken from the same draws; likelihood is run.
`--draw` adds facts to the yardstick (half a minute each on two cores) and can be stopped; with
`--card` the hits of a sampled card are the first ten draws, and only the re-run is drawn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from sftbench.analysis.agreement import Agreement, agreement
from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.reference import resolve
from sftbench.common.files import write_json
from sftbench.common.tables import TableSpec
from sftbench.engines.protocol import Completion, Draws, Sampling
from sftbench.engines.settings import make_engine, parse_engine
from sftbench.facts.matching import AnswerMatcher
from sftbench.facts.reference import resolve_facts
from sftbench.facts.table import FactSet
from sftbench.mastery.adaptive import AdaptiveEstimator
from sftbench.mastery.card import MADE_OF, MASTERY, with_levels
from sftbench.mastery.estimate import Estimator
from sftbench.mastery.likelihood import LikelihoodEstimator
from sftbench.mastery.measured import Measured
from sftbench.mastery.sampled import SampledEstimator
from sftbench.mastery.select import select

HERE = Path(__file__).resolve().parent
FILE = HERE / "data" / "mastery_yardstick.parquet"
CARD = 10
"""Draws of each template that make a card; the yardstick holds twice as many."""

YARDSTICK = TableSpec(
    kind="mastery yardstick",
    columns={
        "fact_id": pl.String,
        "relation": pl.String,
        "dtype": pl.String,  # of the model that drew the first ten; the re-run is in float32
        "hits": pl.List(pl.List(pl.Boolean)),  # [templates][20 draws]
    },
    remedy="It lies beside benchmarks/mastery.py.",
)


class Row(NamedTuple):
    """One estimator against the card and its re-run.

    Attributes:
        name: what it is.
        kind: "sampled", "adaptive" or "likelihood".
        against: beside the card.
        other: beside its re-run.
        cost: of a fact, that of 210 sampled completions being 1; None where it was not measured.
        seconds: of one core for a fact; None where draws were taken from the yardstick.
    """

    name: str
    kind: str
    against: Agreement
    other: Agreement
    cost: float | None
    seconds: float | None = None


def main() -> None:
    """Draw or measure, and print; with -o also write JSON."""
    args = _arguments()
    tables = [resolve_facts(ref) for ref in args.facts]
    if args.draw is not None:
        draw(args.model, tables[0], json.loads(args.draw.read_text()), args.card)
        return
    if args.cost:
        show_costs(costs(args.model, tables[0], args.cost, args.timed, args.engines))
        return
    ways = dict(list(likelihoods().items())[: None if args.all_ways else 1])
    rows = list(measure(args.model, Asked.of(args.model, tables, args.relations), args.timed, ways))
    show(rows)
    if args.output is not None:
        write_json(args.output, [as_json(row) for row in rows])


def draw(model: str, facts: FactSet, ids: Sequence[str], card: Path | None) -> None:
    """Add facts to the yardstick, one after the other; with a card, as its re-run."""
    there = _read(model)
    wanted = [fact_id for fact_id in ids if fact_id not in set(there["fact_id"])]
    by_id = {row["fact_id"]: row for row in facts.frame.to_dicts()}
    rows = [by_id[fact_id] for fact_id in wanted]
    if card is None:
        first, estimator, dtype = {}, SampledEstimator(samples=2 * CARD), "float32"
    else:
        drawn, record = MASTERY.read(card)
        first = dict(drawn.select("fact_id", "hits").iter_rows())
        # The re-run is drawn in float32, whatever the card was: half precision is slow on a CPU.
        estimator, dtype = SampledEstimator(samples=CARD, seed=1), record["engine"]["dtype"]
    found = estimator.estimate(_engine(model), rows, facts.templates)
    for number, (row, one) in enumerate(zip(rows, found, strict=True), start=1):
        hits = one.hits
        if card is not None:
            hits = [[*old, *new] for old, new in zip(first[one.fact_id], hits, strict=True)]
        more = pl.DataFrame(
            [(one.fact_id, row["relation"], dtype, hits)], schema=YARDSTICK.columns, orient="row"
        )
        there = pl.concat([there, more])
        _write(model, there)
        print(f"{number} of {len(rows)}", flush=True)


def _read(model: str) -> pl.DataFrame:
    if not FILE.is_file():
        return pl.DataFrame(schema=YARDSTICK.columns)
    frame, record = YARDSTICK.read(FILE)
    if record["model_digest"] != checkpoint_digest(resolve(model)):
        raise SystemExit(f"{FILE} was drawn from another model than {model}")
    return frame


def _write(model: str, frame: pl.DataFrame) -> None:
    FILE.parent.mkdir(exist_ok=True)
    record = {
        "model_digest": checkpoint_digest(resolve(model)),
        "settings": SampledEstimator(samples=2 * CARD).settings(),
    }
    YARDSTICK.write(frame.sort("fact_id"), FILE, record)


def _engine(model: str, name: str = "hf") -> Any:
    return make_engine(resolve(model), parse_engine(name))


class Asked(NamedTuple):
    """The yardstick's facts of some tables, each with its hits, and the templates of all."""

    rows: list[dict[str, Any]]
    templates: dict[str, Sequence[str]]

    @classmethod
    def of(cls, model: str, tables: Sequence[FactSet], relations: Sequence[str] | None) -> Asked:
        """Return the facts that are both in the yardstick and in a table (of these relations)."""
        yard = _read(model).select("fact_id", "hits")
        rows, templates = [], {}
        for table in tables:
            found = table.frame.join(yard, on="fact_id").to_dicts()
            rows += [row for row in found if not relations or row["relation"] in relations]
            templates |= dict(table.templates)
        return cls(rows, templates)


def measure(model: str, asked: Asked, timed: int, ways: Mapping[str, Estimator]) -> Iterator[Row]:
    """Yield what each estimator gives on the facts asked."""
    rows, templates = asked
    both = [_levels(_part(row, slice(0, CARD)) for row in rows)]
    both.append(_levels(_part(row, slice(CARD, 2 * CARD)) for row in rows))
    yield Row("the card's own re-run", "sampled", agreement(*both), agreement(*both[::-1]), 1.0)
    for draws in (1, 2, 5):
        # Of each half, judged by the other: a card that holds its own draws would agree with them.
        sides = [
            _levels(_part(row, slice(start, start + draws)) for row in rows) for start in (CARD, 0)
        ]
        found = [agreement(one, other) for one, other in zip(both, sides, strict=True)]
        yield Row(f"sampled, {draws} of {CARD} draws", "sampled", *found, draws / CARD)
    for error in (0.2, 0.05, 0.01):
        yield _adaptive(rows, templates, both, error)
    engine = _engine(model)
    dear = _sampled_seconds(engine, rows, templates, timed) if timed else None
    for name, estimator in ways.items():
        seconds, listed = _timed(estimator, engine, rows, templates)
        by_id = {one.fact_id: one for one in listed}
        levels = _levels(by_id[row["fact_id"]] for row in rows)
        found = [agreement(one, levels) for one in both]
        yield Row(name, "likelihood", *found, dear and seconds / dear, seconds)


def _sampled_seconds(
    engine: Any,
    rows: Sequence[Mapping[str, Any]],
    templates: Mapping[str, Sequence[str]],
    timed: int,
) -> float:
    """Return seconds of one core for a fact by sampling, from so many of the facts."""
    chosen = rows[:: max(1, len(rows) // timed)][:timed]
    seconds, _ = _timed(SampledEstimator(), engine, chosen, templates)
    print(f"sampled: {seconds:.1f} s of one core for a fact ({len(chosen)} facts)", flush=True)
    return seconds


class Cost(NamedTuple):
    """What levelling a fact costs: wall time, all processors at work.

    Attributes:
        estimator: its name.
        engine: "hf" or "vllm".
        facts: how many were levelled.
        seconds: for each of them.
    """

    estimator: str
    engine: str
    facts: int
    seconds: float


def costs(
    model: str, facts: FactSet, count: int, drawn: int, engines: Sequence[str]
) -> Iterator[Cost]:
    """Yield what each estimator costs on each engine, on test facts as they come.

    Args:
        model: a checkpoint.
        facts: their table.
        count: facts for likelihood, balanced.
        drawn: of these, so many for sampling; thrice as many for sampling that stops, whose rounds
            are small: a run levels many facts at once.
        engines: "hf", "vllm".
    """
    rows = select(facts, count, "test").to_dicts()
    for name in engines:
        drawing = {AdaptiveEstimator(): 3 * drawn, SampledEstimator(): drawn}
        ways = {LikelihoodEstimator(): count, **drawing} if name == "hf" else drawing
        with closing(_engine(model, name)) as engine:
            for estimator, wanted in ways.items():
                asked = rows[:: max(1, len(rows) // wanted)][:wanted]
                list(estimator.estimate(engine, asked[-1:], facts.templates))  # not timed: a start
                began = time.perf_counter()
                done = list(estimator.estimate(engine, asked, facts.templates))
                seconds = (time.perf_counter() - began) / len(done)
                yield Cost(estimator.name, name, len(done), seconds)


def show_costs(found: Iterable[Cost]) -> None:
    """Print a line for each, as a table in Markdown, as soon as it is there."""
    print("| estimator | engine | facts | s a fact | 10,000 facts, hours |")
    print("|---|---|---:|---:|---:|", flush=True)
    for one in found:
        line = f"| {one.estimator} | {one.engine} | {one.facts} | {one.seconds:.3f} "
        print(line + f"| {one.seconds * 10_000 / 3600:.1f} |", flush=True)


def _timed(
    estimator: Estimator,
    engine: Any,
    rows: Sequence[Mapping[str, Any]],
    templates: Mapping[str, Sequence[str]],
) -> tuple[float, list[Measured]]:
    """Return seconds of processor time for a fact, and what was measured."""
    began = time.process_time()
    found = list(estimator.estimate(engine, rows, templates))
    return (time.process_time() - began) / len(rows), found


def likelihoods() -> dict[str, Estimator]:
    """Return the ways to read likelihood that are measured; the first is the default."""
    default = LikelihoodEstimator()
    return {
        "likelihood": default,
        "likelihood, gain 0.05": replace(default, gain=0.05),
        "likelihood, all templates twice": replace(default, gain=0.0),
    }


class Replay:
    """An engine that gives the yardstick's draws again, by their seeds."""

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], templates: Mapping[str, Sequence[str]], start: int
    ) -> None:
        estimator = SampledEstimator()
        self._texts: dict[int, str] = {}
        for row in rows:
            matcher = AnswerMatcher(row["answers"])
            for line, drawn in zip(templates[row["relation"]], row["hits"], strict=True):
                seed = estimator.draws(row, line, matcher).seed
                for number, hit in enumerate(drawn[start : start + CARD]):
                    self._texts[seed + number] = f" {row['answers'][0]}. " if hit else ""

    def describe(self) -> Mapping[str, str]:
        """Return what the record of a result needs."""
        return {"engine": "replay", "dtype": "float32"}

    def sample(self, draws: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
        """Yield a completion that states the answer where the draw did."""
        for one in draws:
            texts = [self._texts[one.seed + child] for child in range(one.n)]
            yield [Completion(text, "stop", 1) for text in texts]


def _adaptive(
    rows: Sequence[Mapping[str, Any]],
    templates: Mapping[str, Sequence[str]],
    both: Sequence[list[tuple[int, float]]],
    error: float,
) -> Row:
    """Return sampling that stops, in each half of the draws, judged by the other half."""
    found, drawn = [], 0
    for start in (CARD, 0):
        own = {
            one.fact_id: one
            for one in AdaptiveEstimator(error=error).estimate(
                Replay(rows, templates, start), rows, templates
            )
        }
        found.append(_levels(own[row["fact_id"]] for row in rows))
        drawn += sum(len(one.hits or ()) * len((one.hits or ((),))[0]) for one in own.values())
    share = drawn / 2 / sum(len(row["hits"]) * CARD for row in rows)
    sides = [agreement(one, own) for one, own in zip(both, found, strict=True)]
    return Row(f"adaptive, error {error}", "adaptive", *sides, share)


def _part(row: Mapping[str, Any], part: slice) -> Measured:
    return Measured(row["fact_id"], hits=[drawn[part] for drawn in row["hits"]])


def _levels(found: Any) -> list[tuple[int, float]]:
    """Return (level, rate) of measured facts, in their order."""
    listed = list(found)
    schema = {name: MASTERY.columns[name] for name in MADE_OF}
    frame = with_levels(pl.DataFrame(listed, schema, orient="row"))
    by_id = {row["fact_id"]: (row["level"], row["rate"]) for row in frame.to_dicts()}
    return [by_id[one.fact_id] for one in listed]


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as a JSON value."""
    sides = {"card": row.against.model_dump(), "re-run": row.other.model_dump()}
    more = {"name": row.name, "kind": row.kind, "cost": row.cost, "seconds": row.seconds}
    return {**more, **sides}


def show(rows: Sequence[Row]) -> None:
    """Print one line for each estimator, as a table in Markdown."""
    first = rows[0].against
    print(f"\n{first.n} facts, {first.middle} of them in level 2 to 4 by the card or its re-run\n")
    print(
        "| estimator | cost | s of a core | same level | kappa | levels 2-4: same | kappa | bias | "
        "largest bias of a level | distance |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        sides = (row.against, row.other)
        seconds = "" if row.seconds is None else f"{row.seconds:.2f}"
        cost = "" if row.cost is None else f"{row.cost:.3f}"
        bias = _largest(sides)
        print(
            f"| {row.name} | {cost} | {seconds} | {_mean(sides, lambda a: a.same):.1%} "
            f"| {_mean(sides, lambda a: a.kappa):.3f} "
            f"| {_mean(sides, lambda a: a.middle_same):.1%} "
            f"| {_mean(sides, lambda a: a.middle_kappa):.3f} "
            f"| {_mean(sides, lambda a: a.bias):+.4f} | {bias} "
            f"| {_mean(sides, lambda a: a.distance):.4f} |"
        )


def _largest(sides: Sequence[Agreement]) -> str:
    """Return the bias of the level where it is largest, over both sides."""
    found: dict[int, list[float]] = {}
    for side in sides:
        for one in side.levels:
            found.setdefault(one.level, []).append(one.bias)
    means = {level: sum(values) / len(values) for level, values in found.items()}
    level = max(means, key=lambda one: abs(means[one]))
    return f"{means[level]:+.3f} (level {level})"


def _mean(sides: Sequence[Agreement], of: Callable[[Agreement], float | None]) -> float:
    values = [value for side in sides if (value := of(side)) is not None]
    return sum(values) / len(values) if values else float("nan")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument(
        "--facts", required=True, nargs="+", help="tables of facts, or geography, or lab"
    )
    parser.add_argument("--relations", nargs="*", help="of these relations alone")
    parser.add_argument("--draw", type=Path, help="JSON list of fact ids to add to the yardstick")
    parser.add_argument("--card", type=Path, help="a sampled card that --draw draws again")
    parser.add_argument("--all-ways", action="store_true", help="other settings of likelihood too")
    parser.add_argument(
        "--cost", type=int, help="level so many test facts, balanced, and compare the seconds alone"
    )
    parser.add_argument(
        "--engines", nargs="+", choices=("hf", "vllm"), default=["hf"], help="whose cost"
    )
    parser.add_argument("--timed", type=int, default=4, help="facts to time sampling with")
    parser.add_argument("-o", "--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
