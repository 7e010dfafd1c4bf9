"""Drift of a comparison: every variant's predictions beside the base's, kept and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from sftbench.analysis.drift import DriftResult, drift_rows, paper_rows
from sftbench.checkpoints.tokenizers import same_tokenizer
from sftbench.checkpoints.variants import BASE, TUNED, Again, Base, Noise, Variant
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.common.files import write_json
from sftbench.common.progress import progress
from sftbench.compare.bench import lent
from sftbench.compare.movement import measure_movement
from sftbench.compare.plan import Plan, make_plan
from sftbench.compare.request import Request
from sftbench.compare.store import Store
from sftbench.compare.weights import VariantWeights
from sftbench.drift.lower_bound import bound_rows
from sftbench.drift.measure import drift_rows as read_rows
from sftbench.drift.table import DRIFT
from sftbench.drift.texts import EARLY, LONGEST, Text, best_templates, cloze_texts, question_texts
from sftbench.engines.protocol import Engine, TopReader, WholeReader
from sftbench.facts.matching import How
from sftbench.facts.prompts import answer_text

if TYPE_CHECKING:
    from sftbench.analysis.movement import MovementResult
    from sftbench.engines.settings import EngineFactory

    Notify = Callable[[str], None]

FOLDER = "drift"
DRIFT_FILE = "drift.json"
VERSION = 1
"""Counts changes that change figures."""
FLOOR = Again(1)
"""The base read text by text, beside itself in batches."""
FLOOR_FACTS = 50
"""Facts that the noise floor is measured on: it hardly varies, and texts by themselves are slow."""


@dataclass(frozen=True)
class Drift:
    """The drift of one comparison.

    Attributes:
        plan: names the models, variants and facts.
    """

    plan: Plan

    @property
    def folder(self) -> Path:
        """Where the tables lie."""
        return self.plan.request.out / FOLDER

    @property
    def wanted_at_all(self) -> bool:
        """Whether drift is measured: asked for, or done in this folder before."""
        return self.plan.request.drift or self._path(TUNED).is_file()

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """What is held against the base: the tuned model, its restores, noise, the base itself."""
        others = [one for one in self.plan.variants if not isinstance(one, Base | Again)]
        return (*others, FLOOR)

    @cached_property
    def templates(self) -> dict[str, str]:
        """The template of each relation that has any."""
        request = self.plan.request
        every = request.facts.templates
        best = best_templates(request.card, request.facts.frame, every)
        return {name: every[name][place] for name, place in best.items()}

    @cached_property
    def how(self) -> How:
        """How an answer is recognised in a completion: as by the card."""
        how: How = self.plan.request.card.record.get("settings", {}).get("how", "words")
        return how

    def key(self, variant: Variant) -> str:
        """Return the digest of all that decides a variant's figures."""
        settings = {
            "early": EARLY,
            "longest": LONGEST,
            "floor": FLOOR_FACTS,
            "how": self.how,
            "version": VERSION,
        }
        name = self.plan.variant_id(variant)
        return digest_of([self.plan.key, name, settings, self.templates])

    def find(self, variant: Variant) -> pl.DataFrame | None:
        """Return a variant's table if it is here under this key, else None."""
        path = self._path(variant)
        if not path.is_file():
            return None
        frame, record = DRIFT.read(path)
        return frame if record.get("key") == self.key(variant) else None

    def keep(self, variant: Variant, rows: Sequence[Mapping[str, Any]], seconds: float) -> None:
        """Write a variant's table."""
        schema = {name: kind for name, kind in DRIFT.columns.items() if name != "variant"}
        frame = pl.DataFrame(rows, schema=schema).with_columns(variant=pl.lit(variant.name))
        record = {"key": self.key(variant), "seconds": round(seconds, 3)}
        DRIFT.write(frame.sort("form", "fact_id", "position"), self._path(variant), record)

    def seconds(self) -> float:
        """Return how long reading took, over all variants."""
        taken = [DRIFT.read(self._path(one))[1].get("seconds", 0.0) for one in self.variants]
        return float(sum(taken))

    def _path(self, variant: Variant) -> Path:
        return self.folder / f"{variant.slug}.parquet"

    def texts(self, engine: Engine) -> list[Text]:
        """Return what is read, written by the engine of the base."""
        rows, request = self.plan.rows, self.plan.request
        side = self.plan.sides.base
        answers = [
            one[0] if side.chat else answer_text(request.prompt, one[0])
            for one in rows["answers"].to_list()
        ]
        prompts = side.texts
        clozes = cloze_texts(engine, rows, self.templates, self.how)
        return [*clozes, *question_texts(engine, rows, prompts, answers)]


