"""Who has to be named, with which licence, and where the item is."""

import polars as pl

from dataset_pipeline.stages.attribution import ATTRIBUTIONS, MODIFIED, attributions
from dataset_pipeline_tests.toy_release import toy_config

BY = "https://creativecommons.org/licenses/by/4.0/legalcode"


def found(*rows: tuple[str, str | None, str | None, str | None]) -> list[tuple[str | None, ...]]:
    frame = pl.LazyFrame(
        [(item, "noise", licence, author, url) for item, licence, author, url in rows],
        schema=dict.fromkeys(("item_id", "source", "licence", "author", "url"), pl.String()),
        orient="row",
    )
    result = attributions(frame, toy_config()).collect()
    assert result.schema == pl.Schema(dict(ATTRIBUTIONS))
    return result.select("item_id", "author", "licence", "licence_url", "url").rows()


def test_every_item_that_asks_for_attribution_is_there() -> None:
    place = "https://example.org/noise"  # of the source
    assert found(
        ("c", "CC-BY-4.0", "Ada", "https://example.org/c"),
        ("b", "CC-BY-4.0", None, None),
        ("a", "CC0-1.0", None, None),  # asks for nothing, and nobody is known
        ("d", "CC0-1.0", "Bob", None),  # named all the same
        ("e", None, None, None),
        ("f", "MIT OR CC-BY-4.0", "Eve", None),
    ) == [
        ("b", None, "CC-BY-4.0", BY, place),
        ("c", "Ada", "CC-BY-4.0", BY, "https://example.org/c"),
        ("d", "Bob", "CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/legalcode", place),
        ("e", None, None, None, place),
        ("f", "Eve", "MIT OR CC-BY-4.0", f"https://opensource.org/license/mit {BY}", place),
    ]


def test_cells_are_text_and_changes_are_said() -> None:
    assert found(("=a", "CC-BY-4.0", "+Ada", "@x"))[0][:2] == ("'=a", "'+Ada")
    frame = pl.LazyFrame(
        {"item_id": ["a"], "source": ["noise"], "licence": ["MIT"], "author": ["x"], "url": [None]}
    )
    assert attributions(frame, toy_config()).collect()["is_modified"].to_list() == [MODIFIED]


def test_the_authors_of_sources_stand_for_items_without_one() -> None:
    config = toy_config()
    config = config.model_copy(
        update={"sources": (config.sources[0].model_copy(update={"author": "The shop", "url": None}),)}
    )
    frame = pl.LazyFrame(
        {
            "item_id": ["a", "b"],
            "source": ["noise"] * 2,
            "licence": ["MIT"] * 2,
            "author": [None, "x"],
            "url": [None] * 2,
        },
        schema_overrides={"url": pl.String},
    )
    assert attributions(frame, config).collect()["author"].to_list() == ["The shop", "x"]
    assert attributions(frame, config).collect()["url"].to_list() == [None, None]


def test_no_items() -> None:
    assert found() == []
