"""A gate as JUnit XML: a case for each endpoint and level, so that a CI shows what fell."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Xml

from sftbench.analysis.gate import EndpointResult, GateResult
from sftbench.report import gate_words as say

NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped; answers of a model may."""


def junit(result: GateResult) -> str:
    """Return a gate's result as JUnit XML.

    What is inferior failed. What is inconclusive failed where it decides and the gate does not
    pass, and was skipped elsewhere: skipped means that it was not shown either way. So there is a
    failure in the file just where the command does not end with 0.
    """
    cases = [_case(one, result) for one in result.endpoints]
    failed, skipped = (sum(case.find(kind) is not None for case in cases) for kind in FAILED)
    counts = {"tests": str(len(cases)), "failures": str(failed), "errors": "0"}
    root = Xml.Element("testsuites", {"name": "sftbench", **counts})
    suite = Xml.SubElement(
        root,
        "testsuite",
        {"name": "sftbench gate", **counts, "skipped": str(skipped), "timestamp": result.made[:19]},
    )
    properties = Xml.SubElement(suite, "properties")
    for name, value in _properties(result).items():
        Xml.SubElement(properties, "property", {"name": name, "value": clean(value)})
    suite.extend(cases)
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


FAILED = ("failure", "skipped")


def clean(text: str) -> str:
    """Return text without the characters that XML cannot hold."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _case(one: EndpointResult, result: GateResult) -> Xml.Element:
    case = Xml.Element(
        "testcase",
        {
            "classname": f"sftbench.gate.{one.domain}",
            "name": one.endpoint + (" (decides)" if one.primary else ""),
            "time": "0",
        },
    )
    said = " ".join(
        filter(None, [say.endpoint_sentence(one, result.terms.alpha), say.settling_sentence(one)])
    )
    decides = one.primary and not result.passed
    if one.verdict == "inferior" or (one.verdict == "inconclusive" and decides):
        failure = Xml.SubElement(
            case, "failure", {"message": clean(said), "type": say.NAMES[one.verdict]}
        )
        failure.text = clean(_lost(one, result))
    elif one.verdict == "inconclusive":
        Xml.SubElement(case, "skipped", {"message": clean(said)})
    else:
        Xml.SubElement(case, "system-out").text = clean(said)
    return case


def _lost(one: EndpointResult, result: GateResult) -> str:
    """Return the lost facts of an endpoint's domain and level, a line each."""
    those = [
        fact
        for fact in result.lost
        if fact.domain == one.domain and one.level in (None, fact.level)
    ]
    lines = [
        f"level {fact.level}: {fact.question} {fact.answer} (said: {fact.said.strip()})"
        for fact in those[: say.SHOWN_LOST]
    ]
    more = len(those) - len(lines)
    return "\n".join([*lines, *([f"and {more:,} more"] if more else [])])


def _properties(result: GateResult) -> dict[str, str]:
    return {
        "verdict": say.NAMES[result.verdict],
        "margin": f"{result.terms.margin:g}",
        "alpha": f"{result.terms.alpha:g}",
        "baseline": result.baseline.name,
        "candidate": result.candidate.name,
        **{f"identity: {name}": value for name, value in result.identity.items()},
    }
