"""The compare page's script contrasts two models as Python does: many designs, one node process."""

from __future__ import annotations

import base64
import importlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from sftbench.analysis.design import Design
from sftbench.analysis.noninferiority import Contrast, upper_quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.unit

SCRIPT = (
    Path(__file__).parents[3] / "leaderboard" / "sftbench_leaderboard/site/static" / "paired.js"
)
DESIGNS = 240
ALPHAS = (1e-6, 0.025, 0.499)
HALF = 0.5
"""Here bounds are the difference itself, whose rounding Python's search may not bear."""
DF = (1, 1.0001, 1.5, 2, 2.718, 5, 7.3, 30, 79.9, 333.3, 2.1e4, 1e6)
TAILS = (1e-6, 1e-5, 1e-3, 0.005, 0.025, 0.1, 0.2, 0.3, 0.4, 0.49, 0.499, 0.5)

# Reads cases, writes answers. The quantile is no part of the script's interface: it is brought out.
DRIVER = """
"use strict";
const fs = require("fs");
const [script, input, output] = process.argv.slice(2);
const paired = require(script);
const last = "return { design, contrast, bits };";
const text = fs.readFileSync(script, "utf8");
if (!text.includes(last)) throw new Error("the script's interface is another");
const inner = new Function(text.replace(last, "return { upperQuantile };") + " return paired;")();
const asked = JSON.parse(fs.readFileSync(input, "utf8"));
const refused = (facts) => { try { paired.design(facts); return false; } catch { return true; } };
fs.writeFileSync(output, JSON.stringify({
  contrasts: asked.cases.map((one) => {
    const [before, after] = [one.before, one.after].map((side) => paired.bits(side, one.n));
    const { bounds, ...figures } = paired.contrast(paired.design(one.facts), before, after);
    return { ...figures, bounds: one.alphas.map((alpha) => bounds(alpha)) };
  }),
  quantiles: asked.quantiles.map(([df, alpha]) => inner.upperQuantile(df, alpha)),
  bits: asked.cases.map((one) => Array.from(paired.bits(one.before, one.n))),
  names: Object.keys(paired),
  refused: asked.refused.map(refused),
}));
"""

REFUSED: tuple[dict[str, list[int]], ...] = (
    {"level": [], "cluster": [], "stratum": []},
    {"level": [1, 2], "cluster": [0], "stratum": [0]},
    {"level": [1, 2], "cluster": [0, 1], "stratum": [0]},
    {"level": [1, 2], "cluster": [0, 0], "stratum": [0, 0]},
)


class Case(NamedTuple):
    """Two models on the facts of a design."""

    design: Design
    stratum: NDArray[np.intp]
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    alphas: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        design = self.design
        return {
            "n": design.n,
            "facts": {
                "level": np.array(design.levels)[design.level].tolist(),
                "cluster": design.cluster.tolist(),
                "stratum": self.stratum.tolist(),
            },
            "before": packed(self.before),
            "after": packed(self.after),
            "alphas": (*self.alphas, HALF),
        }

    def contrast(self) -> Contrast:
        before, after = (side.astype(float)[None] for side in (self.before, self.after))
        return Contrast.of(self.design, before, after)


def packed(bits: NDArray[np.bool_]) -> str:
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def design_of(level: Any, relation: Any, answer: Any) -> tuple[Design, NDArray[np.intp]]:
    """Return the design, and the relation of each cluster before lonely ones are joined."""
    level, relation, answer = np.broadcast_arrays(level, relation, answer)
    facts = {
        "fact_id": [f"{number:06d}" for number in range(len(level))],
        "level": level.astype(np.int8),
        "relation": [f"r{one:03d}" for one in relation],
        "answer": [f"a{one:03d}" for one in answer],
    }
    design = Design.of(pl.DataFrame(facts))
    first = np.unique(design.cluster, return_index=True)[1]
    return design, np.unique(relation[first], return_inverse=True)[1].astype(np.intp)


def drawn(random: np.random.Generator) -> Case:
    """Return a random design, on which whole clusters and single facts change."""
    n = int(random.choice([1, 2, 3, 5, 12, 40, 150, 600]))
    level = random.choice([1, 2, 3, 4], n, p=random.dirichlet([0.7] * 4))
    relation = random.integers(0, random.integers(1, 9), n)
    answer = (random.random(n) ** random.choice([1, 3]) * random.integers(1, 1 + n)).astype(int)
    design, relations = design_of(level, relation, answer)
    before = random.random(n) < random.choice([0, 0.5, 0.9, 1])
    single = random.random(n) < random.choice([0, 0.02, 0.2])
    whole = (random.random(design.clusters) < random.choice([0, 0.05, 0.3]))[design.cluster]
    after = (before ^ single) & ~whole if random.random() < 0.7 else before ^ (single | whole)
    stratum = relations if random.random() < 0.5 else design.stratum
    alphas = (*np.exp(random.uniform(np.log(1e-6), np.log(0.5), 2)).tolist(), 0.025)
    return Case(design, stratum, before, after, alphas)


