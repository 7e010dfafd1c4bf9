"""One path of truth for chats too: compare sends what lm-eval sends with a chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from asked import asked_by_lm_eval

from sftbench.checkpoints.reference import resolve
from sftbench.common.digests import digest_of
from sftbench.compare.request import Request
from sftbench.compare.run import run
from sftbench.engines.settings import EngineSettings, make_engine
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.reference import resolve_facts
from sftbench.harness.choose import named_card
from sftbench.mastery.card import MasteryCard
from sftbench.scoring.answers import ANSWERS

pytestmark = pytest.mark.integration

BATCH = 16
LIMIT = 6
"""Facts of each level and domain that lm-eval is asked."""
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the lab model with a chat template that begins with the BOS token."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    shutil.copytree(resolve("lab"), folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("prompt", PROMPTS)
def test_compare_and_lm_eval_send_and_hear_the_same(
    model: Path, tmp_path: Path, prompt: str
) -> None:
    run(
        Request(
            base=model,
            tuned=model,
            out=tmp_path / "out",
            facts=resolve_facts("lab"),
            card=MasteryCard.read(named_card("lab")),
            prompt=PROMPTS[prompt],
            engine=EngineSettings(dtype="float32", batch_size=BATCH),
            chat="all",
        ),
        make_engine,
    )
    ours, _ = ANSWERS.read(tmp_path / "out" / "answers" / "base.parquet")
    texts = dict(ours.select("fact_id", "text").iter_rows())
    prompts = dict(ours.select("fact_id", "prompt_id").iter_rows())
    theirs = asked_by_lm_eval(model, prompt, "lab", LIMIT)
    assert len(theirs) > LIMIT
    for fact_id, (sent, answer) in theirs.items():
        assert sent.startswith("<s>user: ")
        assert sent.count("<s>") == 1
        assert digest_of(sent) == prompts[fact_id]
        assert answer == texts[fact_id]
