"""The cheap test before long expressions: it never hides what the expression would find."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.adapters import identifiers, online, persons
from dataset_pipeline.adapters.beginnings import beginnings, beginnings_of, search_at


@pytest.mark.parametrize(
    ("expression", "are_whole", "expected"),
    [
        ("best regards|cheers|i am called", False, {"bes", "che", "i"}),
        ("m|mme|sig\\.ra|de heer", True, {"m", "mme", "sig", "de"}),
        ("liebe[rs]?|cart[ãa]o de cidad", False, {"lie", "car"}),
        ("d\\.?o\\.?b\\.?", True, {"d", "do", "dob"}),
        ("nacid[oa](?: el)?|née?(?:\\(e\\))? le", False, {"nac", "né", "née"}),
        ("(?:ab|c)(?:d|ef)|\\bcc\\b|r\\.\\s?č", True, {"abd", "abe", "cd", "cef", "cc", "r"}),
        ("gr(?:ü(?:ß|ss)|o)e", False, {"grü", "gro"}),
        ("주민|\u0130d\\b", False, {"주민", "주민\1", "id"}),
    ],
)
def test_how_matches_begin(expression: str, are_whole: bool, expected: set[str]) -> None:
    assert beginnings_of(expression, are_whole=are_whole) == expected


@pytest.mark.parametrize(
    "expression", ["ab", "a", r"\w+", "[a-z]bc", "[^x]yz", "a*bc", "a{2}b", "(abc)", "(?:abc", "", "a|"]
)
def test_what_is_not_understood_is_no_silent_miss(expression: str) -> None:
    with pytest.raises(ValueError, match=r"may begin with|is understood|not closed"):
        beginnings_of(expression)


def _all_gated() -> list[tuple[frozenset[str], re.Pattern[str]]]:
    grammar = persons._grammar()
    begins, words, _ = persons._birth()
    return [
        *((begins, pattern) for begins, pattern, _ in grammar.introduced),
        (begins, words),
        *((number.begins, number.words) for number in identifiers._compiled()),
        (online._AT_WORDS, online._SPOKEN_EMAIL),
        *((begins, pattern) for begins, _, pattern in persons._addresses() if begins is not None),
    ]


# Words of all expressions, names and digits to go with them, and letters that case makes others.
_PIECES = [
    *re.findall(
        r"[^\W\d_]{1,12}",
        " ".join((persons._TITLES, persons._BEFORE, persons._GREETING, persons._BIRTH_WORDS)),
    ),
    *(word for number in identifiers._NUMBERS for word in re.findall(r"[^\W\d_]{2,}", number.words)),
    *[
        "Ada",
        "Lovelace",
        "Ιωάννης",
        "Петров",
        "İpek",
        "ſir",
        "KK",
        "mı",
        "rue",
        "avenue",
        "12",
        "bis",
        "Street",
        "Main",
        "at",
        "dot",
        "com",
        "example",
        "geboren",
        "1990",
    ],
]
_TEXTS = st.lists(
    st.builds(
        lambda piece, change, gap: change(piece) + gap,
        st.sampled_from(_PIECES),
        st.sampled_from([str, str.upper, str.title, lambda p: p.replace("s", "ſ").replace("i", "İ")]),
        st.sampled_from([" ", ". ", ", ", "'", "-", "_", "", ": ", "\n", "/"]),
    ),
    max_size=9,
).map("".join)


@given(_TEXTS)
@settings(deadline=None, max_examples=400)
def test_nothing_is_hidden(text: str) -> None:
    for begins, pattern in _all_gated():
        expected = [match.span() for match in pattern.finditer(text)]
        if expected:
            assert not beginnings(text).isdisjoint(begins), (pattern.pattern[:80], expected)


@given(_TEXTS)
@settings(deadline=None, max_examples=200)
def test_matches_are_those_of_a_plain_search(text: str) -> None:
    begins, words, _ = persons._birth()
    for start, pattern in ((begins, words), *((b, p) for b, p, _ in persons._grammar().introduced)):
        assert [m.span() for m in search_at(pattern, start, text)] == [
            m.span() for m in pattern.finditer(text)
        ]
