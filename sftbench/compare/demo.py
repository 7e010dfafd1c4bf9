"""The demo: fine-tune a real model, restore it, compare, in under ten minutes on two cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import polars as pl

from sftbench.checkpoints.folder import Checkpoint, open_checkpoint
from sftbench.checkpoints.reference import resolve
from sftbench.checkpoints.rules import Restored
from sftbench.common.errors import SftbenchError
from sftbench.compare.request import Request
from sftbench.compare.result import Compared
from sftbench.compare.run import run
from sftbench.engines.settings import make_engine
from sftbench.engines.transformers import TransformersEngine
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.reference import resolve_facts
from sftbench.facts.table import FactSet
from sftbench.mastery.bundled import resolve_card
from sftbench.mastery.card import MasteryCard
from sftbench.mastery.estimate import make_card
from sftbench.mastery.sampled import SampledEstimator
from sftbench.recipes.recipe import Recipe
from sftbench.recipes.record import read_record
from sftbench.recipes.train import finetune

BASE = "smollm2"
FACTS = "geography"
RECIPE = Recipe(level="any", size=128, learning_rate=1e-4)
"""The paper's recipe but for the learning rate, which is ten times the paper's: at 1e-5 a run
this short changes almost nothing, and a demo should show what a loss looks like."""
PERCENTS = (Decimal(1), Decimal(5), Decimal(20))
NOISE = 3
"""Random changes of the fine-tune's size."""
LIVE_FACTS = 3
LIVE_SEED = 1
"""Fresh draws: the card that ships was made with seed 0."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Demo:
    """What the demo works on.

    Attributes:
        base: the base model.
        facts: the fact set.
        card: the shipped mastery card of that base.
        folder: where everything goes.
    """

    base: Checkpoint
    facts: FactSet
    card: MasteryCard
    folder: Path


def run_demo(folder: Path, say: Say) -> Compared:
    """Run every step that is not done yet and return the comparison.

    Raises:
        SftbenchError: something that it needs is not installed, or the folder holds other work.
    """
    say(f"[bold]1 of 4[/]  The base: SmolLM2-135M-Instruct; the facts: {FACTS}.")
    base = open_checkpoint(resolve(BASE))
    facts = resolve_facts(FACTS)
    card = resolve_card(None, base_digest=base.digest, facts=facts)
    demo = Demo(base, facts, card, folder)
    say(
        f"[bold]2 of 4[/]  Level {LIVE_FACTS} facts live, {card.frame['draws'][0]} completions each"
        f" (the card that ships holds {card.frame.height} facts)."
    )
    for line in level_live(demo):
        say(f"        {line}")
    say(
        f"[bold]3 of 4[/]  Fine-tune on {RECIPE.size} train facts, whatever the base knows of "
        f"them: the paper's recipe at ten times its learning rate ({RECIPE.learning_rate:g})."
    )
    tuned = tune(demo)
    percents = ", ".join(f"{percent} %" for percent in PERCENTS)
    say(
        f"[bold]4 of 4[/]  Compare base, tuned, and {percents} of the parameters restored; then "
        f"{NOISE} random changes of the fine-tune's size, to tell a loss from noise."
    )
    request = Request(
        base=base.path,
        tuned=tuned,
        out=folder / "compare",
        facts=facts,
        card=card,
        prompt=PROMPTS["fewshot"],
        restored=tuple(Restored("relative", percent) for percent in PERCENTS),
        noise=NOISE,
        base_name=BASE,
        tuned_name=str(tuned),
        command=(
            f"sftbench compare --base {BASE} --tuned {tuned} --facts {FACTS} "
            f"--restore {','.join(map(str, PERCENTS))} --noise {NOISE} -o {folder / 'compare'}"
        ),
    )
    return run(request, make_engine, say)


def level_live(demo: Demo) -> list[str]:
    """Level a few facts with fresh draws; return one line each, beside the card's own rate."""
    path = demo.folder / "live-card.parquet"
    chosen = spread(demo.card, LIVE_FACTS)
    facts = FactSet(
        demo.facts.frame.filter(pl.col("fact_id").is_in(chosen)),
        demo.facts.templates,
        {**demo.facts.source, "name": f"{FACTS}, {LIVE_FACTS} facts"},
    )
    if not path.exists():
        # Not the card's bfloat16: a processor without such arithmetic takes minutes for a fact.
        live = make_card(
            TransformersEngine(demo.base.path),
            facts,
            SampledEstimator(seed=LIVE_SEED),
            model_name=BASE,
            model_digest=demo.base.digest,
            output=path,
        )
    else:
        live = MasteryCard.read(path)
        live.require(facts=facts, base_digest=demo.base.digest)
    rows = (
        live.frame.join(demo.card.frame, on="fact_id", suffix="_card")
        .join(facts.frame.select("fact_id", "question"), on="fact_id")
        .sort("rate")
    )
    return [
        f"{row['question']} R = {row['rate']:.1%}, level {row['level']} "
        f"(card: {row['rate_card']:.1%}, level {row['level_card']})"
        for row in rows.iter_rows(named=True)
    ]


def spread(card: MasteryCard, count: int) -> list[str]:
    """Return facts spread over the card's rates: the lowest, the highest and between."""
    ranked = card.frame.sort("rate", "fact_id")["fact_id"]
    if ranked.len() < count:
        raise SftbenchError(f"the card holds fewer than {count} facts", where=card.path)
    last = ranked.len() - 1
    return [ranked[round(place * last / (count - 1))] for place in range(count)]


def tune(demo: Demo) -> Path:
    """Fine-tune unless the same recipe's checkpoint is there already; return its folder."""
    tuned = demo.folder / "tuned"
    record = read_record(tuned) if tuned.is_dir() else None
    if record is None:
        finetune(RECIPE, base=demo.base.path, facts=demo.facts, card=demo.card, output=tuned)
        return tuned
    if (record.recipe, record.base_digest) != (RECIPE, demo.base.digest):
        raise SftbenchError(
            "holds a checkpoint of another recipe or base",
            where=tuned,
            remedy="Remove it, or name another --output.",
        )
    return tuned
