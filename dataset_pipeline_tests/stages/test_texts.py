"""What happens to one text: rules of normalisation, language and redaction."""

import html
from collections.abc import Sequence
from typing import get_args

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.config import Clean, CleanTexts, Pii, TextRule
from dataset_pipeline.stages.texts import RULES, TOO_LONG, analyse_texts, normalise
from dataset_pipeline.tables import TEXTS

NFC = CleanTexts()
NFKC = CleanTexts(unicode_form="NFKC")


class FakeIdentifier:
    """A text's language is its first word, sure in proportion to its length."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def identify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        self.asked += texts
        return [(text.split()[0], min(len(text) / 10, 1.0)) for text in texts]


class FakeFinder:
    """Finds the word "secret", and tells which languages it was told."""

    def __init__(self) -> None:
        self.languages: list[str] = []

    def find(self, texts: Sequence[str], languages: Sequence[str]) -> list[list[tuple[str, int, int, float]]]:
        self.languages += languages
        starts = [text.find("secret") for text in texts]
        return [[("PHONE_NUMBER", at, at + 6, 0.9)] if at >= 0 else [] for at in starts]


def analyse(
    texts: Sequence[str],
    declared: Sequence[str | None] | None = None,
    clean: Clean | None = None,
    pii: Pii | None = None,
) -> pl.DataFrame:
    frame = pl.DataFrame(
        {"text": texts, "declared_language": declared or [None] * len(texts)},
        schema={"text": pl.String, "declared_language": pl.String},
    )
    return analyse_texts(frame, clean or Clean(), pii or Pii(), FakeIdentifier(), FakeFinder())


# -- single rules --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected", "rules"),
    [
        ("cafÃ© crÃ¨me", "café crème", ["mojibake"]),
        ("naÃƒÂ¯ve", "naïve", ["mojibake"]),  # encoded wrongly twice
        ("Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "привет", ["mojibake"]),
        ("wait\x85", "wait…", ["mojibake"]),  # Windows-1252 read as Latin-1
        ("café", "café", []),  # right text with the characters that mojibake is made of stays
        ("voilà © 2020 – “quoted”…", "voilà © 2020 – “quoted”…", []),  # quotes are the author's
        ("ﬁne ½ ①", "ﬁne ½ ①", []),  # ligatures and compatibility forms are too
        ("broken \ud83d\ude00 pair", "broken 😀 pair", ["mojibake"]),
        ("lone \ud800", "lone \ufffd", ["mojibake"]),
        # HTML
        ("<p>Red <b>shirt</b></p>", "Red shirt", ["html", "whitespace"]),
        ("a<br/>b<BR >c", "a\nb\nc", ["html"]),
        ("x<!-- note -->y<script>let a = '<b>';</script>z<style>b{}</style>", "xyz", ["html"]),
        ("never <!-- closed", "never <!-- closed", []),
        ("Salt &amp; pepper &eacute;&#233;&#xE9;", "Salt & pepper ééé", ["html"]),
        ("&amp;amp;amp;lt;b&gt;bold", "bold", ["html"]),  # what was escaped several times
        ("5 < 6 and 7 > 3, I <3 you", "5 < 6 and 7 > 3, I <3 you", []),
        ("R&D, AT&T; fish&chips ?a=1&copy=2", "R&D, AT&T; fish&chips ?a=1&copy=2", []),
        ("&nosuchname; stays", "&nosuchname; stays", []),
        ("<PERSON> at <EMAIL_ADDRESS>", "<PERSON> at <EMAIL_ADDRESS>", []),  # placeholders are no tags
        ("<scr\u200bipt>x</script>", "x", ["html", "control_characters"]),  # a tag split by an invisible one
        ("\uff1cb\uff1ebold", "\uff1cb\uff1ebold", []),  # full-width brackets are no markup in NFC
        # control, zero-width and bidirectional characters
        ("a\x00b\x07c\x7f", "abc", ["control_characters"]),
        ("ta\u00adble\u200b\u2060\ufeff", "table", ["control_characters"]),
        ("invoice\u202efdp.exe", "invoicefdp.exe", ["control_characters"]),
        ("\u2066shirt\u2069\u200e\u200f\u061c", "shirt", ["control_characters"]),
        ("hi\U000e0068\U000e0069\U000e007f", "hi", ["control_characters"]),  # a message in tag characters
        ("a\ufe01\ufe02b", "ab", ["control_characters"]),  # and in variation selectors
        ("\u6f22\U000e0100\U000e0101\U000e0102", "\u6f22\U000e0100", ["control_characters"]),
        ("❤\ufe0f\ufe00\ufe0f\ufe01", "❤\ufe0f", ["control_characters"]),
        ("\u3164\uffa0", "", ["control_characters"]),  # Hangul fillers, which look like a name that is not there
        ("\ufffe\uffff\ufdd0x", "x", ["control_characters"]),  # noncharacters
        # Unicode form
        ("cafe\u0301", "caf\u00e9", ["unicode_form"]),
        ("\u1112\u1161\u11ab", "\ud55c", ["unicode_form"]),
        # white space
        ("  a \t b\u00a0c\u3000d  ", "a b c d", ["whitespace"]),
        ("a \r\n\r\n  b\u2028c\vd", "a\nb\nc\nd", ["whitespace"]),
        (" \n\t ", "", ["whitespace"]),
        ("", "", []),
    ],
)  # fmt: skip
def test_one_rule(text: str, expected: str, rules: list[str]) -> None:
    assert normalise(text, NFC) == (expected, rules)


@pytest.mark.parametrize(
    "text",
    [
        "👩\u200d👩\u200d👧\u200d👦",  # a family: four emoji and three joiners
        "🏳\ufe0f\u200d🌈",
        "👩🏽\u200d🦰",  # a skin tone before the joiner
        "❤\ufe0f",
        "☎\ufe0e",  # text presentation
        "1\ufe0f\u20e3 #\ufe0f\u20e3",  # keycaps
        "🇩🇪🇯🇵",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # England, in tag characters
        "می\u200cخواهم",  # Persian: without the non-joiner it is misspelled
        "क्\u200dष और क्\u200cष",  # Hindi: half and full forms
        "ක්\u200dරි",  # Sinhala
        "葛\U000e0100城",  # an ideographic variation sequence
        "한국어 日本語 ไทย עברית",
    ],
)
def test_what_a_script_or_an_emoji_needs_stays(text: str) -> None:
    assert normalise(text, NFC) == (text, [])


def test_joiners_that_join_nothing_go() -> None:
    assert normalise("a\u200db \u200d👩\u200d. 👩\u200d\u200d👧 می\u200c", NFC)[0] == "ab 👩. 👩👧 می"


def test_compatibility_forms_become_plain_in_nfkc() -> None:
    assert normalise("ﬁne ＡＢＣ ½", NFKC) == ("fine ABC 1⁄2", ["unicode_form"])
    # What unfolds into markup is markup.
    assert normalise("\uff1cb\uff1ebold", NFKC) == ("bold", ["html", "unicode_form"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s" + "o" * 30 + " nice" + "!" * 12, "sooo nice!!!"),
        ("-" * 11, "---"),
        ("!" * 10, "!" * 10),  # as long as is allowed
        ("ー" * 50, "ーーー"),
        ("a" * 5000, "aaa"),
        # Numbers and codes are as long as they are.
        ("1" + "0" * 20 + " 000000000000", "1" + "0" * 20 + " 000000000000"),
        ("ha" * 20, "ha" * 20),
    ],
)
def test_a_long_run_of_one_character_is_cut(text: str, expected: str) -> None:
    assert normalise(text, NFC) == (expected, [] if text == expected else ["repeated_characters"])


def test_how_long_a_run_may_be_is_a_setting() -> None:
    assert normalise("aaaa aaaaa", CleanTexts(max_repeats=4)) == ("aaaa aaa", ["repeated_characters"])


DIRTY = {
    "mojibake": "cafÃ©",
    "html": "<b>hat</b>",
    "control_characters": "a\u200bb",
    "unicode_form": "e\u0301",
    "whitespace": "a  b",
    "repeated_characters": "a" * 20,
}


@pytest.mark.parametrize("rule", DIRTY)
def test_each_rule_can_be_switched_off_alone(rule: str) -> None:
    rules = tuple(name for name in get_args(TextRule) if name != rule)
    assert normalise(DIRTY[rule], NFC)[1] == [rule]
    assert normalise(DIRTY[rule], CleanTexts(rules=rules)) == (DIRTY[rule], [])
    for other in DIRTY.keys() - {rule}:
        assert normalise(DIRTY[other], CleanTexts(rules=rules))[1] == [other]


def test_rules_are_named_in_their_order() -> None:
    assert normalise("  <b>cafe\u0301</b>\u200b &amp; crÃ¨me", NFC) == (
        "café & crème",
        ["mojibake", "html", "control_characters", "unicode_form", "whitespace"],
    )
    assert list(RULES)[:5] == ["mojibake", "html", "control_characters", "unicode_form", "whitespace"]


def nested(character: str, depth: int) -> str:
    """A reference whose last digit is a reference whose last digit is a reference ..."""
    if depth == 0:
        return character
    code = str(ord(character))
    return f"&#{code[:-1]}{nested(code[-1], depth - 1)};"


@pytest.mark.parametrize(
    "text",
    [
        "&" + "amp;" * 5_000 + "lt;b>",
        "&#38;" * 5_000,
        "&amp" * 5_000,
        nested("<", 4) + "b>",
        nested("<", 30) + "b>",
        # Mojibake that shows itself in the very round after which references are given up.
        *(nested("Ã", depth) + nested("©", depth) + nested("<", 30) for depth in (6, 7, 8, 9)),
        "<" * 20_000,
        "<b" * 20_000,
        "<!--" * 20_000,
        "<script>" * 20_000,
        "a\u0301" + "\u0316\u0301" * 20_000,  # sorting a long row of marks is quadratic
        "\u200d👩" * 10_000,
        "\u6f22" + "\U000e0100" * 20_000,
        "Ã" * 20_000,
        " \n" * 20_000,
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_built_to_be_slow_or_to_survive(text: str) -> None:
    for form in (NFC, NFKC):
        once, _ = normalise(text, form)
        assert normalise(once, form) == (once, [])
        assert len(once) <= len(text)


def test_references_nested_deeper_than_the_rounds_end_as_plain_text() -> None:
    assert normalise(nested("<", 4) + "b>bold", NFC) == ("bold", ["html"])
    once, changes = normalise(nested("<", 30) + "b>Ã©", NFC)
    assert not set("&<>") & set(once)
    assert "html" in changes


# -- laws ----------------------------------------------------------------------------------------

ANY_UNICODE = st.text(st.characters())  # with surrogates, controls and unassigned characters
# Dense in what the rules act on: hypothesis would rarely put an entity beside a joiner.
PIECES = st.lists(
    st.sampled_from(
        [
            *"&<>;#xab1 \n\t",
            "&amp;", "&lt;", "&gt;", "&#38;", "&#x200d;", "&#8203;", "&eacute;", "&#769;", "<b>", "</b>", "<br>",
            "<!--", "-->", "<script>", "</script>", "Ã©", "Ã", "©", "â€™", "Ã\u0083", "é", "e", "\u0301", "\u0316",
            "\u200b", "\u200c", "\u200d", "\ufe0f", "\ufe00", "\U000e0100", "\U000e0067", "\U000e007f", "👩", "🏴",
            "ش", "क", "\u094d", "漢", "\u3000", "\x00", "\x85", "\ud83d", "\ude00", "ﬁ", "＜", "＆", "\u1112", "\u1161",
        ]
    ),
    max_size=40,
).map("".join)  # fmt: skip


@settings(deadline=None)
@given(
    text=ANY_UNICODE | PIECES,
    settings=st.sampled_from([NFC, NFKC])
    | st.builds(CleanTexts, rules=st.lists(st.sampled_from(get_args(TextRule)), unique=True).map(tuple)),
)
def test_normalising_twice_changes_nothing(text: str, settings: CleanTexts) -> None:
    once, changes = normalise(text, settings)
    assert normalise(once, settings) == (once, [])
    assert (once != text) == bool(changes)
    once.encode()  # no surrogates are left: it can be stored


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_plain_ascii_without_markup_is_untouched(text: str) -> None:
    text = " ".join(text.replace("&", "+").replace("<", "(").split())
    assert normalise(text, NFC) == (text, [])


@settings(deadline=None)
@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_escaping_is_undone(text: str) -> None:
    assert normalise(html.escape(text), NFC)[0] == normalise(text, NFC)[0]


# -- a shard of texts ------------------------------------------------------------------------------


def test_analysis_in_full() -> None:
    frame = analyse(["xx call secret now", "  <b>declared</b>", "12"], [None, "fr", None])
    assert dict(frame.schema) == dict(TEXTS)
    assert frame.drop("text", "declared_language").to_dicts() == [
        {"cleaned": "xx call <PHONE_NUMBER> now", "changes": ["personal_data"], "language": "xx", "language_confidence": 1.0, "language_doubt": None,
         "findings": [{"entity": "PHONE_NUMBER", "start": 8, "end": 14, "score": pytest.approx(0.9), "excerpt": None}]},
        {"cleaned": "declared", "changes": ["html", "whitespace"], "language": "fr", "language_confidence": None, "language_doubt": None, "findings": []},
        {"cleaned": "12", "changes": [], "language": "und", "language_confidence": pytest.approx(0.2), "language_doubt": None, "findings": []},
    ]  # fmt: skip
    assert frame["text"].to_list() == ["xx call secret now", "  <b>declared</b>", "12"]


def test_a_declared_language_is_looked_for_only_to_be_doubted() -> None:
    text = "de yzyzyzyzyzyz"  # said to be German, and the identifier is sure of it
    frame = pl.DataFrame({"text": [text, "de yy"], "declared_language": ["fr", "fr"]})
    doubts = {}
    for action in ("trust", "report", "replace"):
        identifier, finder = FakeIdentifier(), FakeFinder()
        clean = Clean.model_validate({"language": {"declared": action}})
        result = analyse_texts(frame, clean, Pii(), identifier, finder)
        doubts[action] = identifier.asked, result["language_doubt"].to_list(), finder.languages
        assert result["language_confidence"].null_count() == 2  # of the declared language nobody is unsure
    doubt = {"evidence": "identified", "found": "de", "confidence": 1.0}
    assert doubts == {
        "trust": ([], [None, None], ["fr", "fr"]),
        "report": ([text], [doubt, None], ["fr", "fr"]),  # four letters speak against nothing
        "replace": ([text], [doubt, None], ["de", "fr"]),  # the finder is told what is believed
    }


def test_a_language_is_replaced_by_none_where_only_the_script_is_known() -> None:
    frame = pl.DataFrame({"text": ["Привет"], "declared_language": ["fr"]})
    clean = Clean.model_validate({"language": {"declared": "replace", "detect": "never"}})
    result = analyse_texts(frame, clean, Pii(), FakeIdentifier(), FakeFinder())
    assert result["language"].to_list() == ["und"]
    assert result["language_doubt"].to_list() == [
        {"evidence": "script", "found": "cyrillic", "confidence": 1.0}
    ]


def test_only_missing_languages_are_looked_for() -> None:
    identifier, finder = FakeIdentifier(), FakeFinder()
    frame = pl.DataFrame(
        {"text": ["xx yyyyyyyy", "xx yyyy", " \n", "zz"], "declared_language": [None, "de", None, None]}
    )
    result = analyse_texts(frame, Clean(), Pii(), identifier, finder)
    assert identifier.asked == ["xx yyyyyyyy", "zz"]  # neither the declared, a short one, nor the empty one
    assert result["language"].to_list() == ["xx", "de", "und", "und"]  # "zz" is too short to be sure
    assert result["language_confidence"].to_list() == [1.0, None, None, pytest.approx(0.2)]
    assert finder.languages == ["xx", "de", "und", "und"]  # the finder is told what is believed


@pytest.mark.parametrize(("threshold", "expected"), [(0.2, "zz"), (0.21, "und"), (0.0, "zz"), (1.0, "und")])
def test_min_confidence_is_the_least_that_is_believed(threshold: float, expected: str) -> None:
    clean = Clean.model_validate({"language": {"min_confidence": threshold}})
    assert analyse(["zz"], clean=clean)["language"].to_list() == [expected]


def test_detect_never_asks_nobody() -> None:
    identifier = FakeIdentifier()
    frame = pl.DataFrame({"text": ["xx yyyyyyyy", "b"], "declared_language": [None, "de"]})
    clean = Clean.model_validate({"language": {"detect": "never"}})
    result = analyse_texts(frame, clean, Pii(), identifier, FakeFinder())
    assert identifier.asked == []
    assert result["language"].to_list() == ["und", "de"]
    assert result["language_confidence"].null_count() == 2


def test_a_text_that_is_too_long_is_emptied_and_searched_for_nothing() -> None:
    clean = Clean.model_validate({"texts": {"max_chars": 10}})
    texts = ["secret" + "x" * 5, "x" * 10, "<b>" + " " * 80 + "short</b>", "<b>" * 40 + "x" * 10]
    result = analyse(texts, clean=clean)
    assert result["cleaned"].to_list() == ["", "x" * 10, "short", ""]
    # Markup does not count, but a raw text over ten times the limit is not even parsed.
    assert result["changes"].to_list() == [[TOO_LONG], [], ["html", "whitespace"], [TOO_LONG]]
    assert result["findings"].list.len().to_list() == [0, 0, 0, 0]


def test_pii_disabled_finds_nothing() -> None:
    finder = FakeFinder()
    frame = pl.DataFrame({"text": ["a secret"], "declared_language": ["en"]})
    result = analyse_texts(frame, Clean(), Pii(enabled=False), FakeIdentifier(), finder)
    assert finder.languages == []
    assert result["cleaned"].to_list() == ["a secret"]


def test_reported_data_stays_in_the_text() -> None:
    result = analyse(["a secret"], pii=Pii(actions={"PHONE_NUMBER": "report"}))
    assert result["cleaned"].to_list() == ["a secret"]
    assert result["changes"].to_list() == [[]]
    assert result["findings"].list.len().to_list() == [1]


def test_no_texts() -> None:
    result = analyse([])
    assert dict(result.schema) == dict(TEXTS)
    assert result.height == 0
