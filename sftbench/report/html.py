"""The report of a comparison as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sftbench.analysis.summary import DOMAIN_NAMES, DomainResult, Summary, VariantResult
from sftbench.report import pictures, words

if TYPE_CHECKING:
    import jinja2
    import polars as pl

LOST_SHOWN = 30
"""Lost facts on the page; all of them are in the table beside it."""


def render(summary: Summary, lost: pl.DataFrame) -> str:
    """Return the page.

    Args:
        summary: all of a comparison but its answers.
        lost: the lost facts, as returned by `sftbench.analysis.changes.lost_facts`.
    """
    shown = lost.head(LOST_SHOWN).to_dicts()
    amounts = {one.name: words.label(one).removeprefix("restored ") for one in summary.restored}
    return _template().render(
        summary=summary,
        style=Markup(_part("style.css")),
        lost=[_lost_row(row, amounts) for row in shown],
        lost_count=lost.height,
        facts=_run_facts(summary),
        restores=_restore_rows(summary),
        recipe=_recipe(summary.recipe) if summary.recipe else None,
        levels=pictures.LEVELS,
        **_parts(summary),
    )


def _parts(summary: Summary) -> dict[str, Any]:
    """Return pictures and sentences."""
    compared = list(zip(summary.base.domains, summary.tuned.domains, strict=True))
    return {
        "headline": words.headline(summary),
        "subline": words.subline(summary),
        "tracks": [(one, pictures.retention_track(one)) for one in summary.variants[1:]],
        "axis": pictures.retention_axis(),
        "level_plots": [
            (before.domain, pictures.level_plot(before, after)) for before, after in compared
        ],
        "curves": _curves(summary),
        "glossary": words.glossary(),
        "caveats": words.caveats(summary),
    }


def _curves(summary: Summary) -> list[tuple[str, Markup]]:
    if not summary.restored:
        return []
    titles = {
        "Retention": lambda one: one.retention.score,
        "Accuracy, mean over levels": lambda one: one.macro,
    }
    return [(title, pictures.curve(summary, of, title)) for title, of in titles.items()]


def _lost_row(row: Mapping[str, Any], amounts: Mapping[str, str]) -> dict[str, Any]:
    return {**row, "healed": [amounts.get(name, name) for name in row["healed_by"]]}


def _restore_rows(summary: Summary) -> list[tuple[VariantResult, list[DomainResult]]]:
    """Return each restored variant with its domains: what was healed, preserved, undamaged."""
    return [
        (variant, [one for one in variant.domains if one.repair is not None])
        for variant in summary.restored
    ]


def _run_facts(summary: Summary) -> list[tuple[str, str, bool]]:
    """Return label, value and whether the value is an identifier (set in monospace)."""
    run = summary.run
    seconds = ", ".join(f"{words.label(one)} {one.seconds:.0f} s" for one in summary.variants)
    asked = f"{words.count(run.facts.asked, 'fact')} of the test split of {run.facts.name}"
    prompt = (
        f"{run.prompt.name}: {words.count(run.prompt.shots, 'shot')}, greedy, at most "
        f"{run.prompt.max_new_tokens} tokens, answers matched by {run.prompt.how}"
    )
    engine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in run.engine.items())
    return [
        ("Base", run.base.name, False),
        ("Base digest", run.base.digest, True),
        ("Tuned", run.tuned.name, False),
        ("Tuned digest", run.tuned.digest, True),
        ("Update norm", f"{run.update_norm:.4g} (L2, tuned minus base)", False),
        ("Facts", asked, False),
        ("Facts digest", run.facts.digest, True),
        ("Mastery card", str(run.card.get("digest", "")), True),
        ("Prompt", prompt, False),
        ("Engine", engine, False),
        ("Restore arithmetic", run.arithmetic, False),
        ("Software", ", ".join(f"{k} {v}" for k, v in run.software.items()), False),
        ("Time", f"{seconds}; made {run.made}", False),
        ("Run key", run.key, True),
    ]


def _recipe(record: Mapping[str, Any]) -> str:
    """Return the recipe record as text, without the names of the facts, which may be thousands."""
    return json.dumps(_without_fact_ids(record), indent=2, ensure_ascii=False)


def _without_fact_ids(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _without_fact_ids(part) for key, part in value.items() if key != "fact_ids"}


def _cell(result: DomainResult, level: int) -> str:
    found = next((one for one in result.levels if one.level == level), None)
    return words.points(found.accuracy if found else None)


def _bounds(result: DomainResult, level: int) -> str:
    found = next((one for one in result.levels if one.level == level), None)
    if found is None:
        return ""
    return f"{found.right:,} of {found.n:,}, 95 % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _level_count(result: DomainResult, level: int) -> int:
    return next((one.n for one in result.levels if one.level == level), 0)


def _domain_of(variant: VariantResult, domain: str) -> DomainResult | None:
    return variant.domain(domain)


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": words.percent,
        "points": words.points,
        "label": words.label,
        "short": words.short_name,
        "thousands": lambda number: f"{number:,}",
    }
    environment.globals |= {
        "cell": _cell,
        "bounds": _bounds,
        "level_count": _level_count,
        "domain_of": _domain_of,
        "ratio": words.ratio,
        "domain_names": DOMAIN_NAMES,
    }
    return environment.from_string(_part("report.html.jinja"))


def _part(name: str) -> str:
    folder = resources.files("sftbench.report") / "templates"
    return (folder / name).read_text(encoding="utf-8")
