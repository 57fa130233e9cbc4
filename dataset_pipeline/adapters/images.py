"""Decodes pictures: one decode gives every later stage what it needs; and makes them releasable.

Belongs here: bytes to facts, bytes to bytes. Does not belong here: judging a picture
(``stages/clean.py``) and comparing two (``stages/duplicates.py``).

A JPEG larger than twice ``SCAN_SIDE_PX`` is decoded at 1/2, 1/4 or 1/8 of its size (scaled inverse
DCT), which costs a fraction and still reads every byte, so truncation is found. Its
``pixel_hash`` then covers that scaled picture and the full size: pictures whose files differ only
in metadata match, and pictures that differ only in detail finer than the scale would match too.
"""

import hashlib
import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from dataset_pipeline.adapters.sources import read_image_bytes
from dataset_pipeline.config import CleanImages
from dataset_pipeline.tables import IMAGES, THUMBNAIL_SIDE_PX

SCAN_SIDE_PX = 256
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_ORIENTATION, _GPS = 0x0112, 0x8825
_TRANSPOSED = {5, 6, 7, 8}

Image.MAX_IMAGE_PIXELS = None  # the limit is clean.images.max_pixels, checked before decoding

HASHED = {"location": pl.String(), "size_bytes": pl.Int64(), "mtime_ns": pl.Int64(), "sha256": pl.String()}
SCANNED = {name: IMAGES[name] for name in IMAGES if name not in {"image_ref", "location", "size_bytes"}}


def hash_files(batch: pl.DataFrame) -> pl.DataFrame:
    """``HASHED`` for rows with ``location``, ``size_bytes`` and ``mtime_ns``; unreadable: a null hash."""
    hashes: list[str | None] = []
    for location in batch["location"]:
        try:
            hashes.append(hashlib.sha256(read_image_bytes(location)).hexdigest())
        except OSError:
            hashes.append(None)
    return batch.select("location", "size_bytes", "mtime_ns").with_columns(
        sha256=pl.Series(hashes, dtype=pl.String)
    )


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


def scan_image(data: bytes, settings: CleanImages) -> dict[str, Any]:
    """Facts about one picture as a row of ``SCANNED``, or its ``problem``."""
    if not data:
        return {"problem": "image_empty", "problem_detail": "0 bytes"}
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            warnings.simplefilter("ignore")  # Pillow warns about odd metadata, which is not the picture
            # Before anything else: to look for EXIF data, Pillow decodes a whole PNG.
            if image.width * image.height > settings.max_pixels:
                detail = f"{image.width} x {image.height} pixels, at most {settings.max_pixels:,} are decoded"
                return {"problem": "image_too_large", "problem_detail": detail}
            size = image.size
            if image.format in {"JPEG", "MPO"}:
                image.draft(None, (SCAN_SIDE_PX, SCAN_SIDE_PX))
            facts = _header_facts(image, size)
            image.load()
            if image.format == "PNG" and (damaged := _damaged_png_chunk(data)):
                # Pillow decodes it all the same, to pixels that nobody drew.
                return {
                    "problem": "image_undecodable",
                    "problem_detail": f"checksum of chunk {damaged} is wrong",
                }
            return {**facts, **_pixel_facts(image, facts)}
    except UnidentifiedImageError:
        return {
            "problem": "image_undecodable",
            "problem_detail": f"not a picture: starts with {data[:8].hex(' ')}",
        }
    except Exception as error:  # decoders raise anything on hostile bytes, and one file must not stop a build
        is_cut = "truncated" in str(error).lower() or isinstance(error, (EOFError, IndexError))
        reason = "image_truncated" if is_cut else "image_undecodable"
        return {"problem": reason, "problem_detail": f"{type(error).__name__}: {error}"[:200]}


