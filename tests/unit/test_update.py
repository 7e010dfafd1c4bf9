"""Base and tuned that are not built alike: what is handled, what is refused, in which words."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file
from two_models import pair_of, restored

from sftbench.checkpoints.update import pair_notes, shared_names, update_norm
from sftbench.checkpoints.vocabulary import vocabulary_change
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit


def error_of(base, tuned):
    with pytest.raises(SftbenchError) as error:
        shared_names(base, tuned, where=("B", "T"))
    return error.value


def whole_restore(base, tuned):
    ((planned, result),) = restored(pair_of(base, tuned), "relative,100%")
    return result, planned.report


def test_other_names():
    one = {f"layers.{i}.w": torch.ones(1) for i in range(6)}
    two = {"layers.0.w": torch.ones(1), "layers.x": torch.ones(1)}
    error = error_of(one, two)
    assert str(error) == (
        "T: base and tuned hold different tensors: only B has layers.1.w, layers.2.w, layers.3.w "
        "and 2 more; only T has layers.x\n"
        "Name the base that this model was tuned from."
    )


def test_other_shapes():
    error = error_of({"layers.w": torch.ones(2, 3)}, {"layers.w": torch.ones(3, 2)})
    assert error.what == (
        "base and tuned differ in shape: layers.w ([2, 3] in base, [3, 2] in tuned)"
    )


class TestTiedHead:
    EMBEDDING = torch.tensor([[1.0, 2.0]])

    def model(self, change, *, head=None):
        tensors = {
            "model.embed_tokens.weight": self.EMBEDDING + change,
            "model.layers.0.w": torch.ones(2) + change,
        }
        return tensors if head is None else {**tensors, "lm_head.weight": head}

    def test_stored_by_base_only(self):
        base = self.model(0, head=self.EMBEDDING)
        result, report = whole_restore(base, self.model(1))
        assert "lm_head.weight" not in result
        assert report.region == 2

    def test_stored_by_tuned_only_stays_as_tuned_has_it(self):
        tuned = self.model(1, head=self.EMBEDDING + 1)
        result, _ = whole_restore(self.model(0), tuned)
        assert torch.equal(result["lm_head.weight"], self.EMBEDDING + 1)
        assert torch.equal(result["model.embed_tokens.weight"], self.EMBEDDING + 1)

    def test_a_head_of_its_own_on_one_side_is_handled_and_said(self):
        tuned = self.model(1, head=self.EMBEDDING)
        result, report = whole_restore(self.model(0), tuned)
        assert torch.equal(result["lm_head.weight"], self.EMBEDDING)
        assert not report.equals_base
        assert pair_notes(self.model(0), tuned) == [
            "The base ties its output head to the embedding, the tuned model has a head of its "
            "own; restored variants are built like the tuned model."
        ]
        (note,) = pair_notes(tuned, self.model(0))
        assert note.startswith("The tuned model ties its output head to the embedding, the base")

    def test_a_head_of_its_own_counts_against_the_embedding_it_was(self):
        tuned = self.model(0, head=self.EMBEDDING + 3)
        assert update_norm(self.model(0), tuned) == pytest.approx(math.sqrt(18))
        assert update_norm(tuned, self.model(0)) == pytest.approx(math.sqrt(18))

    def test_only_the_head_tells_a_full_restore_from_the_base(self):
        _, untied = whole_restore(self.model(0), self.model(0, head=self.EMBEDDING + 1))
        _, tied = whole_restore(self.model(0), self.model(0, head=self.EMBEDDING))
        assert (untied.equals_base, tied.equals_base) == (False, True)

    def test_a_head_without_an_embedding_to_tie_it_to_is_a_difference(self):
        one = {"layers.w": torch.ones(1)}
        error = error_of(one, {**one, "lm_head.weight": torch.ones(1, 1)})
        assert "only T has lm_head.weight" in error.what

    def test_nothing_is_said_of_models_built_alike(self):
        assert pair_notes(self.model(0), self.model(1)) == []
        assert pair_notes(self.model(0, head=self.EMBEDDING), self.model(1)) == []

    def test_the_update_norm_counts_it_once(self):
        norm = update_norm(self.model(0), self.model(1))
        assert norm == pytest.approx(2.0)
        head = update_norm(
            self.model(0, head=self.EMBEDDING), self.model(1, head=self.EMBEDDING + 1)
        )
        assert head == norm

    def test_an_untied_head_counts_in_the_update_norm(self):
        free = torch.zeros(1, 2)
        assert update_norm(self.model(0, head=free), self.model(1, head=free + 1)) == pytest.approx(
            math.sqrt(6)
        )


class TestResizedVocabulary:
    BLOCK = "model.layers.0.mlp.up_proj.weight"

    def model(self, rows, change=0.0, *, head=False):
        torch.manual_seed(0)
        embedding = torch.randn(8, 3)[:rows] + change
        tensors = {
            "model.embed_tokens.weight": embedding,
            self.BLOCK: torch.randn(4, 3) + change,
            "model.norm.weight": torch.ones(3),
        }
        return {**tensors, "lm_head.weight": embedding * 2} if head else tensors

    @pytest.mark.parametrize("head", [False, True])
    @pytest.mark.parametrize(("before", "after"), [(5, 7), (7, 5)])
    def test_the_blocks_are_restored_and_the_tuned_rows_stay(self, before, after, head):
        base, tuned = self.model(before, head=head), self.model(after, 1.0, head=head)
        result, report = whole_restore(base, tuned)
        assert torch.equal(result[self.BLOCK], base[self.BLOCK])
        for name in base.keys() - {self.BLOCK}:
            assert torch.equal(result[name], tuned[name])
        assert (report.region, report.equals_base) == (12, False)

    def test_a_full_restore_is_not_the_base_though_all_common_rows_are(self):
        _, report = whole_restore(self.model(5), self.model(7))
        assert not report.equals_base

    @pytest.mark.parametrize(("before", "after"), [(5, 7), (7, 5)])
    def test_the_update_norm_is_of_the_common_rows(self, before, after):
        norm = update_norm(self.model(before), self.model(after, 1.0))
        assert norm == pytest.approx(math.sqrt(5 * 3 + 12))
        norm = update_norm(self.model(before, head=True), self.model(after, 1.0, head=True))
        assert norm == pytest.approx(math.sqrt(5 * 3 + 5 * 3 * 4 + 12))

    def test_it_is_said(self):
        assert pair_notes(self.model(5, head=True), self.model(7, head=True)) == [
            "The vocabulary was resized from 5 to 7 rows (lm_head.weight, "
            "model.embed_tokens.weight): the update is measured over the 5 rows that both have, "
            "and every restored variant keeps the tuned model's."
        ]

    def test_rows_of_a_block_are_another_model(self):
        tuned = {**self.model(7), self.BLOCK: torch.ones(5, 3)}
        assert error_of(self.model(5), tuned).what == (
            f"base and tuned differ in shape: {self.BLOCK} ([4, 3] in base, [5, 3] in tuned)"
        )

    @pytest.mark.parametrize(
        "other",
        [
            {"model.embed_tokens.weight": torch.ones(7, 4)},
            {"model.embed_tokens.weight": torch.ones(15)},
            {"model.norm.weight": torch.ones(4)},
            {"lm_head.weight": torch.ones(8, 3)},
        ],
        ids=["columns", "dimensions", "norm", "two sizes"],
    )
    def test_other_differences_outside_the_blocks_are_another_model(self, other):
        base = self.model(5, head="lm_head.weight" in other)
        error = error_of(base, {**self.model(7, head="lm_head.weight" in other), **other})
        assert "base and tuned differ in shape" in error.what

    def test_folders_are_compared_by_their_headers(self, tmp_path):
        for name, tensors in (
            ("b", self.model(5)),
            ("t", self.model(7)),
            ("n", self.model(5, 1.0)),
        ):
            (tmp_path / name).mkdir()
            save_file(tensors, tmp_path / name / "model.safetensors")
        change = vocabulary_change(tmp_path / "b", tmp_path / "t")
        assert (change.before, change.after, change.common) == (5, 7, 5)
        assert change.names == ("model.embed_tokens.weight",)
        assert vocabulary_change(tmp_path / "b", tmp_path / "n") is None
