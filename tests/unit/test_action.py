"""The GitHub action: its files fit GitHub's schemas, and its steps do what they say in a shell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml
from action_steps import EXPRESSION, Expression, Runner
from gates import answered, facts_of, write_lm_eval

import sftbench
from sftbench.analysis.gate import Terms
from sftbench.gate.baseline import write_baseline
from sftbench.gate.read import read_side
from sftbench.report.gate_markdown import MARKER

pytestmark = pytest.mark.unit

ROOT = Path(sftbench.__file__).resolve().parent.parent
ACTION = ROOT / "action.yml"
WORKFLOW = ROOT / ".github" / "workflows" / "knowledge-gate.yml"
EXAMPLE = ROOT / "examples" / "ci-recipe" / "knowledge.yml"
FILES = [ACTION, WORKFLOW, EXAMPLE]


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def called(workflow):
    """Return a reusable workflow's `workflow_call`; YAML 1.1 takes the key `on` for true."""
    return workflow.get("on", workflow.get(True))["workflow_call"]


def steps_of(content):
    if "runs" in content:
        return content["runs"]["steps"]
    return [step for job in content["jobs"].values() for step in job.get("steps", [])]


# The files


@pytest.mark.parametrize(
    ("schema", "files"),
    [("vendor.github-actions", [ACTION]), ("vendor.github-workflows", [WORKFLOW, EXAMPLE])],
)
def test_the_files_fit_the_schemas(schema, files):
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_script_holds_what_somebody_else_wrote(path):
    for step in steps_of(read(path)):
        script = step.get("run", "") + step.get("with", {}).get("script", "")
        assert "${{" not in script, step["name"]
        if "run" in step:
            assert step["run"].startswith("set -euo pipefail\n"), step["name"]
            assert step["shell"] == "bash"


@pytest.mark.parametrize("path", [ACTION, WORKFLOW], ids=lambda path: path.name)
def test_every_input_is_described_and_used_and_every_used_one_exists(path):
    content = read(path)
    inputs = content["inputs"] if path == ACTION else called(content)["inputs"]
    # Conditions are expressions also without ${{ }}.
    text = path.read_text(encoding="utf-8")
    used = set(re.findall(r"\binputs\.([a-z][a-z-]*)", text))
    assert used == set(inputs)
    for name, one in inputs.items():
        assert one["description"], name
        assert one.get("required") or "default" in one, name


@pytest.mark.parametrize("path", [ACTION, WORKFLOW], ids=lambda path: path.name)
def test_every_output_and_every_used_step_exists(path):
    content = read(path)
    ids = {step["id"] for step in steps_of(content) if "id" in step}
    used = re.findall(r"\bsteps\.([\w-]+)\.outputs\.([\w-]+)", path.read_text(encoding="utf-8"))
    assert {step for step, _ in used} == ids
    if path == ACTION:
        script = next(step for step in steps_of(content) if step.get("id") == "gate")["run"]
        for name, one in content["outputs"].items():
            assert one["description"]
            assert one["value"] == f"${{{{ steps.gate.outputs.{name} }}}}"
            assert f'echo "{name}=' in script
        return
    jobs = content["jobs"]
    for one in called(content)["outputs"].values():
        job, name = re.search(r"jobs\.(\w+)\.outputs\.([\w-]+)", one["value"]).groups()
        assert jobs[job]["outputs"][name] == f"${{{{ steps.gate.outputs.{name} }}}}"
        assert name in read(ACTION)["outputs"]


def test_the_workflow_hands_on_every_input_of_the_action():
    inputs, mirrored = read(ACTION)["inputs"], called(read(WORKFLOW))["inputs"]
    step = next(step for step in steps_of(read(WORKFLOW)) if step.get("id") == "gate")
    assert step["with"] == {name: f"${{{{ inputs.{name} }}}}" for name in inputs}
    for name, one in inputs.items():
        assert mirrored[name].get("required") == one.get("required")
        default = mirrored[name].get("default")
        assert (str(default).lower() if name == "cache" else default) == one.get("default")


