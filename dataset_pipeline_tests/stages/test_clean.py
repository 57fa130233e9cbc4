"""One verdict per raw item: every reason by a crafted row, and nothing lost."""

from typing import Any, get_args

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.config import DatasetConfig, ImageCheck
from dataset_pipeline.stages.clean import CHANGES, LANGUAGE_DOUBTS, Cleaned, clean_items, distinct_texts
from dataset_pipeline.stages.faces import REMOVING
from dataset_pipeline.stages.image_checks import COUNTS
from dataset_pipeline.stages.pii import FINDINGS, TO_REVIEW
from dataset_pipeline.tables import (
    DECISIONS,
    IMAGE_WARNINGS,
    IMAGES,
    ITEMS,
    RAW_ITEMS,
    REASONS_OF_STAGES,
    REFERENCES,
    REMOVED,
    TEXTS,
)
from dataset_pipeline_tests.stages.crafted import minimal_config

RAW_SCHEMA = {**RAW_ITEMS, "title": pl.String(), "note": pl.String()}
CYRILLIC = {"evidence": "script", "found": "cyrillic", "confidence": 1.0}
GOOD = {"width_px": 64, "height_px": 48, "contrast": 40.0}


def make_config(**sections: Any) -> DatasetConfig:
    columns = {"image": "file", "label": "kind", "texts": {"title": "t", "note": "n"}}
    return DatasetConfig.model_validate(
        {
            "name": "d",
            "version": "1.0.0",
            "licence": "CC0-1.0",
            "sources": [
                {"id": "s", "path": "a.csv", "licence": "CC0-1.0", "columns": columns},
                {"id": "bare", "path": "b.csv", "licence": "CC0-1.0"},  # neither labels nor texts
            ],
            **sections,
        }
    )


def raw_item(item_id: str, **values: Any) -> dict[str, Any]:
    """A raw item with nothing wrong; its image is named after it."""
    row = {
        "item_id": item_id, "source": "s", "image_ref": f"s/{item_id}", "label": "hat", "label_source": "human",
        "licence": "CC0-1.0", "group_keys": [], "title": "red hat",
    }  # fmt: skip
    return {**dict.fromkeys(RAW_SCHEMA), **row, **values}


def image(item_id: str, **values: Any) -> dict[str, Any]:
    own = {"image_ref": f"s/{item_id}", "sha256": f"sha-{item_id}", "pixel_hash": f"pixels-{item_id}"}
    return {**own, **GOOD, **values}


def analysed(
    raw: pl.LazyFrame, special: dict[str, dict[str, Any]] | None = None, language: str = "und"
) -> pl.LazyFrame:
    """Analyses of all texts: unchanged, but for those that ``special`` describes."""
    rows = []
    for text, declared in distinct_texts(raw, ("title", "note")).collect().rows():
        values = {
            "cleaned": text, "changes": [], "language": declared or language, "language_confidence": None,
            "language_doubt": None, "findings": [],
        }  # fmt: skip
        rows.append({"text": text, "declared_language": declared, **values, **(special or {}).get(text, {})})
    return pl.LazyFrame(rows, schema=TEXTS)


def clean(
    rows: list[dict[str, Any]],
    images: list[dict[str, Any]] | None = None,
    special: dict[str, dict[str, Any]] | None = None,
    takedowns: pl.DataFrame | None = None,
    decisions: pl.DataFrame | None = None,
    language: str = "und",
    **sections: Any,
) -> Cleaned:
    """Items cleaned; where ``images`` is left out, every item's image is good."""
    raw = pl.LazyFrame(rows, schema=RAW_SCHEMA)
    if images is None:
        images = [image(row["item_id"]) for row in rows if row["image_ref"]]
    pictures = pl.LazyFrame([{**dict.fromkeys(IMAGES), **picture} for picture in images], schema=IMAGES)
    texts = analysed(raw, special, language)
    return clean_items(raw, pictures, texts, make_config(**sections), takedowns, decisions)


def verdicts(cleaned: Cleaned) -> dict[str, tuple[str, str, str | None] | None]:
    """item_id -> None where it stays, else (stage, reason, detail)."""
    kept = dict.fromkeys(cleaned.items.collect()["item_id"])
    removed = cleaned.removed.collect().select("item_id", "stage", "reason", "detail").rows()
    return {**kept, **{item_id: (stage, reason, detail) for item_id, stage, reason, detail in removed}}


