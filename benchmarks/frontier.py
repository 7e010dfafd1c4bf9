"""The frontier of mastery estimators as a picture: cost against agreement, from measured figures.

    python benchmarks/mastery.py --facts eq.parquet geography --all-ways --timed 4 -o FIGURES
    python benchmarks/frontier.py --browser chromium

FIGURES is data/mastery_frontier.json. Drawn by the library that the reports use, photographed by
a browser; the figures are not touched.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from sftbench.common.files import read_json

HERE = Path(__file__).resolve().parent
FIGURES = HERE / "data" / "mastery_frontier.json"
PICTURE = HERE.parent / "docs" / "images" / "mastery-frontier.png"
VENDOR = HERE.parent / "sftbench" / "report" / "vendor"
LABELS = {
    "sampled, 1 of 10 draws": "1 draw",
    "sampled, 2 of 10 draws": "2 draws of 10",
    "sampled, 5 of 10 draws": "5",
    "adaptive, error 0.2": "error 0.2",
    "likelihood": "default",
    "likelihood, all templates twice": "all templates, twice",
}
"""What is written beside a point; others stand too near to one another."""
SIZE = (960, 470)

PAGE = """<!doctype html><meta charset="utf-8">
<style>h2 {{ font: 600 15px system-ui, sans-serif; margin: 0 }}
body {{ margin: 12px; font: 13px system-ui, sans-serif; background: white; color: #222 }}
figure {{ margin: 0 }} .row {{ display: flex; gap: 8px }}</style>
<div class="row" id="charts"></div>
<script>{d3}</script><script>{plot}</script>
<script>
const rows = {rows}, rerun = {rerun};
const colours = {{domain: ["sampled", "adaptive", "likelihood"],
                 range: ["#888", "#c2702d", "#2458a6"]}};
for (const [key, title] of [["kappa", "all facts"], ["middle", "facts of level 2 to 4"]]) {{
  document.querySelector("#charts").append(Plot.plot({{
    title: `Weighted kappa, ${{title}}`, width: 465, height: 400,
    marginLeft: 48, marginRight: 24, marginBottom: 40, insetBottom: 20,
    x: {{type: "log", label: "cost of a fact (210 completions: 1); cheaper to the right",
        ticks: [1, 0.5, 0.2, 0.1, 0.05, 0.02],
        tickFormat: d => d >= 1 ? "1" : `1/${{Math.round(1 / d)}}`,
        domain: [1.4, 0.018]}},
    y: {{label: "agreement", grid: true, nice: true}},
    color: {{...colours, legend: true}},
    marks: [
      Plot.ruleY([rerun[key]], {{strokeDasharray: "4 3", stroke: "#888"}}),
      Plot.text([rerun[key]], {{y: d => d, frameAnchor: "left", textAnchor: "start", dy: -6, dx: 4,
                               text: () => "the card's own re-run", fill: "#666"}}),
      Plot.dot(rows, {{x: "cost", y: key, fill: "kind", r: d => d.isDefault ? 6 : 4,
                      stroke: d => d.isDefault ? "black" : "none"}}),
      Plot.text(rows.filter(d => d.below), {{x: "cost", y: key, text: "label", dy: 14}}),
      Plot.text(rows.filter(d => !d.below), {{x: "cost", y: key, text: "label", dy: -12}})
    ]
  }}));
}}
</script>
"""


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--browser", default="chromium", help="Chromium's command")
    parser.add_argument("-o", "--output", type=Path, default=PICTURE)
    args = parser.parse_args()
    photograph(page(read_json(FIGURES)), args.browser, args.output)
    print(args.output)


def page(figures: list[dict[str, Any]]) -> str:
    """Return the page that draws the figures of benchmarks/mastery.py."""
    points = [point(one) for one in figures if one["cost"] is not None]
    return PAGE.format(
        d3=(VENDOR / "d3.min.js").read_text(encoding="utf-8"),
        plot=(VENDOR / "plot.umd.min.js").read_text(encoding="utf-8"),
        rows=json.dumps(points),
        rerun=json.dumps(points[0]),
    )


def point(one: dict[str, Any]) -> dict[str, Any]:
    """Return where an estimator stands: means over the card and its re-run."""
    sides = (one["card"], one["re-run"])
    return {
        "kind": one["kind"],
        "label": LABELS.get(one["name"], ""),
        "isDefault": one["name"] == "likelihood",
        "below": one["kind"] != "likelihood",
        "cost": one["cost"],
        "kappa": sum(side["kappa"] for side in sides) / 2,
        "middle": sum(side["middle_kappa"] for side in sides) / 2,
    }


def photograph(text: str, browser: str, output: Path) -> None:
    """Let a browser without a window take the page's picture."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(text, encoding="utf-8")
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--virtual-time-budget=4000", "--force-device-scale-factor=2",
                f"--window-size={SIZE[0]},{SIZE[1]}", f"--screenshot={output}", source.as_uri(),
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