def test_only_the_job_that_comments_may_write():
    workflow = read(WORKFLOW)
    assert workflow["permissions"] == {}
    assert workflow["jobs"]["gate"]["permissions"] == {"contents": "read"}
    assert workflow["jobs"]["comment"]["permissions"] == {"pull-requests": "write"}
    assert not any("run" in step for step in workflow["jobs"]["comment"]["steps"])
    for step in workflow["jobs"]["gate"]["steps"]:
        if "checkout" in step["uses"]:
            assert step["with"]["persist-credentials"] is False


def test_the_example_calls_the_workflow_as_it_is():
    (job,) = read(EXAMPLE)["jobs"].values()
    inputs = called(read(WORKFLOW))["inputs"]
    assert str(WORKFLOW.relative_to(ROOT)) in job["uses"]
    assert set(job["with"]) <= set(inputs)
    assert {name for name, one in inputs.items() if one.get("required")} <= set(job["with"])
    # Nested jobs may have no more than the caller grants.
    for nested in read(WORKFLOW)["jobs"].values():
        assert nested["permissions"].items() <= job["permissions"].items()
    for name in ("baseline.parquet", "recipe.yaml"):
        assert name in job["with"]["baseline"] + job["with"]["run"]
        assert (EXAMPLE.parent / name).exists()


def test_every_action_of_others_is_pinned_to_a_major_version():
    for path in FILES:
        for step in steps_of(read(path)):
            if "uses" in step and not step["uses"].startswith("./"):
                assert re.fullmatch(r"actions/[a-z/-]+@v\d+", step["uses"])


# The steps, in a shell

COMMAND = "::error::told"
"""A question that a runner would take for a command."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a workspace: a baseline of three runs, and candidates, good and harmful."""
    folder = tmp_path_factory.mktemp("workspace")
    facts = facts_of(60).with_columns(question=pl.lit(COMMAND))
    write_lm_eval(folder / "base", facts, answered(facts, 0.98, 0))
    runs = [
        str(write_lm_eval(folder / f"run{seed}", facts, answered(facts, 0.97, seed)))
        for seed in (1, 2, 3)
    ]
    side = read_side(runs, str(folder / "base"))
    terms = Terms(margin=0.06, alpha=0.05, primary=("retention:in",), seeds=1)
    write_baseline(folder / "b.parquet", side, terms)
    write_lm_eval(folder / "good", facts, answered(facts, 0.97, 9))
    write_lm_eval(folder / "bad", facts, answered(facts, 0.7, 9))
    return folder


@pytest.fixture
def action(place, tmp_path):
    """Return ``action(**inputs) -> Ran``, in that workspace, with nothing installed."""

    def run(*, env=None, **inputs):
        runner = Runner(ACTION, place, tmp_path / "temp", env)
        return runner.run(**{"baseline": "b.parquet", "install": "", **inputs})

    return run


def require_told(ran, code, verdict, level):
    """Require that everything is told, and that the job ends with the gate's exit code."""
    assert ran.outputs["exit-code"] == str(code), ran.log
    assert ran.outputs["verdict"] == verdict
    assert ran.summary.startswith(MARKER)
    assert ran["Gate"].outcome == ran["Summary"].outcome == "success"
    assert ran["Verdict"].outcome == ("failure" if code else "success")
    assert f"[Verdict: exit code {code}]" in ran.log
    assert [found[0] for found in ran.annotations] == ([level] if level else [])
    for name, kind in (("report", "json"), ("junit", "xml"), ("markdown", "md")):
        path = Path(ran.outputs[name])
        assert path.suffix == f".{kind}"
        assert path.stat().st_size


@pytest.mark.parametrize(
    ("inputs", "code", "verdict", "level"),
    [
        ({"candidate": "bad"}, 1, "inferior", "error"),
        ({"candidate": "good", "margin": "1pp"}, 3, "inconclusive", "error"),
        ({"candidate": "good", "margin": "1pp", "on_inconclusive": "pass"}, 0, "inconclusive",
         "warning"),
    ],
)  # fmt: skip
def test_a_verdict_is_told_before_the_job_ends_with_it(action, inputs, code, verdict, level):
    ran = action(**inputs)
    require_told(ran, code, verdict, level)
    uploaded = ran["Upload the result"].given["path"].split("\n")
    assert {ran.outputs[name] for name in ("report", "junit", "markdown")} <= set(uploaded)
    # The facts stand in the log, and command nothing there: `require_told` counts annotations.
    assert COMMAND in ran["Gate"].output


