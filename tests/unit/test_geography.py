"""The embedded geography facts: what ships is what the packages give, and is fit to be asked."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from sftbench.cli.facts import app
from sftbench.facts.flags import majority_answers, with_flags
from sftbench.facts.geography import (
    IN_DOMAIN,
    OUT_OF_DOMAIN,
    build_geography,
    geography_path,
    load_geography,
    nested_pairs,
    split_of,
    without_nested_answers,
)
from sftbench.facts.geography_places import (
    Namesakes,
    Place,
    distance_km,
    english_letters,
    with_plurals,
    without_districts,
)
from sftbench.facts.matching import answer_in_question, normalise
from sftbench.facts.shots import shots_of
from sftbench.facts.summary import flag_counts, relation_counts
from sftbench.facts.table import SHOTS, FactSet, fact_id_of, has_flag

pytestmark = pytest.mark.unit

SHIPPED = load_geography()
DIGEST = "68ba9ee291127d6cab845eccd6b6902c"
"""Cards and results are bound to it: change it only with VERSION in geography.py."""


def answers_of(relation: str, subject: str) -> list[str]:
    rows = SHIPPED.frame.filter(pl.col("relation") == relation, pl.col("subject") == subject)
    assert rows.height == 1
    return list(rows["answers"][0])


def city(name: str, people: int, country: str = "AA", **more: object) -> dict[str, object]:
    return {
        "name": name,
        "population": people,
        "countrycode": country,
        "alternatenames": [],
        "latitude": 0.0,
        "longitude": 0.0,
    } | more


def test_the_shipped_table_has_its_published_digest() -> None:
    assert SHIPPED.digest == DIGEST
    assert geography_path().stat().st_size < 1_000_000


def test_the_packages_give_the_shipped_table() -> None:
    built = build_geography()
    assert built.source == SHIPPED.source  # the versions of the packages among it
    assert built.digest == SHIPPED.digest
    assert built.templates_digest == SHIPPED.templates_digest


def test_relations_domains_and_sizes() -> None:
    counts = {row[0]: row[1:] for row in relation_counts(SHIPPED).iter_rows()}
    assert {name for name, row in counts.items() if row[0] == "in"} == set(IN_DOMAIN)
    assert {name for name, row in counts.items() if row[0] == "out"} == set(OUT_OF_DOMAIN)
    assert counts["all"] == ("", 3994, 3814, 4015, 3993)
    assert min(row[4] for row in counts.values()) >= 80  # scored test facts


def test_rows_are_canonical() -> None:
    frame = SHIPPED.frame
    assert frame["fact_id"].is_sorted()
    assert frame["question"].is_unique().all()
    for row in frame.iter_rows(named=True):
        named = (row["relation"], row["subject"], row["question"], row["answers"][0])
        assert row["fact_id"] == fact_id_of(*named)
        assert row["subject"] in row["question"]
        assert row["flags"] == sorted(set(row["flags"]))
        assert len(row["answers"]) == len(set(row["answers"]))


def test_no_subject_is_in_both_splits() -> None:
    by_subject = SHIPPED.frame.group_by(
        pl.col("subject").map_elements(normalise, return_dtype=pl.String)
    ).agg(pl.col("split").n_unique())
    assert by_subject["split"].max() == 1


def test_a_capital_is_in_the_split_of_its_country() -> None:
    capitals = SHIPPED.frame.filter(relation="country_capital")
    cities = SHIPPED.frame.filter(relation="city_country")
    pairs = capitals.select("split", pl.col("answers").list.first().alias("subject")).join(
        cities.select("subject", "split"), on="subject"
    )
    assert pairs.height > 100
    assert (pairs["split"] == pairs["split_right"]).all()


def test_flags_are_what_they_say() -> None:
    majority = majority_answers(SHIPPED.frame)
    assert majority["country_continent"] == "Africa"
    assert majority["country_language"] == "English"
    assert "country_capital" not in majority
    for row in SHIPPED.frame.iter_rows(named=True):
        echo = answer_in_question(row["question"], row["answers"])
        assert ("answer_in_question" in row["flags"]) == echo
        common = majority.get(row["relation"]) == row["answers"][0]
        assert ("majority_answer" in row["flags"]) == common


def test_every_relation_has_shots_and_none_is_scored() -> None:
    shots = shots_of(SHIPPED)
    for fact_id, relation in SHIPPED.scored().select("fact_id", "relation").iter_rows():
        assert len(shots(fact_id, relation)) >= 4
    reserved = SHIPPED.frame.filter(has_flag(*SHOTS))
    assert set(reserved["split"]) == {"train"}
    assert set(reserved["fact_id"]).isdisjoint(SHIPPED.scored(split="train")["fact_id"])


@pytest.mark.parametrize(
    ("relation", "subject", "answer"),
    [
        ("city_country", "Paris", "France"),
        ("city_country", "Rome", "Italy"),
        ("city_country", "Dublin", "Ireland"),
        ("city_country", "Abidjan", "Côte d'Ivoire"),
        ("city_country", "Houston", "USA"),
        ("city_country", "Houston", "United States of America"),
        ("city_country", "Edinburgh", "Scotland"),
        ("city_country", "Mandalay", "Burma"),
        ("city_country", "Ostrava", "Czechia"),
        ("country_capital", "Ukraine", "Kiev"),
        ("country_capital", "the United States", "Washington, D.C."),
        ("country_continent", "Chile", "South America"),
        ("country_currency", "Germany", "euros"),
        ("country_currency", "Australia", "Australian dollar"),
        ("country_language", "Switzerland", "Italian"),
        ("us_city_state", "Denver", "Colorado"),
        ("us_county_state", "Broward County", "Florida"),
        ("airport_city", "LHR", "London"),
        ("airport_city", "BOM", "Bombay"),
    ],
)
def test_spot_checks(relation: str, subject: str, answer: str) -> None:
    assert answer in answers_of(relation, subject)


@pytest.mark.parametrize(
    ("relation", "subject"),
    [
        ("city_country", "Jerusalem"),  # disputed
        ("city_country", "Sevastopol"),
        ("city_country", "Taipei"),
        ("city_country", "Valencia"),  # Spain and Venezuela
        ("country_capital", "South Africa"),  # three of them
        ("country_capital", "Bolivia"),
        ("country_continent", "Turkey"),  # two continents
        ("us_city_state", "Springfield"),
        ("us_county_state", "Washington County"),
        ("us_city_state", "Richmond"),  # "Virginia" stands in "West Virginia"
    ],
)
def test_doubtful_facts_are_left_out(relation: str, subject: str) -> None:
    rows = SHIPPED.frame.filter(pl.col("relation") == relation, pl.col("subject") == subject)
    assert rows.is_empty()


def test_no_answer_stands_inside_another_of_its_relation() -> None:
    for relation in (*IN_DOMAIN, *OUT_OF_DOMAIN):
        rows = SHIPPED.frame.filter(relation=relation)
        places = [Place(relation, "", tuple(answers)) for answers in rows["answers"]]
        assert nested_pairs(places) == set()


def test_a_nested_alias_goes_alone_and_a_nested_answer_takes_its_place_along() -> None:
    places = [
        Place("r", "a", ("Guinea",)),
        Place("r", "b", ("Equatorial Guinea",)),
        Place("r", "c", ("United States", "Republic")),
        Place("r", "d", ("Czech Republic",)),
    ]
    kept = without_nested_answers(places)
    assert [(p.subject, p.answers) for p in kept] == [
        ("b", ("Equatorial Guinea",)),
        ("c", ("United States",)),
        ("d", ("Czech Republic",)),
    ]
    airports = [
        Place("airport_city", "a", ("London",)),
        Place("airport_city", "b", ("East London",)),
    ]
    assert [p.subject for p in without_nested_answers(airports)] == ["a"]


def test_an_answer_that_the_longer_ones_place_accepts_is_not_nested() -> None:
    places = [Place("r", "a", ("franc",)), Place("r", "b", ("CFA franc", "franc"))]
    assert nested_pairs(places) == set()


def test_namesakes_must_be_five_times_smaller() -> None:
    def home(place: object) -> object:
        assert isinstance(place, dict)
        return place["countrycode"]

    big, small = city("Paris", 2_000_000), city("Paris", 25_000, "BB")
    rivals = Namesakes([big, small, city("Tripoli", 500_000), city("Tripoli", 200_000, "BB")])
    assert rivals.is_unambiguous(big, home)
    assert not rivals.is_unambiguous(small, home)
    assert not rivals.is_unambiguous(city("Tripoli", 500_000), home)
    called = Namesakes(
        [city("Lutetia", 900_000), city("X", 800_000, "BB", alternatenames=["Lutetia"])]
    )
    assert not called.is_unambiguous(city("Lutetia", 900_000), home)


def test_districts_are_left_out_and_capitals_kept() -> None:
    town = city("Town", 1_000_000)
    part = city("Part", 100_000, latitude=0.05)
    capital = city("Capital", 100_000, latitude=0.05)
    far = city("Far", 100_000, latitude=0.2)
    assert without_districts([town, part, capital, far], {"capital"}) == [town, capital, far]


def test_distance_is_in_kilometres() -> None:
    paris = {"latitude": 48.8566, "longitude": 2.3522}
    london = {"latitude": 51.5074, "longitude": -0.1278}
    assert distance_km(paris, london) == pytest.approx(344, abs=3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Kandahār", "Kandahar"), ("Łódź", "Łódź"), ("Cần Thơ", "Can Tho"), ("Thủ Đức", "Thu Duc")],
)
def test_english_letters(name: str, expected: str) -> None:
    assert english_letters(name) == expected


def test_plurals_of_currency_units() -> None:
    assert with_plurals(("euro",)) == ("euro", "euros")
    assert with_plurals(("leu", "lei")) == ("leu", "lei", "leus")
    assert with_plurals(("US dollar", "USD")) == ("US dollar", "USD", "US dollars")


def test_splits_are_about_even_and_ignore_case_and_article() -> None:
    drawn = [split_of(f"place {number}") for number in range(1000)]
    assert 450 < drawn.count("test") < 550
    assert split_of("The Gambia") == split_of("gambia")


def test_with_flags_keeps_what_the_source_set() -> None:
    frame = pl.DataFrame(
        {
            "relation": ["r", "r", "r"],
            "question": ["Where is Mexico City?", "Where is Oaxaca?", "Where is Lyon?"],
            "answers": [["Mexico"], ["Mexico"], ["France"]],
            "flags": [["well_known"], [], []],
        },
        schema_overrides={"flags": pl.List(pl.String)},
    )
    assert with_flags(frame)["flags"].to_list() == [
        ["answer_in_question", "majority_answer", "well_known"],
        ["majority_answer"],
        [],
    ]


def test_a_written_copy_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    SHIPPED.write(path)
    copy = FactSet.read(path)
    assert copy.digest == SHIPPED.digest
    assert copy.templates_digest == SHIPPED.templates_digest
    assert copy.source == SHIPPED.source


def test_flag_counts() -> None:
    counts = {flag: (train, test) for flag, train, test in flag_counts(SHIPPED).iter_rows()}
    assert counts["shot_1"][0] > 0
    assert counts["shot_1"][1] == 0
    assert counts["answer_in_question"] == (12, 22)


def test_cli_writes_and_shows(tmp_path: Path) -> None:
    path = tmp_path / "F.parquet"
    runner = CliRunner()
    written = runner.invoke(app, ["geography", "-o", str(path)])
    assert written.exit_code == 0, written.output
    assert FactSet.read(path).digest == DIGEST
    shown = runner.invoke(app, ["show", str(path)])
    assert shown.exit_code == 0, shown.output
    for text in ("us_county_state", DIGEST, "GeoNames", "What is the capital of"):
        assert text in shown.output
