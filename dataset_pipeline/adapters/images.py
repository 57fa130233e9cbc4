"""Decodes pictures: one decode gives every later stage what it needs.

Belongs here: bytes to facts. Does not belong here: colours (``colour.py``), bytes to bytes
(``released_images.py``), judging a picture (``stages/image_checks.py``) and comparing two
(``stages/duplicates.py``).

A JPEG larger than twice ``SCAN_SIDE_PX`` is decoded at 1/2, 1/4 or 1/8 of its size (scaled inverse
DCT), which costs a fraction and still reads every byte, so truncation is found. Its
``pixel_hash`` then covers that scaled picture and the full size: pictures whose files differ only
in metadata match, and pictures that differ only in detail finer than the scale would match too.
libjpeg-turbo decodes what it has nothing to complain of; everything else goes to Pillow, which
forgives more and says what is wrong.
"""

import hashlib
import io
import itertools
import math
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import polars as pl
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dataset_pipeline.adapters.colour import Space, colour_space, in_mode, on_page, to_srgb
from dataset_pipeline.adapters.sources import FILE_IDENTITY, FILES, read_image_bytes
from dataset_pipeline.config import CleanImages
from dataset_pipeline.tables import IMAGES, THUMBNAIL_SIDE_PX

SCAN_SIDE_PX = 128
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_ORIENTATION, _GPS = 0x0112, 0x8825
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the picture upright."""
_TRANSPOSED = {5, 6, 7, 8}
_MIN_SIGNAL = 0.05
"""Variance of a Laplacian, in squared grey levels: less is rounding, and no ratio is made of it."""

Image.MAX_IMAGE_PIXELS = None  # the limit is clean.images.max_pixels, checked before decoding

HASHED = {**{name: FILES[name] for name in FILE_IDENTITY}, "sha256": pl.String()}
SCANNED = {
    name: IMAGES[name] for name in IMAGES if name not in {"image_ref", "location", "size_bytes", "faces"}
}
MEASURED = (
    "dhash",
    "brightness",
    "darkest",
    "brightest",
    "contrast",
    "entropy_bits",
    "sharpness",
    "fine_detail",
)
"""What pictures are judged by."""
PIXEL_FACTS = ("pixel_hash", "phash", *MEASURED, "thumbnail")
"""Columns of ``SCANNED`` that are measured on pixels."""


def hash_files(batch: pl.DataFrame) -> pl.DataFrame:
    """``HASHED`` for rows with the columns of ``FILE_IDENTITY``; unreadable: a null hash."""
    hashes: list[str | None] = []
    for location in batch["location"]:
        try:
            hashes.append(hashlib.sha256(read_image_bytes(location)).hexdigest())
        except OSError:
            hashes.append(None)
    return batch.select(FILE_IDENTITY).with_columns(sha256=pl.Series(hashes, dtype=pl.String))


def scan_images(batch: pl.DataFrame, settings: CleanImages) -> pl.DataFrame:
    """``SCANNED`` for rows with ``sha256`` and ``location``; never raises for what a file holds."""
    rows = []
    for sha256, location in batch.select("sha256", "location").iter_rows():
        try:
            facts = scan_image(read_image_bytes(location), settings)
        except OSError as error:
            facts = {"problem": "image_undecodable", "problem_detail": f"cannot be read: {error.strerror}"}
        rows.append({**facts, "sha256": sha256})
    return pl.DataFrame(rows, schema=SCANNED)


def scan_image(data: bytes, settings: CleanImages, *, is_measured: bool = True) -> dict[str, Any]:
    """Facts about one picture as a row of ``SCANNED``, or its ``problem``.

    Where it is not to be measured, without ``MEASURED``: they take a third of the time, and no comparison needs them.
    """
    if not data:
        return {"problem": "image_empty", "problem_detail": "0 bytes"}
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            warnings.simplefilter("ignore")  # Pillow warns about odd metadata, which is not the picture
            # Before anything else: to look for EXIF data, Pillow decodes a whole PNG.
            if image.width * image.height > settings.max_pixels:
                detail = f"{image.width} x {image.height} pixels, at most {settings.max_pixels:,} are decoded"
                return {"problem": "image_too_large", "problem_detail": detail}
            facts = _header_facts(image)
            space = colour_space(image)
            picture, pixels = _decoded(data, image)
            if image.format == "PNG" and (damaged := _damaged_png_chunk(data)):
                # Pillow decodes it all the same, to pixels that nobody drew.
                return {
                    "problem": "image_undecodable",
                    "problem_detail": f"checksum of chunk {damaged} is wrong",
                }
            return {**facts, **_pixel_facts(picture, space, facts, pixels, is_measured)}
    except UnidentifiedImageError:
        return _no_picture(data)
    except Exception as error:  # decoders raise anything on hostile bytes, and one file must not stop a build
        is_cut = "truncated" in str(error).lower() or isinstance(error, (EOFError, IndexError))
        reason = "image_truncated" if is_cut else "image_undecodable"
        return {"problem": reason, "problem_detail": f"{type(error).__name__}: {error}"[:200]}


def _no_picture(data: bytes) -> dict[str, Any]:
    """The problem of bytes that no decoder knows; an error page saved as a picture is told apart."""
    start = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in start:
        return {"problem": "image_undecodable", "problem_detail": "an SVG drawing: render it to pixels first"}
    for kind, marks in _TEXTS.items():
        if start.startswith(marks):
            return {"problem": "image_is_text", "problem_detail": f"starts like {kind}"}
    return {
        "problem": "image_undecodable",
        "problem_detail": f"not a picture: starts with {data[:8].hex(' ')}",
    }


_TEXTS = {
    "HTML": (b"<!doctype html", b"<html", b"<head", b"<body", b"<!--"),
    "XML": (b"<?xml", b"<error"),
    "JSON": (b'{"', b"{\n", b"{\r", b"{ ", b'[{"'),
}


def _header_facts(image: Image.Image) -> dict[str, Any]:
    """Facts that need no pixels."""
    exif = image.getexif()
    orientation = orientation_of(image)
    width, height = image.size
    if orientation in _TRANSPOSED:
        width, height = height, width
    return {
        "format": image.format,
        "width_px": width,
        "height_px": height,
        "mode": image.mode,
        # What an MPO holds beside the picture (a preview, a depth map, another view) is shown by no viewer.
        "frames": 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1)),
        "exif_orientation": orientation,
        "has_exif": len(exif) > 0,
        "has_gps": bool(exif.get_ifd(_GPS)),
        "has_alpha": image.has_transparency_data,
    }


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation (1-8) that is still to be applied to an opened picture; Pillow itself turns a TIFF."""
    orientation = 1 if image.format == "TIFF" else image.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in _TURNS else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture as its EXIF orientation says that it is to be shown."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def open_rgb(data: bytes) -> Image.Image:
    """The picture upright, in RGB, on white where it is transparent.

    Raises ``OSError`` or ``ValueError`` for what is no picture; callers pass pictures that have been scanned.
    """
    with Image.open(io.BytesIO(data)) as image:
        space, orientation = colour_space(image), orientation_of(image)
        image.load()  # what needs no conversion is handed on as it is, after its file is closed
        return on_page(upright(to_srgb(image, space), orientation))