def run_drift(
    request: Request, factory: EngineFactory, notify: Notify, against: Path | None = None
) -> tuple[DriftResult, MovementResult]:
    """Measure drift in the folder of a comparison, whether or not that was asked anything.

    Args:
        request: which models, variants and facts.
        factory: makes engines.
        notify: told what a reader must know.
        against: another model tuned from the same base.

    Raises:
        SftbenchError: as for a comparison.
    """
    plan = make_plan(request)
    store = Store(request.out, plan)
    store.require_ours()
    for warning in plan.warnings:
        notify(warning)
    require_one_vocabulary(plan)
    store.claim()
    moved = measure_movement(plan, request.out / FOLDER, against)
    found = measure_drift(plan, factory, VariantWeights(plan))
    content = {
        "kind": "sftbench-drift",
        "base": request.base_name,
        "tuned": request.tuned_name,
        "command": request.command,
        "drift": found.model_dump(mode="json"),
        "movement": moved.model_dump(mode="json"),
    }
    write_json(request.out / DRIFT_FILE, content)
    return found, moved


def measure_drift(plan: Plan, factory: EngineFactory, weights: VariantWeights) -> DriftResult:
    """Measure what is missing, and return how every variant's predictions moved.

    Raises:
        SftbenchError: the tokenizers differ, the engine shows no probabilities, or as for a
            comparison.
    """
    drift = Drift(plan)
    missing = [one for one in drift.variants if drift.find(one) is None]
    if missing:
        require_one_vocabulary(plan)
        _read(drift, missing, factory, weights)
    return _result(drift)


def require_one_vocabulary(plan: Plan) -> None:
    """Raise `SftbenchError` unless both models split texts alike, before anything is measured."""
    if not same_tokenizer(plan.base.path, plan.tuned.path):
        raise SftbenchError(
            "base and tuned model split texts into other tokens, so their predictions cannot be "
            "held against each other",
            where=plan.tuned.path,
            remedy="Leave --drift out.",
        )


def _read(
    drift: Drift, missing: Sequence[Variant], factory: EngineFactory, weights: VariantWeights
) -> None:
    plan = drift.plan
    weights.require_fit()
    settings = plan.request.engine
    with lent(factory, plan.base.path, settings) as first:
        first.load(weights.of(BASE))
        if isinstance(first, WholeReader):
            _read_whole(drift, missing, first, weights)
        elif isinstance(first, TopReader):
            _read_top(drift, missing, first, weights)
        else:
            raise SftbenchError(
                f"the engine {first.describe().get('engine', '')} shows no probabilities of tokens",
                remedy="Use --engine hf, or leave --drift out.",
            )


def _read_whole(
    drift: Drift, missing: Sequence[Variant], base: WholeReader, weights: VariantWeights
) -> None:
    # Not by the factory, which may keep one engine alone: both live at once.
    from sftbench.engines.settings import make_engine

    plan = drift.plan
    texts = drift.texts(base)
    own = [one for one in missing if _is_like_base(plan, one)]
    for folder, those in (
        (plan.base.path, own),
        (plan.tuned.path, [one for one in missing if one not in own]),
    ):
        if not those:
            continue
        other = make_engine(folder, plan.request.engine)
        assert isinstance(other, WholeReader), "an engine of the same kind"
        try:
            for variant in those:
                other.load(weights.of(BASE if variant == FLOOR else variant))
                _keep_whole(drift, variant, base, other, texts)
        finally:
            other.close()


