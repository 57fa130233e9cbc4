"""Pictures of any colour space as 8-bit sRGB, grey or with alpha.

Belongs here: what the numbers of a decoded picture mean (ICC profile, PNG chunks, EXIF) and their conversion
to sRGB (IEC 61966-2-1). Does not belong here: decoding and encoding (``images.py``, ``released_images.py``).

An ICC profile is applied by LittleCMS with the perceptual intent, which for matrix profiles is the relative
colorimetric one. Without a profile, the chunks gAMA and cHRM of a PNG count (W3C PNG, third edition, 4.3), and
in a JPEG the mark of the DCF standard for Adobe RGB. What says nothing is taken for sRGB, as browsers do.
"""

import functools
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_EXIF_IFD, _COLOUR_SPACE, _UNCALIBRATED = 0x8769, 0xA001, 0xFFFF
_INTEROPERABILITY_IFD, _INTEROPERABILITY_INDEX = 0xA005, 0x0001
_BAND_PIXELS = 1 << 20
_SAME = 2  # grey levels: what the many editions of the sRGB profile differ from one another


class Primaries(NamedTuple):
    """An RGB space without a profile: ``gamma`` is the exponent that turns its numbers into light."""

    gamma: float
    chromaticities: tuple[float, ...]
    """CIE x and y of white, red, green and blue."""


Space = bytes | Primaries | None
"""An ICC profile, primaries, or None: sRGB."""

_SRGB_POINTS: tuple[float, ...] = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_ADOBE_RGB = Primaries(563 / 256, (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06))


def colour_space(image: Image.Image) -> Space:
    """What an opened picture says of its colours; None: nothing, or that they are sRGB."""
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and profile:
        mode = _profiled_mode(image.mode)
        transform = _transform(profile, mode)
        return None if transform is None or (mode != "CMYK" and _changes_nothing(profile, mode)) else profile
    if image.format == "PNG" and "srgb" not in image.info:
        return _png_space(image.info.get("gamma"), image.info.get("chromaticity"))
    if image.format in {"JPEG", "MPO"} and image.mode == "RGB" and "exif" in image.info:
        exif = image.getexif()
        is_marked = exif.get_ifd(_EXIF_IFD).get(_COLOUR_SPACE) == _UNCALIBRATED
        if is_marked and exif.get_ifd(_INTEROPERABILITY_IFD).get(_INTEROPERABILITY_INDEX) == "R03":
            return _ADOBE_RGB
    return None


def to_srgb(image: Image.Image, space: Space) -> Image.Image:
    """The decoded picture in sRGB with 8 bits a channel: mode L, LA, RGB or RGBA.

    ``space``: what :func:`colour_space` said. Alpha stays as it is: it is no colour.
    """
    picture = to_8_bit(image)
    is_grey = picture.mode in {"1", "L", "LA", "La"}
    alpha = None
    if picture.has_transparency_data:
        alpha = picture.convert("LA" if is_grey else "RGBA").getchannel("A")
    if picture.mode == "LAB":
        flat = ImageCms.applyTransform(picture, _lab_transform())
        assert flat is not None
    elif picture.mode == "CMYK" and isinstance(space, bytes):
        flat = _profiled(picture, space)
    else:
        flat = in_mode(picture, "L" if is_grey else "RGB")
        if isinstance(space, bytes):
            flat = _profiled(flat, space)
        elif space is not None:
            flat = _from_primaries(flat, space)
    if alpha is not None:
        flat = flat.copy() if flat is image else flat
        flat.putalpha(alpha)
    return flat


def to_8_bit(image: Image.Image) -> Image.Image:
    """Pictures with 16 or 32 bits a channel, scaled to 8; others as they are."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode not in {"I", "F"}:
        return image
    # 32 bits say nothing of the range: 8 bits, 16 bits or whatever the largest value is.
    floats = np.nan_to_num(np.asarray(image, dtype=np.float64))
    top = 255.0 if floats.max(initial=0) <= 255 else max(65535.0, float(floats.max()))
    return Image.fromarray(np.clip(np.rint(floats * (255.0 / top)), 0, 255).astype(np.uint8))


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The picture in that mode, without the copy that a conversion to its own mode would make."""
    return image if image.mode == mode else image.convert(mode)


def on_page(image: Image.Image, colour: str = "white") -> Image.Image:
    """An RGB picture; what is transparent shows a page of that colour."""
    if image.mode not in {"LA", "RGBA"}:
        return in_mode(image, "RGB")
    page = Image.new("RGBA", image.size, colour)
    return Image.alpha_composite(page, in_mode(image, "RGBA")).convert("RGB")


# -- ICC profiles --------------------------------------------------------------------------


def _profiled_mode(mode: str) -> str:
    """Mode in which a profile is applied to a picture of ``mode``."""
    if mode == "CMYK":
        return "CMYK"
    return "L" if mode in {"1", "L", "LA", "La"} or mode.startswith("I") or mode == "F" else "RGB"


