"""Weights made one tensor at a time: held, from a folder, and made again from plain JSON."""

import json
import time

import pytest
import torch
from safetensors.torch import save_file

from sftbench.checkpoints.lazy import Folder, Held, ahead, weights_of
from sftbench.checkpoints.weights import read_tensors
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

TENSORS = {
    "model.b": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
    "model.a": torch.tensor([1.5, -2.0]),
    "lm_head.weight": torch.ones(3, 2, dtype=torch.float16),
    "model.scalar": torch.tensor(7.0),
}
SHAPES = {"lm_head.weight": (3, 2), "model.a": (2,), "model.b": (2, 3), "model.scalar": ()}


@pytest.fixture
def folder(tmp_path):
    """Return a checkpoint in two files whose names are not sorted by file."""
    weight_map = {}
    for number, names in enumerate((["model.b", "lm_head.weight"], ["model.scalar", "model.a"])):
        file = f"model-{number}.safetensors"
        save_file({name: TENSORS[name] for name in names}, tmp_path / file)
        weight_map.update(dict.fromkeys(names, file))
    index = {"metadata": {}, "weight_map": weight_map}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path


def equal(weights, tensors):
    found = dict(weights.items())
    assert list(found) == sorted(tensors)
    return all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
        for name, tensor in tensors.items()
    )


@pytest.mark.parametrize("kind", ["held", "folder"])
def test_tensors_come_sorted_by_name_again_and_again(kind, folder):
    weights = Held(TENSORS) if kind == "held" else Folder(folder)
    assert weights.shapes() == SHAPES
    assert list(weights.shapes()) == sorted(SHAPES)
    assert equal(weights, TENSORS)
    assert equal(weights, TENSORS)


def test_what_was_handed_out_stays_as_it_is(folder):
    kept = [tensor for _, tensor in Folder(folder).items()]
    for file in folder.iterdir():
        file.unlink()
    wanted = [tensor for _, tensor in sorted(TENSORS.items())]
    assert all(map(torch.equal, kept, wanted))


def test_another_process_makes_the_same_of_the_origin(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    origin = json.loads(json.dumps(Folder(folder.relative_to(folder.parent)).origin()))
    monkeypatch.chdir("/")
    assert equal(weights_of(origin), read_tensors(folder))


def test_what_is_in_memory_only_has_no_origin():
    assert Held(TENSORS).origin() is None


@pytest.mark.parametrize("origin", [{}, {"kind": "guess"}])
def test_an_unknown_origin_is_refused(origin):
    with pytest.raises(SftbenchError, match="are not known; known: folder"):
        weights_of(origin)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(SftbenchError, match="no weights"):
        Folder(tmp_path).shapes()


def test_tensors_made_ahead_come_in_order_and_only_a_few_wait():
    made = []

    def make(name):
        made.append(name)
        time.sleep(0.01 if name in ("b", "d") else 0)
        return TENSORS["model.a"]

    stream = ahead("abcdefgh", make)
    assert [next(stream)[0] for _ in range(3)] == ["a", "b", "c"]
    time.sleep(0.05)
    assert sorted(made) == ["a", "b", "c", "d", "e"]
    stream.close()
    assert len(made) == 5
    assert [name for name, _ in ahead("abcdefgh", make, most=3)] == list("abcdefgh")


def test_a_tensor_that_cannot_be_made_is_said_where_it_would_come():
    def make(name):
        if name == "b":
            raise SftbenchError("broken", where=name)
        return TENSORS["model.a"]

    stream = ahead("abc", make)
    assert next(stream)[0] == "a"
    with pytest.raises(SftbenchError, match="b: broken"):
        next(stream)