def test_a_missing_baseline_is_told_where_it_is_looked_for(action):
    ran = action(baseline="no where%.parquet", candidate="good")
    assert ran.outputs["exit-code"] == "2"
    assert {ran.outputs[name] for name in ("verdict", "report", "junit", "markdown")} == {""}
    assert "no where%.parquet: there is no such folder" in ran["Gate"].output
    assert "    sftbench: no where%.parquet: there is no such folder" in ran.summary
    ((level, text),) = ran.annotations
    assert level == "error"
    assert "(exit code 2). sftbench: no where%25.parquet: there is no such folder" in text
    assert ran["Upload the result"].outcome == "skipped"
    assert ran["Verdict"].outcome == "failure"


def test_paths_are_paths_and_run_nothing_but_what_is_to_be_run(action, place):
    names = ["two words", "$(touch pwned)", "`touch pwned`; touch pwned", "'\"* ${HOME}"]
    facts = facts_of(60).with_columns(question=pl.lit(COMMAND))
    for number, name in enumerate(names):
        write_lm_eval(place / "odd" / name, facts, answered(facts, 0.97, 20 + number))
    lines = "".join(f"odd/{name}\r\n\n" for name in [*names, "made here"])
    script = 'name="odd/made here"\nmkdir "$name"  # and:\ncp good/* "$name"/ | true\n'
    ran = action(run=script, candidate=lines)
    require_told(ran, 0, "non_inferior", None)
    runs = json.loads(Path(ran.outputs["report"]).read_text())["candidate"]["runs"]
    assert len(runs) == len(names) + 1
    assert not list(place.rglob("pwned"))


def test_terms_and_the_base_reach_the_gate(action, place):
    facts = facts_of(60).with_columns(question=pl.lit(COMMAND))
    write_lm_eval(place / "other", facts, answered(facts, 0.97, 30))
    shutil.copytree(place, place / "deep", ignore=shutil.ignore_patterns("deep", "odd"))
    ran = action(
        candidate="good\nother\n",
        base="base\n",
        margin="0.007",
        alpha="0.1",
        primary="retention:in\nretention:out\n",
        seeds="2",
        on_inconclusive="fail",
        working_directory="deep",
        artifact="",
    )
    assert ran.outputs["report"], ran["Gate"].output
    terms = json.loads(Path(ran.outputs["report"]).read_text())["terms"]
    assert terms == {
        "margin": 0.007, "alpha": 0.1, "primary": ["retention:in", "retention:out"], "seeds": 2
    }  # fmt: skip
    require_told(ran, 1, "inconclusive", "error")
    assert "failed as on-inconclusive asks" in ran.annotations[0][1]
    assert ran["Upload the result"].outcome == "skipped"


@pytest.mark.parametrize("failing", ["exit 7", "false | true"])
def test_a_recipe_that_does_not_train_ends_the_job(action, failing):
    ran = action(run=f"echo trained\n{failing}\necho never", candidate="good")
    assert "trained" in ran["Run"].output
    assert "never" not in ran["Run"].output
    assert ran.failed
    assert ran.summary == ""
    assert set(ran.outputs.values()) == {""}
    for name in ("Save models and cards", "Gate", "Summary", "Upload the result", "Verdict"):
        assert ran[name].outcome == "skipped"


def test_each_line_is_an_argument_of_pip(action, tmp_path):
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    (stubs / "python3").write_text('#!/bin/sh\nprintf "<%s>" "$@"; exit 1\n')
    (stubs / "python3").chmod(0o755)
    env = {"PATH": f"{stubs}:/usr/bin:/bin"}
    ran = action(env=env, install="[harness]\n--constraint=my file.txt\n\nllm>=1", candidate="x")
    asked = f"<-m><pip><install><{ROOT}[harness]><--constraint=my file.txt><llm>=1>"
    assert asked in ran["Install"].output
    assert ran["Gate"].outcome == "skipped"
    assert read(ACTION)["inputs"]["install"]["default"] == "[all]"


