"""A restored checkpoint is known by its base: the base's card is found without naming it."""

from __future__ import annotations

import pytest
from two_models import relative

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.reference import resolve
from sftbench.checkpoints.restored_folders import plan_folders, planned_outputs, write_restored
from sftbench.checkpoints.weights import read_tensors
from sftbench.checkpoints.writer import write_checkpoint
from sftbench.harness.choose import base_digests, card_of_model, named_card

pytestmark = pytest.mark.integration


def test_the_card_of_a_restored_model_is_that_of_its_base(tmp_path):
    lab, tuned, out = resolve("lab"), tmp_path / "tuned", tmp_path / "restored"
    changed = {
        name: tensor * 1.1 if "down_proj" in name else tensor
        for name, tensor in read_tensors(lab).items()
    }
    write_checkpoint(tuned, changed, like=lab)
    rules = relative(5, 20)
    write_restored(plan_folders(lab, tuned, rules), planned_outputs(rules, out))
    folders = sorted(out.iterdir())
    assert len(folders) == 2
    for folder in folders:
        own = checkpoint_digest(folder)
        assert own not in (checkpoint_digest(lab), checkpoint_digest(tuned))
        assert base_digests(str(folder)) == [checkpoint_digest(lab), own]
        assert card_of_model(str(folder), None) == named_card("lab")
