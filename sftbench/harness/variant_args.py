"""`--model_args` of `sftbench-hf` and `sftbench-vllm`: which variant of which two models."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path

from sftbench.checkpoints.rules import (
    CRITERIA,
    REGIONS,
    RULE_FORM,
    RULE_GRAMMAR,
    Measure,
    Restored,
    one_of,
    parse_arithmetic,
    parse_region,
    parse_size,
    rule_of,
)
from sftbench.checkpoints.variants import GRAMMAR, Again, Variant, parse_variant
from sftbench.common.errors import SftbenchError

WHERE = "--model_args"
MODELS = ("base", "tuned", "base_revision", "tuned_revision")
RULE = ("criterion", "percent", "arithmetic", "per_tensor", "region", "draw")
NAMES = (*MODELS, "variant", *RULE)
"""What says which variant is meant; all else is the engine's or lm-eval's."""
HOW = (
    "For example base=B,tuned=T,criterion=relative,percent=5 (or percent=5%changed, "
    f"percent=20%norm). Criteria: {', '.join(CRITERIA)}. More: arithmetic=bf16, per_tensor=True, "
    f"region=({', '.join(REGIONS)}, layers=0-3, match=REGEX), draw=2. Without a restore: "
    "variant=base, variant=tuned or variant=noise."
)
WORDS = {
    "--engine-options": WHERE,
    "--engine hf": "--model sftbench-hf",
    "--dtype ": "dtype=",
    "--batch-size": "--batch_size",
    "with --base": "with base=",
}
"""What our own commands call it, and what it is called in lm-eval."""


@dataclass(frozen=True)
class TwoModels:
    """The models that a variant is made of, as they were named.

    Attributes:
        tuned: short name, folder or hub id of the tuned model, or an adapter.
        base: the same of the base; None for the one that the tuned model's files name.
        tuned_revision: branch, tag or commit on the hub.
        base_revision: the same of the base.
    """

    tuned: str
    base: str | None = None
    tuned_revision: str | None = None
    base_revision: str | None = None

    def __str__(self) -> str:
        return self.tuned


@dataclass(frozen=True)
class Asked:
    """What a run asks for: a variant of two models."""

    models: TwoModels
    variant: Variant

    @property
    def name(self) -> str:
        """What its results are filed under, such as "my-tune__tuned+restore-relative-5pct"."""
        return f"{Path(self.models.tuned).name}__{self.variant.slug}"


def asked_of(args: Mapping[str, object]) -> Asked:
    """Return what `--model_args` ask for; names other than `NAMES` do not count.

    Raises:
        SftbenchError: the tuned model or the size is missing, or a value cannot be read.
    """
    models = models_named(args)
    if models is None:
        raise SftbenchError("tuned=T, the fine-tuned model, is missing", where=WHERE, remedy=HOW)
    given = {name: args[name] for name in NAMES if args.get(name) is not None}
    return Asked(models, _variant(given))


def models_named(args: Mapping[str, object]) -> TwoModels | None:
    """Return the models that `--model_args` name; None without a tuned one."""
    named = {name: _text(args[name]) for name in MODELS if args.get(name) not in (None, "")}
    return TwoModels(**named) if "tuned" in named else None


def require_known(args: Collection[str], known: Collection[str], model: str) -> None:
    """Raise unless every name is one of `known`.

    Raises:
        SftbenchError: an unknown name, with the one that is closest.
    """
    for name in args:
        if name in known:
            continue
        close = get_close_matches(name, known, n=1)
        if name == "pretrained":
            remedy = "Name two models: base=B,tuned=T. For one: --model sftbench."
        else:
            remedy = f"Did you mean {close[0]}?" if close else HOW
        raise SftbenchError(f"{model} has no argument {name}", where=WHERE, remedy=remedy)


@contextmanager
def in_words_of_lm_eval() -> Iterator[None]:
    """Let errors that speak of our commands' options speak of lm-eval's."""
    try:
        yield
    except SftbenchError as error:
        parts = [_translated(part) for part in (error.what, error.where, error.remedy)]
        if parts == [error.what, error.where, error.remedy]:
            raise
        raise SftbenchError(parts[0] or "", where=parts[1], remedy=parts[2]) from error


def _translated(text: str | None) -> str | None:
    for ours, theirs in WORDS.items():
        text = None if text is None else text.replace(ours, theirs)
    return text


def _variant(given: Mapping[str, object]) -> Variant:
    with _at_model_args():
        if "variant" not in given:
            return _restored(given)
        text, extra = _text(given["variant"]), [name for name in RULE if name in given]
        if text == "noise" and extra in ([], ["draw"]):
            return parse_variant(f"base+noise({_text(given.get('draw', 1))})")
        if extra:
            raise SftbenchError(f"variant={text} says all, and {extra[0]} is given as well")
        found = parse_variant(text)
        if isinstance(found, Again):
            raise SftbenchError(
                f"{text} is the base in other batches", remedy="Use variant=base and --batch_size."
            )
        return found


def _restored(given: Mapping[str, object]) -> Restored:
    criterion = one_of(CRITERIA, _text(given.get("criterion", "relative")), "restore criterion")
    size: tuple[Decimal | None, Measure] = (None, "scalars")
    if "percent" in given:
        size = parse_size(_text(given["percent"]))
    options = [
        parse(_text(given[name]))
        for name, parse in (("arithmetic", parse_arithmetic), ("region", parse_region))
        if name in given
    ]
    if _is_true(given.get("per_tensor", False)):
        options.append("per-tensor")
    if "draw" in given:
        options.append(f"draw={_text(given['draw'])}")
    return rule_of(criterion, *size, options)


def _is_true(value: object) -> bool:
    if not isinstance(value, bool):
        raise SftbenchError(f"per_tensor={value} is neither True nor False")
    return value


def _text(value: object) -> str:
    """Return a value as it was typed: lm-eval reads 5 and 12.5 as numbers."""
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")  # never 1e-05
    return str(value)


@contextmanager
def _at_model_args() -> Iterator[None]:
    """Say where an error of a rule or variant is, and how it is written there."""
    try:
        yield
    except SftbenchError as error:
        general = error.remedy in (None, RULE_FORM, RULE_GRAMMAR, GRAMMAR)
        remedy = HOW if general else error.remedy
        raise SftbenchError(error.what, where=WHERE, remedy=remedy) from None
