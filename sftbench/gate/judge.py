"""The gate itself: every endpoint of a candidate against its baseline, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import polars as pl

import sftbench
from sftbench.analysis.exact import holm
from sftbench.analysis.gate import (
    EXIT_OF,
    EXIT_ON,
    EndpointResult,
    GateResult,
    LostFact,
    OnInconclusive,
    SettlingRecord,
    Terms,
    worst,
)
from sftbench.analysis.noninferiority import Contrast, Verdict, settling, verdict_of
from sftbench.common.digests import software_versions
from sftbench.common.errors import SftbenchError
from sftbench.gate.endpoints import Endpoint, all_endpoints, parse_endpoint
from sftbench.gate.sides import Side, notes_on, require_same


class _Adjusted(NamedTuple):
    """P values: against a loss of the margin, against less than that, against no gain."""

    noninferior: float
    inferior: float
    superior: float


class _Measured(NamedTuple):
    """An endpoint with its contrast and its p values."""

    endpoint: Endpoint
    contrast: Contrast
    p: _Adjusted
    lost: int
    gained: int


def judge(
    baseline: Side, candidate: Side, terms: Terms, on_inconclusive: OnInconclusive = "report"
) -> GateResult:
    """Hold a candidate against a baseline.

    Primary endpoints are each tested at alpha, and all must pass (an intersection-union test: no
    adjustment is due). The others are adjusted by Holm; they cannot make a gate pass, but one that
    is shown to be inferior fails it.

    Args:
        baseline: the accepted runs.
        candidate: the runs to judge.
        terms: what was declared before.
        on_inconclusive: what an inconclusive verdict ends with.

    Raises:
        SftbenchError: the two are not comparable, the candidate has fewer runs than promised, a
            primary endpoint has no facts, or the base's answers are needed and not known.
    """
    require_same(baseline, candidate)
    _require_promised(candidate, terms)
    notes = notes_on(baseline, candidate)
    known = known_facts(baseline, candidate)
    primary = _primary(terms, known)
    others = [one for one in all_endpoints(known) if one not in primary]
    measured = [_measure(one, known, baseline, candidate, terms) for one in (*primary, *others)]
    endpoints = _results(measured, len(primary), terms)
    verdict = _verdict(endpoints)
    return GateResult(
        baseline=baseline.record,
        candidate=candidate.record,
        terms=terms,
        verdict=verdict,
        exit_code=EXIT_ON[on_inconclusive] if verdict == "inconclusive" else EXIT_OF[verdict],
        endpoints=endpoints,
        lost=lost_facts(baseline, candidate),
        identity={**candidate.identity, **baseline.identity},
        notes=(*notes, *_cautions(baseline, candidate)),
        software={"sftbench": sftbench.__version__, **software_versions("numpy", "scipy")},
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _require_promised(candidate: Side, terms: Terms) -> None:
    if len(candidate.runs) < terms.seeds:
        raise SftbenchError(
            f"the candidate comes with {len(candidate.runs)} of the {terms.seeds} runs that the "
            "baseline asks for",
            where=candidate.name,
            remedy="Train with further seeds and name each result with --candidate, or declare "
            "fewer: --seeds.",
        )


def known_facts(baseline: Side, candidate: Side) -> pl.DataFrame:
    """Return the facts with what the base answers: the baseline's word, else the candidate's."""
    base = baseline.base if baseline.base is not None else candidate.base
    if base is None:
        return baseline.facts.with_columns(base=pl.lit(None, pl.Boolean))
    return baseline.facts.join(
        base.rename({"right": "base"}), on="fact_id", how="left", maintain_order="left"
    )


def _primary(terms: Terms, known: pl.DataFrame) -> list[Endpoint]:
    """Return the endpoints that decide; each must have facts."""
    found = [parse_endpoint(name) for name in dict.fromkeys(terms.primary)]
    for one in found:
        if not one.facts(known).is_empty():
            continue
        if one.figure == "retention" and known["base"].null_count():
            raise SftbenchError(
                f"{one.name} needs what the base answers, which lm-eval outputs of a tuned model "
                "do not hold",
                remedy="Name lm-eval outputs of the base with --base, or declare "
                f"--primary accuracy:{one.domain}.",
            )
        raise SftbenchError(
            f"the primary endpoint {one.name} rests on no fact",
            remedy="Declare another with --primary, or ask facts of that domain and level.",
        )
    return found


def _measure(
    endpoint: Endpoint, known: pl.DataFrame, baseline: Side, candidate: Side, terms: Terms
) -> _Measured:
    design = endpoint.design(known)
    assert design is not None
    before, after = baseline.right(design), candidate.right(design)
    contrast = Contrast.of(design, before, after)
    change = after.mean(axis=0) - before.mean(axis=0)
    p = contrast.p_above(-terms.margin)
    rose = contrast.p_above(0.0) if contrast.value > 0 else 1.0
    return _Measured(
        endpoint,
        contrast,
        _Adjusted(p, 1 - p, rose),
        int((change < 0).sum()),
        int((change > 0).sum()),
    )


def _results(
    measured: Sequence[_Measured], primaries: int, terms: Terms
) -> tuple[EndpointResult, ...]:
    """Return the endpoints with their verdicts: primary ones by bounds, the others by Holm."""
    others = measured[primaries:]
    adjusted = [holm(list(one)) for one in zip(*(one.p for one in others), strict=True)]
    deciding = [
        _record(one, terms, one.p, verdict_of(one.contrast.bounds(terms.alpha), terms.margin), True)
        for one in measured[:primaries]
    ]
    rest = [
        _record(one, terms, p, _by_p(p, terms.alpha), False)
        for one, p in zip(others, map(_Adjusted._make, zip(*adjusted, strict=True)), strict=True)
    ]
    return (*deciding, *rest)


def _by_p(p: _Adjusted, alpha: float) -> Verdict:
    if p.superior < alpha:
        return "superior"
    if p.noninferior < alpha:
        return "non_inferior"
    return "inferior" if p.inferior < alpha else "inconclusive"


def _record(
    one: _Measured, terms: Terms, adjusted: _Adjusted, verdict: Verdict, primary: bool
) -> EndpointResult:
    contrast = one.contrast
    bounds = contrast.bounds(terms.alpha)
    found = None
    if primary and verdict == "inconclusive":
        found = SettlingRecord.model_validate(settling(contrast, terms.margin, terms.alpha))
    return EndpointResult(
        endpoint=one.endpoint.name,
        domain=one.endpoint.domain,
        level=one.endpoint.level,
        primary=primary,
        n=contrast.design.n,
        clusters=contrast.design.clusters,
        baseline=sum(contrast.baseline) / len(contrast.baseline),
        candidate=sum(contrast.candidate) / len(contrast.candidate),
        difference=contrast.value,
        low=bounds.low,
        high=bounds.high,
        lost=one.lost,
        gained=one.gained,
        p_noninferior=one.p.noninferior,
        p_inferior=one.p.inferior,
        p_noninferior_holm=adjusted.noninferior,
        p_inferior_holm=adjusted.inferior,
        verdict=verdict,
        settling=found,
    )


def _verdict(endpoints: Sequence[EndpointResult]) -> Verdict:
    decided = worst([one.verdict for one in endpoints if one.primary])
    if any(one.verdict == "inferior" for one in endpoints):
        return "inferior"
    return decided


def _cautions(baseline: Side, candidate: Side) -> list[str]:
    counts = len(baseline.runs), len(candidate.runs)
    if max(counts) == 1:
        return [
            "One run on each side: this is a verdict on these two checkpoints. Another seed of the "
            "same recipe may get another one, and how much runs vary is not in it (docs/ci.md)."
        ]
    if min(counts) == 1:
        which = "baseline" if counts[0] == 1 else "candidate"
        return [
            f"The {which} has one run: it is taken to vary between runs as the other side does. If "
            "it varies more, a loss of the margin passes more often than alpha says (docs/ci.md)."
        ]
    return []


def lost_facts(baseline: Side, candidate: Side) -> tuple[LostFact, ...]:
    """Return the facts that the candidate answers right less often, most telling first.

    Most telling is what fell the furthest, then what the base knew best.
    """
    rows = (
        baseline.facts.join(baseline.rates().rename({"rate": "before"}), on="fact_id")
        .join(candidate.rates().rename({"rate": "after"}), on="fact_id")
        .filter(pl.col("after") < pl.col("before"))
        .sort(
            pl.col("before") - pl.col("after"), "level", "fact_id", descending=[True, True, False]
        )
    )
    said = _said(candidate)
    return tuple(
        LostFact(
            **{name: row[name] for name in LostFact.model_fields if name != "said"},
            said=said.get(row["fact_id"], ""),
        )
        for row in rows.iter_rows(named=True)
    )


def _said(candidate: Side) -> dict[str, str]:
    """Return what the first run that is wrong said to each fact."""
    found: dict[str, str] = {}
    for run in candidate.runs:
        if run.said is None:
            continue
        wrong = run.said.join(run.right.filter(~pl.col("right")), on="fact_id")
        for fact_id, text in wrong.select("fact_id", "said").iter_rows():
            found.setdefault(fact_id, text)
    return found