# -- decoding ------------------------------------------------------------------------------


def _decoded(
    data: bytes, image: Image.Image, side_px: int = SCAN_SIDE_PX
) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    """The pixels of an opened picture, a large JPEG scaled down to a shorter side of ``side_px`` or more.

    With them, where they are there anyway, as an array (height, width, 3).
    """
    if image.format not in {"JPEG", "MPO"}:
        image.load()
        return image, None
    scale = 1
    while scale < 8 and min(image.size) >= 2 * scale * side_px:
        scale *= 2
    width, height = (math.ceil(side / scale) for side in image.size)
    if image.mode in {"L", "RGB"}:
        try:
            pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width, strict=True)
        except ValueError:
            pass  # Pillow judges: it reads on where no harm is done, and names the fault where there is one
        else:
            size = (pixels.shape[1], pixels.shape[0])
            return Image.frombuffer("RGB", size, pixels, "raw", "RGB", 0, 1), pixels
    image.draft(None, (width, height))
    image.load()
    return image, None


# -- what the pixels tell ------------------------------------------------------------------


def _pixel_facts(
    picture: Image.Image,
    space: Space,
    facts: dict[str, Any],
    pixels: NDArray[np.uint8] | None,
    is_measured: bool,
) -> dict[str, Any]:
    """``pixels``: those of ``picture``, where they need not be copied out of it."""
    shown = upright(to_srgb(picture, space), facts["exif_orientation"])
    rgba = in_mode(shown, "RGBA" if shown.mode in {"LA", "RGBA"} else "RGB")
    size = struct.pack("<II", facts["width_px"], facts["height_px"])
    pixel_hash = hashlib.sha256(size + rgba.mode.encode())
    pixel_hash.update(pixels.data if pixels is not None and rgba is picture else rgba.tobytes())
    rgb = on_page(rgba)
    grey = rgb.convert("L")
    side = min(rgb.size)
    # Whole-number reduction first: the hashes and the thumbnail need no more, and cost a tenth. A box filter takes
    # whole pixels only, so that of a small picture's copies in other sizes none looks like it.
    factor = side // (2 * THUMBNAIL_SIDE_PX)
    small, small_grey = (rgb.reduce(factor), grey.reduce(factor)) if factor > 1 else (rgb, grey)
    thumbnail = small.resize((THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), Image.Resampling.LANCZOS)
    look = {
        "pixel_hash": pixel_hash.hexdigest(),
        "phash": _phash(small_grey),
        "thumbnail": thumbnail.tobytes(),
    }
    return {**look, **_measures(rgba, grey, small_grey)} if is_measured else look


