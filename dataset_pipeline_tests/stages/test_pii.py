"""Which findings count, what happens to them, and the report."""

import itertools
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.config import DatasetConfig, Pii
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages import pii
from dataset_pipeline.stages.pii import FINDINGS, Finding, excerpts, pii_report, placeholder, redact, resolve
from dataset_pipeline.tables import ITEMS

PII = Pii(
    actions={"IBAN_CODE": "drop", "LOCATION": "report", "PERSON": "report"}
)  # e-mail, phone: redact; URL: report
TEXT = "0123456789abcdefghij"

Found = tuple[str, int, int, float]


def resolved(*found: Found, settings: Pii = PII) -> list[tuple[str, int, int]]:
    return [(f.entity, f.start, f.end) for f in resolve(TEXT, found, settings)]


# -- resolving ---------------------------------------------------------------------------------


def test_findings_come_in_order_and_once() -> None:
    assert resolved(("URL", 9, 12, 0.6), ("EMAIL_ADDRESS", 0, 4, 0.9), ("EMAIL_ADDRESS", 0, 4, 0.9)) == [
        ("EMAIL_ADDRESS", 0, 4),
        ("URL", 9, 12),
    ]


@pytest.mark.parametrize(
    ("score", "expected"), [(0.39, []), (0.4, [("EMAIL_ADDRESS", 0, 4)])]
)  # at the threshold it counts
def test_min_score(score: float, expected: list[tuple[str, int, int]]) -> None:
    assert resolved(("EMAIL_ADDRESS", 0, 4, score)) == expected


def test_what_was_not_asked_for_or_is_allowed_or_lies_outside_does_not_count() -> None:
    settings = Pii(entities=("EMAIL_ADDRESS",), allow=("0123",))
    found: list[Found] = [
        ("PHONE_NUMBER", 5, 8, 1.0),  # not asked for
        ("EMAIL_ADDRESS", 0, 4, 1.0),  # allowed, exactly
        ("EMAIL_ADDRESS", 0, 5, 1.0),  # longer than what is allowed
        ("EMAIL_ADDRESS", 18, 21, 1.0),  # past the end
        ("EMAIL_ADDRESS", 7, 7, 1.0),  # empty
        ("EMAIL_ADDRESS", -2, 3, 1.0),
    ]
    assert resolved(*found, settings=settings) == [("EMAIL_ADDRESS", 0, 5)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # No part of an overlapped value stays; the better score names it.
        ([("EMAIL_ADDRESS", 0, 6, 0.9), ("PHONE_NUMBER", 4, 9, 0.5)], [("EMAIL_ADDRESS", 0, 9)]),
        # A chain: the first and the last do not touch, but both touch the middle.
        ([("PHONE_NUMBER", 0, 4, 0.5), ("CRYPTO", 3, 8, 0.6), ("PHONE_NUMBER", 7, 9, 0.7)], [("PHONE_NUMBER", 0, 9)]),
        # The strictest action names it, whatever the scores: the item must be dropped.
        ([("IBAN_CODE", 2, 5, 0.5), ("PHONE_NUMBER", 0, 9, 1.0)], [("IBAN_CODE", 0, 9)]),
        # Same score: the longer one.
        ([("PHONE_NUMBER", 0, 3, 0.5), ("CREDIT_CARD", 0, 9, 0.5)], [("CREDIT_CARD", 0, 9)]),
        # Neighbours do not overlap.
        ([("PHONE_NUMBER", 0, 4, 0.5), ("EMAIL_ADDRESS", 4, 9, 0.5)], [("PHONE_NUMBER", 0, 4), ("EMAIL_ADDRESS", 4, 9)]),
        # What is only reported gives way to what changes the text ...
        ([("URL", 0, 9, 1.0), ("EMAIL_ADDRESS", 3, 5, 0.4)], [("EMAIL_ADDRESS", 3, 5)]),
        # ... and to a better one that is only reported; then to a longer one.
        ([("PERSON", 0, 5, 0.6), ("LOCATION", 3, 9, 0.8)], [("LOCATION", 3, 9)]),
        ([("PERSON", 0, 5, 0.8), ("LOCATION", 0, 9, 0.8)], [("LOCATION", 0, 9)]),
    ],
)  # fmt: skip
def test_overlaps(found: list[Found], expected: list[tuple[str, int, int]]) -> None:
    assert resolved(*found) == expected
    assert resolved(*reversed(found)) == expected


