"""Precision and recall of language identification on texts whose language is known.

    python benchmarks/quality_texts.py [--write]

Prints the markdown of docs/quality/texts.md; ``--write`` writes it there. Takes two minutes. The search for personal
data is measured by ``quality_personal_data.py``.
"""

import argparse
import importlib.util
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from dataset_pipeline.adapters.language import identifier
from dataset_pipeline.config import Language
from dataset_pipeline.stages.language import UNDETERMINED

ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / "datasets/emoji/source/items.csv"
OUTPUT = ROOT / "docs/quality/texts.md"
SEED = 20
LINGUA_SAMPLE = 300  # names per language on which both identifiers are compared
MIN_CONFIDENCES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
LENGTHS = ((1, 4), (5, 9), (10, 14), (15, 19), (20, 29), (30, 49), (50, 10_000))


class Sample(NamedTuple):
    """A text and its language."""

    text: str
    language: str


def emoji_names() -> list[Sample]:
    """Every distinct name and language of the emoji demo's raw data."""
    names = (
        pl.read_csv(MANIFEST, schema_overrides={"name": pl.String})
        .select("name", "lang")
        .drop_nulls()
        .unique()
        .sort("name", "lang")
    )
    return [Sample(name.strip(), language) for name, language in names.rows()]


def share(part: int, whole: int) -> str:
    """Three decimals, or a dash where there is nothing to divide by."""
    return f"{part / whole:.3f}" if whole else "–"


# -- language ----------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """What an identifier says of a name, and what would be right."""

    name: str
    truth: frozenset[str]
    language: str
    confidence: float

    @property
    def is_right(self) -> bool:
        return self.language in self.truth


def truths(samples: Sequence[Sample]) -> dict[str, frozenset[str]]:
    """Languages in which each name is a name: "radio" is right in several."""
    languages: defaultdict[str, set[str]] = defaultdict(set)
    for sample in samples:
        languages[sample.text].add(sample.language)
    return {name: frozenset(those) for name, those in languages.items()}


def decided(answers: Sequence[Answer], threshold: float) -> list[Answer]:
    """Answers that are believed."""
    return [a for a in answers if a.language != UNDETERMINED and a.confidence >= threshold]


def accuracy(answers: Sequence[Answer], threshold: float) -> tuple[str, str]:
    """Share of names that get a language, and the share of right ones among them."""
    believed = decided(answers, threshold)
    return share(len(believed), len(answers)), share(sum(a.is_right for a in believed), len(believed))


def lingua_answers(names: Sequence[str]) -> list[tuple[str, float]] | None:
    """The same from lingua, with all its languages and its large models; None where it is not installed."""
    if importlib.util.find_spec("lingua") is None:
        return None
    import lingua

    detector = lingua.LanguageDetectorBuilder.from_all_languages().build()
    answers = []
    for ranked in detector.compute_language_confidence_values_in_parallel(list(names)):
        best = ranked[0]
        answers.append(
            (best.language.iso_code_639_1.name.lower() if best.value > 0 else UNDETERMINED, best.value)
        )
    return answers


def identified_languages(texts: Sequence[str]) -> list[str]:
    """Languages of texts for which none is declared, as ``stages/texts.py`` believes them."""
    threshold = Language().min_confidence
    said = identifier(Language()).identify(texts)
    return [language if confidence >= threshold else UNDETERMINED for language, confidence in said]


def language_section(names: Sequence[Sample]) -> Iterator[str]:
    """Accuracy by language, by length and by threshold."""
    default = Language().min_confidence
    right = truths(names)
    said = identifier(Language()).identify([s.text for s in names])
    answers = [Answer(s.text, right[s.text], *a) for s, a in zip(names, said, strict=True)]
    languages = sorted({s.language for s in names})
    rng = random.Random(SEED + 2)
    chosen = [
        row
        for language in languages
        for row in sorted(
            rng.sample([i for i, s in enumerate(names) if s.language == language], LINGUA_SAMPLE)
        )
    ]
    other = lingua_answers([names[row].text for row in chosen])
    others = None
    if other is not None:
        others = [Answer(names[r].text, right[names[r].text], *a) for r, a in zip(chosen, other, strict=True)]
    sampled = [answers[row] for row in chosen]

    yield f"At the default `clean.language.min_confidence` of {default}, all {len(names):,} names:"
    yield ""
    yield "| language | names | identified | right among these | right, if every answer is taken |"
    yield "|---|---:|---:|---:|---:|"
    for language in [*languages, "all"]:
        of = [a for a, s in zip(answers, names, strict=True) if language in (s.language, "all")]
        identified, correct = accuracy(of, default)
        yield f"| {language} | {len(of):,} | {identified} | {correct} | {share(sum(a.is_right for a in of), len(of))} |"
    yield ""
    yield "| characters | names | identified | right among these |"
    yield "|---|---:|---:|---:|"
    for low, high in LENGTHS:
        of = [a for a in answers if low <= len(a.name) <= high]
        span = f"{low}–{high}" if high < 10_000 else f"{low} and more"
        yield f"| {span} | {len(of):,} | " + " | ".join(accuracy(of, default)) + " |"
    yield ""
    head = "| min_confidence | identified | right among these |"
    if others is None:
        yield "lingua is not installed where this was written, so it is not compared."
        yield ""
        yield head
        yield "|---:|---:|---:|"
    else:
        yield (
            f"The thresholds, and lingua with all its languages and its large models beside it, on the same "
            f"{len(sampled):,} names ({LINGUA_SAMPLE} a language, by lot):"
        )
        yield ""
        yield head + " lingua: identified | lingua: right among these |"
        yield "|---:|---:|---:|---:|---:|"
    for threshold in MIN_CONFIDENCES:
        cells = [*accuracy(sampled, threshold), *(accuracy(others, threshold) if others else ())]
        yield f"| {threshold}{' (default)' if threshold == default else ''} | " + " | ".join(cells) + " |"
    reached = [
        threshold
        for threshold in MIN_CONFIDENCES
        if (believed := decided(answers, threshold))
        and sum(a.is_right for a in believed) >= 0.95 * len(believed)
    ]
    yield ""
    yield (
        f"The least of these thresholds at which 19 of 20 identified names are right: {min(reached)}. A wrong language is "
        "worse than none: it chooses the wrong countries for phone numbers and the wrong model for names, and it is "
        "published; an item whose language is not known is kept as `und`. Longer texts lose less: see the table by length."
    )


# -- the document ------------------------------------------------------------------------------------


def document() -> Iterator[str]:
    """Lines of docs/quality/texts.md."""
    yield "# Quality of the text stage"
    yield ""
    yield (
        "Written by `python benchmarks/quality_texts.py --write`; every number comes from that run. "
        "The search for personal data has [a page of its own](personal_data.md)."
    )
    yield ""
    yield "## Language"
    yield ""
    yield (
        "Names of emoji, one to ten words long, in the language that the Unicode CLDR gives them; a name that is the same in several "
        "languages is right in each of them."
    )
    yield ""
    yield from language_section(emoji_names())


def main() -> None:
    """Print or write the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {OUTPUT.relative_to(ROOT)}")
    arguments = parser.parse_args()
    if not MANIFEST.exists():
        raise SystemExit(
            f"{MANIFEST.relative_to(ROOT)} is not there; make it with: python datasets/emoji/make_source.py"
        )
    text = "\n".join(document()) + "\n"
    if arguments.write:
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        OUTPUT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
