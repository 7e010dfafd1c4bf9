"""Drift at the token level: what is read, what is measured of it, and what a run leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from fakes import FakeEngine, fact_set, factory_of, write_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from sftbench.analysis.drift import drift_rows as figures
from sftbench.analysis.drift import mean_of, paper_rows
from sftbench.common.errors import SftbenchError
from sftbench.compare.drift import run_drift
from sftbench.compare.request import Request
from sftbench.compare.run import run
from sftbench.drift.lower_bound import lower_bound, paper_kl
from sftbench.drift.measure import drift_rows
from sftbench.drift.table import DRIFT
from sftbench.drift.texts import EARLY, Text, best_templates, cloze_texts, question_texts
from sftbench.engines.protocol import Completion
from sftbench.mastery.card import MasteryCard, with_levels

pytestmark = pytest.mark.unit

VOCABULARY = 40


class Letters:
    """An engine whose tokens are words; its logits are drawn by the token before and a seed."""

    def __init__(self, seed: int, say: dict[str, str] | None = None) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = 3 * torch.randn(VOCABULARY, VOCABULARY, generator=generator)
        self.say = say or {}
        self.words: list[str] = []
        self.batches: list[int] = []
        self.tokenizer = SimpleNamespace(decode=self.decode)
        self.batch_size = 100

    def _id(self, word: str) -> int:
        if word not in self.words:
            self.words.append(word)
        return self.words.index(word)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "".join(self.words[number] for number in ids)

    def encode(self, text: str) -> list[int]:
        parts = text.replace(" ", "\0 ").split("\0")
        return [self._id(part) for part in parts if part]

    def encode_pair(self, prompt: str, continuation: str) -> tuple[list[int], list[int]]:
        return self.encode(prompt), self.encode(continuation)

    def greedy(self, prompts: Sequence[str], **_: Any) -> list[Completion]:
        return [Completion(self.say.get(prompt, ""), "length", 1) for prompt in prompts]

    def next_logits(self, texts: Sequence[Sequence[int]], keep: int) -> torch.Tensor:
        self.batches.append(len(texts))
        rows = [[*([0] * keep), *text][-keep:] for text in texts]
        return self.table[torch.tensor(rows) % VOCABULARY]


def facts() -> pl.DataFrame:
    return fact_set().scored().head(4)


def spoken(rows: pl.DataFrame) -> dict[str, str]:
    """The first fact is said at once, the second after a lead-in, the third too late, one never."""
    subjects, answers = rows["subject"].to_list(), [one[0] for one in rows["answers"].to_list()]
    return {
        subjects[0]: f" {answers[0]}, and more",
        subjects[1]: f" the one called {answers[1]}",
        subjects[2]: " so" * EARLY + f" {answers[2]}",
        subjects[3]: " something else",
    }


@pytest.fixture
def texts() -> list[Text]:
    rows = facts()
    engine = Letters(0, spoken(rows))
    templates = dict.fromkeys(set(rows["relation"]), "{subject}")
    clozes = cloze_texts(engine, rows, templates, "words")
    asked = question_texts(engine, rows, [f"Q {q}" for q in rows["question"]], [" A"] * 4)
    return [*clozes, *asked]


def test_tokens_are_lead_in_answer_and_end(texts: list[Text]) -> None:
    kinds = [text.kinds for text in texts]
    assert kinds[0] == ("answer", "end")
    assert kinds[1] == ("lead-in", "lead-in", "lead-in", "answer", "end")
    assert kinds[2] == (*["lead-in"] * EARLY, "answer", "end")
    assert kinds[3] == ("answer", "end")  # the right answer, in the place of what was said
    assert [text.own for text in texts[:4]] == [True, True, True, False]
    assert [text.early for text in texts[:4]] == [True, True, False, False]
    assert {text.kinds for text in texts[4:]} == {("answer", "end")}
    assert all(len(text.kinds) == len(text.rest) + 1 for text in texts)


def test_an_answer_that_goes_on_as_another_word_is_none() -> None:
    rows = facts().head(1).with_columns(answers=pl.Series([["Niger"]]))
    for said, own in ((" Niger ia", True), (" Nigeria", False)):
        engine = Letters(0, {rows["subject"][0]: said})
        (text,) = cloze_texts(engine, rows, {rows["relation"][0]: "{subject}"}, "words")
        assert text.own is own


def test_a_space_that_a_tokenizer_does_not_give_back_is_put_where_it_was() -> None:
    """SentencePiece decodes "\u2581Town" as "Town", which would be part of the word before."""
    rows = facts().head(1)
    (answer,) = rows["answers"][0]

    class Stripping(Letters):
        def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
            return super().decode(ids).removeprefix(" ")

    for engine, said in (
        (Letters(0, {rows["subject"][0]: f" {answer}."}), f" {answer}."),
        (Stripping(0, {rows["subject"][0]: f"{answer}."}), f" {answer}."),
        (Letters(0, {rows["subject"][0]: f"{answer}."}), f"{answer}."),
    ):
        (text,) = cloze_texts(engine, rows, {rows["relation"][0]: "{subject}"}, "words")
        assert Letters.decode(engine, text.rest) == said
        assert text.own


def test_the_best_template_is_that_of_most_hits_and_the_first_of_equals() -> None:
    rows = fact_set().scored().filter(pl.col("relation") == "of_in").head(2)
    hits = [
        [[False] * 4, [True] * 4, [True] * 4],
        [[True, False] * 2, [True] * 4, [True] * 4],
    ]
    card = MasteryCard(with_levels(pl.DataFrame({"fact_id": rows["fact_id"], "hits": hits})), {})
    assert best_templates(card, rows, {"of_in": ["a", "b", "c"]}) == {"of_in": 1}
    chances = pl.DataFrame(
        {
            "fact_id": rows["fact_id"],
            "chances": [[0.1, None, 0.2], [0.3, 0.5, None]],
            "error": [0.1, 0.1],
        }
    )
    estimated = MasteryCard(with_levels(chances), {})
    assert best_templates(estimated, rows, {"of_in": ["a", "b", "c"]}) == {"of_in": 1}


def reference(table: torch.Tensor, other: torch.Tensor, token: int) -> tuple[float, float]:
    log_p, log_q = (log_softmax(one[token].double().numpy()) for one in (other, table))
    return (
        float((np.exp(log_p) * (log_p - log_q)).sum()),
        float((np.exp(log_q) * (log_q - log_p)).sum()),
    )


def test_every_position_has_its_divergence(texts: list[Text]) -> None:
    base, other = Letters(1), Letters(2)
    rows = list(drift_rows(base, other, texts, vocabulary=VOCABULARY))
    assert len(rows) == sum(len(text.kinds) for text in texts)
    frame = pl.DataFrame(rows, schema={k: v for k, v in DRIFT.columns.items() if k != "variant"})
    for text in texts:
        mine = frame.filter(pl.col("fact_id") == text.fact_id, pl.col("form") == text.form)
        assert tuple(mine["kind"]) == text.kinds
        ids = [text.prompt[-1], *text.rest]
        wanted = [reference(base.table, other.table, token) for token in ids]
        assert mine["kl_tuned_base"].to_list() == pytest.approx([one[0] for one in wanted])
        assert mine["kl_base_tuned"].to_list() == pytest.approx([one[1] for one in wanted])
        paper = mine["paper_kl"].to_list()
        assert (paper[0] is not None) == (text.form == "cloze")
        assert paper[1:] == [None] * (len(paper) - 1)
    assert frame["covered"].null_count() == frame.height


def test_the_same_model_has_not_moved(texts: list[Text]) -> None:
    rows = list(drift_rows(Letters(1), Letters(1), texts, vocabulary=VOCABULARY))
    assert all(row["kl_tuned_base"] == row["kl_base_tuned"] == 0 for row in rows)
    assert all(row["paper_kl"] in (0, None) for row in rows)


def test_logits_that_are_not_finite_are_an_error_for_people(texts: list[Text]) -> None:
    for wrong in (float("nan"), float("-inf")):
        other = Letters(2)
        other.table[:, 3] = wrong
        with pytest.raises(SftbenchError, match="not finite"):
            list(drift_rows(Letters(1), other, texts, vocabulary=VOCABULARY))


def test_batches_keep_to_their_bytes(texts: list[Text], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sftbench.drift.measure.BYTES", 3 * 2 * VOCABULARY * 4)
    base, other = Letters(1), Letters(2)
    small = list(drift_rows(base, other, texts, vocabulary=VOCABULARY))
    assert max(base.batches) <= 3
    monkeypatch.undo()
    whole = list(drift_rows(Letters(1), Letters(2), texts, vocabulary=VOCABULARY))

    def key(row: dict[str, Any]) -> tuple[str, str, int]:
        return row["form"], row["fact_id"], row["position"]

    for one, two in zip(sorted(small, key=key), sorted(whole, key=key), strict=True):
        assert one["kl_tuned_base"] == pytest.approx(two["kl_tuned_base"])
    few = Letters(1)
    few.batch_size = 2
    list(drift_rows(few, Letters(2), texts, vocabulary=VOCABULARY))
    assert max(few.batches) == 2
    alone = Letters(2)
    list(drift_rows(Letters(1), alone, texts, vocabulary=VOCABULARY, alone=True))
    assert set(alone.batches) == {1}


logits = st.lists(st.floats(-8, 8), min_size=30, max_size=30)


@given(logits, logits, st.integers(2, 30))
@settings(max_examples=80, deadline=None)
def test_a_lower_bound_is_one_and_exact_where_all_is_shown(
    first: list[float], second: list[float], k: int
) -> None:
    log_p, log_q = (log_softmax(np.array(one)) for one in (first, second))
    exact = float((np.exp(log_p) * (log_p - log_q)).sum())
    back = float((np.exp(log_q) * (log_q - log_p)).sum())

    def top(values: np.ndarray, many: int) -> dict[int, float]:
        return {int(i): float(values[i]) for i in np.argsort(-values)[:many]}

    found = lower_bound(top(log_p, k), top(log_q, k))
    assert 0 <= found.tuned_base <= exact + 1e-9
    assert 0 <= found.base_tuned <= back + 1e-9
    assert 0 <= found.covered <= 1 + 1e-12
    whole = lower_bound(top(log_p, 30), top(log_q, 30))
    assert whole.tuned_base == pytest.approx(exact, abs=1e-6)
    assert whole.covered == pytest.approx(1)
    ten = np.argsort(-log_p, kind="stable")[:10]
    p, q = (np.exp(log_softmax(one[ten])) for one in (log_p, log_q))
    wanted = float((p * np.log(p / q)).sum())
    shown = paper_kl(top(log_p, 30), top(log_q, 30))
    assert shown == pytest.approx(wanted, abs=1e-8)
    assert paper_kl(top(log_p, 9), top(log_q, 30)) is None


def test_a_lower_bound_is_one_where_float32_hides_the_rest() -> None:
    """A model that is all but certain shows no rest in float32: its logarithm would be noise."""
    random = np.random.default_rng(0)
    rounded = 0
    for _ in range(500):
        sure, unsure = random.normal(size=2000), random.normal(size=2000)
        sure[:20] += random.uniform(14, 26)
        unsure[:20] += random.uniform(0, 6)
        log_p, log_q = log_softmax(unsure), log_softmax(sure)
        exact = float((np.exp(log_p) * (log_p - log_q)).sum())
        back = float((np.exp(log_q) * (log_q - log_p)).sum())
        tops = [
            {int(i): float(np.float32(one[i])) for i in np.argsort(-one)[:20]}
            for one in (log_p, log_q)
        ]
        rounded += sum(map(np.exp, tops[1].values())) >= 1
        found = lower_bound(*tops)
        assert 0 <= found.tuned_base <= exact + 1e-6
        assert 0 <= found.base_tuned <= back + 1e-6
    assert rounded


def test_means_are_over_facts_and_their_intervals_over_answers() -> None:
    items = pl.DataFrame(
        {
            "fact_id": ["a", "a", "b", "c"],
            "variant": ["tuned"] * 4,
            "form": ["cloze"] * 4,
            "position": [0, 1, 0, 0],
            "kind": ["answer", "end", "answer", "answer"],
            "early": [True, True, True, False],
            "kl_tuned_base": [1.0, 3.0, 5.0, 9.0],
            "kl_base_tuned": [1.0, 1.0, 1.0, 1.0],
            "paper_kl": [0.5, None, 1.5, 7.0],
            "covered": [None, None, None, None],
            "relation": ["r"] * 4,
            "answer": ["x", "x", "y", "z"],
            "level": [4, 4, 4, 1],
            "domain": ["in", "in", "in", "out"],
        },
        schema_overrides={"covered": pl.Float64},
    )
    rows = {(one.by, one.key): one for one in figures(items)}
    whole = rows["form", ""].tuned_base
    assert whole.value == pytest.approx((2 + 5 + 9) / 3)
    assert (whole.n, whole.clusters, whole.median) == (3, 3, 5)
    assert whole.low is not None
    assert 0 <= whole.low < whole.value
    assert rows["form", ""].base_tuned.low is None  # nothing varies
    assert rows["kind", "end"].tuned_base.value == 3
    # Over the tokens of answers alone: 1 and 5, not the mean of 1 and 3.
    assert rows["level", "4"].tuned_base.value == pytest.approx(3.0)
    assert rows["domain", "out"].tuned_base.value == pytest.approx(9.0)
    assert ("position", "0") not in rows  # too few facts for a figure of its own
    paper = {(one.level, one.relation): one.kl for one in paper_rows(items)}
    # Of early answers alone.
    assert paper[4, None].value == pytest.approx(1.0)
    assert paper[None, None].n == 2
    assert paper[None, "r"].value == pytest.approx(1.0)
    assert paper[4, "r"].value == pytest.approx(1.0)
    # A fact whose ten tokens the engine does not show is left out, and counted.
    hidden = items.with_columns(
        paper_kl=pl.when(pl.col("fact_id") != "b").then("paper_kl"), early=pl.lit(True)
    )
    rows_ = {one.level: (one.kl.n, one.left_out) for one in paper_rows(hidden) if not one.relation}
    assert rows_ == {1: (1, 0), 4: (1, 1), None: (2, 1)}


def test_the_interval_of_a_mean_holds_it_as_often_as_stated() -> None:
    random = np.random.default_rng(5)
    held = 0
    for _ in range(300):
        answers = np.repeat(np.arange(60), 2)
        values = random.gamma(2.0, 0.5, 60)[answers] * random.gamma(4.0, 0.25, 120)
        frame = pl.DataFrame(
            {
                "fact_id": [f"{number:03d}" for number in range(120)],
                "relation": "r",
                "answer": [str(one) for one in answers],
                "level": 1,
                "value": values,
            }
        )
        found = mean_of(frame, "value")
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1.0 <= found.high
    assert 0.9 <= held / 300 <= 0.985


def test_a_fake_engine_shows_no_probabilities(request_: Request) -> None:
    with pytest.raises(SftbenchError, match="shows no probabilities"):
        run_drift(request_, factory_of(FakeEngine()), lambda _: None)


def test_other_tokenizers_are_refused(request_: Request) -> None:
    write_tokenizer(Path(request_.tuned), more=["another"])
    with pytest.raises(SftbenchError, match="other tokens"):
        run(replace(request_, drift=True), factory_of(FakeEngine()))
