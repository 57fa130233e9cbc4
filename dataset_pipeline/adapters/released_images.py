"""Makes pictures releasable: upright, sRGB, of the released size, and without anything but the picture.

Belongs here: bytes to bytes, and finding on the bytes what is no part of a picture. Does not belong here:
facts about pictures (``images.py``), colours (``colour.py``), and files of the release (``archive.py``).

What is released of a picture:

- A JPEG, PNG or WebP file with one frame that is upright, sRGB with at most 8 bits a channel, and no larger than
  ``max_side`` keeps its compressed pixels byte for byte: the parts that they are made of are copied, everything else is left out.
- Anything else is decoded, converted and encoded again: JPEG as JPEG, the rest as PNG.

Faces that are to be hidden become four by four blocks of one colour each, softened: 16 colours are left of a face and what is
around it, whatever its size was.
"""

import io
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import polars as pl
from PIL import Image, ImageFilter

from dataset_pipeline.adapters.colour import colour_space, in_mode, to_srgb
from dataset_pipeline.adapters.images import (
    FORMATS,
    PIXEL_FACTS,
    PNG_CHUNKS,
    SCANNED,
    orientation_of,
    scan_image,
    upright,
)
from dataset_pipeline.adapters.sources import read_images
from dataset_pipeline.config import CleanImages, ReleasedImages

_FULL_CHROMA_QUALITY: Final = 90
"""JPEG quality from which colours keep their full resolution (4:4:4)."""


_PNG_BIT_DEPTH: Final = 24
"""Place of the bit depth in a PNG: the ninth byte of IHDR."""


Faces = Sequence[Mapping[str, Any]]
"""Boxes as in ``tables.FACES``."""

_AROUND_FACE: Final = 0.25
"""Share of a box's sides by which it grows at every edge: hair, ears and chin tell who somebody is, too."""

_BLOCKS: Final = 4


class Released(NamedTuple):
    """The bytes of a released picture, and their file extension."""

    data: bytes
    extension: str


def release_image(data: bytes, settings: ReleasedImages, faces: Faces = ()) -> Released:
    """One released picture; see :func:`release_images`."""
    return release_images(data, (settings,), faces)[0]


def release_images(data: bytes, variants: Sequence[ReleasedImages], faces: Faces = ()) -> list[Released]:
    """What is released of a picture, for each of ``variants``; it is decoded once at most.

    ``faces``: what is to be hidden in it, in every variant. Equal input gives equal output. Raises ``OSError`` or ``ValueError`` for what is no picture; callers pass
    pictures that have been scanned.
    """
    with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        warnings.simplefilter("ignore")
        orientation = orientation_of(image)
        space = colour_space(image)
        is_plain = (
            not faces
            and orientation == 1
            and space is None
            and image.mode in {"1", "L", "LA", "P", "RGB", "RGBA"}
            and not (image.format == "PNG" and data[_PNG_BIT_DEPTH] == 16)
            and int(getattr(image, "n_frames", 1)) == 1
            and image.format in _COPIERS
        )
        longest = max(image.size)
        picture: Image.Image | None = None
        made = []
        for variant in variants:
            is_small_enough = variant.max_side is None or longest <= variant.max_side
            if is_plain and is_small_enough:
                made.append(_COPIERS[str(image.format)](data))
                continue
            if picture is None:
                is_jpeg = image.format in {"JPEG", "MPO"}
                picture = hidden(upright(to_srgb(_loaded(image), space), orientation), faces)
            made.append(_encoded(_resized(picture, variant.max_side), is_jpeg, variant.quality))
        return made


def shown(data: bytes, faces: Faces | None) -> bytes:
    """The bytes of a picture with its faces hidden, for whoever looks at it before it is released."""
    return release_image(data, ReleasedImages(), faces).data if faces else data


def scan_blurred(batch: pl.DataFrame, settings: CleanImages) -> pl.DataFrame:
    """What pictures look like once their faces are hidden: sha256, boxes and ``PIXEL_FACTS``.

    ``batch``: sha256, boxes (kept as they are), location and faces.
    """
    schema = {"sha256": pl.String(), "boxes": pl.String(), **{name: SCANNED[name] for name in PIXEL_FACTS}}
    rows = []
    for data, row in zip(read_images(batch["location"].to_list()), batch.iter_rows(named=True), strict=True):
        facts = scan_image(shown(data, row["faces"]), settings)
        if "problem" in facts:
            raise ValueError(f"a picture with blurred faces cannot be read again: {facts['problem_detail']}")
        rows.append(
            {"sha256": row["sha256"], "boxes": row["boxes"], **{name: facts[name] for name in PIXEL_FACTS}}
        )
    return pl.DataFrame(rows, schema=schema)


def hidden(picture: Image.Image, faces: Faces) -> Image.Image:
    """The upright picture with every face, and what is around it, as a few soft blocks."""
    if not faces:
        return picture
    picture = picture.copy()
    for box in [hidden_area(face, picture.size) for face in faces]:
        part = picture.crop(box)
        blocks = part.resize((_BLOCKS, _BLOCKS), Image.Resampling.BOX)
        large = blocks.resize(part.size, Image.Resampling.NEAREST)
        picture.paste(large.filter(ImageFilter.GaussianBlur(max(part.size) / (2 * _BLOCKS))), box)
    return picture


