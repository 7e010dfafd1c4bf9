"""A side of a gate from lm-eval's outputs: what is read, and what is refused."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from gates import TERMS, TIME, answered, facts_of, write_lm_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.common.errors import SftbenchError
from sftbench.gate.from_lm_eval import side_of_lm_eval
from sftbench.gate.judge import judge
from sftbench.gate.read import read_side

pytestmark = pytest.mark.unit


def test_two_lm_eval_sides_say_what_nobody_recorded(tmp_path):
    facts = facts_of(60)
    sides = [
        side_of_lm_eval(write_lm_eval(tmp_path / str(seed), facts, answered(facts, 0.9, seed)))
        for seed in (1, 2)
    ]
    found = judge(*sides, TERMS.model_copy(update={"primary": ("accuracy:in",)}))
    assert any("not compared: base, tokenizer of the base" in note for note in found.notes)


def test_answers_that_were_drawn_otherwise_are_refused(tmp_path):
    facts = facts_of(20)
    sides = [
        side_of_lm_eval(
            write_lm_eval(tmp_path / str(seed), facts, answered(facts, 0.9, seed), drawn=how)
        )
        for seed, how in ((1, None), (2, {"do_sample": True, "temperature": 1.0}))
    ]
    with pytest.raises(SftbenchError, match="differ in decoding"):
        judge(*sides, TERMS)


def test_a_copy_of_an_lm_eval_folder_is_no_further_run(tmp_path):
    facts = facts_of(20)
    for name in ("one", "copy"):
        write_lm_eval(tmp_path / name, facts, answered(facts, 0.9, 1))
    with pytest.raises(SftbenchError, match="the same weights or answers"):
        read_side([str(tmp_path / "one"), str(tmp_path / "copy")])


def test_lm_eval_outputs_are_a_side(tmp_path):
    facts = facts_of(20)
    right = answered(facts, 0.9, 4)
    found = side_of_lm_eval(write_lm_eval(tmp_path / "run" / "model", facts, right).parent)
    assert found.facts.equals(facts)
    assert found.runs[0].right.sort("fact_id").equals(right)
    assert found.identity["suite"] == "1.0"
    assert found.identity["number format"] == "float32"
    assert found.base is None


def test_a_base_from_lm_eval_gives_retention(tmp_path):
    facts = facts_of(60)
    folders = [
        str(write_lm_eval(tmp_path / name, facts, answered(facts, share, number)))
        for number, (name, share) in enumerate((("base", 0.97), ("one", 0.95), ("two", 0.9)))
    ]
    sides = [read_side([folder], folders[0]) for folder in folders[1:]]
    result = judge(*sides, TERMS)
    assert result.primary[0].n < 240
    assert result.primary[0].lost > 0


def spoil_results(folder, name, value):
    """Write another value into the results of a run."""
    path = folder / f"results_{TIME}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))


def write_again(folder, **how):
    """Write another run into a folder."""
    write_lm_eval(folder, facts_of(4), answered(facts_of(4), 0.5, 1), **how)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: write_again(f, time="2026-01-01T00-00-00.0"), "2 runs"),
        (lambda f: (f / f"results_{TIME}.json").unlink(), "no results"),
        (lambda f: [one.unlink() for one in f.glob("samples_*")], "no samples"),
        (lambda f: next(f.glob("samples_*in_level2*")).unlink(), "holds 0 samples"),
        (lambda f: next(f.glob("samples_*in_level2*")).write_text('{"doc": {}}\n'), "line 1"),
        (lambda f: next(f.glob("samples_*in_level2*")).write_text("no json\n"), "line 1"),
        (lambda f: (f / f"results_{TIME}.json").write_text("[]"), "no results file"),
        (lambda f: spoil_results(f, "n-samples", []), "not lm-eval's"),
        (lambda f: spoil_results(f, "n-samples", {}), "results say 0"),
        (lambda f: spoil_results(f, "versions", {"sft_knowledge_in_level1": "one"}), "not lm-eval"),
        (lambda f: spoil_results(f, "n-shot", None), "not lm-eval's"),
        (lambda f: spoil_results(f, "config", "x"), "not lm-eval's"),
        (lambda f: write_again(f, group="sft_knowledge_paper"), "2 groups"),
    ],
)  # fmt: skip
def test_lm_eval_folders_that_are_not_whole_or_mixed(tmp_path, spoil, said):
    facts = facts_of(4)
    folder = write_lm_eval(tmp_path / "run", facts, answered(facts, 0.9, 1))
    spoil(folder)
    with pytest.raises(SftbenchError, match=said) as error:
        side_of_lm_eval(folder)
    assert error.value.remedy


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_samples_that_are_spoilt_anywhere_are_refused_or_read(tmp_path_factory, data):
    facts = facts_of(2, domains=("in",))
    folder = write_lm_eval(tmp_path_factory.mktemp("x") / "run", facts, answered(facts, 0.9, 1))
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    with suppress(SftbenchError):
        assert side_of_lm_eval(folder).facts.height <= facts.height
