"""The whole comparison with a fake engine and a model in which each scalar is one fact."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.cli.compare import compare
from sftbench.common.errors import SftbenchError
from sftbench.compare.plan import make_plan
from sftbench.compare.request import Request
from sftbench.compare.run import Compared, run
from sftbench.compare.select import select
from sftbench.engines.protocol import Advance, Completion, Draws, Engine, Sampling, Scored
from sftbench.engines.settings import EngineSettings
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.table import FACTS, FactSet, fact_id_of
from sftbench.mastery.card import MasteryCard, with_levels
from sftbench.recipes.recipe import Recipe
from sftbench.recipes.record import Drawn, RecipeRecord, Training, UpdateNorm, write_record
from sftbench.scoring.answers import ANSWERS, rescore

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.unit

FACT_COUNT = 40
WEIGHT = "model.layers.0.mlp.up_proj.weight"
REST = "model.embed_tokens.weight"


def fact_set() -> FactSet:
    """Return 40 test facts in two relations, "in" and "out", by number."""
    rows = []
    for number in range(FACT_COUNT):
        domain = "in" if number % 2 else "out"
        question, answer = f"What is number {number}?", f"Answer{number}"
        rows.append(
            {
                "fact_id": fact_id_of(f"of_{domain}", str(number), question, answer),
                "relation": f"of_{domain}",
                "subject": str(number),
                "question": question,
                "answers": [answer],
                "domain": domain,
                "split": "test",
                "flags": [],
            }
        )
    frame = FACTS.conform(pl.DataFrame(rows)).sort("fact_id")
    return FactSet(frame, {"of_in": ["{subject}"], "of_out": ["{subject}"]}, {"name": "numbers"})


def card_for(facts: FactSet, base_digest: str) -> MasteryCard:
    """Return a card in which fact number i is in level (i // 2) % 5."""
    hits = pl.DataFrame(
        {
            "fact_id": facts.frame["fact_id"],
            "hits": [
                [[True] * (2 * level) + [False] * (8 - 2 * level)]
                for level in ((int(subject) // 2) % 5 for subject in facts.frame["subject"])
            ],
        }
    )
    record = {
        "model_digest": base_digest,
        "model_name": "tiny",
        "facts_digest": facts.digest,
        "facts_name": facts.name,
        "templates_digest": facts.templates_digest,
        "settings": {},
    }
    return MasteryCard(with_levels(hits), record)


def write_model(folder: Path, scalars: Sequence[float], **config: Any) -> Path:
    """Write a checkpoint whose scalar i says whether fact i is known (positive)."""
    from safetensors.torch import save_file

    folder.mkdir()
    tensors = {WEIGHT: torch.tensor([scalars]), REST: torch.ones(2, 2)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": {}}}))
    return folder


def record(base_digest: str, tuned_digest: str) -> RecipeRecord:
    """Return a recipe record that names these two models."""
    names = {"facts_name": "numbers", "facts_digest": "1" * 32, "card_digest": None}
    counts = {"per_relation": {"of_in": 2}, "per_level": {"unlevelled": 2}}
    losses = dict.fromkeys(("first_loss", "mean_loss", "final_loss", "seconds"), 3.0)
    steps = dict.fromkeys(("steps", "epochs", "tokens", "counted_tokens"), 1)
    return RecipeRecord(
        base_name="another",
        base_digest=base_digest,
        tokenizer_digest="0" * 32,
        tuned_digest=tuned_digest,
        recipe=Recipe(),
        recipe_digest=Recipe().digest,
        drawn=Drawn(**names, **counts, fact_ids=("a", "b"), fact_ids_digest="2" * 32),
        training=Training(**losses, **steps, hardware="cpu"),
        update=UpdateNorm(absolute=1.0, relative=0.1),
        software={},
    )


class FakeEngine:
    """Answers fact i right where scalar i of the loaded weights is positive."""

    def __init__(self, dies_at: int | None = None, torch: str = "1.0") -> None:
        self.torch = torch
        self.scalars: list[float] = []
        self.loads = 0
        self.dies_at = dies_at

    def describe(self) -> Mapping[str, str]:
        return {"engine": "fake", "dtype": "float32", "fake_torch": self.torch}

    def load(self, weights: Mapping[str, Any]) -> None:
        self.loads += 1
        if self.loads == self.dies_at:
            raise KeyboardInterrupt
        self.scalars = weights[WEIGHT].flatten().tolist()

    def sample(self, draws: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
        raise AssertionError("nothing here may call this")

    def greedy(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str],
        advance: Advance | None = None,
    ) -> list[Completion]:
        numbers = [int(prompt.split("number ")[-1].split("?")[0]) for prompt in prompts]
        return [
            Completion(f" Answer{number}" if self.scalars[number] > 0 else " <nothing>", "stop", 2)
            for number in numbers
        ]

    def logprobs(
        self, pairs: Sequence[tuple[str, str]], *, advance: Advance | None = None
    ) -> list[Scored]:
        return [Scored(-1.5, 2) for _ in pairs]


Factory = Callable[[Path, EngineSettings], Engine]


def factory_of(engine: FakeEngine) -> Factory:
    return lambda path, settings: engine


def never(path: Path, settings: EngineSettings) -> Engine:
    raise AssertionError("no engine is needed")


# Facts 0..29 known in the base. The fine-tune loses 0..7 with a large relative change (the more
# the lower the number), and gains 30..33 with a small one.
BASE = [1.0] * 30 + [-1.0] * 10
TUNED = [-9.0 + i for i in range(8)] + [1.0] * 22 + [0.5] * 4 + [-1.0] * 6


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    base = write_model(tmp_path / "base", BASE)
    facts = fact_set()
    return Request(
        base=base,
        tuned=write_model(tmp_path / "tuned", TUNED),
        out=tmp_path / "out",
        facts=facts,
        card=card_for(facts, checkpoint_digest(base)),
        prompt=PROMPTS["paper"],
        percents=(Decimal(10), Decimal(20)),
        base_name="tiny",
        tuned_name="<b>tuned</b>",
        command="sftbench compare --tuned '<b>tuned</b>'",
    )


@pytest.fixture
def compared(request_: Request) -> Compared:
    return run(request_, factory_of(FakeEngine()))


def test_lost_gained_and_healed_are_those_of_the_weights(compared: Compared) -> None:
    summary, lost = compared
    assert [one.name for one in summary.variants] == [
        "base",
        "tuned",
        "tuned+restore(relative,10%)",
        "tuned+restore(relative,20%)",
    ]
    totals = [
        tuple(
            sum(getattr(one.outcomes, name) for one in variant.domains)
            for name in ("kept", "lost", "gained", "wrong")
        )
        for variant in summary.variants
    ]
    # 10 % of 40 scalars restores facts 0..3, 20 % restores 0..7; the gains change least.
    assert totals == [(30, 0, 0, 10), (22, 8, 4, 6), (26, 4, 4, 6), (30, 0, 4, 6)]
    repairs = [one.repair for one in summary.variants[2].domains]
    assert all(one is not None for one in repairs)
    assert sum(one.healed for one in repairs if one) == 4
    assert lost.height == 8
    both = [f"tuned+restore(relative,{percent}%)" for percent in (10, 20)]
    healed = dict(zip(lost["question"], lost["healed_by"].to_list(), strict=True))
    assert healed["What is number 0?"] == both
    assert healed["What is number 7?"] == both[1:]
    assert lost["rate"].is_sorted(descending=True)


def test_accuracy_and_retention_per_domain(compared: Compared) -> None:
    base, tuned = compared.summary.base, compared.summary.tuned
    assert compared.summary.domains == ("in", "out")
    for domain in ("in", "out"):
        before, after = base.domain(domain), tuned.domain(domain)
        assert before is not None
        assert after is not None
        assert before.n == 20
        # Numbers 2k and 2k + 1 are in level k % 5; 15 of 20 pairs known, 3 in each level.
        assert [one.n for one in before.levels] == [4] * 5
        assert before.macro == pytest.approx(0.75)
        assert before.retention.score == 1.0
        # Pairs 0..3 are lost: one of three in the levels 0 to 3, none in level 4.
        assert after.retention.score == pytest.approx((3 * 2 / 3 + 1) / 4)
        # Pairs 15 and 16 are gained.
        assert after.macro == pytest.approx((3 + 3 + 2 + 2 + 3) / 20)
        assert after.retention.gained == 2


def test_files_hold_what_was_returned(compared: Compared, request_: Request) -> None:
    written = json.loads((request_.out / "summary.json").read_text())
    assert written["schema_version"] == 1
    assert written["variants"][1]["domains"][0]["outcomes"]["lost"] == 4
    assert written["run"]["command"] == request_.command
    restore = written["variants"][2]["restore"]
    assert (restore["count"], restore["region"]) == (4, 40)
    assert pl.read_csv(request_.out / "lost.csv").height == 8
    names = sorted(path.name for path in (request_.out / "answers").iterdir())
    assert names == [
        "base.parquet",
        "tuned+restore-relative-10pct.parquet",
        "tuned+restore-relative-20pct.parquet",
        "tuned.parquet",
    ]
    frame, record = ANSWERS.read(request_.out / "answers" / "tuned.parquet")
    assert frame.height == FACT_COUNT
    assert record["variant"] == "tuned"
    assert rescore(frame, request_.facts.frame).equals(frame)


def test_the_page_escapes_what_users_and_models_wrote(
    compared: Compared, request_: Request
) -> None:
    page = (request_.out / "report.html").read_text()
    assert "&lt;nothing&gt;" in page
    assert "<nothing>" not in page
    assert "<b>tuned</b>" not in page


def test_a_second_run_asks_nothing(compared: Compared, request_: Request) -> None:
    again = run(request_, never)
    assert again.summary.variants == compared.summary.variants
    assert again.lost.equals(compared.lost)


def test_further_percentages_join_the_folder(compared: Compared, request_: Request) -> None:
    engine = FakeEngine()
    more = run(replace(request_, percents=(Decimal(10), Decimal(100))), factory_of(engine))
    assert engine.loads == 1
    assert more.summary.variants[:3] == compared.summary.variants[:3]
    assert more.summary.variants[3].percent == 100
    said = [text for text in more.summary.warnings if "equals the base" in text]
    assert [text.split(":")[0] for text in said] == ["tuned+restore(relative,100%)"]
    both = "tuned+restore(relative,10%) and tuned+restore(relative,100%): "
    assert sum(text.startswith(both) for text in more.summary.warnings) == 1  # 70 % unchanged


def test_a_killed_run_loses_the_variant_it_was_in(request_: Request) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(request_, factory_of(FakeEngine(dies_at=3)))
    assert not (request_.out / "summary.json").exists()
    engine = FakeEngine()
    run(request_, factory_of(engine))
    assert engine.loads == 2  # base and tuned were there


@pytest.mark.parametrize("where", ["load", "first answers"])
def test_a_run_that_fails_before_any_answer_does_not_claim_the_folder(
    request_: Request, where: str
) -> None:
    class Broken(FakeEngine):
        def logprobs(
            self, pairs: Sequence[tuple[str, str]], *, advance: Advance | None = None
        ) -> list[Scored]:
            return [Scored(float("nan"), 1) for _ in pairs]

    def refuse(weights: Mapping[str, Any]) -> None:
        raise SftbenchError("the weights do not fit the model")

    engine = Broken()
    if where == "load":
        engine.load = refuse  # type: ignore[method-assign]
    with pytest.raises(SftbenchError, match=r"do not fit|^base: 40 of 40 log-probabilities"):
        run(request_, factory_of(engine))
    assert not request_.out.exists()
    run(replace(request_, limit=10), factory_of(FakeEngine()))


def test_missing_shots_are_told_before_anything_is_done(request_: Request) -> None:
    with pytest.raises(SftbenchError, match=r"(?s)no fact is reserved .*--prompt paper\.$"):
        run(replace(request_, prompt=PROMPTS["fewshot"]), never)
    assert not request_.out.exists()
    run(request_, factory_of(FakeEngine()))


@pytest.mark.parametrize("which", ["base", "tuned"])
def test_another_configuration_needs_another_folder(
    compared: Compared, request_: Request, which: str
) -> None:
    folder = getattr(request_, which)
    named = {"base": "base", "tuned": "tuned model"}[which]
    plain = {"model_type": "llama"}
    for changed in ({"rope_theta": 5.0}, {"eos_token_id": 7}, {"limits": [0.0, float("inf")]}):
        (folder / "config.json").write_text(json.dumps({**plain, **changed}))
        with pytest.raises(SftbenchError, match=f"another configuration of the {named}\n"):
            run(request_, never)
    (folder / "config.json").write_text(json.dumps({**plain, "use_cache": False}))
    run(request_, never)


def test_answers_of_another_engine_are_marked_in_the_summary_for_good(request_: Request) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(request_, factory_of(FakeEngine(dies_at=3, torch="1.0")))
    told: list[str] = []
    mixed = run(request_, factory_of(FakeEngine(torch="2.0")), told.append).summary
    said = "base and tuned: answered in an earlier run with fake torch 1.0 instead of 2.0; "
    assert [text for text in mixed.warnings if text.startswith(said)] == told[-1:]
    again = [text for text in run(request_, never).summary.warnings if "fake torch" in text]
    assert len(again) == 1
    assert again[0].startswith("tuned+restore(relative,10%) and tuned+restore(relative,20%): ")


def test_kept_answers_are_matched_anew(compared: Compared, request_: Request) -> None:
    path = request_.out / "answers" / "base.parquet"
    frame, made = ANSWERS.read(path)
    ANSWERS.write(frame.with_columns(correct=~pl.col("correct")), path, made)
    again = run(request_, never)
    assert again.summary.variants == compared.summary.variants
    assert ANSWERS.read(path)[0].equals(frame)


def test_what_lm_eval_on_the_tuned_folder_would_do_otherwise_is_said(request_: Request) -> None:
    (request_.base / "generation_config.json").write_text('{"no_repeat_ngram_size": 3}')
    (request_.tuned / "generation_config.json").write_text('{"eos_token_id": [8, 7]}')
    ends, settings = make_plan(request_).warnings
    assert ends.startswith(
        "The base ends a text at the token ids (none), the tuned model's own files at 7, 8;"
    )
    assert settings.startswith("The generation_config.json of the base sets no_repeat_ngram_size:")


def test_another_comparison_needs_another_folder(compared: Compared, request_: Request) -> None:
    other = replace(request_, engine=EngineSettings(dtype="bfloat16"), limit=10)
    with pytest.raises(SftbenchError, match="another engine, selection of facts"):
        run(other, never)


def test_a_folder_with_other_things_is_left_alone(request_: Request) -> None:
    request_.out.mkdir()
    (request_.out / "thesis.tex").write_text("mine")
    with pytest.raises(SftbenchError, match="already exists"):
        run(request_, never)


def test_a_card_of_another_base_is_an_error(request_: Request) -> None:
    with pytest.raises(SftbenchError, match="for the base tiny"):
        run(replace(request_, base=request_.tuned), never)
    assert not request_.out.exists()


def test_a_tuned_model_of_another_base_is_an_error(request_: Request) -> None:
    write_record(request_.tuned, record("f" * 32, checkpoint_digest(request_.tuned)))
    with pytest.raises(SftbenchError, match=r"was tuned from another .digest ffffffffffff"):
        run(request_, never)
    assert not request_.out.exists()


def test_the_recipe_of_the_tuned_model_is_kept(request_: Request) -> None:
    made = record(checkpoint_digest(request_.base), checkpoint_digest(request_.tuned))
    write_record(request_.tuned, made)
    found = run(request_, factory_of(FakeEngine())).summary
    assert found.recipe == made.model_dump(mode="json")
    assert not any("recipe record" in warning for warning in found.warnings)


def test_weights_that_are_not_those_of_the_recipe_are_said(request_: Request) -> None:
    write_record(request_.tuned, record(checkpoint_digest(request_.base), "3" * 32))
    found = run(request_, factory_of(FakeEngine())).summary
    assert found.warnings[0].startswith("The tuned model's weights are not those that its recipe")


@pytest.mark.parametrize(
    ("flag", "value"), [("prompt", "poem"), ("engine", "abacus"), ("domain", "both")]
)
def test_a_choice_that_is_not_known_is_an_error(flag: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(SftbenchError, match=f"--{flag} {value} is not known"):
        compare(base="lab", tuned="lab", output=tmp_path / "out", **{flag: value})


def test_models_that_do_not_match_are_an_error(request_: Request, tmp_path: Path) -> None:
    small = write_model(tmp_path / "small", BASE[:-1])
    with pytest.raises(SftbenchError, match="differ in shape"):
        run(replace(request_, tuned=small), never)
    broken = write_model(tmp_path / "broken", [float("nan"), *BASE[1:]])
    with pytest.raises(SftbenchError, match="NaN"):
        run(replace(request_, tuned=broken), never)
    assert not request_.out.exists()


def test_a_fine_tune_that_changed_nothing_is_said(request_: Request, tmp_path: Path) -> None:
    same = write_model(tmp_path / "same", BASE, rope_theta=5.0)
    told: list[str] = []
    found = run(
        replace(request_, tuned=same, percents=()), factory_of(FakeEngine()), told.append
    ).summary
    assert told == list(found.warnings)
    assert [text.split(":")[0].split(";")[0] for text in told] == [
        "The two config.json differ in rope_theta",
        "The tuned model has the base's weights",
    ]
    assert found.tuned.domains[0].retention.score == 1.0
    assert found.run.update_norm == 0.0


def test_another_tokenizer_is_said(request_: Request) -> None:
    (request_.tuned / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 0}}}')
    told: list[str] = []
    run(request_, factory_of(FakeEngine()), told.append)
    assert told[0].startswith("The tuned model's tokenizer differs")


def test_a_limit_is_balanced_and_grows_by_adding() -> None:
    facts = fact_set()
    card = card_for(facts, "0" * 32)
    small, large = (select(facts, card, limit=limit).rows for limit in (10, 15))
    cells = small.group_by("level", "domain").len()
    assert cells.height == 10
    assert cells["len"].to_list() == [1] * 10
    assert set(small["fact_id"]) < set(large["fact_id"])
    assert select(facts, card, limit=1000).rows.height == FACT_COUNT
    assert set(select(facts, card, domain="in").rows["domain"]) == {"in"}


def test_facts_without_a_level_are_left_out_and_counted() -> None:
    facts = fact_set()
    card = card_for(facts, "0" * 32)
    part = replace(card, frame=card.frame.head(30))
    assert select(facts, part).unlevelled == 10
    with pytest.raises(SftbenchError, match=r"levels none of the 20 facts .* domain out"):
        select(facts, replace(card, frame=card.frame.head(0)), domain="out")
