"""Runs the shell steps of a composite action as a runner would; what `uses:` is only recorded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
TOKEN = re.compile(
    r"\s*(?:'(?P<text>(?:[^']|'')*)'|(?P<name>[A-Za-z_][\w-]*(?:\.[\w-]+)*)"
    r"|(?P<mark>==|!=|&&|\|\||[!(),]))"
)
STATUS = ("always", "cancelled", "failure", "success")


class Expression:
    """One expression of GitHub's, as far as our files use them: texts, names, calls, operators."""

    def __init__(self, text, names, calls):
        self.names, self.calls = names, calls
        self.tokens, end = [], 0
        text = text.strip()
        while end < len(text):
            found = TOKEN.match(text, end)
            if not found:
                raise ValueError(f"no expression: {text!r} at {text[end:]!r}")
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            end = found.end()

    def value(self):
        value = self._any()
        if self.tokens:
            raise ValueError(f"left over: {self.tokens}")
        return value

    def _take(self, *marks):
        if self.tokens and self.tokens[0][0] == "mark" and self.tokens[0][1] in marks:
            return self.tokens.pop(0)[1]
        return None

    def _any(self):
        value = self._all()
        while self._take("||"):
            other = self._all()
            value = value or other
        return value

    def _all(self):
        value = self._equal()
        while self._take("&&"):
            other = self._equal()
            value = value and other
        return value

    def _equal(self):
        value = self._one()
        while mark := self._take("==", "!="):
            # GitHub compares texts without regard to case.
            same = as_text(value).lower() == as_text(self._one()).lower()
            value = same if mark == "==" else not same
        return value

    def _one(self):
        if self._take("!"):
            return not self._one()
        if self._take("("):
            value = self._any()
            self._need(")")
            return value
        kind, text = self.tokens.pop(0)
        if kind == "text":
            return text.replace("''", "'")
        if kind != "name":
            raise ValueError(f"not expected: {text}")
        return self._call(text) if self._take("(") else self._named(text)

    def _call(self, name):
        values = []
        while not self._take(")"):
            values.append(self._any())
            self._take(",")
        return self.calls[name](*values)

    def _named(self, name):
        if name in ("true", "false"):
            return name == "true"
        *path, last = name.split(".")
        value = self.names
        for part in path:
            value = value[part]
        # An output that a step did not write is empty; any other name must be there.
        return value.get(last, "") if path[-1:] == ["outputs"] else value[last]

    def _need(self, mark):
        if not self._take(mark):
            raise ValueError(f"{mark} is missing")


def as_text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass
class Step:
    """What became of a step: success, failure, skipped, or "not run" of what `uses:` another."""

    name: str
    outcome: str
    output: str = ""
    given: dict = field(default_factory=dict)


@dataclass
class Ran:
    """What became of an action."""

    steps: list[Step]
    outputs: dict[str, str]
    summary: str

    @property
    def failed(self):
        return any(step.outcome == "failure" for step in self.steps)

    @property
    def log(self):
        return "".join(step.output for step in self.steps)

    @property
    def annotations(self):
        """Return (level, text) of what a runner would take for annotations in the log."""
        found, resume = [], None
        for line in map(str.strip, self.log.splitlines()):
            if resume:
                resume = None if line == f"::{resume}::" else resume
            elif line.startswith("::stop-commands::"):
                resume = line.removeprefix("::stop-commands::")
            elif match := re.match(r"::(error|warning|notice)(?: [^:]*)?::(.*)", line):
                found.append(match.groups())
        return found

    def __getitem__(self, name):
        return next(step for step in self.steps if step.name == name)


