"""What the geography source keeps, leaves out and renames: every choice made by hand."""

from __future__ import annotations

import re

from sftbench.facts.matching import normalise

PROMINENCE = 5
"""A name is unambiguous if its place has this many times the people of any namesake elsewhere."""
PER_ANSWER = 30
"""At most so many subjects share an answer: half the most populous ones, half drawn by hash."""
COUNTIES_PER_STATE = 40
AIRPORT_CITIES_PER_COUNTRY = 60
AIRPORTS_PER_FAMOUS_CITY = 6

SMALLEST_CITY = 15_000  # people
SMALLEST_AIRPORT_CITY = 100_000  # people
METROPOLIS = 1_000_000  # people; only its English namesakes count as rivals
DISTRICT_KM = 10.0
"""A place so near to one `PROMINENCE` times its size counts as a part of it."""
AIRPORT_KM = 80.0
"""An airport farther than this from the city that it is listed under is left out."""
SHARED_AIRPORT_KM = 30.0
"""An airport so near to a city twice the size of its own is left out: people name the other."""

WELL_KNOWN_CITY = 500_000  # people
WELL_KNOWN_US_CITY = 150_000  # people
WELL_KNOWN_COUNTRY = 10_000_000  # people
WELL_KNOWN_AIRPORT_CITY = 1_000_000  # people

CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}
TWO_CONTINENTS = frozenset(("AM", "AU", "AZ", "CY", "EG", "GE", "ID", "KZ", "RU", "TL", "TR"))
"""Countries that lie on two continents, or whose continent goes by several names."""

WITH_ARTICLE = frozenset(
    [
        "AE",
        "BS",
        "CD",
        "CF",
        "CG",
        "CZ",
        "DO",
        "GB",
        "GM",
        "KM",
        "MH",
        "MV",
        "NL",
        "PH",
        "SB",
        "SC",
        "US",
    ]
)
"""Countries whose name takes "the" inside a sentence."""

DISPUTED_ZONES = frozenset(
    ("Europe/Simferopol", "Asia/Famagusta", "Asia/Hebron", "Asia/Gaza", "Africa/El_Aaiun")
)
DISPUTED_REGIONS = {
    "UA": [
        "05",
        "08",
        "11",
        "14",
        "20",
        "26",
    ],  # Donetsk, Kherson, Crimea ...
    "IN": ["12", "41"],  # Jammu and Kashmir, Ladakh
    "PK": ["06", "07"],  # Azad Kashmir, Gilgit-Baltistan
}
"""Country to the GeoNames codes of first-level regions that another state claims or holds."""
DISPUTED_CITIES = frozenset(
    normalise(name)
    for name in (
        *("Jerusalem", "East Jerusalem", "West Jerusalem"),
        *("Sokhumi", "Sukhumi", "Gagra", "Ochamchire", "Tskhinvali"),
        *("Tiraspol", "Tiraspolul", "Bender", "Tighina", "Rybnitsa", "Ribnita", "Dubasari"),
        *("Stepanakert", "Xankandi", "Khankendi"),
        *("Famagusta", "Kyrenia", "Nicosia"),
        *("Hargeysa", "Hargeisa", "Berbera", "Burao", "Borama"),
    )
)
UK_NATIONS = {"ENG": "England", "SCT": "Scotland", "WLS": "Wales"}
"""Right answers for a British city; "Northern Ireland" would shut out "Ireland"."""
IRREGULAR_PLURALS = frozenset(
    (
        *("koruny", "kroner", "kronor", "kronur", "lei", "maloti", "reais", "pound sterling"),
        *("won", "yen", "baht", "yuan", "renminbi", "ringgit", "birr"),
    )
)
"""Names of currency units that take no "s": plurals already, or the same in the plural."""
OTHER_NAMES = {
    "Astana": "Nur-Sultan",
    "Beijing": "Peking",
    "Bengaluru": "Bangalore",
    "Chattogram": "Chittagong",
    "Chennai": "Madras",
    "Fes": "Fez",
    "Gothenburg": "Göteborg",
    "Guangzhou": "Canton",
    "Ho Chi Minh City": "Saigon",
    "Iráklion": "Heraklion",
    "Irákleion": "Heraklion",
    "Isfahan": "Esfahan",
    "Kharkiv": "Kharkov",
    "Kolkata": "Calcutta",
    "Kyiv": "Kiev",
    "Lárisa": "Larissa",
    "Lviv": "Lvov",
    "Makkah": "Mecca",
    "Marrakesh": "Marrakech",
    "Mumbai": "Bombay",
    "New York City": "New York",
    "Odesa": "Odessa",
    "Pátra": "Patras",
    "Sevilla": "Seville",
    "Thessaloníki": "Thessalonica",
    "Ulan Bator": "Ulaanbaatar",
    "Yangon": "Rangoon",
    "Zaragoza": "Saragossa",
}
"""Other English names of cities that are answers."""
NO_CIVIL_AIRPORT = re.compile(r"heliport|seaplane|base\b|afb|army|naval|station|executive", re.I)
"""Airports without scheduled flights, by their name."""
FAMILIAR_LETTERS = frozenset("áàâäãåæçéèêëíîïıñóòôöõøœßúùûüýšžčćřěůłńśźżąęđğşăőű")
"""Letters that English texts keep in foreign names."""
PLAIN_NAME = re.compile(r"[^\W\d_]+(?:[ '’.-]{1,2}[^\W\d_]+){0,3}")
"""One to four words of letters: names that need no explanation in a question."""