def finding(entity: str, start: int = 0, score: float = 0.9) -> dict[str, Any]:
    return {"entity": entity, "start": start, "end": start + 3, "score": score, "excerpt": None}


# -- every reason --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason",
    ["image_path_outside_root", "image_not_named", "image_without_row"],
)
def test_problems_of_raw_rows_are_reasons_of_the_raw_stage(reason: str) -> None:
    faulty = raw_item("1", problem=reason, problem_detail="../x", image_ref=None)
    assert verdicts(clean([faulty, raw_item("2")])) == {"1": ("raw", reason, "../x"), "2": None}


def test_an_image_that_is_not_there() -> None:
    cleaned = clean([raw_item("1"), raw_item("2")], images=[image("2")])
    assert verdicts(cleaned) == {"1": ("clean", "image_missing", "s/1"), "2": None}


def test_a_row_without_an_image_is_no_fault_of_cleaning() -> None:
    # A dataset of texts alone: whether a row must name an image was judged while reading.
    assert verdicts(clean([raw_item("1", image_ref=None)], images=[])) == {"1": None}


@pytest.mark.parametrize("reason", ["image_empty", "image_undecodable", "image_truncated", "image_too_large"])
def test_problems_of_the_scan(reason: str) -> None:
    broken = image("1", problem=reason, problem_detail="why", width_px=None, height_px=None, contrast=None)
    assert verdicts(clean([raw_item("1")], images=[broken])) == {"1": ("clean", reason, "why")}


@pytest.mark.parametrize(
    ("measures", "expected"),
    [
        ({"width_px": 32, "height_px": 32}, None),  # exactly the least
        ({"width_px": 31, "height_px": 200}, ("image_too_small", "31 x 200 px")),
        ({"width_px": 200, "height_px": 31}, ("image_too_small", "200 x 31 px")),
        ({"width_px": 320, "height_px": 40}, None),  # exactly 8:1
        ({"width_px": 321, "height_px": 40}, ("image_extreme_aspect", "321 x 40 px")),
        ({"width_px": 40, "height_px": 321}, ("image_extreme_aspect", "40 x 321 px")),
        ({"contrast": 2.0}, None),
        ({"contrast": 1.996}, ("image_blank", "contrast 2.0")),
        ({"contrast": 0.0}, ("image_blank", "contrast 0.0")),
        # Small before narrow before blank.
        ({"width_px": 900, "height_px": 1, "contrast": 0.0}, ("image_too_small", "900 x 1 px")),
        ({"width_px": 900, "height_px": 32, "contrast": 0.0}, ("image_extreme_aspect", "900 x 32 px")),
    ],
)
def test_measures_of_the_picture(measures: dict[str, Any], expected: tuple[str, str] | None) -> None:
    cleaned = clean([raw_item("1")], images=[image("1", **measures)])
    assert verdicts(cleaned) == {"1": expected and ("clean", *expected)}


def test_labels() -> None:
    rows = [
        raw_item("drop", label="Skip"),
        raw_item("unsure", label="Not sure"),
        raw_item("missing", label=None),
        raw_item("case", label="skip"),  # another label: the list is exact
        raw_item("unlabelled", label=None, source="bare"),  # its source has no label column
    ]
    labels = {"drop": ["Skip"], "unsure": ["Not sure"]}
    assert verdicts(clean(rows, labels=labels)) == {
        "drop": ("clean", "label_dropped", "label 'Skip'"),
        "unsure": ("clean", "label_unsure", "label 'Not sure'"),
        "missing": ("clean", "label_missing", None),
        "case": None,
        "unlabelled": None,
    }
    assert verdicts(clean(rows, labels={"required": False})) == dict.fromkeys(
        ["drop", "unsure", "missing", "case", "unlabelled"]
    )


def test_texts() -> None:
    rows = [
        raw_item("none", title=None),
        raw_item("blank", title=" ", note="<b></b>"),
        raw_item("short", title="ab", note="abc"),
        raw_item("enough", title="ab", note="abcd"),
        raw_item("long", title="ok text", note="very long"),
        raw_item("both", title="very long", note="very long"),
        raw_item("textless", title=None, source="bare"),
    ]
    special = {
        " ": {"cleaned": "", "changes": ["whitespace"]},
        "<b></b>": {"cleaned": "", "changes": ["html"]},
        "very long": {"cleaned": "", "changes": ["html", "too_long"]},
    }
    limits = {"min_chars": 4, "max_chars": 8}
    expected = {
        "none": ("clean", "text_empty", None),
        "blank": ("clean", "text_empty", None),
        "short": ("clean", "text_too_short", "longest has 3 characters"),
        "enough": None,
        "long": ("clean", "text_too_long", "more than 8 characters: note"),
        "both": ("clean", "text_too_long", "more than 8 characters: title, note"),
        "textless": None,
    }
    assert verdicts(clean(rows, special=special, clean={"texts": limits})) == expected
    # Empty texts are allowed; short ones are short all the same.
    cleaned = clean(rows, special=special, clean={"texts": {**limits, "required": False}})
    assert verdicts(cleaned) == {**expected, "none": None, "blank": None}


