"""How the items spread in a model's embedding space: diversity as the model sees it, and a map.

Keys of ``baselines.json``'s ``space``, by model: ``image`` and ``text`` (each ``distinct``, ``mean_cosine``,
``effective_number``, ``dimensions``), ``classes`` (``label``, ``pictures``, ``mean_cosine``) and ``map`` (``points``
of ``x``, ``y``, ``label``; ``shown`` of ``pictures``). Belongs here: what embeddings say about the data. Does not
belong here: what they predict (``baselines.py``).
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dataset_pipeline.stages.baselines import Embeddings

Floats = npt.NDArray[np.float32]

MAP_POINTS: Final = 1000
_MAP_DIMENSIONS: Final = 50
_PERPLEXITY: Final = 30


def embedding_space(embeddings: Embeddings, labels: Sequence[str | None], seed: int) -> dict[str, Any]:
    """The report of one model. ``labels``: of the items, in the order of ``embeddings.image_row``."""
    label_of_picture = _labels_of_pictures(embeddings, labels)
    return {
        "image": spread(embeddings.image),
        "text": spread(embeddings.text),
        "classes": _classes(embeddings.image, label_of_picture),
        "map": _map(embeddings.image, label_of_picture, seed),
    }


def spread(vectors: Floats) -> dict[str, Any] | None:
    """Diversity of vectors of length 1, shape (n, dimensions); None for fewer than two.

    ``mean_cosine``: of all pairs of different vectors. ``effective_number``: the Vendi score (Friedman and Dieng,
    2023) with the cosine as kernel: the exponential of the entropy of the eigenvalues of the kernel over n, 1 where
    all are equal and n where all are orthogonal. The kernel's eigenvalues other than 0 are those of the (dimensions,
    dimensions) matrix of second moments, so that it costs n times dimensions squared, and is at most ``dimensions``.
    """
    count, dimensions = vectors.shape
    if count < 2:
        return None
    moments = np.zeros((dimensions, dimensions))
    for start in range(0, count, 65_536):
        block = vectors[start : start + 65_536].astype(np.float64)
        moments += block.T @ block
    values = np.linalg.eigvalsh(moments / count)
    values = values[values > 1e-12]
    return {
        "distinct": count,
        "mean_cosine": _mean_cosine(vectors),
        "effective_number": round(float(np.exp(-(values * np.log(values)).sum())), 2),
        "dimensions": dimensions,
    }


def _mean_cosine(vectors: Floats) -> float:
    """Mean over all pairs of different vectors, from their sum: no pair is formed."""
    count = len(vectors)
    total = vectors.sum(axis=0, dtype=np.float64)
    squares = float(np.vdot(vectors, vectors))
    return round(float((total @ total - squares) / (count * (count - 1))), 4)


def _labels_of_pictures(embeddings: Embeddings, labels: Sequence[str | None]) -> list[str | None]:
    """The label of the first item that shows each picture."""
    found: list[str | None] = [None] * len(embeddings.image)
    for row, label in zip(embeddings.image_row[::-1], reversed(labels), strict=True):
        if row >= 0:
            found[row] = label
    return found


def _classes(vectors: Floats, labels: Sequence[str | None]) -> list[dict[str, Any]]:
    """How alike the pictures of each class are, least alike first; classes of one picture are left out."""
    names, code = np.unique([label or "" for label in labels], return_inverse=True)
    order = np.argsort(code, kind="stable")
    rows = []
    for name, members in zip(names, np.split(order, np.cumsum(np.bincount(code))[:-1]), strict=True):
        if name and len(members) > 1:
            rows.append(
                {"label": str(name), "pictures": len(members), "mean_cosine": _mean_cosine(vectors[members])}
            )
    return sorted(rows, key=lambda row: (row["mean_cosine"], row["label"]))


def _map(vectors: Floats, labels: Sequence[str | None], seed: int) -> dict[str, Any] | None:
    """Two dimensions by t-SNE (van der Maaten and Hinton, 2008) of a random sample; None for fewer than ten pictures."""
    if len(vectors) < 10:
        return None
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(vectors))[:MAP_POINTS])
    sample = vectors[chosen].astype(np.float64)
    parts = min(_MAP_DIMENSIONS, *sample.shape)
    reduced = PCA(parts, svd_solver="full").fit_transform(sample)
    # PCA's signs are arbitrary: the entry of largest size is made positive, or two machines draw mirrored maps.
    reduced *= np.sign(reduced[np.abs(reduced).argmax(axis=0), np.arange(parts)] + 1e-300)
    perplexity = min(_PERPLEXITY, (len(chosen) - 1) / 3)
    with threadpool_limits(1):  # sums of several threads come in any order, and equal input gives equal maps
        places = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(reduced)
    places = (places - places.min(axis=0)) / np.maximum(np.ptp(places, axis=0), 1e-9)
    return {
        "pictures": len(vectors),
        "shown": len(chosen),
        "points": [
            {"x": round(float(x), 3), "y": round(float(y), 3), "label": labels[picture]}
            for (x, y), picture in zip(places, chosen, strict=True)
        ],
    }
