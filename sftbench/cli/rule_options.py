"""Options that say which variants are meant, for every command that restores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sftbench.checkpoints.rules import Restored

CriterionOption = Annotated[
    str,
    typer.Option(
        "--criterion",
        "-c",
        help="What is ranked by, or how tensors move: relative (the paper), absolute, random, "
        "lowest-relative, ties, fapm, interpolation, dare, spectral, noise; several: a,b.",
    ),
]
ArithmeticOption = Annotated[str, typer.Option(help="Ranking in fp32 or bf16.")]
PerTensorOption = Annotated[
    bool, typer.Option("--per-tensor", help="Rank each tensor by itself, not all together.")
]
RegionOption = Annotated[
    str,
    typer.Option(
        help="blocks (the paper), all, attention, mlp, embeddings, norms, layers=0-3, match=REGEX."
    ),
]


def rules_of(
    sizes: str,
    criteria: str = "relative",
    arithmetic: str = "fp32",
    *,
    per_tensor: bool = False,
    region: str = "blocks",
) -> tuple[Restored, ...]:
    """Return every criterion at every size, by criterion, then by size as it is written.

    Args:
        sizes: such as "1,5,20" (% of the scalars), "20%norm,5%changed".
        criteria: names, separated by commas.
        arithmetic: "fp32" or "bf16"; taken by the criteria that have it.
        per_tensor: taken by the criteria that rank over tensors.
        region: the tensors that take part.

    Raises:
        SftbenchError: a name or a size is not known, or the two do not go together.
    """
    from sftbench.checkpoints.rules import (
        BY_TENSOR,
        CRITERIA,
        ROUNDED,
        one_of,
        parse_arithmetic,
        parse_region,
        parse_sizes,
        rule_of,
    )

    asked, form, where = parse_sizes(sizes), parse_arithmetic(arithmetic), parse_region(region)
    names = [one_of(CRITERIA, name.strip(), "restore criterion") for name in criteria.split(",")]
    found: list[Restored] = []
    for name in dict.fromkeys(names):
        options = [
            *([form] if name in ROUNDED or len(names) == 1 else []),
            *(["per-tensor"] if per_tensor and name not in BY_TENSOR else []),
            *([where] if where != "blocks" else []),
        ]
        found += [rule_of(name, percent, measure, options) for percent, measure in asked]
    return tuple(dict.fromkeys(found))


def all_rules(
    written: Sequence[str] | None,
    sizes: str | None,
    criteria: str = "relative",
    arithmetic: str = "fp32",
    *,
    per_tensor: bool = False,
    region: str = "blocks",
) -> tuple[Restored, ...]:
    """Return the rules that are written in full, then those of `rules_of`; each once.

    Raises:
        SftbenchError: a rule cannot be read, or there is no size for what is named.
    """
    from sftbench.checkpoints.rules import parse_rule
    from sftbench.common.errors import SftbenchError

    found = [parse_rule(text) for text in written or ()]
    idle = [
        flag
        for flag, given in (
            ("--criterion", criteria != "relative"),
            ("--arithmetic", arithmetic != "fp32"),
            ("--per-tensor", per_tensor),
            ("--region", region != "blocks"),
        )
        if given
    ]
    if sizes is None and idle:
        raise SftbenchError(
            f"{', '.join(idle)} does nothing without a size",
            remedy="Add sizes (--restore or --percent, such as 20%norm), or write the rule in "
            "full with --rule.",
        )
    if sizes is not None:
        found += rules_of(sizes, criteria, arithmetic, per_tensor=per_tensor, region=region)
    return tuple(dict.fromkeys(found))
