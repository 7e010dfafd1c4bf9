"""A gate as Markdown: a comment on a pull request, or the summary of a workflow's step."""

from __future__ import annotations

import html

from sftbench.analysis.gate import EndpointResult, GateResult, LostFact, passes
from sftbench.report import gate_words as say
from sftbench.report.words import clip, count, p_value, points

MARKS = {"superior": "✅", "non_inferior": "✅", "inconclusive": "⚠️", "inferior": "❌"}
MARKER = "<!-- sftbench gate -->"
"""The first line, by which a workflow finds its own comment again."""


def markdown(result: GateResult) -> str:
    """Return a gate's result as Markdown (GitHub's), with the lost facts folded away."""
    lines = say.sentences(result)
    parts = [
        MARKER,
        f"### {MARKS[result.verdict]} sftbench gate: {plain(lines[0])}",
        "\n".join(f"- {plain(line)}" for line in lines[1:]),
        _endpoints(result),
        _lost(result),
        "\n".join(f"> {plain(note)}" for note in result.notes),
        f"<sub>{plain(say.sides_sentence(result))} sftbench {result.software['sftbench']}</sub>",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: str) -> str:
    """Return text that shows as it is: no markup of HTML or Markdown, no mention, no new line."""
    flat = html.escape(" ".join(text.split()), quote=False)
    for mark in "\\`*_[]|#~":
        flat = flat.replace(mark, f"\\{mark}")
    # An answer such as "@org/team" must not call anyone, and an address must not become a link.
    for mark in ("@", "www", "GH"):
        flat = flat.replace(mark, f"{mark}\N{ZERO WIDTH SPACE}")
    return flat.replace("://", ":\N{ZERO WIDTH SPACE}//")


def _endpoints(result: GateResult) -> str:
    head = (
        "| endpoint | facts | baseline | candidate | points | p | verdict |\n"
        "|---|---:|---:|---:|---:|---:|---|"
    )
    return "\n".join([head, *(_endpoint(one) for one in say.in_groups(result))])


def _endpoint(one: EndpointResult) -> str:
    name = say.endpoint_name(one)
    cells = [
        f"**{name}**" if one.primary else name,
        f"{one.n:,}",
        f"{points(one.baseline)} %",
        f"{points(one.candidate)} %",
        say.change(one).replace("[", "\\[").replace("]", "\\]"),
        p_value(one.p_noninferior_holm).replace("<", "&lt;"),
        f"{'' if passes(one.verdict) else MARKS[one.verdict] + ' '}{say.NAMES[one.verdict]}",
    ]
    return f"| {' | '.join(cells)} |"


def _lost(result: GateResult) -> str:
    if not result.lost:
        return ""
    shown = result.lost[: say.SHOWN_LOST]
    more = "" if len(shown) == len(result.lost) else f", the first {len(shown)} are shown"
    head = (
        "| question | answer | candidate said | level | baseline | candidate |\n"
        "|---|---|---|---:|---:|---:|"
    )
    counts = len(result.baseline.runs), len(result.candidate.runs)
    rows = "\n".join(_fact(one, counts) for one in shown)
    title = f"{count(len(result.lost), 'lost fact')}{more}"
    return f"<details><summary>{title}</summary>\n\n{head}\n{rows}\n\n</details>"


def _fact(one: LostFact, runs: tuple[int, int]) -> str:
    cells = [
        *(plain(clip(text).shown) for text in (one.question, one.answer, one.said)),
        str(one.level),
        *(
            f"{round(rate * of)}/{of}"
            for rate, of in zip((one.before, one.after), runs, strict=True)
        ),
    ]
    return f"| {' | '.join(cells)} |"