def edges() -> Iterator[Case]:
    """Yield the edges of designs, each with the edges of answers."""
    for n in (1, 2, 30):
        facts = np.arange(n)
        designs = (
            (1 + facts % 4, facts % 3, facts // 5),
            (facts * 0 + 2, 0, facts // 3),  # one level
            (1 + facts % 2, 0, 0),  # one cluster
            (1 + facts % 4, facts // 4, 0),  # every relation has a single cluster
            (1 + facts % 3, np.minimum(facts, 2), facts // 2),  # some relations have
            (1 + facts % 4, 0, facts),  # a cluster of each fact
        )
        ones, some = np.ones(n, dtype=bool), facts % 3 == 0
        for design, relations in (design_of(*one) for one in designs):
            for before, after in (
                (ones, ones), (~ones, ~ones), (some, some), (ones, ~ones), (~ones, ones),
                (some, ~some), (ones, facts > 0), (~ones, facts == 0), (some, ones),
                (ones, design.level > 0), (ones, design.cluster > 0),
            ):  # fmt: skip
                yield Case(design, relations, before, after, ALPHAS)


def cases_of() -> list[Case]:
    random = np.random.default_rng(20)
    return [*edges(), *(drawn(random) for _ in range(DESIGNS))]


def node() -> str:
    """Return the node that playwright brings, or else the one on the path."""
    try:
        driver = importlib.import_module("playwright._impl._driver")
        found = driver.compute_driver_executable()
        return str(found[0] if isinstance(found, tuple) else found)
    except Exception:  # not installed, or without a node: its errors are private
        found = shutil.which("node")
    return found or pytest.skip("no node: neither that of the package playwright nor on the path")


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return cases_of()


@pytest.fixture(scope="module")
def answered(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the script says of all cases."""
    folder = tmp_path_factory.mktemp("paired")
    driver, asked, told = (folder / name for name in ("driver.js", "asked.json", "told.json"))
    driver.write_text(DRIVER, encoding="utf-8")
    questions = {
        "cases": [case.as_json() for case in cases],
        "quantiles": [(df, alpha) for df in DF for alpha in TAILS],
        "refused": REFUSED,
    }
    asked.write_text(json.dumps(questions), encoding="utf-8")
    command = [node(), str(driver), str(SCRIPT), str(asked), str(told)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    return found


def test_bounds_are_those_of_python(cases: list[Case], answered: dict[str, Any]) -> None:
    for case, found in zip(cases, answered["contrasts"], strict=True):
        contrast = case.contrast()
        *bounded, at_half = found["bounds"]
        assert at_half == pytest.approx({"low": contrast.value, "high": contrast.value}, abs=1e-12)
        for alpha, bounds in zip(case.alphas, bounded, strict=True):
            wanted = contrast.over_facts(alpha)._asdict()
            assert bounds == pytest.approx(wanted, rel=0, abs=1e-7), (case.as_json(), alpha)


def test_the_difference_and_its_parts_are_those_of_python(
    cases: list[Case], answered: dict[str, Any]
) -> None:
    for case, found in zip(cases, answered["contrasts"], strict=True):
        assert found["value"] == pytest.approx(case.contrast().value, rel=0, abs=1e-12)
        assert found["gained"] == (case.after & ~case.before).sum()
        assert found["lost"] == (case.before & ~case.after).sum()
        assert found["kept"] == (case.before & case.after).sum()


def test_quantiles_are_those_of_scipy(answered: dict[str, Any]) -> None:
    wanted = [upper_quantile(df, alpha) for df in DF for alpha in TAILS]
    assert answered["quantiles"] == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_bits_are_unpacked_as_numpy_packs_them(cases: list[Case], answered: dict[str, Any]) -> None:
    assert answered["bits"] == [case.before.astype(int).tolist() for case in cases]


def test_facts_that_make_no_design_are_refused(answered: dict[str, Any]) -> None:
    assert answered["refused"] == [True] * len(REFUSED)


def test_the_script_offers_three_functions(answered: dict[str, Any]) -> None:
    assert answered["names"] == ["design", "contrast", "bits"]


def test_pages_opened_from_a_file_can_load_it() -> None:
    """A plain script: browsers load no modules from file://."""
    text = SCRIPT.read_text(encoding="utf-8")
    assert '"use strict";' in text
    assert not any(line.startswith(("import ", "export ")) for line in text.splitlines())
