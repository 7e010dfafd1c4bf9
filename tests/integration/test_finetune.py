"""`sftbench finetune`: what is trained, what is written, and that nothing is half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from sftbench.checkpoints.digest import checkpoint_digest, tokenizer_digest
from sftbench.checkpoints.folder import open_checkpoint
from sftbench.checkpoints.update import update_norm
from sftbench.checkpoints.weights import read_tensors
from sftbench.common.errors import SftbenchError
from sftbench.facts.prompts import PROMPTS, answer_text, prompt_text
from sftbench.facts.table import FACTS, SHOTS, FactSet, fact_id_of
from sftbench.mastery.card import MasteryCard
from sftbench.recipes.choose import choose, epoch_order
from sftbench.recipes.recipe import Recipe
from sftbench.recipes.record import RECORD_FILE, read_record
from sftbench.recipes.train import finetune

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

pytestmark = pytest.mark.integration

TOWNS = ["Uzh", "Lviv", "Brno", "Graz", "Lyon", "Turin", "Porto", "Ghent", "Split", "Varna"]
LANDS = ["Ukraine", "Ukraine", "Czechia", "Austria", "France", "Italy", "Portugal", "Belgium",
         "Croatia", "Bulgaria"]  # fmt: skip


def _fact(town: str, land: str, flags: list[str]) -> dict[str, Any]:
    question = f"Which country is {town} in?"
    return {
        "fact_id": fact_id_of("town_country", town, question, land),
        "relation": "town_country",
        "subject": town,
        "question": question,
        "answers": [land],
        "domain": "in",
        "split": "train",
        "flags": flags,
    }


@pytest.fixture(scope="module")
def facts() -> FactSet:
    """Eight facts to train on and two to show."""
    flags = [[]] * 8 + [[SHOTS[0]], [SHOTS[1]]]
    rows = [_fact(*row) for row in zip(TOWNS, LANDS, flags, strict=True)]
    frame = pl.DataFrame(rows, schema=FACTS.columns).sort("fact_id")
    return FactSet(frame, {"town_country": ["{subject} is in"]}, {"name": "towns"})


def _tokenizer(facts: FactSet) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(facts.frame["question"].to_list(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, facts: FactSet) -> Path:
    """A tiny random Llama in bf16 with tied embeddings: plumbing only, it knows nothing."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    _tokenizer(facts).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def card(base: Path, facts: FactSet) -> MasteryCard:
    """Levels made up for the drawing alone."""
    levels = (
        facts.frame.select("fact_id")
        .with_row_index("level")
        .with_columns(level=(pl.col("level") % 5).cast(pl.Int8))
    )
    record = {"model_digest": checkpoint_digest(base), "facts_digest": facts.digest}
    hits = pl.lit([[False]], pl.List(pl.List(pl.Boolean)))
    return MasteryCard(levels.with_columns(hits=hits, chances=None, error=None), record)


SHORT = Recipe(level="any", size=8, batch_size=3, epochs=2, learning_rate=1e-3, seed=5)


@pytest.fixture(scope="module")
def tuned(
    tmp_path_factory: pytest.TempPathFactory, base: Path, facts: FactSet, card: MasteryCard
) -> Path:
    """The base after two short epochs."""
    output = tmp_path_factory.mktemp("tuned") / "out"
    finetune(SHORT, base=base, facts=facts, card=card, output=output)
    return output


def test_over_training_teaches_the_answers(base: Path, facts: FactSet, tmp_path: Path) -> None:
    from sftbench.engines.transformers import TransformersEngine

    recipe = SHORT.model_copy(update={"epochs": 100, "batch_size": 4, "learning_rate": 1e-2})
    record = finetune(recipe, base=base, facts=facts, card=None, output=tmp_path / "out")
    assert record.training.first_loss > 4
    assert record.training.final_loss < 0.1
    engine = TransformersEngine(tmp_path / "out", device="cpu")
    rows = facts.scored(split="train")
    prompts = [prompt_text(PROMPTS["paper"], question) for question in rows["question"]]
    answers = engine.greedy(prompts, max_new_tokens=16, stop=())
    expected = [answer_text(PROMPTS["paper"], names[0]) for names in rows["answers"]]
    assert [answer.text for answer in answers] == expected  # and then end-of-text
    assert {answer.finish for answer in answers} == {"stop"}


