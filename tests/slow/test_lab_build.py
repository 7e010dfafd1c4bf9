"""A lab, much smaller than those on offer, is built from scratch to the end."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sftbench.checkpoints.folder import open_checkpoint
from sftbench.common.errors import SftbenchError
from sftbench.lab import build
from sftbench.lab.sizes import TEST
from sftbench.lab.world import make_world

pytestmark = pytest.mark.slow

TINY = replace(
    TEST,
    name="tiny",
    train_in=12,
    test_in=6,
    train_out=12,
    test_out=6,
    answers_per_relation=8,
    vocabulary=700,
    hidden=64,
    heads=2,
    layers=2,
    feed_forward=128,
    epochs=5,
    batch_tokens=512,
    promised_test=200,
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return build.build_lab(TINY, tmp_path_factory.mktemp("built") / "lab")


def test_a_build_runs_through(lab):
    assert build.read_lab(lab.path).card.digest == lab.card.digest
    assert lab.record["model_digest"] == open_checkpoint(lab.path / build.MODEL).digest
    assert lab.card.frame["draws"].unique().to_list() == [210]
    assert set(lab.record["seconds"]) == {"world", "training", "levelling"}
    assert [path.name for path in lab.path.parent.iterdir()] == ["lab"]


def test_it_learns(lab):
    # Facts that are often stated and never contradicted are said more than the others.
    known = lab.card.frame.join(lab.statements, on="fact_id")
    often = known.filter(known["contradicted"] == 0, known["statements"] >= 8)
    wrong = known.filter(known["contradicted"] == known["statements"], known["statements"] > 0)

    assert often["rate"].mean() > wrong["rate"].mean()


def test_it_says_where_a_level_falls_short(lab):
    sentences = build.shortfalls(lab)

    assert len(sentences) == 5
    assert sentences[0].endswith("test facts, fewer than the 200 promised")


def test_a_build_over_another_is_refused(lab):
    with pytest.raises(SftbenchError, match="already exists"):
        build.build_lab(TINY, lab.path)


def test_the_command_shows_a_built_lab(lab, capsys):
    from sftbench.cli.lab import show

    show(lab.path)
    shown = capsys.readouterr().out

    assert "Facts by mastery level" in shown
    assert lab.facts.digest in shown
    assert shown.count("Note: level") == 5


def test_the_same_size_trains_the_same_weights_whatever_the_threads(lab, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    more = torch.get_num_threads()
    try:
        build._train(lab_world := make_world(TINY), TINY, tmp_path / "model")
        assert torch.get_num_threads() == more
    finally:
        torch.set_num_threads(threads)

    assert lab_world.facts.digest == lab.facts.digest
    assert open_checkpoint(tmp_path / "model").digest == lab.record["model_digest"]


def test_a_training_whose_other_process_fails_fails_too(tmp_path):
    from sftbench.lab.share import shared

    with pytest.raises(SftbenchError, match="one of the processes"), shared(_fail) as share:
        share.add_up(torch.nn.Linear(2, 1), torch.zeros(()))


def _fail(share):
    raise ValueError("no")
