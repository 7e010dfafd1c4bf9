"""The pytest plugin as a user meets it: written tests, run in processes of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from gates import answered, facts_of, write_lm_eval

from sftbench.analysis.gate import Terms
from sftbench.gate.baseline import write_baseline
from sftbench.gate.read import read_side

pytest_plugins = ["pytester"]
EXAMPLE = Path(__file__).parents[2] / "examples" / "ci-recipe"

GATE = """
import pytest

@pytest.mark.sftbench(baseline="b.parquet"{more})
def test_recipe(sftbench_gate):
    sftbench_gate("{candidate}")
"""


@pytest.fixture
def project(pytester):
    """A folder with a baseline and the lm-eval outputs of a good, a bad and a thin candidate."""
    facts = facts_of(60)
    base = write_lm_eval(pytester.path / "base", facts, answered(facts, 0.98, 0))
    runs = [
        str(write_lm_eval(pytester.path / f"run{seed}", facts, answered(facts, 0.97, seed)))
        for seed in (1, 2, 3)
    ]
    for name, share in (("good", 0.97), ("bad", 0.7)):
        write_lm_eval(pytester.path / name, facts, answered(facts, share, 9))
    terms = Terms(margin=0.06, alpha=0.05, primary=("retention:in",), seeds=1)
    write_baseline(pytester.path / "b.parquet", read_side(runs, str(base)), terms)
    return pytester


def run(project, *arguments):
    return project.runpytest_subprocess("-p", "no:cacheprovider", "--sftbench-cache=c", *arguments)


@pytest.mark.integration
def test_a_good_candidate_passes_and_its_figures_are_shown(project):
    project.makepyfile(GATE.format(candidate="good", more=""))
    found = run(project, "--junitxml=j.xml")
    found.assert_outcomes(passed=1)
    found.stdout.fnmatch_lines(["*sftbench: knowledge kept*", "*test_recipe: non-inferior: ret*"])
    assert "non-inferior: retention, in-domain" in (project.path / "j.xml").read_text()


@pytest.mark.integration
def test_a_failure_shows_the_users_line_levels_and_lost_facts_and_no_line_of_ours(project):
    project.makepyfile(GATE.format(candidate="bad", more=""))
    found = run(project)
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(
        [
            '>*sftbench_gate("bad")',
            "E*Inferior: retention, in-domain*",
            "E*retention:in:level1*",
            "E*lost facts, most telling first:",
            "E*level 4: Where is * Town *",
        ]
    )
    assert "plugin.py" not in found.stdout.str()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("more", "outcome"),
    [
        ('margin="1pp"', {"failed": 1}),
        ('margin="1pp", on_inconclusive="skip"', {"skipped": 1}),
        ('margin="1pp", on_inconclusive="pass"', {"passed": 1, "warnings": 1}),
        ("seeds=2", {"failed": 1}),
        ("margn=2", {"failed": 1}),
        ('margin="1pp", on_inconclusive="fial"', {"failed": 1}),
        ('seeds="x"', {"failed": 1}),
    ],
)
def test_terms_of_the_marker(project, more, outcome):
    project.makepyfile(GATE.format(candidate="good", more=f", {more}"))
    run(project).assert_outcomes(**outcome)


@pytest.mark.integration
def test_a_class_and_its_test_share_their_terms_and_no_cache_is_needed(project, monkeypatch):
    project.makepyfile(
        "import pytest\n"
        "@pytest.mark.sftbench(baseline='b.parquet', margin='1pp')\n"
        "class TestRecipe:\n"
        "    @pytest.mark.sftbench(margin='6pp')\n"
        "    def test_recipe(self, sftbench_gate): sftbench_gate('good')"
    )
    monkeypatch.setenv("SFTBENCH_CACHE", str(project.path / "cache"))
    project.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


@pytest.mark.integration
def test_what_would_be_passed_over_is_refused(project):
    project.makepyfile(
        "import pytest\n"
        "@pytest.mark.sftbench(baseline='b.parquet')\n"
        "def test_recipe(sftbench_gate): sftbench_gate('good', limit=3)"
    )
    found = run(project)
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["*is scored already, so limit would be passed over*"])


@pytest.mark.integration
def test_without_a_baseline_nothing_passes(project):
    project.makepyfile("def test_recipe(sftbench_gate): sftbench_gate('good')")
    found = run(project)
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["*no baseline is named*"])
    run(project, "--sftbench-baseline=nowhere.parquet").assert_outcomes(failed=1)
    run(project, "--sftbench-baseline=b.parquet").assert_outcomes(passed=1)
    project.makeini("[pytest]\nsftbench_baseline = b.parquet")
    run(project).assert_outcomes(passed=1)


@pytest.mark.integration
def test_a_baseline_can_be_written_by_the_test_itself(project):
    project.makepyfile(
        "import pytest\n"
        "@pytest.mark.sftbench(baseline='new.parquet', margin='8pp', primary='accuracy:in')\n"
        "def test_recipe(sftbench_gate): sftbench_gate('good')"
    )
    run(project, "--sftbench-write-baseline").assert_outcomes(skipped=1)
    run(project).assert_outcomes(passed=1)


@pytest.mark.integration
def test_a_baseline_of_three_runs_is_not_replaced_by_one(project):
    before = (project.path / "b.parquet").read_bytes()
    project.makepyfile(GATE.format(candidate="good", more=""))
    found = run(project, "--sftbench-write-baseline")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["*has 3 runs, and the test brings 1*"])
    assert (project.path / "b.parquet").read_bytes() == before


TRAIN = """
import pytest

