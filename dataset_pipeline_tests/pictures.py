"""Pictures and folders that tests share, and where the real photos are."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

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


def labelled(image: Image.Image, share: float = 0.05) -> Image.Image:
    """With a dark label over this share of it, a line of pale text in it, in the lower right corner."""
    copy, (x, y) = image.copy(), image.size
    corner = (round(x - x * 8**0.5 * share**0.5), round(y - y * (share / 8) ** 0.5))
    ImageDraw.Draw(copy).rectangle((*corner, x, y), fill="#202020")
    ImageDraw.Draw(copy).text((corner[0] + 2, corner[1] + 1), "for sale", "white")
    return copy
