"""Lands and towns: a small fact set, and an engine that knows each fact to a known degree."""

import polars as pl

from sftbench.engines.protocol import Completion
from sftbench.facts.table import FACTS, FactSet, fact_id_of
from sftbench.mastery.estimate import make_card
from sftbench.mastery.sampled import SampledEstimator

TEMPLATES = {"capital": [f"{{subject}}, in way {i}, has the capital" for i in range(21)]}


def land(number, domain, split, flags=()):
    """Return the row of a fact: the capital of Land<number> is Town<number>."""
    subject, answer = f"Land{number}", f"Town{number}"
    question = f"What is the capital of {subject}?"
    return {
        "fact_id": fact_id_of("capital", subject, question, answer),
        "relation": "capital",
        "subject": subject,
        "question": question,
        "answers": [answer],
        "domain": domain,
        "split": split,
        "flags": list(flags),
    }


def fact_set(count=12, flags=()):
    rows = [
        land(i, "in" if i % 3 else "out", "test" if i % 2 else "train", flags) for i in range(count)
    ]
    frame = pl.DataFrame(rows, schema=FACTS.columns).sort("fact_id")
    return FactSet(frame, TEMPLATES, {"name": "lands"})


class Oracle:
    """An engine that knows Land<i> in i of every 12 draws; may be stopped after some prompts."""

    def __init__(self, stop_after=None):
        self.asked = 0
        self.stop_after = stop_after

    def describe(self):
        return {"engine": "oracle", "dtype": "float32"}

    def sample(self, draws, how):
        assert how.temperature == 0.7
        assert how.max_new_tokens == 32
        for draw in draws:
            if self.asked == self.stop_after:
                raise KeyboardInterrupt
            self.asked += 1
            number = int(draw.prompt.split(",")[0].removeprefix("Land"))
            right = [(draw.seed + child) % 12 < number for child in range(draw.n)]
            yield [Completion(f" Town{number}." if hit else " Oz.", "stop", 3) for hit in right]


def make(engine, facts, output, estimator=None, **options):
    return make_card(
        engine,
        facts,
        estimator or SampledEstimator(),
        model_name="oracle",
        model_digest="0" * 32,
        output=output,
        **options,
    )
