"""Passages that many texts share are found and taken out, and nothing else is."""

from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_pipeline.config import Boilerplate
from dataset_pipeline.stages.boilerplate import boilerplate_report, find_passages, without_boilerplate
from dataset_pipeline.tables import TEXTS

SHIPPING = "Free shipping on all orders."
RETURNS = "Wir nehmen jede Ware zurück!"
RULES = Boilerplate(min_texts=3, min_share=0, min_chars=10, action="remove")


def texts(*cleaned: str) -> pl.LazyFrame:
    row = dict.fromkeys(TEXTS)
    rows = [
        {**row, "text": f"raw {n:03}", "cleaned": text, "changes": ["html"]} for n, text in enumerate(cleaned)
    ]
    return pl.LazyFrame(rows, schema=dict(TEXTS))


def cleaned(*given: str, rules: Boilerplate = RULES) -> list[str]:
    found = without_boilerplate(texts(*given), rules).texts.sort("text").collect()
    assert found.schema == pl.Schema(dict(TEXTS))
    changed = [was != now for was, now in zip(given, found["cleaned"], strict=True)]
    assert found["changes"].to_list() == [
        ["html", "boilerplate"] if is_one else ["html"] for is_one in changed
    ]
    return found["cleaned"].to_list()


def test_a_passage_of_many_texts_goes_wherever_it_stands() -> None:
    given = [
        f"Red hat. {SHIPPING}",
        f"{SHIPPING.upper()} Blue hat. New.",
        f"Green hat.\n{SHIPPING}\nOne size.",
        "Grey hat.",
    ]
    assert cleaned(*given) == ["Red hat.", "Blue hat. New.", "Green hat.\nOne size.", "Grey hat."]


def test_a_text_of_boilerplate_alone_is_emptied() -> None:
    given = [f"A. {SHIPPING}", f"B. {SHIPPING}", f"C. {SHIPPING} {RETURNS}", SHIPPING]
    assert cleaned(*given) == ["A.", "B.", f"C. {RETURNS}", ""]


def test_the_same_text_on_many_items_is_a_caption() -> None:
    # One text, however often: texts are counted, not items.
    assert cleaned(*["A plain white T-shirt."] * 9) == ["A plain white T-shirt."] * 9


def test_what_is_no_boilerplate() -> None:
    given = [f"Hat {n}. Size M. {SHIPPING}" for n in "abc"]
    assert cleaned(*given) == [f"Hat {n}. Size M." for n in "abc"]  # "Size M." is too short to be any
    assert cleaned(*given, rules=RULES.model_copy(update={"min_texts": 4})) == given
    assert cleaned(*given, rules=RULES.model_copy(update={"min_chars": 29})) == given
    assert cleaned(*given, rules=RULES.model_copy(update={"keep": (SHIPPING.lower(),)})) == given
    # In every twentieth text, and a tenth is asked for.
    many = [*given, *(f"Cap {n}" for n in range(57))]
    assert cleaned(*many, rules=RULES.model_copy(update={"min_share": 0.06})) == many
    assert cleaned(*many, rules=RULES.model_copy(update={"min_share": 0.05}))[0] == "Hat a. Size M."


@pytest.mark.parametrize("action", ["report", "off"])
def test_nothing_goes_unless_it_is_said(action: str) -> None:
    given = [f"{n}. {SHIPPING}" for n in "abc"]
    rules = RULES.model_copy(update={"action": action})
    assert cleaned(*given, rules=rules) == given
    found = without_boilerplate(texts(*given), rules).passages
    assert found.rows() == ([(SHIPPING, 3, 1.0, False)] if action == "report" else [])


def test_the_report_says_what_and_how_often() -> None:
    given = [*(f"{n}. {SHIPPING}" for n in "abc"), *(f"{n}. {RETURNS}" for n in "defg"), ""]
    rules = RULES.model_copy(update={"keep": (RETURNS,)})
    report = boilerplate_report(find_passages(texts(*given), rules), rules, limit=1)
    assert report == {
        "action": "remove",
        "thresholds": {"min_texts": 3, "min_share": 0.0, "min_chars": 10},
        "found": 2,
        "passages": [{"passage": RETURNS, "texts": 4, "share": 4 / 7, "is_kept": True}],
    }


SENTENCES = st.lists(
    st.text(st.sampled_from("ab .!?\n。v1é"), max_size=12)
    | st.sampled_from([SHIPPING, RETURNS, "v1.2 is out"]),
    max_size=5,
).map(" ".join)


@given(st.lists(SENTENCES, max_size=8))
def test_a_text_loses_its_boilerplate_and_not_a_letter_more(given: list[str]) -> None:
    given = [" ".join(text.split()) for text in given]
    found = without_boilerplate(texts(*given), RULES)
    left = found.texts.sort("text").collect()["cleaned"].to_list()
    gone = [passage.lower() for passage in found.passages["passage"]]
    for before, after in zip(given, left, strict=True):
        rest = before.lower()
        for passage in sorted(gone, key=len, reverse=True):
            rest = rest.replace(passage, " ")
        # Letters that stay are those outside of passages; a passage may also stand within a longer sentence, and stays.
        assert Counter(rest.replace(" ", "")) <= Counter(after.lower().replace(" ", "").replace("\n", ""))
        assert Counter(after) <= Counter(before)
    if not gone:
        assert left == given