@pytest.mark.parametrize(
    ("cleaned_text", "expected"),
    [
        ("<EMAIL_ADDRESS>", ("clean", "text_empty", None)),
        ("<EMAIL_ADDRESS>, <PHONE_NUMBER>!", ("clean", "text_empty", None)),
        ("<EMAIL_ADDRESS> ab", ("clean", "text_too_short", "longest has 2 characters")),
        ("<EMAIL_ADDRESS> abc", None),
        ("<no placeholder>", None),
        ("???", None),  # symbols that an author wrote are a text
    ],
)
def test_placeholders_are_no_text(cleaned_text: str, expected: tuple[str, str, str | None] | None) -> None:
    special = {"x": {"cleaned": cleaned_text}}
    cleaned = clean([raw_item("1", title="x")], special=special, clean={"texts": {"min_chars": 3}})
    assert verdicts(cleaned) == {"1": expected}


def test_personal_data_to_drop_for() -> None:
    rows = [
        raw_item("dropped", title="iban"),
        raw_item("both", title="iban", note="phone iban"),
        raw_item("redacted", title="phone"),
        raw_item("alone", title="only iban"),  # nothing is left of it, but that is not why it goes
        raw_item("taken", title="iban"),
    ]
    special = {
        "iban": {"cleaned": "my <IBAN_CODE>", "findings": [finding("IBAN_CODE")]},
        "phone iban": {"cleaned": "<PHONE_NUMBER> <IBAN_CODE> x", "findings": [finding("PHONE_NUMBER"), finding("IBAN_CODE", 5)]},
        "phone": {"cleaned": "my <PHONE_NUMBER>", "findings": [finding("PHONE_NUMBER")]},
        "only iban": {"cleaned": "<IBAN_CODE>", "findings": [finding("IBAN_CODE")]},
    }  # fmt: skip
    takedowns = pl.DataFrame({"item_id": ["taken"], "date": ["2026-01-02"]})
    cleaned = clean(rows, special=special, takedowns=takedowns, pii={"actions": {"IBAN_CODE": "drop"}})
    assert verdicts(cleaned) == {
        "dropped": ("clean", "personal_data", "title"),
        "both": ("clean", "personal_data", "title, note"),
        "redacted": None,
        "alone": ("clean", "personal_data", "title"),
        "taken": ("clean", "taken_down", "on 2026-01-02"),
    }
    # Findings of items that stay and of those dropped for them; none of items removed for something else.
    assert [(i, c, e, a) for i, c, e, _, a in cleaned.findings.collect().rows()] == [
        ("alone", "title", "IBAN_CODE", "drop"),
        ("both", "note", "PHONE_NUMBER", "redact"),
        ("both", "note", "IBAN_CODE", "drop"),
        ("both", "title", "IBAN_CODE", "drop"),
        ("dropped", "title", "IBAN_CODE", "drop"),
        ("redacted", "title", "PHONE_NUMBER", "redact"),
    ]


def test_what_a_person_should_look_at_is_held_back_or_listed() -> None:
    rows = [raw_item("held", title="name"), raw_item("unsure", title="phone"), raw_item("sure", title="mail")]
    special = {
        "name": {"cleaned": "by <PERSON>", "findings": [{**finding("PERSON", 3), "excerpt": "by <PERSON>"}]},
        "phone": {"cleaned": "<PHONE_NUMBER> x", "findings": [{**finding("PHONE_NUMBER", score=0.5), "excerpt": "<PHONE_NUMBER> x"}]},
        "mail": {"cleaned": "<EMAIL_ADDRESS> x", "findings": [finding("EMAIL_ADDRESS")]},
    }  # fmt: skip
    cleaned = clean(rows, special=special, pii={"actions": {"PERSON": "review"}})
    assert verdicts(cleaned) == {
        "held": ("clean", "personal_data_unsure", "title"),
        "unsure": None,
        "sure": None,
    }
    assert cleaned.to_review.collect().rows() == [
        ("held", "title", "PERSON", pytest.approx(0.9), "review", "by <PERSON>"),
        ("unsure", "title", "PHONE_NUMBER", 0.5, "redact", "<PHONE_NUMBER> x"),
    ]
    assert cleaned.findings.collect()["item_id"].to_list() == ["held", "sure", "unsure"]