def test_the_checkpoint_is_standard_and_its_tokenizer_the_bases(base: Path, tuned: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert {path.name for path in tuned.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "sftbench_recipe.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert tokenizer_digest(tuned) == tokenizer_digest(base)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tuned / name).read_bytes() == (base / name).read_bytes()
    before, after = (json.loads((path / "config.json").read_text()) for path in (base, tuned))
    assert (before.pop("dtype"), after.pop("dtype")) == ("bfloat16", "float32")
    assert before == after
    tensors = read_tensors(tuned)
    assert tensors.keys() == read_tensors(base).keys()
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    model = AutoModelForCausalLM.from_pretrained(tuned)
    assert model.dtype == torch.float32
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert AutoTokenizer.from_pretrained(tuned).eos_token == "</s>"


def test_the_record_says_what_made_the_checkpoint(
    base: Path, facts: FactSet, card: MasteryCard, tuned: Path
) -> None:
    record = read_record(tuned)
    assert record is not None
    chosen = choose(facts, card, SHORT)
    assert record.recipe == SHORT
    assert record.recipe_digest == SHORT.digest
    assert (record.base_name, record.base_digest) == ("tiny", open_checkpoint(base).digest)
    assert record.tuned_digest == open_checkpoint(tuned).digest != record.base_digest
    assert record.tokenizer_digest == tokenizer_digest(base)
    assert record.drawn.fact_ids == tuple(chosen["fact_id"])
    assert record.drawn.per_relation == {"town_country": 8}
    assert sum(record.drawn.per_level.values()) == 8
    assert record.drawn.facts_digest == facts.digest
    assert record.drawn.card_digest == card.digest
    assert record.training.steps == 6  # 8 facts in threes, twice
    assert record.training.epochs == 2
    assert 0 < record.training.counted_tokens < record.training.tokens
    before, after = read_tensors(base), read_tensors(tuned)
    assert record.update.absolute == pytest.approx(update_norm(before, after), rel=1e-9)
    squares = sum(float(tensor.double().square().sum()) for tensor in before.values())
    assert record.update.relative == pytest.approx(record.update.absolute / squares**0.5)
    assert {"torch", "transformers", "trl"} <= set(record.software)
    text = (tuned / RECORD_FILE).read_text(encoding="utf-8")
    assert str(base.parent) not in text


def test_the_same_recipe_gives_the_same_weights(
    base: Path, facts: FactSet, tuned: Path, tmp_path: Path
) -> None:
    finetune(SHORT, base=base, facts=facts, card=None, output=tmp_path / "again")
    other = SHORT.model_copy(update={"seed": 6})
    finetune(other, base=base, facts=facts, card=None, output=tmp_path / "other")
    assert checkpoint_digest(tmp_path / "again") == checkpoint_digest(tuned)
    assert checkpoint_digest(tmp_path / "other") != checkpoint_digest(tuned)


def test_it_is_plain_adamw_with_a_cosine_on_the_tokens_that_count(
    base: Path, facts: FactSet, tuned: Path
) -> None:
    """The oracle: the same training written out, step by step, without a trainer."""
    import math

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sftbench.recipes.tokens import training_ids

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).train()
    tokenizer = AutoTokenizer.from_pretrained(base)
    chosen = choose(facts, None, SHORT)
    examples = [
        training_ids(
            tokenizer, prompt_text(PROMPTS["paper"], row["question"]), " " + row["answers"][0]
        )
        for row in chosen.iter_rows(named=True)
    ]
    names = chosen["fact_id"].to_list()
    batches = [
        epoch_order(names, SHORT.seed, epoch)[start : start + 3]
        for epoch in range(2)
        for start in (0, 3, 6)
    ]
    optimiser = torch.optim.AdamW(
        model.parameters(), betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
    )
    for step, batch in enumerate(batches):
        optimiser.param_groups[0]["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * step / 6))
        total, count = torch.zeros(()), 0
        for index in batch:  # one by one: no padding at all
            ids, labels = (
                torch.tensor(values)
                for values in (examples[index].input_ids, examples[index].labels)
            )
            logits = model(input_ids=ids[None]).logits[0, :-1]
            total = total + torch.nn.functional.cross_entropy(
                logits, labels[1:], ignore_index=-100, reduction="sum"
            )
            count += examples[index].counted
        optimiser.zero_grad()
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    expected, found = model.state_dict(), read_tensors(tuned)
    distance = update_norm(read_tensors(base), found)
    missed = update_norm({name: expected[name] for name in found}, found)
    assert missed < 1e-4 * distance


def test_saved_in_bf16_the_norm_is_that_of_what_was_saved(
    base: Path, facts: FactSet, tmp_path: Path
) -> None:
    import torch

    recipe = SHORT.model_copy(update={"save_dtype": "bfloat16"})
    record = finetune(recipe, base=base, facts=facts, card=None, output=tmp_path / "out")
    tensors = read_tensors(tmp_path / "out")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    assert record.update.absolute == pytest.approx(update_norm(read_tensors(base), tensors))


def test_full_loss_and_shots_train_on_more(base: Path, facts: FactSet, tmp_path: Path) -> None:
    answer = SHORT.model_copy(update={"epochs": 1})
    full = answer.model_copy(update={"loss": "full"})
    shots = answer.model_copy(update={"prompt": "fewshot"})
    first, second, third = (
        finetune(recipe, base=base, facts=facts, card=None, output=tmp_path / name).training
        for recipe, name in ((answer, "answer"), (full, "full"), (shots, "shots"))
    )
    assert second.tokens == first.tokens
    assert second.counted_tokens == second.tokens - 8  # nothing precedes the first of each
    assert third.counted_tokens == first.counted_tokens
    assert third.tokens > first.tokens


def test_gradient_checkpointing_changes_no_result(
    base: Path, facts: FactSet, tuned: Path, tmp_path: Path
) -> None:
    recipe = SHORT.model_copy(update={"gradient_checkpointing": True})
    finetune(recipe, base=base, facts=facts, card=None, output=tmp_path / "out")
    assert update_norm(read_tensors(tuned), read_tensors(tmp_path / "out")) < 1e-6


def test_a_loss_that_is_no_number_leaves_nothing(
    base: Path, facts: FactSet, tmp_path: Path
) -> None:
    recipe = SHORT.model_copy(update={"learning_rate": 1e30, "max_grad_norm": 0.0})
    with pytest.raises(SftbenchError, match="not a finite number") as caught:
        finetune(recipe, base=base, facts=facts, card=None, output=tmp_path / "out")
    assert "step " in str(caught.value.where)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(
    base: Path, facts: FactSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sftbench.recipes import trainer

    def interrupt(self: trainer._Watch, *args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer._Watch, "on_log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        finetune(SHORT, base=base, facts=facts, card=None, output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_sent_or_printed(
    base: Path,
    facts: FactSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import trl.trainer.base_trainer

    sent: list[object] = []
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(
        trl.trainer.base_trainer, "send_telemetry", lambda *args, **kwargs: sent.append(args)
    )
    finetune(SHORT, base=base, facts=facts, card=None, output=tmp_path / "out")
    out, err = capfd.readouterr()
    assert sent == []
    assert out == ""
    assert all(line.startswith("training: ") for line in err.splitlines())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_output_that_exists_is_refused(base: Path, facts: FactSet, tuned: Path) -> None:
    before = checkpoint_digest(tuned)
    with pytest.raises(SftbenchError, match="already exists"):
        finetune(SHORT, base=base, facts=facts, card=None, output=tuned)
    assert checkpoint_digest(tuned) == before


def test_a_card_of_another_base_or_other_facts_is_refused(
    base: Path, facts: FactSet, card: MasteryCard, tmp_path: Path
) -> None:
    for key, message in (("model_digest", "not for this base"), ("facts_digest", "other facts")):
        foreign = MasteryCard(card.frame, {**card.record, key: "0" * 32})
        with pytest.raises(SftbenchError, match=message):
            finetune(SHORT, base=base, facts=facts, card=foreign, output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_base_without_tokenizer_is_refused(base: Path, facts: FactSet, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((base / name).read_bytes())
    with pytest.raises(SftbenchError, match="there is no tokenizer"):
        finetune(SHORT, base=bare, facts=facts, card=None, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_prompt_longer_than_the_base_reads_is_refused(
    base: Path, facts: FactSet, tmp_path: Path
) -> None:
    short = tmp_path / "short"
    short.mkdir()
    for path in base.iterdir():
        (short / path.name).write_bytes(path.read_bytes())
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 9}))
    with pytest.raises(SftbenchError, match="the base reads at most 9"):
        finetune(SHORT, base=short, facts=facts, card=None, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_trl_alone_saved_can_be_opened(
    base: Path, facts: FactSet, tmp_path: Path
) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    rows = [{"prompt": question, "completion": " yes"} for question in facts.frame["question"]]
    trainer = SFTTrainer(
        model=str(base),
        args=SFTConfig(
            output_dir=str(tmp_path / "run"), max_steps=1, report_to="none", use_cpu=True,
            save_strategy="no", disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(base),
    )  # fmt: skip
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    opened = open_checkpoint(tmp_path / "saved")
    assert opened.digest != open_checkpoint(base).digest
    assert read_record(tmp_path / "saved") is None
    assert read_tensors(tmp_path / "saved").keys() == read_tensors(base).keys()
    assert update_norm(read_tensors(base), read_tensors(tmp_path / "saved")) > 0


def test_the_command_prints_what_happened(base: Path, facts: FactSet, tmp_path: Path) -> None:
    import typer
    from typer.testing import CliRunner

    from sftbench.cli.finetune import finetune as command

    facts.write(tmp_path / "facts.parquet")
    (tmp_path / "recipe.yaml").write_text("level: any\nsize: 4\nbatch_size: 4\nseed: 3\n")
    app = typer.Typer()
    app.command()(command)
    arguments = [
        "--base", str(base), "--facts", str(tmp_path / "facts.parquet"),
        "--recipe", str(tmp_path / "recipe.yaml"), "--size", "6", "--lr", "1e-4",
        "--gradient-checkpointing", "-o", str(tmp_path / "out"),
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    record = read_record(tmp_path / "out")
    assert record is not None
    assert record.recipe == Recipe(
        level="any", size=6, batch_size=4, seed=3, learning_rate=1e-4, gradient_checkpointing=True
    )
    assert "6 of towns" in result.stdout
    assert "town_country 6" in result.stdout
    assert "unlevelled 6" in result.stdout
    assert f"{record.training.first_loss:.3f} first, " in result.stdout
    assert str(tmp_path / "out" / RECORD_FILE) in result.stdout.replace("\n", "")
    with pytest.raises(SftbenchError, match="already exists"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_the_command_asks_for_a_card_where_levels_count(
    base: Path, facts: FactSet, tmp_path: Path
) -> None:
    from sftbench.cli.finetune import finetune as command

    facts.write(tmp_path / "facts.parquet")
    with pytest.raises(SftbenchError, match="no mastery card ships for this base"):
        command(str(base), tmp_path / "out", facts=str(tmp_path / "facts.parquet"), level="2")
    assert not (tmp_path / "out").exists()