def hidden_area(face: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is hidden for a face in a picture of that size (width, height)."""
    across = round((face["right"] - face["left"]) * _AROUND_FACE)
    down = round((face["bottom"] - face["top"]) * _AROUND_FACE)
    return (
        max(0, face["left"] - across),
        max(0, face["top"] - down),
        min(size[0], face["right"] + across),
        min(size[1], face["bottom"] + down),
    )


def _loaded(image: Image.Image) -> Image.Image:
    image.load()
    return image


def _resized(picture: Image.Image, max_side: int | None) -> Image.Image:
    """Scaled down so that the longer side has ``max_side`` pixels; never up."""
    longest = max(picture.size)
    if max_side is None or longest <= max_side:
        return picture
    width, height = (max(1, round(side * max_side / longest)) for side in picture.size)
    if picture.mode not in {"LA", "RGBA"}:
        return picture.resize((width, height), Image.Resampling.LANCZOS)
    # Weighted by alpha, so that the colour of what is transparent does not bleed into what is not.
    weighted = "La" if picture.mode == "LA" else "RGBa"
    return picture.convert(weighted).resize((width, height), Image.Resampling.LANCZOS).convert(picture.mode)


def _encoded(picture: Image.Image, is_jpeg: bool, quality: int) -> Released:
    picture = picture.copy()
    picture.info.clear()
    stream = io.BytesIO()
    if is_jpeg:
        subsampling = 0 if quality >= _FULL_CHROMA_QUALITY else 2
        in_mode(picture, "L" if picture.mode in {"L", "LA"} else "RGB").save(
            stream, "JPEG", quality=quality, subsampling=subsampling, optimize=True
        )
        return Released(b"".join(_jpeg_parts(stream.getvalue())), ".jpg")
    picture.save(stream, "PNG", optimize=False, compress_level=6)
    return Released(b"".join(_png_parts(stream.getvalue())), ".png")


# -- what the bytes hold beside the picture ------------------------------------------------


def metadata_in(data: bytes) -> list[str]:
    """Names of the parts of a released file that are no part of the picture, in order; none: it is clean.

    Works on the bytes: whatever is not known to make up pixels is named, whether a decoder looks at it or not.
    """
    copier = next((copy for start, copy in _STARTS.items() if data.startswith(start)), None)
    if copier is None:
        return ["a format that is never released"]
    try:
        clean = b"".join(copier(data))
    except ValueError as error:
        return [f"no sound file: {error}"]
    if clean == data:
        return []
    return list(dict.fromkeys(_foreign_parts(data))) or ["other bytes than those of the picture"]


def _foreign_parts(data: bytes) -> Iterator[str]:
    """Names of parts that a copier leaves out."""
    if data.startswith(b"\xff\xd8"):
        end = 2
        for marker, start, stop in _jpeg_segments(data):
            end = stop
            if (0xE0 <= marker <= 0xEF or marker == 0xFE) and _kept_segment(marker, data[start:stop]) != data[
                start:stop
            ]:
                yield _segment_name(marker, data[start:stop])
    elif data.startswith(b"\x89PNG"):
        end = 8
        for kind, start, stop in _png_chunks(data):
            end = stop
            if kind not in PNG_CHUNKS:
                yield f"PNG chunk {kind.decode('ascii', 'replace')}"
            assert start < stop
    else:
        end = 12
        for kind, _start, stop in _webp_chunks(data):
            end = stop
            if kind not in _WEBP_CHUNKS:
                yield f"WebP chunk {kind.decode('ascii', 'replace').strip()}"
    if end < len(data):
        yield f"{len(data) - end} bytes after the picture"


def _segment_name(marker: int, segment: bytes) -> str:
    if marker == 0xFE:
        return "JPEG comment"
    body = segment[4:40]
    known = {b"Exif\0": "EXIF", b"http://ns.adobe.com/x": "XMP", b"ICC_PROFILE": "ICC profile",
             b"Photoshop 3.0": "IPTC", b"MPF\0": "further pictures", b"JFIF\0": "JFIF thumbnail", b"JFXX\0": "JFIF thumbnail"}  # fmt: skip
    name = next((name for start, name in known.items() if body.startswith(start)), "data")
    return f"JPEG segment APP{marker - 0xE0} ({name})"


# -- JPEG (ITU T.81, annex B) --------------------------------------------------------------

_SOI, _EOI, _SOS, _COMMENT, _ADOBE = 0xD8, 0xD9, 0xDA, 0xFE, 0xEE
_NEXT_MARKER: Final = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
"""In entropy-coded data, a 0xFF is followed by a stuffed zero or a restart number, else a marker begins."""


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of every segment up to the end of the picture, entropy-coded data after its scan header.

    Raises ``ValueError`` where the bytes are no JPEG, or end before the picture does.
    """
    place = 2
    while True:
        if data[place : place + 1] != b"\xff":
            raise ValueError(f"no JPEG segment at byte {place}")
        start = place
        while data[place : place + 1] == b"\xff":  # fill bytes may stand before a marker
            place += 1
        if place >= len(data):
            raise ValueError("the JPEG ends before its picture does")
        marker, place = data[place], place + 1
        if marker == _EOI:
            yield marker, start, place
            return
        if marker == 0x01 or 0xD0 <= marker <= _SOI:  # these have no length
            yield marker, start, place
            continue
        end = place + int.from_bytes(data[place : place + 2], "big")
        if end > len(data) or end < place + 2:
            raise ValueError(f"the JPEG segment at byte {start} does not end")
        if marker == _SOS:
            found = _NEXT_MARKER.search(data, end)
            if found is None:
                raise ValueError("the JPEG ends before its picture does")
            end = found.start()
        yield marker, start, end
        place = end


def _jpeg_parts(data: bytes) -> Iterator[bytes]:
    """The start of a JPEG and its segments less application data and comments, wherever they stand."""
    yield data[:2]
    for marker, start, end in _jpeg_segments(data):
        yield _kept_segment(marker, data[start:end])


def _kept_segment(marker: int, segment: bytes) -> bytes:
    """What stays of a segment: of application data what decoding needs, JFIF and Adobe's colour transform."""
    segment = segment.lstrip(b"\xff")
    if marker == 0xE0 and segment[3:8] == b"JFIF\0" and len(segment) >= 17:
        return b"\xff\xe0\x00\x10" + segment[3:15] + b"\0\0"  # less its thumbnail
    if marker == _ADOBE and segment[3:8] == b"Adobe" and len(segment) >= 15:
        return b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0" + segment[14:15]
    if 0xE0 <= marker <= 0xEF or marker == _COMMENT:
        return b""
    return b"\xff" + segment


# -- PNG (W3C PNG, third edition) ----------------------------------------------------------


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of every chunk up to IEND. Raises ``ValueError`` where there is none."""
    place = 8
    while place + 12 <= len(data):
        kind, end = data[place + 4 : place + 8], place + 12 + int.from_bytes(data[place : place + 4], "big")
        if end > len(data):
            break
        yield kind, place, end
        if kind == b"IEND":
            return
        place = end
    raise ValueError("the PNG ends before its picture does")


def _png_parts(data: bytes) -> Iterator[bytes]:
    """The signature of a PNG and the chunks that its pixels are made of."""
    yield data[:8]
    for kind, start, end in _png_chunks(data):
        if kind in PNG_CHUNKS:
            body = data[start + 8 : end - 4]
            yield data[start : start + 8] + body + zlib.crc32(kind + body).to_bytes(4, "big")


# -- WebP (RFC 9649) -----------------------------------------------------------------------

_WEBP_CHUNKS: Final = frozenset({b"VP8X", b"ALPH", b"VP8 ", b"VP8L"})
_WEBP_ALPHA_FLAG: Final = 0x10


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of every chunk of the RIFF container, padding included."""
    if data[8:12] != b"WEBP":
        raise ValueError("no WebP file")
    stop = 8 + int.from_bytes(data[4:8], "little")
    if stop > len(data):
        raise ValueError("the WebP file ends before its picture does")
    place = 12
    while place + 8 <= stop:
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        end = place + 8 + size + size % 2
        if end > stop:
            raise ValueError(f"the WebP chunk at byte {place} does not end")
        yield data[place : place + 4], place, end
        place = end


def _webp_parts(data: bytes) -> Iterator[bytes]:
    """A WebP container with the chunks that its pixels are made of, and flags that say so."""
    chunks = []
    for kind, start, end in _webp_chunks(data):
        if kind == b"VP8X":
            flags = data[start + 8] & _WEBP_ALPHA_FLAG
            chunks.append(data[start : start + 8] + bytes([flags, 0, 0, 0]) + data[start + 12 : end])
        elif kind in _WEBP_CHUNKS:
            size = int.from_bytes(data[start + 4 : start + 8], "little")
            chunks.append(data[start : start + 8 + size] + b"\0" * (size % 2))
    body = b"WEBP" + b"".join(chunks)
    yield b"RIFF" + len(body).to_bytes(4, "little") + body


def _copied_jpeg(data: bytes) -> Released:
    return Released(b"".join(_jpeg_parts(data)), ".jpg")


def _copied_png(data: bytes) -> Released:
    return Released(b"".join(_png_parts(data)), ".png")


def _copied_webp(data: bytes) -> Released:
    return Released(b"".join(_webp_parts(data)), ".webp")


_COPIERS: Final = {"JPEG": _copied_jpeg, "PNG": _copied_png, "WEBP": _copied_webp}
_STARTS: Final = {b"\xff\xd8": _jpeg_parts, b"\x89PNG\r\n\x1a\n": _png_parts, b"RIFF": _webp_parts}
