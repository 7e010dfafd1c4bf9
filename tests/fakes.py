"""What several tests share: a model in which each scalar is one fact, and engines without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from sftbench.checkpoints.lazy import Weights
from sftbench.engines.protocol import Advance, Completion, Draws, Engine, Sampling, Scored
from sftbench.engines.settings import EngineSettings
from sftbench.facts.table import FACTS, FactSet, fact_id_of
from sftbench.mastery.card import MasteryCard, with_levels
from sftbench.recipes.recipe import Recipe
from sftbench.recipes.record import Drawn, RecipeRecord, Training, UpdateNorm

FACT_COUNT = 40
WEIGHT = "model.layers.0.mlp.up_proj.weight"
REST = "model.embed_tokens.weight"

# Facts 0..29 known in the base. The fine-tune loses 0..7 with a large relative change (the more
# the lower the number), and gains 30..33 with a small one.
BASE = [1.0] * 30 + [-1.0] * 10
TUNED = [-9.0 + i for i in range(8)] + [1.0] * 22 + [0.5] * 4 + [-1.0] * 6

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message.role }}>{{ message.content }}<end>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""What a chat model's tokenizer may carry; a conversation begins with the BOS token."""


def fact_set(*, shots: bool = False) -> FactSet:
    """Return 40 test facts in two relations, "in" and "out", by number; on wish, shots of each."""
    rows = [_row(number, number % 2, "test", []) for number in range(FACT_COUNT)]
    if shots:
        places = [(number, number % 2) for number in range(FACT_COUNT, FACT_COUNT + 8)]
        rows += [_row(number, side, "train", ["shot_1"]) for number, side in places]
    frame = FACTS.conform(pl.DataFrame(rows, schema_overrides={"flags": pl.List(pl.String)}))
    templates = {"of_in": ["{subject}"], "of_out": ["{subject}"]}
    return FactSet(frame.sort("fact_id"), templates, {"name": "numbers"})


def _row(number: int, side: int, split: str, flags: list[str]) -> dict[str, Any]:
    domain = ("out", "in")[side]
    question, answer = f"What is number {number}?", f"Answer{number}"
    return {
        "fact_id": fact_id_of(f"of_{domain}", str(number), question, answer),
        "relation": f"of_{domain}",
        "subject": str(number),
        "question": question,
        "answers": [answer],
        "domain": domain,
        "split": split,
        "flags": flags,
    }


def card_for(facts: FactSet, base_digest: str, shift: int = 0) -> MasteryCard:
    """Return a card in which fact number i is in level (i // 2 + shift) % 5."""
    rows = facts.scored()
    hits = pl.DataFrame(
        {
            "fact_id": rows["fact_id"],
            "hits": [
                [[True] * (2 * level) + [False] * (8 - 2 * level)]
                for level in ((int(subject) // 2 + shift) % 5 for subject in rows["subject"])
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


def write_model(folder: Path, scalars: Sequence[float], rows: int = 2, **config: Any) -> Path:
    """Write a checkpoint whose scalar i says whether fact i is known (positive).

    Its embedding has so many rows.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    tensors = {WEIGHT: torch.tensor([scalars]), REST: torch.ones(rows, 2)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path, *, more: Sequence[str] = (), chat: str | None = None) -> None:
    """Write a word-level tokenizer that transformers can read; `more` words make it another."""
    words = ["<unk>", "<s>", "</s>", *more]
    model = {
        "type": "WordLevel",
        "vocab": {word: place for place, word in enumerate(words)},
        "unk_token": "<unk>",
    }
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": model,
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    if chat is not None:
        (folder / "chat_template.jinja").write_text(chat)


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


class SilentEngine:
    """The methods of an engine that a test does not expect to be called."""

    tokenizer: Any = None

    def describe(self) -> Mapping[str, str]:
        return {"engine": "fake"}

    def load(self, weights: Weights) -> None:
        raise AssertionError("nothing here may call this")

    def sample(self, draws: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
        raise AssertionError("nothing here may call this")

    def encode(self, text: str) -> list[int]:
        raise AssertionError("nothing here may call this")

    def close(self) -> None:
        """There is nothing to free."""


class FakeEngine(SilentEngine):
    """Answers fact i right where scalar i of the loaded weights is positive."""

    def __init__(self, dies_at: int | None = None, torch: str = "1.0") -> None:
        self.torch = torch
        self.scalars: list[float] = []
        self.loads = 0
        self.dies_at = dies_at
        self.asked: list[str] = []
        self.closed = False

    def start(self, path: Path) -> FakeEngine:
        """Hold the weights of a checkpoint folder, as a new engine does; not counted as a load."""
        from sftbench.checkpoints.weights import read_tensors

        self.scalars = read_tensors(path)[WEIGHT].flatten().tolist()
        self.closed = False
        return self

    def describe(self) -> Mapping[str, str]:
        return {"engine": "fake", "dtype": "float32", "fake_torch": self.torch}

    def load(self, weights: Weights) -> None:
        assert not self.closed
        self.loads += 1
        if self.loads == self.dies_at:
            raise KeyboardInterrupt
        self.scalars = dict(weights.items())[WEIGHT].flatten().tolist()

    def greedy(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str],
        advance: Advance | None = None,
    ) -> list[Completion]:
        assert not self.closed
        self.asked += prompts
        numbers = [int(prompt.split("number ")[-1].split("?")[0]) for prompt in prompts]
        return [
            Completion(f" Answer{number}" if self.scalars[number] > 0 else " <nothing>", "stop", 2)
            for number in numbers
        ]

    def logprobs(
        self, pairs: Sequence[tuple[str, str]], *, advance: Advance | None = None
    ) -> list[Scored]:
        return [Scored(-1.5, 2) for _ in pairs]

    def close(self) -> None:
        self.closed = True


class Scripted(SilentEngine):
    """Answers by a function of the prompt and keeps what it was asked."""

    def __init__(self, say: Callable[[str], str]) -> None:
        self.say = say
        self.prompts: list[str] = []
        self.pairs: list[tuple[str, str]] = []
        self.budget: tuple[int, tuple[str, ...]] = (0, ())

    def greedy(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str],
        advance: Advance | None = None,
    ) -> list[Completion]:
        self.prompts = list(prompts)
        self.budget = (max_new_tokens, tuple(stop))
        if advance is not None:
            advance(len(prompts))
        return [Completion(self.say(prompt), "stop", 3) for prompt in prompts]

    def logprobs(
        self, pairs: Sequence[tuple[str, str]], *, advance: Advance | None = None
    ) -> list[Scored]:
        self.pairs = list(pairs)
        if advance is not None:
            advance(len(pairs))
        return [Scored(-float(len(text)), len(text.split())) for _, text in pairs]


Factory = Callable[[Path, EngineSettings], Engine]


def factory_of(engine: FakeEngine) -> Factory:
    """Return a factory that gives this engine, with the weights of the folder that is named."""
    return lambda path, settings: engine.start(path)


def never(path: Path, settings: EngineSettings) -> Engine:
    """Fail: nothing is left to ask, so no engine is needed."""
    raise AssertionError("no engine is needed")
