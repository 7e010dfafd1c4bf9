"""What to do after a check: command lines that name the same things."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from sftbench.checkpoints.rules import Restored, parse_rule, percent_text
from sftbench.checkpoints.variants import parse_variant
from sftbench.compare.chat import FLAGS
from sftbench.compare.check_request import CARD, CheckRequest
from sftbench.compare.repair import default_candidates
from sftbench.compare.request import Request
from sftbench.compare.result import Compared
from sftbench.engines.settings import BATCH_SIZES, EngineSettings


def compare_command(wanted: CheckRequest, request: Request, **changes: str | None) -> str:
    """Return the `sftbench compare` that does the same; `changes` replaces or (None) drops flags.

    Args:
        wanted: the check.
        request: the comparison that came of it.
        changes: flag without dashes, underscores for dashes, to value.
    """
    card = request.card.path if (wanted.mastery or _is_made(wanted, request)) else None
    flags: dict[str, str | None] = {
        "base": request.base_name,
        "tuned": request.tuned_name,
        "facts": wanted.facts or request.facts.name,
        "mastery": None if card is None else str(card),
        "noise": str(request.noise) if request.noise else None,
        "prompt": None if request.prompt.name == "fewshot" else request.prompt.name,
        "limit": None if request.limit is None else str(request.limit),
        **_engine_flags(request.engine),
        "batch_size": _batch_size(request.engine),
        "output": str(request.out),
        **changes,
    }
    told = [flag for flag in ("loss", "drift") if getattr(request, flag)]
    more = [*FLAGS[request.chat], *(f"--{flag}" for flag in told)]
    return _command("compare", flags, [*_restore_flags(wanted, request), *more])


def _restore_flags(wanted: CheckRequest, request: Request) -> list[str]:
    """Return the flags that try the same restores, or choose among the same."""
    if not wanted.candidates:
        return rule_flags(request.restored, "--restore")
    others = () if wanted.candidates == default_candidates() else wanted.candidates
    return ["--auto", *rule_flags(others, "--restore")]


def rule_flags(rules: Sequence[Restored], sizes: str) -> list[str]:
    """Return the flags that name these rules; `sizes` is the one for the paper's way."""
    if rules and all(rule.is_papers and rule.arithmetic == "fp32" for rule in rules):
        return [sizes, ",".join(percent_text(rule.percent) for rule in rules if rule.percent)]
    return [part for rule in rules for part in ("--rule", rule.text)]


def _command(verb: str, flags: Mapping[str, str | None], switches: Sequence[str] = ()) -> str:
    """Return a command line; a flag without a value is left out."""
    parts = [
        part
        for flag, value in flags.items()
        if value is not None
        for part in (f"--{flag.replace('_', '-')}", value)
    ]
    return shlex.join(["sftbench", *verb.split(), *parts, *switches])


def _engine_flags(settings: EngineSettings) -> dict[str, str | None]:
    """Return the flags that every command with an engine has; None where it is the default."""
    return {
        "dtype": None if settings.dtype == "float32" else settings.dtype,
        "engine": settings.name,
        # As JSON: a text value with a comma, or that looks like a number, is read as it was.
        "engine_options": json.dumps(dict(settings.options)) if settings.options else None,
    }


def _batch_size(settings: EngineSettings) -> str | None:
    """Return the batch size as a flag's value; None where it is the engine's own."""
    return None if settings.batch_size == BATCH_SIZES[settings.name] else str(settings.batch_size)


def _is_made(wanted: CheckRequest, request: Request) -> bool:
    return request.card.path == wanted.out / CARD


def next_steps(
    wanted: CheckRequest, request: Request, compared: Compared
) -> tuple[tuple[str, str], ...]:
    """Return what to do next, the first step first."""
    steps = _on_all_facts(wanted, request, compared)
    steps += _told_apart(wanted, request, compared)
    steps.append(
        (
            "what it was tuned for",
            compare_command(wanted, request, tasks="TASK", output=f"{wanted.out}-tasks"),
        )
    )
    steps += _restores(wanted, request, compared)
    rescored = _command("rescore", {"matching": "strict-paper"}, [str(request.out)])
    return (*steps, ("the paper's matching", rescored))


def _told_apart(
    wanted: CheckRequest, request: Request, compared: Compared
) -> list[tuple[str, str]]:
    """Return how to tell kinds of loss apart, in the same folder, unless that was done."""
    if compared.summary.loss is not None or not compared.lost.height:
        return []
    return [("what kind of loss it is", f"{compare_command(wanted, request)} --loss")]


def _on_all_facts(
    wanted: CheckRequest, request: Request, compared: Compared
) -> list[tuple[str, str]]:
    """Return how to ask every fact; those without a level must be levelled before."""
    full = f"{wanted.out}-full"
    if not compared.summary.run.facts.unlevelled:
        if request.limit is None:
            return []
        return [("all facts", compare_command(wanted, request, limit=None, output=full))]
    card = f"{wanted.out}-card.parquet"
    flags = {
        "model": request.base_name,
        "facts": wanted.facts or request.facts.name,
        **_engine_flags(request.engine),
        "rows": _batch_size(request.engine) if request.engine.name == "vllm" else None,
        "output": card,
    }
    command = compare_command(wanted, request, limit=None, mastery=card, output=full)
    return [
        ("the levels of all facts", _command("mastery", flags)),
        ("all facts, after that", command),
    ]


def _restores(wanted: CheckRequest, request: Request, compared: Compared) -> list[tuple[str, str]]:
    """Return how to write the repair that was chosen, else the restores that brought facts back."""
    repair = compared.summary.repair
    if repair is None:
        rules = _healing(compared)
        what = "a restored model" if len(rules) == 1 else "the restored models"
    else:
        rules = [parse_rule(repair.chosen)] if repair.chosen else []
        what = "the chosen restore"
    if not rules:
        return []
    models = {"base": request.base_name, "tuned": request.tuned_name}
    rest = [*rule_flags(rules, "--percent"), "--output", f"{wanted.out}-restored"]
    return [(what, _command("restore apply", models, rest))]


def _healing(compared: Compared) -> list[Restored]:
    """Return the rules that brought a lost fact back; none is called the best."""
    rules = [
        parse_variant(variant.name)
        for variant in compared.summary.restored
        if any(one.repair is not None and one.repair.healed for one in variant.domains)
    ]
    return [rule for rule in rules if isinstance(rule, Restored)]
