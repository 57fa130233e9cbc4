"""When a text does not look like the language that it is said to be in."""

import pytest

from dataset_pipeline.stages.language import Doubt, are_close, doubt, letters


@pytest.mark.parametrize(
    ("text", "declared", "script"),
    [
        ("Красная футболка", "en", "cyrillic"),
        ("Rote Hose für Kinder", "ru", None),  # Latin letters speak against no language: it may be a brand
        ("Красная футболка", "ru", None),
        ("Красная футболка", "sr", None),
        ("Красная футболка", "sr-Latn", "cyrillic"),  # a tag that names its script means it
        ("Красная футболка", "uz", None),  # written in both, by CLDR
        ("赤いシャツです", "ja", None),
        ("红色的衬衫", "ja", None),
        ("赤色半袖シャツ", "zh", None),  # more than half of the letters are Han
        ("これはシャツです", "zh", "hiragana"),
        ("빨간 셔츠", "ko", None),
        ("빨간 셔츠", "ja", "hangul"),
        ("قميص أحمر", "fa", None),
        ("קמיץ אדום", "ar", "hebrew"),
        ("5 μm, α-β", "en", None),  # a few letters of another script are symbols
        ("Ελληνικά and more English words", "en", None),  # not more than half
        ("Красная футболка", "und", None),
        ("Красная футболка", "tlh", "cyrillic"),
        ("Красная футболка", "x-own", None),  # nobody knows how it is written
        ("Красная футболка", "English (UK)", None),  # no language tag
    ],
)
def test_a_script_that_the_language_is_not_written_in(text: str, declared: str, script: str | None) -> None:
    found = doubt(text, declared, None, 0.9)
    assert (found and (found.evidence, found.found)) == (script and ("script", script))


@pytest.mark.parametrize(
    ("declared", "answer", "is_doubted"),
    [
        ("en", ("de", 0.9), True),
        ("en", ("de", 0.89), False),
        ("en", ("und", 1.0), False),
        ("en-GB", ("en", 1.0), False),
        ("zh-Hant", ("zh", 1.0), False),
        ("hr", ("sr", 1.0), False),
        ("nb", ("da", 1.0), False),
        ("ms", ("id", 1.0), False),
        ("iw", ("he", 1.0), False),
        ("uk", ("ru", 1.0), True),
        ("es", ("pt", 1.0), True),
        ("English (UK)", ("pt", 1.0), False),
    ],
)
def test_an_identified_language_that_is_not_easily_confused(
    declared: str, answer: tuple[str, float], is_doubted: bool
) -> None:
    found = doubt("some text of twenty", declared, answer, 0.9)
    assert found == (Doubt("identified", *answer) if is_doubted else None)


def test_the_script_is_the_stronger_evidence() -> None:
    found = doubt("Красная футболка", "en", ("ru", 1.0), 0.9)
    assert found == Doubt("script", "cyrillic", 1.0)


def test_closeness_is_symmetric() -> None:
    tags = ["no", "nb", "da", "hr", "sr", "id", "ms", "pt", "es", "en", "zh", "und"]
    assert all(are_close(a, b) == are_close(b, a) for a in tags for b in tags)


def test_letters_are_those_of_any_script() -> None:
    assert letters("a1 β, ж!日") == 4