def test_takedowns() -> None:
    rows = [raw_item(name) for name in ("a", "b", "c")]
    named = pl.DataFrame(
        {
            "item_id": ["b", "a", "a", "elsewhere"],
            "reason": ["asked by Ada", None, "x", "y"],
            "date": [None, "2026-02-01", "2026-01-01", "2026-01-01"],
        }
    )
    cleaned = clean(rows, takedowns=named)
    # Named twice: one row, with the first date. The reason given may name a person: it is not published.
    assert verdicts(cleaned) == {
        "a": ("clean", "taken_down", "on 2026-01-01"),
        "b": ("clean", "taken_down", None),
        "c": None,
    }
    # White space around an id, in the list or in the data, saves no item.
    spaced = clean([raw_item(" d "), raw_item("e")], takedowns=pl.DataFrame({"item_id": ["d", "e  "]}))
    assert {reason for _, reason, _ in verdicts(spaced).values()} == {"taken_down"}  # type: ignore[misc]
    # Ids that are numbers in the file, and no date at all.
    numbers = clean([raw_item("7")], takedowns=pl.DataFrame({"item_id": [7]}))
    assert verdicts(numbers) == {"7": ("clean", "taken_down", None)}


def test_these_are_all_reasons_that_reading_and_cleaning_can_give() -> None:
    reading = ["image_path_outside_root", "image_not_named", "image_without_row"]
    scanning = ["image_empty", "image_undecodable", "image_is_text", "image_truncated", "image_too_large"]
    measures = {
        "image_too_small": {"width_px": 9},
        "image_extreme_aspect": {"width_px": 9_000},
        "image_blank": {"contrast": 0.1},
        "image_too_dark": {"brightest": 3.0},
        "image_too_bright": {"darkest": 250.0},
        "image_blurred": {"fine_detail": 0.1},
        "image_low_information": {"entropy_bits": 0.1},
        "image_odd_size": {"width_px": 640, "height_px": 640},
        "image_animated": {"frames": 2},
        "image_placeholder": {"pixel_hash": "shared"},
        **{reason: {"problem": reason} for reason in scanning},
    }
    values = {
        "licence_no_derivatives": {"licence": "CC-BY-ND-4.0"},
        "licence_missing": {"licence": "NOASSERTION"},
        "label_missing": {"label": None},
        "label_dropped": {"label": "Skip"},
        "label_unsure": {"label": "Not sure"},
        "text_empty": {"title": None},
        "text_without_letters": {"title": "12 + 3"},
        "text_too_short": {"title": "x"},
        "text_too_long": {"title": "long"},
        "language_doubtful": {"title": "Привет", "language": "en"},
        "personal_data": {"title": "iban"},
        "personal_data_unsure": {"title": "name"},
        **{reason: {"problem": reason} for reason in reading},
    }
    reasons = [*measures, *values, "image_missing", "taken_down", "decided_drop"]
    drop = {"item_id": "decided_drop", "decision": "drop", "value": None, "by": "Ada", "date": "2026-11-01"}
    # Two more rows with the pixels of the placeholder, and two more labels.
    more = [raw_item(f"again {n}", label=f"hat {n}", image_ref="s/image_placeholder") for n in range(2)]
    cleaned = clean(
        [*(raw_item(reason, **values.get(reason, {})) for reason in reasons), *more],
        images=[image(reason, **measures.get(reason, {})) for reason in reasons if reason != "image_missing"],
        special={
            "long": {"cleaned": "", "changes": ["too_long"]},
            "Привет": {"language_doubt": CYRILLIC},
            "iban": {"cleaned": "<IBAN_CODE> here", "findings": [finding("IBAN_CODE")]},
            "name": {"cleaned": "<PERSON> here", "findings": [finding("PERSON")]},
        },
        takedowns=pl.DataFrame({"item_id": ["taken_down"]}),
        decisions=pl.DataFrame([drop], schema=DECISIONS),
        licences={"no_derivatives": "drop", "unlicensed": "drop"},
        labels={"drop": ["Skip"], "unsure": ["Not sure"]},
        pii={"actions": {"IBAN_CODE": "drop", "PERSON": "review"}},
        clean={
            "texts": {"min_chars": 2, "require_letters": True},
            "language": {"declared": "drop"},
            "images": {"actions": dict.fromkeys(get_args(ImageCheck), "drop")},
        },
    )
    given = {item_id: verdict and verdict[:2] for item_id, verdict in verdicts(cleaned).items()}
    assert given.pop("again 0") == given.pop("again 1") == ("clean", "image_placeholder")
    assert given == {
        reason: (stage, reason)
        for stage in ("raw", "clean")
        for reason in REASONS_OF_STAGES[stage]
        if reason not in REMOVING.values()  # faces: test_faces.py
    }


