"""Sites made up for tests: a board of made-up records, and one full of texts that mean harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
from leaderboards import change, change_items, compare, results_of
from sftbench_leaderboard.board import Board
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.problems import Problem, Verdict
from sftbench_leaderboard.site.build import build

from benchmarks.leaderboard import accepted, made_results
from sftbench.analysis.design import Design
from sftbench.analysis.noninferiority import Contrast
from sftbench.facts.table import FactSet

OWN = "window.owned = true; document.title = 'owned'"
PAYLOADS = (
    f"<script>{OWN}</script>",
    f'<img src=x onerror="{OWN}">',
    f"\"><svg onload='{OWN}'>",
    f"</script><script>{OWN}</script>",
    f"<!--<script>{OWN}//",
    f"javascript:{OWN}",
    f"{{{{ constructor.constructor('{OWN}')() }}}}",
    f"${{{OWN}}}",
    f'<a href="javascript:{OWN}">click</a>',
    f'<iframe srcdoc="<script>parent.{OWN}</script>"></iframe>',
    "<base href=//127.0.0.1:9/><form action=//127.0.0.1:9/><button>",
    "<link rel=stylesheet href=//127.0.0.1:9/x.css><style>*{display:none}</style>",
    "]]>\u2028\u2029<!--",
    "../../../../etc/passwd",
    "__proto__",
    "constructor",
    '=HYPERLINK("http://127.0.0.1:9")',
)
"""Texts that would run, load or hide something if a page took them for markup or code."""
SEEN = "\u202e\u2066\u200b\u0000\ud800"
"""What only an answer may hold: it turns the reading order, hides, or is half a character."""


def made_up(folder: Path, records: int = 24, facts: int = 160) -> Board:
    """Return the board of made-up records of one base on its canonical card, with tasks."""
    made_results(folder, records, facts, records)
    return Board.of(accepted(folder))


def with_runs(folder: Path) -> tuple[Board, Known]:
    """Return the board of a comparison with restored variants, on a card that is not canonical."""
    asked = compare(folder)
    submitted = results_of(asked, folder / "results")
    return Board.of((one.path, one.record) for one in submitted), Known([asked.facts], [asked.card])


def hostile_board(folder: Path) -> tuple[Board, Known]:
    """Return a board in which every text that a record may hold is a payload."""
    asked = compare(folder)
    facts = _hostile_facts(asked.facts)
    paths = [one.path for one in results_of(asked, folder / "results")]
    for number, path in enumerate(paths):
        change(path, lambda content, at=number: _poison(content, at))
        change_items(path, _poison_items)
    return Board.of(accepted(folder / "results")), Known([facts])


def _hostile_facts(facts: FactSet) -> FactSet:
    """Return the same facts with questions that mean harm, which say that they are the others."""
    texts = [PAYLOADS[at % len(PAYLOADS)] + SEEN[:3] for at in range(facts.frame.height)]
    found = FactSet(facts.frame.with_columns(question=pl.Series(texts)), {}, facts.source)
    vars(found)["digest"] = facts.digest
    return found


def _poison(content: dict[str, Any], at: int) -> None:
    one = PAYLOADS[at % len(PAYLOADS)]
    content["base"]["name"] = one[:100]
    content["facts"]["name"] = PAYLOADS[1]
    content["command"] = " ".join(PAYLOADS[:6])
    content["recipe"] = {text[:100]: text for text in PAYLOADS[:10]} | {"method": one, "level": one}
    content["software"] = {"__proto__": one, "constructor": one}
    content["engine"] = {text[:60]: text for text in PAYLOADS[:8]}
    content["drift"] = {f"KL(variant || base), {text[:60]}, variant": 0.5 for text in PAYLOADS[:6]}
    task = {
        "task": one[:90],
        "metric": PAYLOADS[3],
        "value": 0.5,
        "n": 10,
        "higher_is_better": True,
    }
    content["tasks"] = [task]
    content["base_tasks"] = [{**task, "value": 0.4}]


def _poison_items(items: pl.DataFrame) -> pl.DataFrame:
    texts = [PAYLOADS[at % len(PAYLOADS)] for at in range(items.height)]
    seen = SEEN.encode("utf-8", "replace").decode()
    return items.with_columns(
        relation=pl.Series([text[:60] for text in texts]),
        answer=pl.Series(texts),
        base_text=pl.Series([text + seen for text in texts]),
        text=pl.Series([seen + text for text in texts]),
    )


def rejected_verdicts() -> list[Verdict]:
    """Return verdicts on files whose names and reasons mean harm."""
    return [
        Verdict(Path("results") / one.replace("/", "") / "x.json", None, (Problem("json", one),))
        for one in PAYLOADS
    ]


def write_site(board: Board, known: Known, to: Path, rejected: list[Verdict] | None = None) -> Path:
    """Build a site and return its folder."""
    build(board, rejected or [], to, known)
    return to


def data_of(page: Path) -> Any:
    """Return the data that a page holds."""
    text = page.read_text(encoding="utf-8")
    start = text.index('id="data">') + len('id="data">')
    return json.loads(text[start : text.index("</script>", start)])


def made_up_contrast(site: Path, pair: list[str], domain: str) -> Contrast:
    """Return the contrast of two records of a site, from the items that it offers for download."""
    models = pl.read_parquet(site / "data" / "models.parquet")
    place = dict(models.select("record", "path").iter_rows())
    items = [
        pl.read_parquet(site / "data" / "records" / place[one].replace(".json", ".items.parquet"))
        for one in pair
    ]
    kept = [
        one.filter((pl.col("domain") == domain) & (pl.col("level") > 0) & pl.col("base_correct"))
        for one in items
    ]
    before, after = (one["correct"].to_numpy().astype(float)[None] for one in kept)
    return Contrast.of(Design.of(kept[0]), before, after)