ENTITIES = ("EMAIL_ADDRESS", "PHONE_NUMBER", "IBAN_CODE", "URL", "PERSON", "LOCATION")
FOUND = st.lists(
    st.tuples(
        st.sampled_from(ENTITIES),
        st.integers(-1, len(TEXT)),
        st.integers(0, len(TEXT) + 1),
        st.sampled_from([0.0, 0.4, 0.5, 0.85, 1.0]),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(found=FOUND, data=st.data())
def test_resolved_findings_are_disjoint_cover_all_and_do_not_depend_on_order(
    found: list[Found], data: st.DataObject
) -> None:
    result = resolve(TEXT, found, PII)
    assert result == resolve(TEXT, data.draw(st.permutations(found)), PII)
    assert all(a.end <= b.start for a, b in itertools.pairwise(result))
    counted = [f for f in found if f[3] >= 0.4 and 0 <= f[1] < f[2] <= len(TEXT)]
    redacted = {place for f in result if PII.action(f.entity) != "report" for place in range(f.start, f.end)}
    # The slow and obvious law: each character of a finding that changes the text is replaced, and no other.
    assert redacted == {place for f in counted if PII.action(f[0]) != "report" for place in range(f[1], f[2])}
    # An item with a finding to drop for has one after resolving, too.
    assert any(f[0] == "IBAN_CODE" for f in counted) == any(f.entity == "IBAN_CODE" for f in result)
    # What is reported is left out only beside something that overlaps it.
    for entity, start, end, _ in counted:
        assert any(f.start < end and start < f.end for f in result), entity


# -- redacting -----------------------------------------------------------------------------------


def test_redact_report_and_drop() -> None:
    text = "mail ada@x.org, IBAN DE89, Ada, see http://x"
    findings = [
        Finding("EMAIL_ADDRESS", 5, 14, 1.0),
        Finding("IBAN_CODE", 21, 25, 1.0),
        Finding("PERSON", 27, 30, 0.85),
        Finding("URL", 36, 44, 0.6),
    ]
    assert redact(text, findings, PII) == "mail <EMAIL_ADDRESS>, IBAN <IBAN_CODE>, Ada, see http://x"
    assert redact(text, [], PII) == text
    strict = Pii(actions={"PERSON": "redact", "URL": "redact", "EMAIL_ADDRESS": "report"})
    assert redact(text, findings, strict) == "mail ada@x.org, IBAN <IBAN_CODE>, <PERSON>, see <URL>"


def test_redact_at_the_ends_and_side_by_side() -> None:
    findings = [Finding("PHONE_NUMBER", 0, 2, 1.0), Finding("EMAIL_ADDRESS", 2, 4, 1.0)]
    assert redact("1234", findings, PII) == "<PHONE_NUMBER><EMAIL_ADDRESS>"


def test_placeholders_name_the_entity() -> None:
    assert placeholder("IBAN_CODE") == "<IBAN_CODE>"


# -- the report ------------------------------------------------------------------------------------


def config(**pii: object) -> DatasetConfig:
    return DatasetConfig.model_validate(
        {
            "name": "d", "version": "1.0.0", "licence": "CC0-1.0", "pii": pii,
            "sources": [{"id": "s", "path": "a.csv", "licence": "CC0-1.0", "columns": {"texts": {"title": "t", "note": "n"}}}],
        }
    )  # fmt: skip


def items(rows: list[tuple[str, str | None, str | None, str | None]]) -> pl.LazyFrame:
    schema = {**ITEMS, "title": pl.String(), "note": pl.String()}
    columns = [{"item_id": i, "language": la, "title": t, "note": n} for i, la, t, n in rows]
    return pl.LazyFrame(columns, schema=schema)


def findings(rows: list[tuple[str, str, str, float, str]]) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema=FINDINGS, orient="row")


def test_report_counts() -> None:
    left = items(
        [
            ("1", "en", "call <PHONE_NUMBER> or <PHONE_NUMBER>", "by <EMAIL_ADDRESS>"),
            ("2", "de", "Haus", None),
            ("3", None, None, None),
            ("4", "de", "Ada und <EMAIL_ADDRESS>", None),
        ]
    )
    found = findings(
        [
            ("1", "title", "PHONE_NUMBER", 0.8, "redact"),
            ("1", "title", "PHONE_NUMBER", 0.5, "redact"),
            ("1", "note", "EMAIL_ADDRESS", 1.0, "redact"),
            ("4", "title", "EMAIL_ADDRESS", 1.0, "redact"),
            ("4", "title", "PERSON", 0.85, "report"),
            ("9", "title", "IBAN_CODE", 1.0, "drop"),  # an item that was removed for it
        ]
    )
    report = pii_report(found, left, config(actions={"IBAN_CODE": "drop"}, ner_models={"de": "some_model"}))
    assert report["is_enabled"] is True
    assert report["entities"]["IBAN_CODE"] == "drop"
    assert report["entities"]["PERSON"] == "report"
    assert report["models"] == {"de": "some_model"}
    assert (report["findings"], report["items_with_findings"], report["items_removed"]) == (6, 3, 1)
    assert report["items_searched"] == 4  # those left with a text, and the removed one
    of_one, of_two = (
        {"share": 0.25, "interval": [0.045587, 0.699358]},
        {"share": 0.5, "interval": [0.150039, 0.849961]},
    )
    assert report["by_entity"] == [
        {"entity": "EMAIL_ADDRESS", "findings": 2, "items": 2, **of_two},
        {"entity": "IBAN_CODE", "findings": 1, "items": 1, **of_one},
        {"entity": "PERSON", "findings": 1, "items": 1, **of_one},
        {"entity": "PHONE_NUMBER", "findings": 2, "items": 1, **of_one},
    ]
    assert report["by_action"] == [
        {"action": "drop", "findings": 1, "items": 1},
        {"action": "redact", "findings": 4, "items": 2},
        {"action": "report", "findings": 1, "items": 1},
    ]
    assert report["by_column"] == [
        {
            "column": "title",
            "texts": 3,
            "texts_with_findings": 2,
            "share": 0.666667,
            "interval": [0.20766, 0.938508],
        },
        {"column": "note", "texts": 1, "texts_with_findings": 1, "share": 1.0, "interval": [0.206549, 1.0]},
    ]
    assert report["by_language"] == [
        {"language": "de", "findings": 2, "items": 1},
        {"language": "en", "findings": 3, "items": 1},
        {"language": "removed", "findings": 1, "items": 1},
    ]
    assert sum(row["findings"] for row in report["by_entity_language_column"]) == 6
    assert report["by_entity_language_column"][0] == {
        "entity": "EMAIL_ADDRESS", "language": "de", "column": "title", "action": "redact", "findings": 1, "items": 1,
    }  # fmt: skip
    json.dumps(report)


def test_examples_show_surroundings_and_never_a_value() -> None:
    left = items(
        [
            ("1", "en", "please call <PHONE_NUMBER> in the evening, but never before half past seven", "x"),
            ("2", "en", "Ada Lovelace, <PHONE_NUMBER>", None),  # a name that is only reported is in it
            ("3", "en", "please call <PHONE_NUMBER> in the evening, but never before half past eight", None),
            *((f"4{n}", "en", f"number {n}: <PHONE_NUMBER>", None) for n in range(5)),
        ]
    )
    found = findings(
        [
            ("1", "title", "PHONE_NUMBER", 0.8, "redact"),
            ("2", "title", "PERSON", 0.8, "report"),
            ("2", "title", "PHONE_NUMBER", 0.8, "redact"),
            ("3", "title", "PHONE_NUMBER", 0.8, "redact"),
            *((f"4{n}", "title", "PHONE_NUMBER", 0.8, "redact") for n in range(5)),
        ]
    )
    examples = pii_report(found, left, config())["examples"]
    # Three at most, and those that look the same once.
    assert examples == {
        "PHONE_NUMBER": [
            "please call <PHONE_NUMBER> in the evening, but nev…",
            "number 0: <PHONE_NUMBER>",
            "number 1: <PHONE_NUMBER>",
        ]
    }


def test_report_of_nothing() -> None:
    report = pii_report(findings([]), items([("1", "en", None, None)]), config(enabled=False))
    assert report["is_enabled"] is False
    assert (report["findings"], report["items_with_findings"], report["items_removed"]) == (0, 0, 0)
    assert [row["share"] for row in report["by_column"]] == [0.0, 0.0]
    assert report["examples"] == {}


# -- settings of single entities ---------------------------------------------------------------------


def test_thresholds_of_single_entities() -> None:
    settings = Pii(min_scores={"EMAIL_ADDRESS": 0.8, "URL": 0.1})
    given_scores: list[Found] = [
        ("EMAIL_ADDRESS", 0, 4, 0.7),
        ("URL", 5, 7, 0.2),
        ("PHONE_NUMBER", 8, 9, 0.4),
    ]
    assert resolved(*given_scores, settings=settings) == [("URL", 5, 7), ("PHONE_NUMBER", 8, 9)]


def test_allowed_strings_and_patterns() -> None:
    settings = Pii(allow=("Stan  smith",), allow_patterns=("[A-Z]{2}[0-9]{3}", "x"))
    text = "STAN SMITH AB123 AB1234"
    found: list[Found] = [("PERSON", 0, 10, 1.0), ("NATIONAL_ID", 11, 16, 1.0), ("NATIONAL_ID", 17, 23, 1.0)]
    assert [(f.start, f.end) for f in resolve(text, found, settings)] == [
        (17, 23)
    ]  # patterns are of whole values


def test_a_pattern_that_runs_away_ends_the_build_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pii, "_MAX_SECONDS", 0.05)
    settings = Pii(allow_patterns=("[0-9]+", "(?:a|aa)+b"))
    with pytest.raises(
        ConfigError, match=r"'\(\?:a\|aa\)\+b' was not done with a value of 200 characters"
    ) as told:
        resolve("a" * 200, [("PERSON", 0, 200, 1.0)], settings)
    assert "aaaaa" not in str(told.value)  # the value is nobody's business
    assert resolve("a" * 201, [("PERSON", 0, 201, 1.0)], settings) == [Finding("PERSON", 0, 201, 1.0)]