def test_a_person_keeps_an_image_that_a_check_drops_and_none_that_cannot_be_decoded() -> None:
    names = ["small", "page", "small and dropped"]
    kept = [
        {"item_id": name, "decision": "keep", "value": None, "by": "Ada", "date": "2026-11-01"}
        for name in names[:2]
    ]
    cleaned = clean(
        [raw_item(name) for name in names],
        images=[
            image("small", width_px=9, frames=2),
            image("page", problem="image_is_text"),
            image("small and dropped", width_px=9),
        ],
        decisions=pl.DataFrame(kept, schema=DECISIONS),
    )
    assert verdicts(cleaned) == {
        "small": None,
        "page": ("clean", "image_is_text", None),
        "small and dropped": ("clean", "image_too_small", "9 x 48 px"),
    }
    assert cleaned.kept_by_decision.collect()["item_id"].to_list() == ["small"]
    assert cleaned.image_warnings.collect().rows() == [
        ("small", "image_animated", "2 frames"),
        ("small", "image_too_small", "9 x 48 px"),
    ]
    counted = cleaned.image_checks.collect().filter(check="too_small")
    assert counted.select("items", "removed", "reported").rows() == [(2, 1, 1)]


# -- precedence ------------------------------------------------------------------------------------

FAULTS: list[
    tuple[str, dict[str, Any], dict[str, Any]]
] = [  # reason, raw values, image values; strictest first
    ("taken_down", {}, {}),
    ("image_path_outside_root", {"problem": "image_path_outside_root"}, {}),
    ("label_dropped", {"label": "Skip"}, {}),
    ("image_undecodable", {}, {"problem": "image_undecodable"}),
    ("image_too_small", {}, {"width_px": 1}),
    ("image_extreme_aspect", {}, {"height_px": 6400}),
    ("image_blank", {}, {"contrast": 0.0}),
    ("text_too_long", {"note": "long"}, {}),
    ("personal_data", {"title": "iban"}, {}),
]


@settings(deadline=None, max_examples=25)
@given(st.sets(st.sampled_from(range(len(FAULTS))), min_size=1))
def test_the_first_reason_is_given(which: set[int]) -> None:
    faults = [FAULTS[number] for number in sorted(which)]
    row = raw_item("1", **{k: v for _, values, _ in faults for k, v in values.items()})
    picture = image("1", **{k: v for _, _, values in faults for k, v in values.items()})
    cleaned = clean(
        [row],
        images=[picture],
        special={
            "iban": {"cleaned": "<IBAN_CODE>", "findings": [finding("IBAN_CODE")]},
            "long": {"cleaned": "", "changes": ["too_long"]},
        },
        takedowns=pl.DataFrame({"item_id": ["1"]}) if 0 in which else None,
        labels={"drop": ["Skip"]},
        pii={"actions": {"IBAN_CODE": "drop"}},
    )
    reason = faults[0][0]
    stage = "raw" if reason == "image_path_outside_root" else "clean"
    (verdict,) = verdicts(cleaned).values()
    assert verdict is not None
    assert verdict[:2] == (stage, reason)


@pytest.mark.parametrize(
    ("title", "note", "is_kept"),
    [
        ("12.50", None, False),
        ("-- ++ €5 ½ ٣", "42", False),
        ("12", "red", True),  # one text says something
        ("😀", None, True),
        ("५ रु", None, True),
        ("中", None, True),
    ],
)
def test_texts_without_a_letter(title: str, note: str | None, is_kept: bool) -> None:
    row = raw_item("1", title=title, note=note)
    found = verdicts(clean([row], clean={"texts": {"require_letters": True}}))
    assert found == {"1": None if is_kept else ("clean", "text_without_letters", None)}
    assert verdicts(clean([row])) == {"1": None}


