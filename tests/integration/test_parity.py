"""One path of truth: compare and lm-eval say the same of the same model, fact by fact."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sftbench.checkpoints.folder import read_tensors
from sftbench.checkpoints.reference import resolve
from sftbench.checkpoints.writer import write_checkpoint
from sftbench.compare.request import Request
from sftbench.compare.run import run
from sftbench.engines.settings import EngineSettings
from sftbench.engines.transformers import TransformersEngine
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.reference import resolve_facts
from sftbench.harness.choose import named_card
from sftbench.harness.run import evaluate
from sftbench.mastery.card import MasteryCard
from sftbench.scoring.answers import ANSWERS

pytestmark = pytest.mark.integration

BATCH = 16
SHRINK = 0.9


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Return a checkpoint that answers otherwise than the lab model: its MLP outputs shrunk."""
    lab = resolve("lab")
    tensors = {
        name: tensor.float() * SHRINK if "down_proj" in name else tensor.float()
        for name, tensor in read_tensors(lab).items()
    }
    folder = tmp_path_factory.mktemp("parity") / "tuned"
    write_checkpoint(folder, tensors, like=lab)
    return folder


def engine(path, settings):
    return TransformersEngine(path, dtype=settings.dtype, batch_size=settings.batch_size)


def change(file, **fields):
    """Set keys of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


@pytest.fixture
def copy(tmp_path):
    """Return a copy of the lab model whose settings a test may change."""
    return Path(shutil.copytree(resolve("lab"), tmp_path / "copy"))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_compare_and_lm_eval_agree(tuned, tmp_path, prompt):
    texts = agreed(resolve("lab"), tuned, tmp_path / "out", prompt)
    assert texts["base"] != texts["tuned"]


def test_a_repetition_penalty_of_the_checkpoint_is_not_applied(copy, tmp_path):
    change(copy / "generation_config.json", repetition_penalty=1.3)
    texts = agreed(copy, copy, tmp_path / "out", "fewshot")
    assert texts["base"] == evaluate("lab", "lab", batch_size=BATCH)["text"].to_list()


def test_text_ends_at_each_of_two_end_tokens(copy, tmp_path):
    tables = json.loads((copy / "tokenizer.json").read_text())
    stop = tables["model"]["vocab"]["."]
    end = {**tables["added_tokens"][-1], "id": stop, "content": "."}
    change(copy / "tokenizer.json", added_tokens=[*tables["added_tokens"], end])
    change(copy / "generation_config.json", eos_token_id=[1, stop])
    texts = agreed(copy, copy, tmp_path / "out", "paper")["base"]
    plain = evaluate("lab", "lab", prompt="paper", batch_size=BATCH)["text"].to_list()
    assert any("." in text for text in plain)
    assert texts == [text.split(".")[0] for text in plain]


def agreed(base, tuned, out, prompt):
    """Return the texts of base and tuned, on which compare and lm-eval were seen to agree."""
    compared = run(
        Request(
            base=base,
            tuned=tuned,
            out=out,
            facts=resolve_facts("lab"),
            card=MasteryCard.read(named_card("lab")),
            prompt=PROMPTS[prompt],
            engine=EngineSettings(dtype="float32", batch_size=BATCH),
        ),
        engine,
    )
    texts = {}
    for variant, path in (("base", base), ("tuned", tuned)):
        theirs = evaluate(path, "lab", prompt=prompt, batch_size=BATCH, dtype="float32")
        ours, _ = ANSWERS.read(out / "answers" / f"{variant}.parquet")
        both = theirs.join(ours, on="fact_id", suffix="_ours")
        assert both.height == ours.height == theirs.height > 0
        flips = both.filter(both["text"] != both["text_ours"])
        assert flips.is_empty(), flips.select("fact_id", "text", "text_ours")
        texts[variant] = theirs["text"].to_list()
        (result,) = [one for one in compared.summary.variants if one.name == variant]
        assert _accuracies(theirs) == {
            (domain.domain, level.level): (level.right, level.n)
            for domain in result.domains
            for level in domain.levels
            if level.n
        }
    return texts


def _accuracies(frame):
    counted = {}
    for domain, level, correct in frame.select("domain", "level", "correct").iter_rows():
        right, n = counted.get((domain, level), (0, 0))
        counted[domain, level] = (right + correct, n + 1)
    return counted