def test_what_is_kept_holds_no_token(action):
    ran = action(candidate="good", run="exit 1")
    kept = ran["Restore models and cards"].given
    assert kept["key"] == "sftbench-Linux-hash"
    home = Path(ran["Restore models and cards"].given["path"].split("/.cache/")[0])
    assert kept["path"].split() == [
        f"{home}/.cache/{name}" for name in ("huggingface/hub", "huggingface/datasets", "sftbench")
    ]
    env = {"HF_HOME": "/h", "SFTBENCH_CACHE": "/s"}
    ran = action(candidate="good", run="exit 1", env=env)
    assert ran["Restore models and cards"].given["path"].split() == ["/h/hub", "/h/datasets", "/s"]
    ran = action(candidate="good", run="exit 1", cache="false", python_version="")
    for name in ("Find the folders to keep", "Restore models and cards", "Set up Python"):
        assert ran[name].outcome == "skipped"


# The comment

HARNESS = """
const script = require('fs').readFileSync(0, 'utf8');
const [comments, done] = [JSON.parse(process.env.COMMENTS), []];
const act = (name) => async (given) => { done.push([name, given]); };
const github = {
  paginate: async () => comments,
  rest: { issues: { updateComment: act('update'), createComment: act('create') } },
};
const context = { repo: { owner: 'o', repo: 'r' }, issue: { number: 5 } };
const Script = Object.getPrototypeOf(async () => {}).constructor;
new Script('github', 'context', 'require', script)(github, context, require)
  .then(() => console.log(JSON.stringify(done)));
"""


def comment(tmp_path, text, comments, artifact="sftbench-gate"):
    """Run the workflow's script on comments that are there; return what it asks GitHub for."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    step = next(step for step in steps_of(read(WORKFLOW)) if step["name"] == "Comment")
    (tmp_path / "gate.md").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [node, "-e", HARNESS],
        input=step["with"]["script"],
        env={
            "COMMENTS": json.dumps(comments),
            "GATE_ARTIFACT": artifact,
            "GATE_MARKDOWN": str(tmp_path / "gate.md"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_comment_replaces_the_earlier_one_of_its_own_gate(tmp_path):
    text = f"{MARKER}\n\n### `${{x}}` told\n"
    (created,) = comment(tmp_path, text, [])
    body = created[1]["body"]
    assert created == ["create", {"owner": "o", "repo": "r", "issue_number": 5, "body": body}]
    assert body.startswith(f"{MARKER}\n")
    assert body.endswith("### `${x}` told\n")
    bot = {"login": "github-actions[bot]"}
    others = [
        {"id": 1, "user": {"login": "somebody"}, "body": body},
        {"id": 2, "user": None, "body": body},
        {"id": 3, "user": bot, "body": f"{MARKER}\n<!-- another -->\n"},
        {"id": 4, "user": bot, "body": "hello"},
    ]
    assert comment(tmp_path, text, others)[0][0] == "create"
    ours = {"id": 5, "user": bot, "body": body.replace("\n", "\r\n").replace("told", "before")}
    ((name, given),) = comment(tmp_path, text, [*others, ours])
    assert (name, given["comment_id"], given["body"]) == ("update", 5, body)
    assert comment(tmp_path, text, [ours], artifact="b --> c")[0][0] == "create"


def test_a_comment_is_cut_to_what_github_takes(tmp_path):
    ((_, given),) = comment(tmp_path, MARKER + "\n" + "x" * 100_000, [])
    assert 65_000 < len(given["body"]) < 65_536


# The runner of these tests


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.a == 'X' && !false", True),
        ("inputs.none != '' || inputs.a", "x"),
        ("(inputs.a == 'y' || always()) && steps.s.outputs.not-written == ''", True),
        ("format('{0}/{1}', inputs.a, 'it''s')", "x/it's"),
    ],
)
def test_expressions(text, value):
    names = {"inputs": {"a": "x", "none": ""}, "steps": {"s": {"outputs": {}}}}
    calls = {"always": lambda: True, "format": str.format}
    assert Expression(text, names, calls).value() == value


def test_an_expression_of_a_name_that_is_not_there_is_an_error():
    names = {"inputs": {}, "steps": {}}
    for text in ("inputs.b", "steps.s.outputs.x", "inputs.b ==", "'a' 'b'", "$"):
        with pytest.raises((KeyError, ValueError, IndexError)):
            Expression(text, names, {}).value()


def test_every_expression_of_the_action_can_be_read():
    assert len(EXPRESSION.findall(ACTION.read_text(encoding="utf-8"))) > 30