def test_a_surname_confirms_the_whole_name() -> None:
    # A model that is surer of the surname does not cut the name that a rule has found.
    assert resolved(("PERSON", 0, 9, 0.5), ("PERSON", 5, 9, 0.85), ("LOCATION", 0, 4, 0.6)) == [
        ("PERSON", 0, 9)
    ]


def test_review_is_stricter_than_redacting_and_laxer_than_dropping() -> None:
    settings = Pii(actions={"ADDRESS": "review", "CRYPTO": "drop"})
    assert resolved(("ADDRESS", 0, 5, 0.5), ("PHONE_NUMBER", 3, 8, 1.0), settings=settings) == [
        ("ADDRESS", 0, 8)
    ]
    assert resolved(("ADDRESS", 0, 5, 1.0), ("CRYPTO", 3, 8, 0.5), settings=settings) == [("CRYPTO", 0, 8)]


def test_excerpts_show_no_value() -> None:
    settings = Pii(actions={"ADDRESS": "review", "PERSON": "report"})
    text = "Ada Lovelace, 17 Elm Grove, tel 0171 1234567, mail ada@x.org"
    found = [Finding("PERSON", 0, 12, 0.9), Finding("ADDRESS", 14, 26, 0.9), Finding("PHONE_NUMBER", 32, 44, 0.5), Finding("EMAIL_ADDRESS", 51, 60, 1.0)]  # fmt: skip
    name, address, phone, mail = excerpts(text, found, settings)
    assert name is None  # only reported
    assert mail is None  # sure
    assert address is not None
    assert address.startswith("<PERSON>, <ADDRESS>, tel <PHONE_NUMBER>")
    assert phone is not None
    assert "<PHONE_NUMBER>, mail <EMAIL" in phone
    for value in ("Ada", "Elm", "0171", "x.org"):
        assert value not in f"{address} {phone}"


@pytest.mark.parametrize(
    ("pii", "expected"),
    [
        ({"actions": {"URL": "hash"}}, "needs a secret"),
        ({"key": {}}, "expected one of 'environment' and 'file'"),
        ({"key": {"environment": "A", "file": "b"}}, "expected one of"),
        ({"allow_patterns": ["("]}, "is no regular expression"),
        ({"ner_models": {"en": {"engine": "magic", "model": "x"}}}, "'spacy', 'transformers' or 'gliner'"),
        ({"min_scores": {"URL": 1.5}}, "less than or equal to 1"),
    ],
)
def test_settings_that_cannot_be_meant(pii: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)" + expected):
        Pii.model_validate(pii)