class Runner:
    """Runs an action in a workspace.

    Attributes:
        action: path of action.yml.
        workspace: where the commands run.
        temp: what RUNNER_TEMP is; made here.
        env: variables of the job; the process's own are not handed on, but for PATH.
    """

    def __init__(self, action: Path, workspace: Path, temp: Path, env=None):
        self.folder = action.parent
        self.action = yaml.safe_load(action.read_text(encoding="utf-8"))
        self.workspace, self.temp = workspace, temp
        temp.mkdir(parents=True, exist_ok=True)
        self.env = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(temp),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "GITHUB_ACTION_PATH": str(self.folder),
            "GITHUB_WORKSPACE": str(workspace),
            "RUNNER_TEMP": str(temp),
            **(env or {}),
        }
        self.failed = False
        self.summary = ""
        self.names = {
            "github": {"action_path": str(self.folder), "workspace": str(workspace)},
            "runner": {"os": "Linux", "temp": str(temp)},
            "steps": {},
        }
        self.calls = {
            "always": lambda: True,
            "cancelled": lambda: False,
            "failure": lambda: self.failed,
            "success": lambda: not self.failed,
            "format": lambda text, *values: text.format(*values),
            "hashFiles": lambda *_: "hash",
        }

    def run(self, **inputs) -> Ran:
        """Run the steps; an input's name is written with _ in place of -."""
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        self.names["inputs"] = self._inputs(given)
        for step in self.action["runs"]["steps"]:
            if "id" in step:
                self.names["steps"][step["id"]] = {"outputs": {}}
        steps = [self._step(step) for step in self.action["runs"]["steps"]]
        outputs = {name: self.filled(one["value"]) for name, one in self.action["outputs"].items()}
        return Ran(steps, outputs, self.summary)

    def _inputs(self, given):
        declared = self.action["inputs"]
        if unknown := set(given) - set(declared):
            raise ValueError(f"no such input: {unknown}")
        if missing := {n for n, one in declared.items() if one.get("required")} - set(given):
            raise ValueError(f"input is required: {missing}")
        return {name: given.get(name, one.get("default", "")) for name, one in declared.items()}

    def filled(self, text):
        """Return a text with its expressions evaluated."""
        return EXPRESSION.sub(
            lambda found: as_text(Expression(found[1], self.names, self.calls).value()), str(text)
        )

    def _wanted(self, step):
        condition = str(step.get("if", "true")).strip()
        if found := EXPRESSION.fullmatch(condition):
            condition = found[1]
        wanted = bool(Expression(condition, self.names, self.calls).value())
        asks = any(re.search(rf"\b{name}\(", condition) for name in STATUS)
        return wanted and (asks or not self.failed)

    def _step(self, step) -> Step:
        if not self._wanted(step):
            return Step(step["name"], "skipped")
        if "uses" in step:
            given = {name: self.filled(value) for name, value in step.get("with", {}).items()}
            return Step(step["name"], "not run", given=given)
        files = {name: self.temp / name for name in ("output", "env", "path", "step_summary")}
        for path in files.values():
            path.write_text("")
        script = self.temp / "script.sh"
        script.write_text(step["run"], encoding="utf-8")  # as it is: it must hold no expression
        done = subprocess.run(
            [step["shell"], "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.workspace / self.filled(step.get("working-directory", ".")),
            env={
                **self.env,
                **{f"GITHUB_{name.upper()}": str(path) for name, path in files.items()},
                **{name: self.filled(value) for name, value in step.get("env", {}).items()},
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if "id" in step:
            self.names["steps"][step["id"]]["outputs"].update(pairs(files["output"].read_text()))
        self.env.update(pairs(files["env"].read_text()))
        for folder in files["path"].read_text().splitlines():
            self.env["PATH"] = f"{folder}{os.pathsep}{self.env['PATH']}"
        self.summary += files["step_summary"].read_text(encoding="utf-8")
        self.failed = self.failed or done.returncode != 0
        output = f"{done.stdout}\n[{step['name']}: exit code {done.returncode}]\n"
        return Step(step["name"], "failure" if done.returncode else "success", output)


def pairs(text):
    """Return what a file of `name=value` lines, or `name<<END` blocks, says."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        if block := re.fullmatch(r"([\w-]+)<<(\S+)", line):
            value = []
            for one in lines:
                if one == block[2]:
                    break
                value.append(one)
            found[block[1]] = "\n".join(value)
        elif line:
            name, _, value = line.partition("=")
            found[name] = value
    return found