def _header_facts(image: Image.Image, size: tuple[int, int]) -> dict[str, Any]:
    """Facts that need no pixels; ``size`` is the one before any scaled decoding."""
    exif = image.getexif()
    orientation = exif.get(_ORIENTATION, 1)
    orientation = orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
    width, height = size
    if orientation in _TRANSPOSED:
        width, height = height, width
    return {
        "format": image.format,
        "width_px": width,
        "height_px": height,
        "mode": image.mode,
        "frames": int(getattr(image, "n_frames", 1)),
        "exif_orientation": orientation,
        "has_exif": len(exif) > 0,
        "has_gps": bool(exif.get_ifd(_GPS)),
        "has_alpha": image.has_transparency_data,
    }


def _pixel_facts(image: Image.Image, facts: dict[str, Any]) -> dict[str, Any]:
    import imagehash

    upright = image if facts["exif_orientation"] == 1 else ImageOps.exif_transpose(image)
    rgba = _in_mode(to_8_bit(upright), "RGBA" if facts["has_alpha"] else "RGB")
    size = struct.pack("<II", facts["width_px"], facts["height_px"])
    pixel_hash = hashlib.sha256(size + rgba.mode.encode() + rgba.tobytes()).hexdigest()
    rgb = on_white(rgba)
    grey = rgb.convert("L")
    histogram = np.asarray(grey.histogram(), dtype=np.float64)
    share = histogram / histogram.sum()
    levels = np.arange(256)
    brightness = float(share @ levels)
    present = share[share > 0]
    # Whole-number reduction first: the hashes and the thumbnail need no more, and cost a tenth.
    factor = max(1, min(rgb.size) // (4 * THUMBNAIL_SIDE_PX))
    small = grey.reduce(factor)
    # A box filter takes whole pixels only, so that of a small picture's copies in other sizes none looks like it.
    thumbnail = rgb.reduce(factor).resize((THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), Image.Resampling.LANCZOS)
    return {
        "pixel_hash": pixel_hash,
        "phash": _bits(imagehash.phash(small).hash),
        "dhash": _bits(imagehash.dhash(small).hash),
        "brightness": brightness,
        "contrast": math.sqrt(max(0.0, float(share @ (levels - brightness) ** 2))),
        "entropy_bits": float(-(present @ np.log2(present))) + 0.0,
        "sharpness": _sharpness(np.asarray(small, dtype=np.float32)),
        "thumbnail": thumbnail.tobytes(),
    }


def _bits(bits: NDArray[np.bool_]) -> int:
    """64 booleans as an integer, first one highest."""
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def _sharpness(grey: NDArray[np.float32]) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al., 2000), in squared grey levels.

    Measured on pictures reduced to a like size, so that it compares between resolutions.
    """
    if min(grey.shape) < 3:
        return 0.0
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    return float(laplacian.var())


def to_8_bit(image: Image.Image) -> Image.Image:
    """Pictures with 16 or 32 bits a channel, scaled to 8; others as they are."""
    if image.mode not in {"I", "F"} and not image.mode.startswith("I;"):
        return image
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    top = 255.0 if values.max(initial=0) <= 255 else max(65535.0, float(values.max()))
    return Image.fromarray(np.clip(values * (255.0 / top), 0, 255).astype(np.uint8))


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The picture in that mode, without the copy that a conversion to its own mode would make."""
    return image if image.mode == mode else image.convert(mode)


def on_white(image: Image.Image) -> Image.Image:
    """An RGB picture; what is transparent shows white, as on a page."""
    if image.mode != "RGBA":
        return _in_mode(image, "RGB")
    page = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(page, image).convert("RGB")


# -- release -------------------------------------------------------------------------------