def _measures(rgba: Image.Image, grey: Image.Image, small_grey: Image.Image) -> dict[str, Any]:
    """``MEASURED``; ``rgba``: with its transparency, where it has any."""
    side = min(grey.size)
    alike = grey.reduce(side // SCAN_SIDE_PX) if side >= 2 * SCAN_SIDE_PX else grey
    sharpness, fine_detail = _sharpness(alike)
    tones = _tones(grey)
    if rgba.mode == "RGBA" and tones["contrast"] < _FAINT:
        # A white drawing on nothing is not blank: it is meant for another page.
        tones["contrast"] = max(tones["contrast"], _tones(on_page(rgba, "black").convert("L"))["contrast"])
    return {"dhash": _dhash(small_grey), **tones, "sharpness": sharpness, "fine_detail": fine_detail}


_FAINT = 16.0
_LEVELS = np.arange(256)


def _tones(grey: Image.Image) -> dict[str, float]:
    """Statistics of the luminance histogram."""
    share = np.asarray(grey.histogram(), dtype=np.float64)
    share /= share.sum()
    brightness = float(share @ _LEVELS)
    cumulated = share.cumsum()
    present = share[share > 0]
    return {
        "brightness": brightness,
        "darkest": float(np.searchsorted(cumulated, 0.01)),
        "brightest": float(np.searchsorted(cumulated, min(0.99, cumulated[-1]))),
        "contrast": math.sqrt(max(0.0, float(share @ (_LEVELS - brightness) ** 2))),
        "entropy_bits": float(-(present @ np.log2(present))) + 0.0,
    }


_HASH_SIDE, _HASH_PIXELS = 8, 32
_COSINES = 2 * np.cos(
    np.pi * np.outer(np.arange(_HASH_SIDE), 2 * np.arange(_HASH_PIXELS) + 1) / (2 * _HASH_PIXELS)
)
"""The 8 lowest rows of the DCT-II of 32 values."""


def _phash(grey: Image.Image) -> int:
    """pHash as imagehash computes it: signs of the 8 x 8 lowest frequencies about their median."""
    pixels = np.asarray(grey.resize((_HASH_PIXELS, _HASH_PIXELS), Image.Resampling.LANCZOS), dtype=np.float64)
    # Rounded, so that on a flat picture no bit hangs on how a machine adds up.
    low = np.round(_COSINES @ pixels @ _COSINES.T, 6)
    middle = (
        np.sort(low, axis=None)[31:33].sum() / 2
    )  # the median of 64: numpy's own takes five times as long
    return _bits(low > middle)


def _dhash(grey: Image.Image) -> int:
    """dHash as imagehash computes it: signs of horizontal gradients."""
    pixels = np.asarray(grey.resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.LANCZOS))
    return _bits(pixels[:, 1:] > pixels[:, :-1])


def _bits(bits: NDArray[np.bool_]) -> int:
    """64 booleans as an integer, first one highest."""
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def _sharpness(grey: Image.Image) -> tuple[float, float | None]:
    """(sharpness, fine detail) of a picture reduced to a like size, so that they compare between resolutions.

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al., 2000), in squared grey levels; it grows with
    contrast and with how much there is to see. Fine detail is its ratio to the variance at half the scale,
    the least over three octaves: the spectrum of pictures is alike at all scales (Field, 1987), so that the ratio
    is near 1 whatever a picture shows, and small where a blur has taken the detail of some scale away. Coarser
    octaves find a blur under the noise of a sensor or an encoder. None: nothing to measure.
    """
    variances = [_laplacian_variance(grey)]
    while len(variances) < _OCTAVES and min(grey.size) >= 6:
        grey = grey.reduce(2)
        variances.append(_laplacian_variance(grey))
    ratios = [fine / coarse for fine, coarse in itertools.pairwise(variances) if coarse > _MIN_SIGNAL]
    return variances[0], min(ratios) if ratios else None


_OCTAVES = 4


def _laplacian_variance(grey: Image.Image) -> float:
    """Variance of the Laplacian, of every second row where there are many."""
    if min(grey.size) < 3:
        return 0.0
    levels = np.asarray(grey, dtype=np.int16)
    step = 2 if grey.height >= SCAN_SIDE_PX else 1
    inner, above, below = levels[1:-1:step], levels[:-2:step], levels[2::step]
    laplacian = (inner[:, 1:-1] << 2) - above[:, 1:-1]
    laplacian -= below[:, 1:-1]
    laplacian -= inner[:, :-2]
    laplacian -= inner[:, 2:]
    values = laplacian.ravel().astype(np.float64)
    # Whole numbers below 2 ** 53: no sum hangs on how a machine adds up.
    return float(values @ values) / values.size - (float(values.sum()) / values.size) ** 2


# -- chunks of a PNG -----------------------------------------------------------------------

PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"})
"""Chunks that the pixels are made of."""


def _damaged_png_chunk(data: bytes) -> str | None:
    """Name of the first chunk that the picture is made of and that does not match its checksum."""
    place = 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        kind, end = data[place + 4 : place + 8], place + 8 + length
        if kind in PNG_CHUNKS and zlib.crc32(data[place + 4 : end]) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            return kind.decode("ascii")
        if kind == b"IEND":
            break
        place = end + 4
    return None
