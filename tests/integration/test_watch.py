"""`RetentionCallback` on short runs of the lab model: what is logged, stopped and left alone."""

from __future__ import annotations

import logging
import random
from typing import Any

import numpy as np
import pytest
import torch
from lab_adapters import lora
from transformers import Trainer, TrainerCallback, TrainingArguments
from watched import LAB, Target, lab_model, lab_tokenizer, plain_trainer, sft_trainer

from sftbench import RetentionCallback
from sftbench.common.errors import SftbenchError
from sftbench.engines.transformers import TransformersEngine
from sftbench.watch import live
from sftbench.watch.levelled import find_levelled
from sftbench.watch.probe import ask
from sftbench.watch.stop import Schedule

pytestmark = pytest.mark.integration

FIGURES = {
    *(f"retention/{one}{end}" for one in ("in", "out") for end in ("", "_low", "_high", "_facts")),
    "retention/seconds",
}
OURS = "retention/in"


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def watched(trainer: Any, **how: Any) -> RetentionCallback:
    callback = RetentionCallback(trainer, base="lab", **{"every": 2, "probes": 40, **how})
    trainer.add_callback(callback)
    return callback


def logs_of_training(trainer: Any) -> list[dict[str, float]]:
    """Return what was logged besides retention, without what the clock decides."""
    return [
        {key: value for key, value in line.items() if "runtime" not in key and "_per_" not in key}
        for line in trainer.state.log_history
        if OURS not in line
    ]


