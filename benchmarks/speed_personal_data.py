"""Texts a second of the search for personal data, Presidio's BatchAnalyzerEngine with the same model beside it.

    python benchmarks/speed_personal_data.py [--write]

Prints a markdown section; ``--write`` puts it into docs/quality/personal_data.md in place of the one that is there. Both
search the same texts in the same run, in CPU seconds of one core: the English and the German texts of the report half of
``quality_personal_data.py`` (customers' messages and product texts), and names of emoji. The model is the same; German has none.
The parts are switched on one by one, with the recall of each beside it: nothing may be won by finding less.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

from quality_personal_data import MODEL, OUTPUT, Scores, Text, emoji_names, pii, presidio_engine, texts_of

from dataset_pipeline.adapters.engine import LocalEngine
from dataset_pipeline.adapters.presidio import PresidioFinder, finder
from dataset_pipeline.config import Pii
from dataset_pipeline.stages.pii import Finding, resolve

BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
EMOJI = 3_000  # names a language
ROUNDS = 4
BATCH = 512
CORES = 2


def cpu_seconds(search: Callable[[], Any]) -> tuple[float, Any]:
    """What one core needs, and what is found."""
    started = time.process_time()
    found = search()
    return time.process_time() - started, found


def by_presidio(texts: Sequence[Text]) -> list[list[Finding]]:
    """BatchAnalyzerEngine, language by language, as it comes."""
    from presidio_analyzer import BatchAnalyzerEngine

    found: dict[int, list[Finding]] = {}
    batch = BatchAnalyzerEngine(ENGINE)
    for language in sorted({t.language for t in texts}):
        rows = [row for row, t in enumerate(texts) if t.language == language]
        results = batch.analyze_iterator(
            [texts[row].text for row in rows], language, score_threshold=Pii().min_score
        )
        for row, one in zip(rows, results, strict=True):
            found[row] = [Finding(r.entity_type, r.start, r.end, r.score) for r in one]
    return [found[row] for row in range(len(texts))]


def by_us(texts: Sequence[Text], searching: PresidioFinder, settings: Pii) -> list[list[Finding]]:
    """In batches, as the pipeline searches."""
    found = []
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        results = searching.find([t.text for t in part], [t.language for t in part])
        found += [resolve(t.text, one, settings) for t, one in zip(part, results, strict=True)]
    return found


def search_batch(texts: Sequence[Text]) -> int:
    """What a worker process does with a batch."""
    return sum(map(len, by_us(texts, finder(pii()), pii())))


def wall_rate(texts: Sequence[Text]) -> float:
    """Texts a second of two processes, started before."""
    engine = LocalEngine(CORES)
    try:
        list(engine.map(search_batch, [texts[:BATCH]] * (2 * CORES)))
        batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
        started = time.perf_counter()
        list(engine.map(search_batch, batches))
        return len(texts) / (time.perf_counter() - started)
    finally:
        engine.close()


ENGINE: Any = None


def lines() -> list[str]:
    """The section."""
    global ENGINE  # noqa: PLW0603 - one engine for all rows
    ENGINE = presidio_engine(("de", "en"))
    report = texts_of("report")
    sets: dict[str, list[Text]] = {
        "English": [t for t in report if t.language == "en"],
        "German": [t for t in report if t.language == "de"],
        "emoji names, English": [t for t in emoji_names() if t.language == "en"][:EMOJI],
    }
    selective, full = PresidioFinder(pii()), PresidioFinder(pii(), is_selective=False)
    patterns = PresidioFinder(Pii())
    made = [
        BEGIN,
        "## Speed",
        "",
        f"Written by `python benchmarks/speed_personal_data.py --write`: CPU seconds of one core, all in one run, in turns, the best of {ROUNDS} rounds. The model is {MODEL}.",
        "",
    ]
    made += [
        "| texts | search | texts a second | times Presidio | recall of values with a checkable form | recall of names and addresses |",
        "|---|---|---:|---:|---:|---:|",
    ]
    rates = {}
    for name, texts in sets.items():
        ways: dict[str, Callable[[], list[list[Finding]]]] = {
            "Presidio BatchAnalyzerEngine": lambda t=texts: by_presidio(t),
            "dataset_pipeline, the model reads every text": lambda t=texts: by_us(t, full, pii()),
            "dataset_pipeline": lambda t=texts: by_us(t, selective, pii()),
            "dataset_pipeline, no model": lambda t=texts: by_us(t, patterns, Pii()),
        }
        base = 0.0
        for search in ways.values():
            search()  # lists are loaded, expressions compiled
        # In turns, the best round of each: another load on the machine hits all of them.
        rounds = [{way: cpu_seconds(search) for way, search in ways.items()} for _ in range(ROUNDS)]
        for way in ways:
            seconds, found = min((one[way] for one in rounds), key=lambda result: result[0])
            rate = len(texts) / seconds
            rates[name, way] = rate
            base = base or rate
            scores, languages = Scores(texts, found), (texts[0].language,)
            recalls = []
            for entities in (CHECKED, ("PERSON", "ADDRESS")):
                hits, whole = scores.recall(entities, languages)
                recalls.append(f"{hits / whole:.3f}" if whole else "")
            made.append(
                f"| {name} ({len(texts):,}) | {way} | {rate:,.0f} | {rate / base:.1f} | {' | '.join(recalls)} |"
            )
    slowest = min(rates[name, "dataset_pipeline"] for name in sets)
    both = wall_rate([*sets["English"], *sets["English"], *sets["English"]])
    made += [
        "",
        f"A million short texts: at the slowest of these rates, {slowest:,.0f} a second and core, {1e6 / slowest / CORES / 60:.0f} minutes on {CORES} cores; at the "
        f"{both:,.0f} a second that {CORES} worker processes reached on this machine, {1e6 / both / 60:.0f} minutes. The pipeline searches each distinct text once "
        "and keeps what it found: a text that occurs ten times, or was there in the last build, costs nothing again. That is not in these numbers.",
        END,
    ]
    return made


CHECKED = (
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "CREDIT_CARD",
    "IBAN_CODE",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "CRYPTO",
    "US_SSN",
    "UK_NINO",
    "NATIONAL_ID",
)


def main() -> None:
    """Print or write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    section = "\n".join(lines())
    if parser.parse_args().write:
        text = OUTPUT.read_text(encoding="utf-8")
        if BEGIN in text:
            text = text[: text.index(BEGIN)] + section + text[text.index(END) + len(END) :]
        else:
            text += f"\n{section}\n"
        OUTPUT.write_text(text, encoding="utf-8")
    else:
        print(section)


if __name__ == "__main__":
    main()