def release_image(data: bytes) -> tuple[bytes, str]:
    """The bytes that are released, and their file extension.

    No metadata survives: no EXIF, GPS, XMP, comment or embedded thumbnail. A JPEG or PNG that
    needs no rotation and no colour conversion keeps its pixels exactly (its segments are copied);
    anything else is oriented, converted to sRGB and encoded again, JPEG as JPEG (quality 95),
    the rest as PNG of its first frame. Equal input gives equal output. Raises ``OSError`` or
    ``ValueError`` for what is no picture; callers pass pictures that have been scanned.
    """
    with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        warnings.simplefilter("ignore")
        is_upright = image.getexif().get(_ORIENTATION, 1) in {0, 1}
        is_srgb = "icc_profile" not in image.info and image.mode not in {"CMYK", "YCbCr", "LAB"}
        frames = int(getattr(image, "n_frames", 1))
        if is_upright and is_srgb and frames == 1 and image.format == "JPEG":
            return b"".join(_jpeg_without_metadata(data)), ".jpg"
        if is_upright and is_srgb and frames == 1 and image.format == "PNG":
            return b"".join(_png_without_metadata(data)), ".png"
        upright = _to_srgb(ImageOps.exif_transpose(to_8_bit(image)))
        stream = io.BytesIO()
        if image.format in {"JPEG", "MPO"}:
            upright.convert("L" if upright.mode == "L" else "RGB").save(
                stream, "JPEG", quality=95, subsampling=0
            )
            return stream.getvalue(), ".jpg"
        plain = upright if upright.mode in {"1", "L", "LA", "RGB", "RGBA"} else upright.convert("RGBA")
        plain.info.clear()
        plain.save(stream, "PNG")
        return stream.getvalue(), ".png"


def _to_srgb(image: Image.Image) -> Image.Image:
    """The picture in sRGB, by its ICC profile where that can be read."""
    profile = image.info.get("icc_profile")
    if image.mode == "P":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if profile and image.mode in {"RGB", "RGBA", "L", "CMYK"}:
        target = image.mode if image.mode in {"RGBA", "L"} else "RGB"
        try:
            if target == "RGBA":  # colour management knows no alpha: it is put aside and back
                alpha = image.getchannel("A")
                converted = _convert(image.convert("RGB"), profile, "RGB")
                converted.putalpha(alpha)
                return converted
            return _convert(image, profile, target) if target == "RGB" else image
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile: show the numbers as they are, as browsers do
    return image.convert("RGB") if image.mode in {"CMYK", "YCbCr", "LAB", "HSV"} else image


def _convert(image: Image.Image, profile: bytes, mode: str) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode=mode
    )
    if converted is None:
        raise OSError("no conversion")
    return converted


def _jpeg_without_metadata(data: bytes) -> Iterator[bytes]:
    """Segments of a JPEG (ITU T.81, annex B) less application data and comments.

    APP0 (JFIF) and APP14 (Adobe, which says how colours are coded) are needed to decode.
    """
    yield data[:2]
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            raise ValueError(f"not a JPEG segment at byte {place}")
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        end = place + 2 + length
        if marker == 0xDA:  # start of scan: entropy-coded data up to the end-of-image marker
            stop = data.rfind(b"\xff\xd9")
            yield data[place : stop + 2] if stop > place else data[place:]
            return
        is_metadata = (0xE1 <= marker <= 0xEF and marker != 0xEE) or marker == 0xFE
        if marker == 0xE0 and data[place + 4 : place + 9] == b"JFIF\0":
            yield _jfif_without_thumbnail(data[place:end])
        elif not is_metadata and marker != 0xE0:
            yield data[place:end]
        place = end


def _jfif_without_thumbnail(segment: bytes) -> bytes:
    return b"\xff\xe0\x00\x10" + segment[4:16] + b"\0\0" if len(segment) >= 18 else segment


_PNG_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD"}


def _damaged_png_chunk(data: bytes) -> str | None:
    """Name of the first chunk that the picture is made of and that does not match its checksum."""
    place = 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        kind, end = data[place + 4 : place + 8], place + 8 + length
        if kind in _PNG_CHUNKS and zlib.crc32(data[place + 4 : end]) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            return kind.decode("ascii")
        if kind == b"IEND":
            break
        place = end + 4
    return None


def _png_without_metadata(data: bytes) -> Iterator[bytes]:
    """Chunks of a PNG (W3C PNG, third edition) that the picture is made of."""
    yield data[:8]
    place = 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if kind in _PNG_CHUNKS:
            yield data[place : place + 8] + body + zlib.crc32(kind + body).to_bytes(4, "big")
        place += 12 + length
        if kind == b"IEND":
            return
