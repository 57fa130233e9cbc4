"""The search for personal data on sentences and names of others: those of Microsoft's presidio-evaluator.

    pip install --no-deps --target /tmp/presidio-evaluator 'presidio-evaluator==0.3.2'
    python benchmarks/quality_personal_data_elsewhere.py /tmp/presidio-evaluator [--write]

Prints a markdown section; ``--write`` puts it into docs/quality/personal_data.md. The sentences are what customers of banks,
callers and film critics say, in English; names, streets, e-mail addresses and telephone numbers are of fakenamegenerator.com, cards
and account numbers of ``personal_data_values.py``. Sentences that take addresses apart are left out. Nothing was corrected by them.
"""

import argparse
import csv
import random
import re
from collections.abc import Callable
from pathlib import Path

import personal_data_values as values
from quality_personal_data import (
    CHECKABLE,
    OUTPUT,
    SEED,
    Scores,
    Span,
    Text,
    ours,
    pii,
    plain_presidio,
    share,
)

from dataset_pipeline.config import Pii

BEGIN, END = "<!-- elsewhere:begin -->", "<!-- elsewhere:end -->"
PER_TEMPLATE = 10
Row = dict[str, str]
APART = re.compile(
    r"\{\{(?:street_name|building_number|secondary_address|postcode|zipcode|state_abbr|us_driver_license)\}\}"
)
UNMARKED: dict[str, Callable[[random.Random, Row], str]] = {
    "city": lambda _, row: row["City"],
    "country": lambda _, row: row["CountryFull"],
    "organization": lambda _, row: row["Company"],
    "age": lambda _, row: row["Age"],
    "job": lambda _, row: row["Occupation"],
    "prefix": lambda _, row: row["Title"],
    "prefix_male": lambda _, __: "Mr.",
    "prefix_female": lambda _, __: "Mrs.",
    "year": lambda rng, _: str(rng.randrange(1950, 2026)),
    "date_time": lambda rng, _: f"{rng.randrange(1, 29)}/{rng.randrange(1, 13)}/2026",
    "day_of_week": lambda _, __: "Tuesday",
    "url": lambda _, row: f"https://www.{row['Domain']}/",
}
MARKED: dict[str, tuple[str, Callable[[random.Random, Row], str]]] = {
    **{
        name: ("PERSON", lambda _, row: f"{row['GivenName']} {row['Surname']}")
        for name in ("person", "name", "name_male", "name_female")
    },
    **{
        name: ("PERSON", lambda _, row: row["GivenName"])
        for name in ("first_name", "first_name_male", "first_name_female", "first_name_nonbinary")
    },
    **{
        name: ("PERSON", lambda _, row: row["Surname"])
        for name in ("last_name", "last_name_male", "last_name_female")
    },
    "address": (
        "ADDRESS",
        lambda _, row: f"{row['StreetAddress']}, {row['City']}, {row['State']} {row['ZipCode']}",
    ),
    "phone_number": ("PHONE_NUMBER", lambda _, row: row["TelephoneNumber"]),
    "email": ("EMAIL_ADDRESS", lambda _, row: row["EmailAddress"]),
    "credit_card_number": ("CREDIT_CARD", lambda rng, _: values.card(rng, "en", "report")),
    "iban": ("IBAN_CODE", lambda rng, _: values.iban(rng, "")),
    "ip_address": ("IP_ADDRESS", lambda rng, _: values.ip(rng, "en", "report")),
    "ssn": ("US_SSN", lambda rng, _: values.ssn(rng, "")),
    "date_of_birth": ("DATE_OF_BIRTH", lambda _, row: row["Birthday"]),
}


def texts_of(folder: Path) -> list[Text]:
    """Sentences with the values of people of the United States, the United Kingdom, Canada and Australia."""
    data = folder / "presidio_evaluator/data_generator/raw_data"
    with (data / "FakeNameGenerator.com_3000.csv").open(encoding="utf-8-sig", newline="") as stream:
        people = [row for row in csv.DictReader(stream) if row["Country"] in {"US", "GB", "CA", "AU"}]
    rng, texts = random.Random(SEED), []
    for template in (data / "templates.txt").read_text(encoding="utf-8", errors="replace").splitlines():
        template = template.replace("\\n", "\n")  # noqa: PLW2901 - how the file writes line breaks
        names = set(re.findall(r"\{\{(\w+)\}\}", template))
        if not template.strip() or APART.search(template) or not names <= {*MARKED, *UNMARKED}:
            continue
        for _ in range(PER_TEMPLATE):
            text, spans = "", list[Span]()
            for place, part in enumerate(re.split(r"\{\{(\w+)\}\}", template.strip())):
                row = rng.choice(people)
                if place % 2 == 0:
                    text += part
                    continue
                value = (MARKED[part][1] if part in MARKED else UNMARKED[part])(rng, row)
                if part in MARKED:
                    spans.append(Span(MARKED[part][0], len(text), len(text) + len(value)))
                text += value
            texts.append(Text(text, "en", tuple(spans)))
    return list(dict.fromkeys(texts))


def section(folder: Path) -> str:
    """The markdown."""
    texts = texts_of(folder)
    here, plain = Scores(texts, ours(texts, pii())), Scores(texts, plain_presidio(texts, Pii().min_score))
    lines = [
        BEGIN,
        "## On sentences of others",
        "",
        (
            "Written by `python benchmarks/quality_personal_data_elsewhere.py FOLDER --write`. "
            f"{len(texts):,} English texts made of the sentences and the people of Microsoft's presidio-evaluator 0.3.2, by which nothing here was corrected: "
            "complaints to banks, small talk, film critics; many hold a given name or a surname alone, which rules do not find and the small model seldom does. One choice was made by them: a single word that a model calls a person counts, whether or not it is in a list."
        ),
        "",
        "| kind | values | recall here | Presidio | precision here | Presidio |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, entities in (
        ("checkable form", CHECKABLE),
        ("PERSON", ("PERSON",)),
        ("ADDRESS", ("ADDRESS",)),
        ("DATE_OF_BIRTH", ("DATE_OF_BIRTH",)),
    ):
        cells = [
            *(share(*scores.recall(entities, ("en",))) for scores in (here, plain)),
            *(share(*scores.precision(entities, ("en",))) for scores in (here, plain)),
        ]
        lines.append(f"| {name} | {here.recall(entities, ('en',))[1]:,} | {' | '.join(cells)} |")
    return "\n".join([*lines, END])


def main() -> None:
    """Print or write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="where presidio-evaluator is")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if arguments.folder is None:
        print("name the folder that holds presidio-evaluator: see the first lines of this file")
        return
    made = section(arguments.folder)
    if arguments.write:
        text = OUTPUT.read_text(encoding="utf-8")
        if BEGIN in text:
            text = text[: text.index(BEGIN)] + made + text[text.index(END) + len(END) :]
        else:
            text += f"\n{made}\n"
        OUTPUT.write_text(text, encoding="utf-8")
    else:
        print(made)


if __name__ == "__main__":
    main()
