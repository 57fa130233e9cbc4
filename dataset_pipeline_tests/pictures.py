"""Pictures and folders that tests share, and where the real photos are."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CLOTHING = Path(__file__).parents[2] / "shared" / "data" / "clothing"

needs_clothing = pytest.mark.skipif(
    not (CLOTHING / "images.csv").is_file(), reason=f"the clothing photos are not there: {CLOTHING}"
)


def picture(seed: int = 0, size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Image.Image:
    """A smooth random picture: like a photo it keeps its look when it is re-encoded or resized."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture's bytes."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
