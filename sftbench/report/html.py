"""The report of a comparison as one self-contained HTML page that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from sftbench.analysis.evidence import EstimateRecord
from sftbench.analysis.intervals import wilson
from sftbench.analysis.summary import (
    DOMAIN_NAMES,
    DomainResult,
    LevelAccuracy,
    Summary,
    VariantResult,
)
from sftbench.report import (
    charts,
    drift,
    drift_words,
    evidence,
    loss,
    loss_words,
    movement,
    notes,
    restores,
    words,
)
from sftbench.report.examples import examples
from sftbench.report.movement_tables import figure
from sftbench.report.rule_names import papers_alone
from sftbench.report.run_facts import recipe_text, run_facts

if TYPE_CHECKING:
    import jinja2
    import polars as pl

LIBRARIES = ("vendor/d3.min.js", "vendor/plot.umd.min.js")
SCRIPTS = (
    *LIBRARIES,
    "templates/page.js",
    "templates/charts.js",
    "templates/loss.js",
    "templates/drift.js",
    "templates/movement.js",
)
STYLE = "templates/style.css"
LEVELS = range(5)
BRACKET = re.compile(rf"\[[\d.,+∞{words.MINUS}{words.FIXED}]+\]")


def render(summary: Summary, lost: pl.DataFrame, gained: pl.DataFrame) -> str:
    """Return the page.

    Args:
        summary: all of a comparison but its answers.
        lost: the lost facts, as returned by `sftbench.analysis.changes.lost_facts`.
        gained: the gained facts, as returned by `sftbench.analysis.changes.gained_facts`.
    """
    scripts = [part(name) for name in SCRIPTS]
    return _template().render(
        summary=summary,
        style=Markup(part(STYLE)),  # ours
        scripts=[Markup(script) for script in scripts],  # ours and the libraries'
        policy=_policy(scripts),
        data={
            **charts.chart_data(summary),
            **loss.chart_data(summary),
            **drift.chart_data(summary),
            **movement.chart_data(summary),
        },
        verdict=words.verdict(summary),
        accuracy=words.accuracy_sentence(summary),
        noise=words.noise_sentence(summary),
        noise_mean=evidence.mean_sentence(summary),
        noise_size=evidence.size_sentence(summary),
        flips=evidence.flips_sentence(summary),
        chance=evidence.chance(summary),
        chance_said=evidence.chance_sentence(summary),
        restoring=evidence.restoring(summary),
        papers=papers_alone(summary),
        has_taken=restores.has_taken(summary),
        regions=restores.regions_differ(summary),
        tried=restores.tried(summary.repair) if summary.repair else [],
        repaired=restores.repair_sentence(summary),
        real=bool(summary.pairs or summary.noise),
        brackets=words.BRACKETS if words.has_intervals(summary) else "",
        lost=examples(lost, "healed_by", summary),
        gained=examples(gained, "preserved_by", summary),
        run_facts=run_facts(summary),
        recipe=recipe_text(summary.recipe) if summary.recipe else None,
        glossary=notes.glossary(summary),
        caveats=notes.caveats(summary),
        baselines={one.relation: one for one in summary.baselines},
        tasks=charts.task_names(summary),
    )


def _policy(scripts: list[str]) -> str:
    """Return a content security policy: no load from anywhere, no script but these."""
    allowed = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _cell(result: DomainResult, level: int) -> LevelAccuracy | None:
    return next((one for one in result.levels if one.level == level), None)


def _counted(part: int, n: int) -> str:
    """Return the counts of a share and its interval, for a tooltip."""
    return f"{words.ratio(part, n)}, 95 % {words.bracket(*wilson(part, n), 1)}"


def _rests_on(found: EstimateRecord | None) -> str:
    """Return what an interval rests on, for a tooltip; "" for one that is not clustered."""
    if found is None:
        return ""
    answers = words.count(found.clusters, "different answer")
    return f"95 % interval; {words.count(found.n, 'fact')}, {answers}"


def _unbroken(text: str) -> Markup:
    """Return one of our sentences with its brackets and the domains' names kept in one line."""
    found = Markup(BRACKET.sub(r'<span class="bracket">\g<0></span>', str(escape(text))))
    for name in sorted(DOMAIN_NAMES.values(), key=len, reverse=True):
        whole = Markup('<span class="unbroken">{}</span>').format(name)
        found = Markup(re.sub(rf"(?<![\w-]){name}", str(whole), found))  # escaped above
    return found


def _name(shown: str | VariantResult) -> Markup:
    """Return a variant's name with its options in a line below it."""
    text = shown if isinstance(shown, str) else words.label(shown)
    name, *options = text.split(" (", 1)
    below = (Markup(' <small class="options">({}</small>').format(one) for one in options)
    return Markup('<span class="unbroken">{}</span>').format(name) + Markup().join(below)


@cache
def _template() -> jinja2.Template:
    import jinja2

    return environment(jinja2.PackageLoader("sftbench.report")).get_template("page.html.jinja")


def environment(loader: jinja2.BaseLoader) -> jinja2.Environment:
    """Return what fills templates in: everything is escaped, and figures read as in the report."""
    import jinja2

    made = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": words.percent,
        "points": words.points,
        "label": words.label,
        "name": _name,
        "short": words.short_name,
        "thousands": lambda number: f"{number:,}",
        "bracket": lambda found: words.bracket(found.low, found.high),
        "signed": words.signed,
        "signed_bracket": words.signed_bracket,
        "p_value": words.p_value,
        "rests_on": _rests_on,
        "figure": words.figure,
        "nats": words.nats,
        "unbroken": _unbroken,
    }
    made.globals |= {
        "cell": _cell,
        "count": words.count,
        "ratio": words.ratio,
        "at_a_glance": words.at_a_glance,
        "counted": _counted,
        "times_bracket": words.times_bracket,
        "few_draws": words.few_draws,
        "forgotten": evidence.forgotten,
        "differences": evidence.differences,
        "taken": restores.taken,
        "loss": loss,
        "drift": drift,
        "drift_words": drift_words,
        "movement": movement,
        "moved_figure": figure,
        "loss_words": loss_words,
        "level_kept": charts.level_kept,
        "level_outcomes": charts.level_outcomes,
        "relation_points": charts.relation_points,
        "domain_names": DOMAIN_NAMES,
        "levels": LEVELS,
        "charted": charts.TASKS_CHARTED,
    }
    return made


def part(name: str) -> str:
    """Return a file of the report as text: a script, the style, a library."""
    return (resources.files("sftbench.report") / name).read_text(encoding="utf-8")
