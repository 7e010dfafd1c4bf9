"""`--model_args` of `sftbench-hf` and `sftbench-vllm`: read as lm-eval hands them over."""

from __future__ import annotations

import pytest
from lm_eval._cli.utils import key_val_to_dict
from lm_eval.utils import simple_parse_args_string

from sftbench.checkpoints.lazy import Folder
from sftbench.common.errors import SftbenchError
from sftbench.harness import variant_weights
from sftbench.harness.choose import base_digests
from sftbench.harness.variant_args import (
    NAMES,
    TwoModels,
    asked_of,
    in_words_of_lm_eval,
    models_named,
    require_known,
)
from sftbench.harness.variant_lm import VariantLM, take
from sftbench.harness.variant_weights import Found

pytestmark = pytest.mark.unit

VARIANTS = {
    "percent=5": "tuned+restore(relative,5%)",
    "percent=12.50": "tuned+restore(relative,12.5%)",
    "percent=0.00001": "tuned+restore(relative,0.00001%)",
    "criterion=relative,percent=5%changed": "tuned+restore(relative,5%changed)",
    "criterion=absolute,percent=20%norm": "tuned+restore(absolute,20%norm)",
    "criterion=spectral": "tuned+restore(spectral)",
    "criterion=dare,percent=50,draw=3": "tuned+restore(dare,50%,draw=3)",
    "percent=5,arithmetic=bf16,per_tensor=True": "tuned+restore(relative,5%,bf16,per-tensor)",
    "percent=5,per_tensor=false": "tuned+restore(relative,5%)",
    "percent=5,region=layers=0-3": "tuned+restore(relative,5%,layers=0-3)",
    "percent=5,region=match=(q|k)_proj": "tuned+restore(relative,5%,match=(q|k)_proj)",
    "variant=base": "base",
    "variant=tuned": "tuned",
    "variant=noise": "base+noise(1)",
    "variant=noise,draw=2": "base+noise(2)",
    "variant=base+noise(3)": "base+noise(3)",
    "variant=tuned+restore-relative-5pct": "tuned+restore(relative,5%)",
}
"""Arguments, and the name of the variant that they mean."""


def read_by_command_line(text):
    return key_val_to_dict(f"tuned=T,{text}")


def read_from_python(text):
    return simple_parse_args_string(f"tuned=T,{text}")


@pytest.mark.parametrize("read", [read_by_command_line, read_from_python])
@pytest.mark.parametrize(("text", "name"), VARIANTS.items())
def test_arguments_mean_a_variant(text, name, read):
    assert asked_of(read(text)).variant.name == name


def test_a_name_in_brackets_is_one_argument_on_the_command_line():
    name = "tuned+restore(relative,5%,bf16)"
    assert asked_of(read_by_command_line(f"variant={name}")).variant.name == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base=B", "relative needs a size"),
        ("percent=120", "'120' is no percentage"),
        ("percent=-1", "is no percentage"),
        ("percent=nan", "is no percentage"),
        ("percent=True", "'True' is no percentage"),
        ("percent=5%weights", "no measure of size 'weights'"),
        ("percent=5,criterion=relativ", "no restore criterion 'relativ'; known: relative, "),
        ("percent=5,arithmetic=fp16", "no arithmetic 'fp16'"),
        ("percent=5,arithmetic=attention", "no arithmetic 'attention'"),
        ("percent=5,region=heads", "no region or option 'heads'"),
        ("percent=5,region=match=(", "no regular expression"),
        ("percent=5,per_tensor=yes", "per_tensor=yes is neither True nor False"),
        ("percent=5,draw=2", "relative has no random draws"),
        ("criterion=dare,percent=5,draw=0", "'draw=0' is no draw"),
        ("variant=bases", "'bases' is no variant"),
        ("variant=base,percent=5", "variant=base says all, and percent is given as well"),
        ("variant=base,draw=2", "and draw is given as well"),
        ("variant=noise,draw=x", "is no variant"),
        ("variant=base+again(7)", "the base in other batches"),
    ],
)
def test_what_cannot_be_read_is_an_error_for_people(text, said):
    with pytest.raises(SftbenchError) as caught:
        asked_of(read_by_command_line(text))
    assert said in caught.value.what
    assert caught.value.where == "--model_args"
    assert caught.value.remedy