class Noting(TrainerCallback):
    """Notes at the end of each step what a probe could have changed."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_step_end(self, args, state, control, model=None, processing_class=None, **_):
        self.seen.append(
            (
                torch.get_rng_state().tolist(),
                random.getstate(),
                np.random.get_state()[1].tolist(),
                [module.training for module in model.modules()],
                [one.requires_grad for one in model.parameters()],
                [one.grad is None for one in model.parameters()],
                model.config.to_dict(),
                model.generation_config.to_dict(),
                processing_class.padding_side,
                processing_class.truncation_side,
                control.should_log,
            )
        )


@pytest.mark.parametrize("make", [plain_trainer, sft_trainer])
def test_it_logs_and_changes_nothing_else(make, tmp_path):
    target, with_it, without_it = Target(), Noting(), Noting()
    # In float32 and with dropout: a generator that was not put back would show.
    how = {"bf16": False, "max_steps": 5}
    plain = make(tmp_path / "without", without_it, model=with_dropout(), **how)
    plain.train()
    trainer = make(tmp_path / "with", target, model=with_dropout(), **how)
    watched(trainer)
    trainer.add_callback(with_it)
    trainer.train()

    assert same(weights(trainer.model), weights(plain.model))
    assert with_it.seen == without_it.seen
    assert logs_of_training(trainer) == logs_of_training(plain)
    lines = [line for line in trainer.state.log_history if OURS in line]
    assert [line["step"] for line in lines] == [0, 2, 4, 5]
    assert all(line.keys() == FIGURES | {"step", "epoch"} for line in lines)
    assert {line["retention/in_facts"] + line["retention/out_facts"] for line in lines} == {40}
    assert all(line[OURS] > 0.9 for line in lines)
    reported = [(step, line) for step, line in target.lines if OURS in line]
    assert [{**line, "step": step} for step, line in reported] == lines


def with_dropout() -> Any:
    model = lab_model()
    model.config.attention_dropout = 0.1
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    return model


def test_forgetting_stops_the_run_and_is_said_once(tmp_path, caplog):
    target = Target()
    trainer = sft_trainer(tmp_path, target, learning_rate=1e-2, max_steps=20)
    callback = watched(trainer, stop_below=0.9, patience=2)
    with caplog.at_level(logging.WARNING, "sftbench"):
        trainer.train()

    assert callback.stopped_at == trainer.state.global_step == 4
    assert [one.step for one in callback.history] == [0, 2, 4]
    found = callback.history[-1].domains["in"]
    assert found.high < 0.9
    said = [line for line in caplog.messages if "Training stops at step 4" in line]
    assert len(said) == 1
    assert "below 90 %" in said[0]
    assert target.lines[-1][1].keys() >= {"train_loss"}


def test_a_model_that_diverges_is_an_error_that_says_so(tmp_path):
    trainer = plain_trainer(tmp_path, learning_rate=1e30, max_grad_norm=0.0)
    watched(trainer)
    with pytest.raises(SftbenchError, match="logits are not finite") as caught:
        trainer.train()

    assert caught.value.where == "RetentionCallback at step 2"
    assert "learning rate" in caught.value.remedy
    assert trainer.model.training  # as the trainer had left it


def test_little_forgetting_does_not_stop(tmp_path):
    trainer = sft_trainer(tmp_path)
    callback = watched(trainer, every=1, stop_below=0.9)
    trainer.train()

    assert callback.stopped_at is None
    assert trainer.state.global_step == 4
    assert len(callback.history) == 5


def test_an_adapter_is_asked_on_the_live_model_and_the_base_without_it(tmp_path):
    def tuned(output: Any, *callbacks: TrainerCallback) -> Any:
        trainer = sft_trainer(output, *callbacks, peft=lora(target_modules="all-linear"))
        torch.manual_seed(1)
        for name, one in trainer.model.named_parameters():
            if "lora_B" in name:  # zero at first: here the run begins with an adapter that forgot
                one.data += 0.2 * torch.randn_like(one)
        return trainer

    plain = tuned(tmp_path / "without")
    plain.train()
    trainer = tuned(tmp_path / "with")
    callback = watched(trainer)
    assert live.is_base(trainer.model, LAB)
    wanting = [one.requires_grad for one in trainer.model.parameters()]
    trainer.train()

    assert same(weights(trainer.model), weights(plain.model))
    assert [one.requires_grad for one in trainer.model.parameters()] == wanting
    assert callback.history[0].domains["in"].value < 0.8
    assert callback._probes.rows.equals(probes_of_the_lab(trainer, callback))


def probes_of_the_lab(trainer: Any, callback: RetentionCallback) -> Any:
    """Return the probe set that the named base gives."""
    return callback._known_by_named_base(trainer.model).rows


def test_a_resumed_run_asks_the_named_base(tmp_path):
    how = {"save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-3, "bf16": False}
    first = plain_trainer(tmp_path, **how)
    whole = watched(first)
    first.train()
    again = plain_trainer(tmp_path, **how)
    resumed = watched(again)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))

    assert same(weights(again.model), weights(first.model))
    assert not live.is_base(again.model, LAB)
    assert [one.step for one in resumed.history] == [2, 4]
    assert resumed._probes.rows.equals(whole._probes.rows)
    assert [one.domains for one in resumed.history] == [one.domains for one in whole.history[1:]]
    # A second run of the same trainer keeps the base's answers.
    before = resumed._probes
    again.args.max_steps = 1
    again.train()
    assert resumed._probes is before
    assert [one.step for one in resumed.history] == [0, 1]
    assert resumed.history[0].domains == whole.history[-1].domains


def test_a_model_in_bf16_is_watched(tmp_path):
    trainer = plain_trainer(tmp_path, model=lab_model(torch.bfloat16), max_steps=2)
    callback = watched(trainer)
    assert live.is_base(trainer.model, LAB)
    trainer.train()

    assert callback.history[-1].domains["in"].value > 0.8
    assert trainer.model.dtype == torch.bfloat16


def test_a_live_model_answers_as_one_from_disk():
    levelled = find_levelled("lab", None, None)
    rows = levelled.rows.head(60)
    model = lab_model().eval()
    before = model.config.to_dict()
    around = TransformersEngine.around(model, levelled.tokenizer, batch_size=16)

    assert ask(around, rows) == ask(TransformersEngine(LAB, device="cpu"), rows)
    assert model.config.to_dict() == before
    assert around.describe()["dtype"] == "float32"


def test_another_weight_is_another_model():
    model = lab_model()
    assert live.is_base(model, LAB)
    model.model.norm.weight.data[0] += 1e-3
    assert not live.is_base(model, LAB)
    larger = lab_model()
    larger.resize_token_embeddings(larger.config.vocab_size + 1, mean_resizing=False)
    assert not live.is_base(larger, LAB)


def test_what_does_not_fit_is_refused_before_training(tmp_path):
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    trainer = plain_trainer(tmp_path)
    for how, where in [({"every": 0}, "every"), ({"stop_below": 90}, "stop_below")]:
        with pytest.raises(SftbenchError) as caught:
            RetentionCallback(trainer, base="lab", **how)
        assert caught.value.where == where
    with pytest.raises(SftbenchError, match="not a Trainer"):
        RetentionCallback("lab", base="lab")
    with pytest.raises(SftbenchError, match="there is no model 'nothing'"):
        RetentionCallback(trainer, base="nothing")
    with pytest.raises(SftbenchError, match="levels other facts"):
        RetentionCallback(trainer, base="lab", facts="geography", mastery=card_of_the_lab())
    small = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=1,
        )
    )  # fmt: skip
    with pytest.raises(SftbenchError, match="knows 8 tokens"):
        RetentionCallback(Trainer(small, trainer.args), base="lab")
    other = AutoTokenizer.from_pretrained(LAB)
    other.backend_tokenizer.normalizer = lowercase()
    trainer.processing_class = other
    with pytest.raises(SftbenchError, match="into other ids"):
        RetentionCallback(trainer, base="lab")


def card_of_the_lab() -> Any:
    from sftbench.mastery.bundled import find_card

    return find_card(base_digest=find_digest())


def find_digest() -> str:
    from sftbench.checkpoints.digest import checkpoint_digest

    return checkpoint_digest(LAB)


def lowercase() -> Any:
    from tokenizers.normalizers import Lowercase

    return Lowercase()


def test_a_threshold_that_cannot_be_shown_is_refused_before_the_first_step(tmp_path):
    trainer = plain_trainer(tmp_path)
    before = weights(trainer.model)
    watched(trainer, probes=20, stop_below=0.05)
    with pytest.raises(SftbenchError, match="too few to show"):
        trainer.train()

    assert same(weights(trainer.model), before)
    assert trainer.state.global_step == 0


def test_prompt_tuning_is_refused(tmp_path):
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(
        lab_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    )
    trainer = Trainer(model, TrainingArguments(str(tmp_path), use_cpu=True, report_to=[]))
    with pytest.raises(SftbenchError, match="prompt tuning"):
        RetentionCallback(trainer, base="lab")


def test_the_defaults_are_those_of_the_schedule(tmp_path):
    trainer = plain_trainer(tmp_path)
    trainer.processing_class = None  # data that were tokenized before
    callback = RetentionCallback(trainer, base="lab")

    assert callback._schedule == Schedule()
    assert callback.history == []
    assert lab_tokenizer().padding_side == callback._levelled.tokenizer.padding_side