# -- licences --------------------------------------------------------------------------------------


def licensed() -> list[dict[str, Any]]:
    return [
        raw_item("free"),
        raw_item("nd", licence="CC-BY-ND-4.0", author="Ada", url="https://example.org/nd"),
        raw_item("none", licence="NONE"),
        raw_item("nc", licence="CC-BY-NC-4.0"),
    ]


def test_items_that_may_not_be_passed_on_wait_for_the_gate_unless_told_otherwise() -> None:
    assert verdicts(clean(licensed())) == dict.fromkeys(("free", "nd", "none", "nc"))


def test_items_that_may_not_be_passed_on_are_left_out_or_named() -> None:
    cleaned = clean(licensed(), licences={"no_derivatives": "reference", "unlicensed": "drop"})
    assert verdicts(cleaned) == {
        "free": None,
        "nc": None,  # incompatible all the same: for the gate
        "nd": ("clean", "licence_no_derivatives", "CC-BY-ND-4.0; listed in metadata/references.parquet"),
        "none": ("clean", "licence_missing", "NONE; left out"),
    }
    assert cleaned.references.collect().rows() == [
        ("nd", "s", "https://example.org/nd", "sha-nd", "hat", "CC-BY-ND-4.0", "Ada")
    ]


def test_what_was_taken_down_is_not_even_named() -> None:
    taken = pl.DataFrame({"item_id": ["nd"], "date": ["2026-01-01"]})
    cleaned = clean(licensed(), takedowns=taken, licences={"no_derivatives": "reference"})
    assert verdicts(cleaned)["nd"] == ("clean", "taken_down", "on 2026-01-01")
    assert cleaned.references.collect().is_empty()


# -- conservation ----------------------------------------------------------------------------------

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "source": st.sampled_from(["s", "bare"]),
            "label": st.sampled_from(["hat", "Skip", "Not sure", None]),
            "language": st.sampled_from(["en", "de", None]),
            "problem": st.sampled_from([None, None, None, "image_not_named"]),
            "title": st.sampled_from(["red hat", "iban", "long", "empty", "a", None]),
            "note": st.sampled_from(["red hat", "iban", "long", "empty", None]),
        }
    ),
    max_size=12,
)
PICTURES = st.lists(
    st.sampled_from([{}, {"problem": "image_truncated"}, {"width_px": 3}, {"contrast": 0.5}, None]),
    min_size=12,
    max_size=12,
)


@settings(deadline=None, max_examples=25)
@given(rows=ROWS, pictures=PICTURES, data=st.data())
def test_nothing_is_lost_and_order_does_not_matter(
    rows: list[dict[str, Any]], pictures: list[dict[str, Any] | None], data: st.DataObject
) -> None:
    raw = [raw_item(str(number), **row) for number, row in enumerate(rows)]
    images = [
        image(str(n), **picture) for n, picture in enumerate(pictures[: len(raw)]) if picture is not None
    ]
    settings = {
        "special": {
            "iban": {"cleaned": "<IBAN_CODE> x", "changes": ["personal_data"], "findings": [finding("IBAN_CODE")]},
            "long": {"cleaned": "", "changes": ["too_long"]},
            "empty": {"cleaned": "", "changes": ["html", "whitespace"]},
        },
        "takedowns": pl.DataFrame({"item_id": ["0", "99"], "date": ["2026-01-01", "2026-01-01"]}),
        "labels": {"drop": ["Skip"], "unsure": ["Not sure"]},
        "pii": {"actions": {"IBAN_CODE": "drop"}},
        "clean": {"texts": {"min_chars": 2}},
    }  # fmt: skip
    cleaned = clean(raw, images=images, **settings)
    kept, removed, changes, findings, to_review, references, _taken, warnings, checks, doubts, decided = (
        table.collect() for table in cleaned
    )
    assert decided.is_empty()
    assert dict(references.schema) == dict(REFERENCES)
    assert dict(kept.schema) == {**ITEMS, "title": pl.String, "note": pl.String}
    assert dict(removed.schema) == dict(REMOVED)
    assert dict(changes.schema) == CHANGES
    assert dict(findings.schema) == FINDINGS
    assert dict(to_review.schema) == TO_REVIEW
    assert dict(warnings.schema) == dict(IMAGE_WARNINGS)
    assert dict(checks.schema) == COUNTS
    assert dict(doubts.schema) == LANGUAGE_DOUBTS
    assert set(warnings["item_id"]) <= set(kept["item_id"])
    ids = [*kept["item_id"], *removed["item_id"]]
    assert sorted(ids) == sorted(row["item_id"] for row in raw)
    assert set(removed["reason"]) <= {*REASONS_OF_STAGES["raw"], *REASONS_OF_STAGES["clean"]}
    assert set(changes["item_id"]) <= set(kept["item_id"])
    dropped = removed.filter(reason="personal_data")["item_id"]
    assert set(findings["item_id"]) <= {*kept["item_id"], *dropped}
    assert kept["item_id"].is_sorted()
    assert removed["item_id"].is_sorted()
    again = clean(data.draw(st.permutations(raw)), images=data.draw(st.permutations(images)), **settings)
    for first, second in zip(cleaned, again, strict=True):
        assert first.collect().equals(second.collect())