@pytest.mark.parametrize("args", [{}, {"tuned": None}, {"tuned": ""}, {"base": "B", "percent": 5}])
def test_the_tuned_model_must_be_named(args):
    with pytest.raises(SftbenchError, match="--model_args: tuned=T, the fine-tuned model, is miss"):
        asked_of(args)


def test_the_models_are_named_as_for_compare():
    args = read_by_command_line("base=org/name,base_revision=abc,percent=5,dtype=bfloat16")
    assert models_named(args) == TwoModels("T", "org/name", None, "abc")
    assert models_named({"tuned": 7}) == TwoModels("7")  # lm-eval reads a number
    assert models_named({"pretrained": "x"}) is None


def test_results_are_filed_under_the_tuned_model_and_the_variant():
    asked = asked_of({"tuned": "runs/mine/", "percent": 5, "region": "mlp"})
    assert asked.name == "mine__tuned+restore-relative-5pct-mlp"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("pretrained", "base=B,tuned=T"),
        ("percents", "Did you mean percent"),
        ("xyzzy", "For example"),
    ],
)
def test_an_unknown_argument_is_named(name, remedy):
    with pytest.raises(SftbenchError, match=f"sftbench-hf has no argument {name}") as caught:
        require_known([name], NAMES, "sftbench-hf")
    assert remedy in str(caught.value)


def test_errors_speak_of_lm_evals_options():
    with pytest.raises(SftbenchError) as caught, in_words_of_lm_eval():
        raise SftbenchError(
            "x", where="--engine-options", remedy="Use --engine hf or --dtype bfloat16."
        )
    assert str(caught.value) == "--model_args: x\nUse --model sftbench-hf or dtype=bfloat16."
    plain = SftbenchError("y", remedy="z")
    with pytest.raises(SftbenchError) as caught, in_words_of_lm_eval():
        raise plain
    assert caught.value is plain


# ----------------------------------------------------------------------------- as lm-eval calls it


class Fake(VariantLM):
    def __init__(self, **args):
        self.args, self.sftbench = args, {"variant": "base"}


@pytest.fixture
def hook(monkeypatch):
    """Leave Python's hook for uncaught errors as it was."""
    monkeypatch.setattr("sys.excepthook", lambda *caught: None)


@pytest.mark.usefixtures("hook")
def test_model_args_come_before_flags():
    flags = {"batch_size": 1, "device": "cuda:0", "max_batch_size": None}
    given = {"batch_size": 8, "tuned": "T"}
    made = Fake.create_from_arg_obj(given, flags)
    assert made.args == {"batch_size": 8, "device": "cuda:0", "tuned": "T"}
    assert given == {"batch_size": 8, "tuned": "T"}
    assert Fake.create_from_arg_string("batch_size=8,tuned=T", flags).args == made.args
    assert Fake.create_from_arg_obj({}).get_model_info() == {"sftbench": {"variant": "base"}}


def test_what_is_left_is_the_models_own(monkeypatch):
    asked = []

    def find(one, dtype):
        asked.append((one.variant.name, dtype))
        return Found(None, Folder(None), {})

    monkeypatch.setattr("sftbench.harness.variant_lm.find", find)
    args = {"tuned": "T", "variant": "base", "trust_remote_code": True, "max_length": 9}
    _, own = take(args, ("max_length",), model="m", dtype="float16")
    assert own == {"max_length": 9}
    assert asked == [("base", "float16")]
    with pytest.raises(SftbenchError, match="m has no argument max_length"):
        take(args, (), model="m", dtype="float16")


def test_the_card_is_that_of_the_named_base(tmp_path, monkeypatch):
    monkeypatch.setattr("sftbench.checkpoints.digest.checkpoint_digest", lambda path: path.name)
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    for folder in (base, tuned):
        folder.mkdir()
        # What the base itself was made of does not matter: levels are those of this base.
        (folder / "sftbench_recipe.json").write_text('{"base_digest": "older"}')
    variant_weights.folders_of.cache_clear()
    assert base_digests(TwoModels(str(tuned), str(base))) == ["base"]
