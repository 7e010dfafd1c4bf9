"""What a gate says in words: the verdict, each endpoint, and what would settle it."""

from __future__ import annotations

from sftbench.analysis.gate import EndpointResult, GateResult
from sftbench.analysis.noninferiority import Verdict
from sftbench.analysis.summary import DOMAIN_NAMES
from sftbench.report.words import count, listed, points, signed, signed_bracket

SHOWN_LOST = 20
"""Lost facts that a page or a comment shows."""
NAMES: dict[Verdict, str] = {
    "superior": "superior",
    "non_inferior": "non-inferior",
    "inconclusive": "inconclusive",
    "inferior": "inferior",
}


def endpoint_name(one: EndpointResult) -> str:
    """Return such as "retention, in-domain" or "retention, in-domain, level 2"."""
    figure = one.endpoint.partition(":")[0]
    name = f"{figure}, {DOMAIN_NAMES[one.domain]}"
    return name if one.level is None else f"{name}, level {one.level}"


def in_groups(result: GateResult) -> list[EndpointResult]:
    """Return the endpoints, each mean over levels followed by its levels."""
    whole = [one for one in result.endpoints if one.level is None]
    found: list[EndpointResult] = [one for one in result.primary if one.level is not None]
    for one in whole:
        levels = [
            other
            for other in result.others
            if other.level is not None and other.endpoint.startswith(f"{one.endpoint}:")
        ]
        found += [one, *levels]
    return found


def margin_words(margin: float) -> str:
    """Return a margin as "2 points" (percentage points)."""
    shown = f"{100 * margin:g}"
    return f"{shown} point{'' if shown == '1' else 's'}"


def headline(result: GateResult) -> str:
    """Return the verdict as one sentence."""
    margin = margin_words(result.terms.margin)
    if result.verdict == "inferior":
        where = [endpoint_name(one) for one in result.endpoints if one.verdict == "inferior"]
        return f"Inferior: {listed(where)} fell by more than {margin}."
    deciding = listed([endpoint_name(one) for one in result.primary])
    if result.verdict == "inconclusive":
        return f"Inconclusive: a loss of {margin} in {deciding} is neither shown nor ruled out."
    if result.verdict == "non_inferior":
        return f"Non-inferior: {deciding} did not fall by {margin}."
    return f"Superior: {deciding} rose."


def change(one: EndpointResult) -> str:
    """Return a difference with its bounds in percentage points: "−1.2 [−3.0, +0.6]"."""
    return f"{signed(one.difference)} {signed_bracket(one)}"


def endpoint_sentence(one: EndpointResult, alpha: float) -> str:
    """Return an endpoint as a sentence: both sides, the difference, its bounds."""
    return (
        f"{endpoint_name(one).capitalize()}: {points(one.baseline)} % to "
        f"{points(one.candidate)} %, {change(one)} points ({1 - 2 * alpha:.0%} interval; "
        f"{count(one.n, 'fact')}, {one.lost:,} lost, {one.gained:,} gained): {NAMES[one.verdict]}."
    )


def settling_sentence(one: EndpointResult) -> str:
    """Return what would settle an inconclusive endpoint; "" for any other."""
    if one.settling is None:
        return ""
    ways = []
    if one.settling.facts is not None:
        times = one.settling.facts / max(1, one.n)
        ways.append(f"about {one.settling.facts:,} such facts ({times:.1f} times as many)")
    if one.settling.runs is not None:
        ways.append(f"{one.settling.runs} runs of each side")
    if not ways:
        cause = (
            "the difference seen is so near the margin"
            if one.settling.near
            else "runs vary so much"
        )
        return (
            f"{endpoint_name(one).capitalize()}: {cause} that no reasonable number of facts or "
            "runs would settle it."
        )
    return (
        f"{endpoint_name(one).capitalize()}: {listed(ways, last='or')} would probably settle it, "
        "if the difference seen is the true one."
    )


def sentences(result: GateResult) -> list[str]:
    """Return the verdict, the primary endpoints, what would settle them, and what else is shown."""
    found = [headline(result)]
    for one in result.primary:
        found.append(endpoint_sentence(one, result.terms.alpha))
        if settle := settling_sentence(one):
            found.append(settle)
    worse = [endpoint_name(one) for one in result.others if one.verdict == "inferior"]
    if worse and all(one.verdict != "inferior" for one in result.primary):
        found.append(f"The primary endpoint did not fail: {listed(worse)} did (Holm-adjusted).")
    return found


def sides_sentence(result: GateResult) -> str:
    """Return who was compared, with how many runs, on what terms."""
    sides = [
        f"{side.name} ({count(len(side.runs), 'run')})"
        for side in (result.candidate, result.baseline)
    ]
    return (
        f"{sides[0]} against {sides[1]}; margin {margin_words(result.terms.margin)}, "
        f"alpha {result.terms.alpha:g} (one-sided)."
    )