def test_no_items() -> None:
    cleaned = clean([])
    heights = {name: table.collect().height for name, table in cleaned._asdict().items()}
    assert heights == {**dict.fromkeys(Cleaned._fields, 0), "image_checks": len(get_args(ImageCheck))}
    assert set(cleaned.image_checks.collect()["items"]) == {0}
    assert dict(cleaned.items.collect().schema) == {**ITEMS, "title": pl.String, "note": pl.String}


def test_a_dataset_without_texts() -> None:
    raw = pl.LazyFrame([raw_item("1")], schema=RAW_SCHEMA).select(*RAW_ITEMS)
    images = pl.LazyFrame([{**dict.fromkeys(IMAGES), **image("1")}], schema=IMAGES)
    cleaned = clean_items(raw, images, pl.LazyFrame(schema=TEXTS), minimal_config(), None)
    assert cleaned.items.collect().select("item_id", "language").rows() == [("1", None)]
    assert cleaned.changes.collect().height == cleaned.findings.collect().height == 0


# -- what is released of an item that stays -----------------------------------------------------------


def test_an_item_that_stays_carries_its_cleaned_texts_and_checksum() -> None:
    row = raw_item(
        "1", title="RED", note="<i></i>", language="en", author="Ada", group_keys=["sender=7"], published_split="test"
    )  # fmt: skip
    special = {
        "RED": {"cleaned": "red", "changes": ["html", "whitespace"]},
        "<i></i>": {"cleaned": "", "changes": ["html"]},
    }
    cleaned = clean([row], special=special)
    assert cleaned.items.collect().to_dicts() == [
        {
            "item_id": "1", "source": "s", "image_ref": "s/1", "image_sha256": "sha-1", "label": "hat",
            "label_source": "human", "language": "en", "licence": "CC0-1.0", "author": "Ada",
            "url": None, "group_keys": ["sender=7"], "published_split": "test", "date": None, "strata": None,
            "title": "red", "note": None,  # nothing is left of it
        }
    ]  # fmt: skip
    assert cleaned.changes.collect().rows() == [
        ("1", "note", "html"),
        ("1", "title", "html"),
        ("1", "title", "whitespace"),
    ]


@pytest.mark.parametrize(
    ("declared", "title", "note", "expected"),
    [
        ("cs", "kurz", "a longer text", "cs"),  # what is declared is believed
        (None, "kurz", "a longer text", "en"),
        (None, "ein langer Text", "short", "de"),
        (None, "12 34 56 78 90", "kurz", "de"),  # a known language before a longer text without one
        (None, "12 34 56 78 90", "12", "und"),
        (None, "abcd", "kurz", "fr"),  # as long: the first column
        (None, "kurz", None, "de"),
        (None, None, "short", "en"),
        (None, "gone", "kurz", "de"),  # nothing is left of the longer text
        (None, None, None, None),
        ("cs", None, None, "cs"),
    ],
)
def test_language_of_an_item(
    declared: str | None, title: str | None, note: str | None, expected: str | None
) -> None:
    special = {
        "kurz": {"language": declared or "de"},
        "ein langer Text": {"language": declared or "de"},
        "a longer text": {"language": declared or "en"},
        "short": {"language": declared or "en"},
        "abcd": {"language": declared or "fr"},
        "gone": {"language": declared or "fr", "cleaned": ""},
    }
    cleaned = clean(
        [raw_item("1", language=declared, title=title, note=note)],
        special=special,
        clean={"texts": {"required": False}},
    )
    assert cleaned.items.collect()["language"].to_list() == [expected]


