"""Adapters of the lab model with random weights: for the tests of merging."""

from __future__ import annotations

import torch

from sftbench.checkpoints.reference import resolve

IDS = torch.arange(2, 50).view(2, 24)
LAB = resolve("lab")


def lab_model(rows=None):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(LAB, dtype=torch.float32)
    if rows is not None:
        torch.manual_seed(1)
        model.resize_token_embeddings(rows, mean_resizing=False)
    return model


def lora(**settings):
    from peft import LoraConfig

    return LoraConfig(
        **{"r": 4, "task_type": "CAUSAL_LM", "target_modules": ["q_proj", "down_proj"], **settings}
    )


def save_adapter(folder, config, *, rows=None, dtype=torch.float32, **how):
    """Write an adapter with random weights; return the logits that peft gives with it."""
    from peft import PeftModel, get_peft_model

    model = get_peft_model(lab_model(rows), config)
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
            parameter.data = parameter.data.to(dtype)
    model.save_pretrained(folder, **how)
    fresh = PeftModel.from_pretrained(lab_model(rows), folder)
    return logits_of(fresh)


@torch.no_grad()
def logits_of(model):
    return model.eval()(input_ids=IDS).logits