def _profiled(picture: Image.Image, profile: bytes) -> Image.Image:
    """``picture`` (L, RGB or CMYK) through its profile; unchanged where the profile is none for it."""
    transform = _transform(profile, picture.mode)
    if transform is None:
        return in_mode(picture, "RGB") if picture.mode == "CMYK" else picture
    source = in_mode(picture, transform.input_mode)
    converted = ImageCms.applyTransform(source, transform)
    assert converted is not None  # it is None for in-place conversions alone
    return in_mode(converted, "L") if picture.mode == "L" else converted


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """To sRGB from a picture of ``mode``; None for a profile that is broken, or for other pictures."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        taken = {"L": {"GRAY": "L", "RGB": "RGB"}, "RGB": {"RGB": "RGB"}, "CMYK": {"CMYK": "CMYK"}}
        if (input_mode := taken[mode].get(space)) is None:
            return None
        return ImageCms.buildTransform(
            source, ImageCms.createProfile("sRGB"), input_mode, "RGB", ImageCms.Intent.PERCEPTUAL
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


@functools.lru_cache(maxsize=16)
def _changes_nothing(profile: bytes, mode: str) -> bool:
    """Whether a profile for ``mode`` is sRGB under whatever name: its colours stay what they are."""
    if mode == "L":
        values = np.arange(256, dtype=np.uint8)[None, :]
    else:
        steps = np.arange(0, 256, 51, dtype=np.uint8)
        values = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(1, -1, 3)
    converted = np.asarray(_profiled(Image.fromarray(values), profile), dtype=np.int16)
    return int(np.abs(converted - values).max()) <= _SAME


@functools.cache
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.createProfile("LAB"),
        ImageCms.createProfile("sRGB"),
        "LAB",
        "RGB",
        ImageCms.Intent.PERCEPTUAL,
    )


# -- primaries without a profile -----------------------------------------------------------


def _png_space(gamma: object, chromaticities: object) -> Space:
    """gAMA and cHRM; None where they say sRGB (0.45455 stands for its curve) or make no sense."""
    decoding = 2.2
    if isinstance(gamma, float) and 0.1 <= gamma <= 5:
        decoding = 1 / gamma
    is_usual = abs(decoding - 2.2) < 0.05
    points = _SRGB_POINTS
    if isinstance(chromaticities, tuple) and len(chromaticities) == 8:
        given = tuple(map(float, chromaticities))
        if all(0 < value < 1 for value in given):
            points = given
    if max(abs(a - b) for a, b in zip(points, _SRGB_POINTS, strict=True)) < 0.01:
        return None if is_usual else Primaries(decoding, _SRGB_POINTS)
    return Primaries(decoding, points)


def _from_primaries(picture: Image.Image, space: Primaries) -> Image.Image:
    """``picture`` (L or RGB) in another RGB space, as sRGB; band by band, which bounds memory."""
    light = (np.arange(256) / 255.0) ** space.gamma
    if picture.mode == "L":
        return picture.point([round(255 * value) for value in _encoded(light)])
    matrix = _to_linear_srgb(space.chromaticities)
    if matrix is None:
        return picture
    bands = [
        np.rint(255 * _encoded(np.clip(light[band] @ matrix.T, 0, 1))).astype(np.uint8)
        for band in _bands(np.asarray(picture))
    ]
    return Image.fromarray(np.concatenate(bands))


def _bands(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    rows = max(1, _BAND_PIXELS // max(1, pixels.shape[1]))
    for start in range(0, pixels.shape[0], rows):
        yield pixels[start : start + rows]


def _encoded(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """The transfer curve of sRGB; light and result between 0 and 1."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def _to_linear_srgb(points: tuple[float, ...]) -> NDArray[np.float64] | None:
    """3 x 3 matrix from linear RGB with these chromaticities to linear sRGB, white adapted by Bradford's method."""
    try:
        white, to_xyz = _to_xyz(points)
        srgb_white, srgb_to_xyz = _to_xyz(_SRGB_POINTS)
        cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
        scale = np.diag((cone @ srgb_white) / (cone @ white))
        adapted: NDArray[np.float64] = (
            np.linalg.inv(srgb_to_xyz) @ np.linalg.inv(cone) @ scale @ cone @ to_xyz
        )
    except np.linalg.LinAlgError:
        return None
    return adapted if bool(np.isfinite(adapted).all()) else None


def _to_xyz(points: tuple[float, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(XYZ of white, matrix from linear RGB to XYZ) of chromaticities."""
    pairs = [(x / y, 1.0, (1 - x - y) / y) for x, y in zip(points[::2], points[1::2], strict=True)]
    white, columns = np.array(pairs[0]), np.array(pairs[1:]).T
    return white, columns * np.linalg.solve(columns, white)