def test_the_same_text_in_two_declared_languages_is_analysed_twice() -> None:
    rows = [
        raw_item("1", title="rock", language="en"),
        raw_item("2", title="rock", language="de"),
        raw_item("3", title="rock", note="rock", language=None),
    ]
    pairs = distinct_texts(pl.LazyFrame(rows, schema=RAW_SCHEMA), ("title", "note")).collect()
    assert pairs.rows() == [("rock", "de"), ("rock", "en"), ("rock", None)]
    cleaned = clean(rows, language="nl")
    assert cleaned.items.collect()["language"].to_list() == ["en", "de", "nl"]


def test_a_text_that_was_not_analysed_is_an_error() -> None:
    rows = [
        raw_item("1", title="seen"),
        raw_item("2", title="unseen"),
        raw_item("3", title="seen", language="en"),
    ]
    raw = pl.LazyFrame(rows, schema=RAW_SCHEMA)
    images = pl.LazyFrame([{**dict.fromkeys(IMAGES), **image(row["item_id"])} for row in rows], schema=IMAGES)
    seen = analysed(raw).filter((pl.col("text") == "seen") & pl.col("declared_language").is_null())
    with pytest.raises(ValueError, match="2 texts have not been analysed"):
        clean_items(raw, images, seen, make_config(), None)


def test_findings_carry_place_score_and_action_but_no_value() -> None:
    special = {
        "t": {"cleaned": "text <PHONE_NUMBER>", "findings": [finding("PHONE_NUMBER", 5, 0.5), finding("PERSON", 0, 0.85)]}
    }  # fmt: skip
    cleaned = clean([raw_item("1", title="t")], special=special)
    assert cleaned.findings.collect().rows() == [
        ("1", "title", "PERSON", pytest.approx(0.85), "report"),  # in order of place
        ("1", "title", "PHONE_NUMBER", pytest.approx(0.5), "redact"),
    ]


@pytest.mark.parametrize(
    ("action", "stays", "language"),
    [("report", True, "en"), ("review", True, "en"), ("replace", True, "ru"), ("drop", False, None)],
)
def test_a_text_that_is_not_in_its_declared_language(action: str, stays: bool, language: str | None) -> None:
    rows = [raw_item("a", title="Привет", language="en"), raw_item("b", language="en")]
    special = {"Привет": {"language_doubt": CYRILLIC, "language": "ru" if action == "replace" else "en"}}
    cleaned = clean(rows, special=special, clean={"language": {"declared": action}})
    kept = dict(cleaned.items.select("item_id", "language").collect().rows())
    assert kept == ({"a": language, "b": "en"} if stays else {"b": "en"})
    if not stays:
        assert verdicts(cleaned)["a"] == ("clean", "language_doubtful", "declared en, not so in title")
    # Whatever happens to the item, the doubt is on record.
    assert cleaned.language_doubts.collect().rows() == [("a", "title", "en", "script", "cyrillic", 1.0)]


def test_a_language_that_a_person_decided_is_doubted_by_nobody() -> None:
    decision = {"item_id": "a", "decision": "language", "value": "en", "by": "Ada", "date": "2026-11-01"}
    cleaned = clean(
        [raw_item("a", title="Привет", language="en")],
        special={"Привет": {"language_doubt": CYRILLIC}},
        decisions=pl.DataFrame([decision], schema=DECISIONS),
        clean={"language": {"declared": "drop"}},
    )
    assert cleaned.items.select("language").collect().item() == "en"
    assert cleaned.language_doubts.collect().is_empty()


def test_a_frame_that_is_kept_once_gives_the_same_tables() -> None:
    raw = pl.LazyFrame(
        [raw_item("a"), raw_item("b", label=None), raw_item("c", note="call")], schema=RAW_SCHEMA
    )
    images = pl.LazyFrame([image("a"), image("b"), image("c", contrast=0.5)], schema=IMAGES)
    texts = analysed(raw, {"call": {"changes": ["html"]}})
    computed = list[pl.DataFrame]()

    def kept(frame: pl.LazyFrame) -> pl.LazyFrame:
        computed.append(frame.collect())
        return computed[-1].lazy()

    plain = clean_items(raw, images, texts, make_config(), None)
    once = clean_items(raw, images, texts, make_config(), None, kept_once=kept)
    assert len(computed) == 1
    assert computed[0].height == 3
    for name in Cleaned._fields:
        assert getattr(once, name).collect().equals(getattr(plain, name).collect()), name