def make(folder):
    with open("{log}", "a") as log:
        log.write("trained\\n")
    (folder / "weights").write_text("x")

@pytest.mark.parametrize("number", range(4))
def test_recipe(sftbench_train, number):
    assert (sftbench_train(make, key="recipe 1") / "weights").is_file()
"""


@pytest.mark.integration
def test_nothing_is_trained_twice_by_processes_or_reruns(pytester):
    log = pytester.path / "log"
    pytester.makepyfile(TRAIN.format(log=log))
    run(pytester, "-n", "2").assert_outcomes(passed=4)
    run(pytester).assert_outcomes(passed=4)
    assert log.read_text() == "trained\n"
    # Another function under the same key is another training.
    pytester.makepyfile(TRAIN.format(log=log).replace('write_text("x")', 'write_text("y")'))
    run(pytester).assert_outcomes(passed=4)
    assert log.read_text() == "trained\n" * 2


@pytest.mark.integration
def test_a_training_that_fails_leaves_nothing_and_is_tried_again(pytester):
    pytester.makepyfile(
        """
        import os
        def make(folder):
            (folder / "half").write_text("x")
            if not os.path.exists("again"):
                open("again", "w")
                raise RuntimeError("out of memory")
            (folder / "half").unlink()
            (folder / "whole").write_text("x")
        def test_recipe(sftbench_train):
            assert [one.name for one in sftbench_train(make, key="k").iterdir()] == ["whole"]
        """
    )
    run(pytester).assert_outcomes(failed=1)
    run(pytester).assert_outcomes(passed=1)


@pytest.mark.integration
def test_the_plugin_loads_nothing_heavy(pytester):
    pytester.makepyfile(
        "import sys\n"
        "def test_light():\n"
        "    assert not {'torch', 'polars', 'numpy', 'scipy'} & set(sys.modules)"
    )
    run(pytester).assert_outcomes(passed=1)


@pytest.mark.slow
def test_the_example_passes_and_its_harmful_change_fails(pytester, tmp_path_factory):
    """The committed baseline holds here, whatever machine this is."""
    for name in ("recipe.yaml", "baseline.parquet", "test_recipe.py"):
        shutil.copy(EXAMPLE / name, pytester.path / name)
    found = run(pytester)
    found.assert_outcomes(passed=1)
    found.stdout.fnmatch_lines(["*non-inferior: retention, in-domain*"])
    shutil.copy(EXAMPLE / "harmful.yaml", pytester.path / "recipe.yaml")
    found = run(pytester)
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["E*Inferior: retention, in-domain*", "E*lost facts*"])


@pytest.mark.integration
def test_the_examples_baseline_names_no_path_of_a_machine():
    frame = pl.read_parquet(EXAMPLE / "baseline.parquet")
    assert frame.height > 400
    metadata = pl.read_parquet_metadata(EXAMPLE / "baseline.parquet")
    assert not any("/work" in value or "/tmp" in value for value in metadata.values())