def _is_like_base(plan: Plan, variant: Variant) -> bool:
    """Return whether an engine made from the base can hold a variant."""
    return plan.sides.one_engine or isinstance(variant, Noise | Again)


def _keep_whole(
    drift: Drift, variant: Variant, base: WholeReader, other: WholeReader, texts: Sequence[Text]
) -> None:
    began = time.monotonic()
    vocabulary = max(len(base.tokenizer), _width(base), _width(other))
    title = f"{'base, read again' if variant == FLOOR else variant.name}: predictions"
    total = len(_for_floor(texts) if variant == FLOOR else texts)
    with progress(title, total, unit="texts") as advance:
        rows = list(
            read_rows(
                base,
                other,
                _for_floor(texts) if variant == FLOOR else texts,
                vocabulary=vocabulary,
                alone=variant == FLOOR,
                advance=advance,
            )
        )
    drift.keep(variant, rows, time.monotonic() - began)


def _for_floor(texts: Sequence[Text]) -> list[Text]:
    """Return the texts of some facts; their digests alone decide which."""
    order = sorted({text.fact_id for text in texts}, key=lambda name: str(digest_of([name])))
    some = set(order[:FLOOR_FACTS])
    return [text for text in texts if text.fact_id in some]


def _width(engine: WholeReader) -> int:
    """Return how many logits a position has."""
    return int(engine.next_logits([engine.encode("A B")], 1).shape[-1])


def _read_top(
    drift: Drift, missing: Sequence[Variant], engine: TopReader, weights: VariantWeights
) -> None:
    """Read with one engine, the weights swapped: the base's lists are kept, they are short."""
    plan = drift.plan
    if not plan.sides.one_engine:
        raise SftbenchError(
            "base and tuned model need an engine each, which vllm cannot hold at once",
            remedy="Use --engine hf, or leave --drift out.",
        )
    texts = drift.texts(engine)
    base = list(_tops(engine, texts, "base"))
    # The base is still loaded: what it says once more comes first.
    for variant in sorted(missing, key=lambda one: one != FLOOR):
        began = time.monotonic()
        if variant == FLOOR:
            # In another order, and so in other company.
            mine = list(_tops(engine, texts[::-1], "base, read again"))[::-1]
        else:
            engine.load(weights.of(variant))
            mine = list(_tops(engine, texts, variant.name))
        drift.keep(variant, bound_rows(texts, mine, base), time.monotonic() - began)


def _tops(engine: TopReader, texts: Sequence[Text], name: str) -> Iterator[list[dict[int, float]]]:
    asked = [((*text.prompt, *text.rest), len(text.kinds)) for text in texts]
    with progress(f"{name}: predictions", len(texts), unit="texts") as advance:
        yield from engine.top_logprobs(asked, advance=advance)


def _result(drift: Drift) -> DriftResult:
    frames = [drift.find(one) for one in drift.variants]
    whole = pl.concat([one for one in frames if one is not None])
    facts = drift.plan.rows.select(
        "fact_id", "relation", "domain", "level", answer=pl.col("answers").list.first()
    )
    items = whole.join(facts, on="fact_id", maintain_order="left")
    clozes = items.filter(
        pl.col("variant") == TUNED.name, pl.col("form") == "cloze", pl.col("position") == 0
    )
    asked = set(drift.plan.rows["relation"])
    beyond = items.group_by("variant").agg(pl.col("beyond").mean())["beyond"].max()
    return DriftResult(
        exact=items["covered"].null_count() == items.height,
        facts=drift.plan.rows.height,
        own=int(clozes["own"].sum()),
        early=int(clozes["early"].sum()),
        early_within=EARLY,
        templates={name: text for name, text in drift.templates.items() if name in asked},
        rows=tuple(drift_rows(items)),
        paper=tuple(paper_rows(items)),
        floor=FLOOR.name,
        nulls=tuple(one.name for one in drift.variants if isinstance(one, Noise)),
        beyond=float(beyond or 0.0),  # type: ignore[arg-type]
        seconds=drift.seconds(),
    )
