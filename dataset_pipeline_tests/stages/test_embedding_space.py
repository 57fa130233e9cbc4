"""The spread in an embedding space, checked against obvious slow versions."""

import numpy as np
import pytest

from dataset_pipeline.stages import embedding_space as stage
from dataset_pipeline.stages.baselines import Embeddings
from dataset_pipeline.stages.embedding_space import embedding_space, spread


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def noise(count: int, dimensions: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, dimensions)))


def embeddings(image: np.ndarray, image_row: list[int]) -> Embeddings:
    rows = np.array(image_row)
    text = noise(3, image.shape[1])
    return Embeddings("a model", image, rows, text, np.arange(len(rows)) % 3, text[:2])


@pytest.mark.parametrize("seed", range(3))
def test_spread_is_the_vendi_score_and_the_mean_of_all_pairs(seed: int) -> None:
    vectors = noise(40, 16, seed)
    kernel = vectors.astype(np.float64) @ vectors.T
    values = np.linalg.eigvalsh(kernel / 40)
    values = values[values > 1e-12]
    found = spread(vectors)
    assert found is not None
    assert found["effective_number"] == pytest.approx(np.exp(-(values * np.log(values)).sum()), abs=0.01)
    assert found["mean_cosine"] == pytest.approx(kernel[np.triu_indices(40, 1)].mean(), abs=1e-4)


def test_spread_at_its_ends() -> None:
    equal = spread(np.repeat(noise(1, 8), 5, axis=0))
    apart = spread(np.eye(6, 8, dtype=np.float32))
    assert equal is not None
    assert apart is not None
    assert (equal["effective_number"], equal["mean_cosine"]) == (1.0, 1.0)
    assert (apart["effective_number"], apart["mean_cosine"]) == (6.0, 0.0)
    assert spread(noise(1, 8)) is None


def test_classes_take_the_labels_of_the_items_that_show_a_picture() -> None:
    image = unit(np.array([[1, 0], [1, 0], [0, 1], [1, 1], [0, 1]], dtype=float))
    #       the third picture is shown by two items, the fifth by one without a label, one item has no picture
    found = embedding_space(
        embeddings(image, [0, 1, 2, 2, 3, 4, -1]), ["a", "a", "b", "a", "b", None, "b"], 0
    )
    assert found["classes"] == [
        {"label": "b", "pictures": 2, "mean_cosine": 0.7071},
        {"label": "a", "pictures": 2, "mean_cosine": 1.0},
    ]
    assert found["map"] is None  # five pictures are no map


def test_a_map_keeps_groups_together_and_repeats() -> None:
    centres = np.repeat(np.eye(3, 16) * 9, 20, axis=0)
    image = unit(centres + np.random.default_rng(0).normal(size=(60, 16)))
    labels = [name for name in "abc" for _ in range(20)]
    found = embedding_space(embeddings(image, list(range(60))), labels, 7)
    assert found == embedding_space(embeddings(image, list(range(60))), labels, 7)
    points = found["map"]["points"]
    assert found["map"]["shown"] == found["map"]["pictures"] == 60
    assert all(0 <= point[axis] <= 1 for point in points for axis in "xy")
    places = np.array([[point["x"], point["y"]] for point in points])
    distance = np.linalg.norm(places[:, None] - places, axis=2) + 9 * np.eye(60)
    nearest = [points[i]["label"] for i in distance.argmin(axis=1)]
    assert nearest == [point["label"] for point in points]


def test_a_large_collection_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "MAP_POINTS", 30)
    count = 80
    found = embedding_space(embeddings(noise(count, 4), list(range(count))), [None] * count, 0)
    assert found["map"]["shown"] == 30
    assert found["map"]["pictures"] == count
    assert found["classes"] == []
