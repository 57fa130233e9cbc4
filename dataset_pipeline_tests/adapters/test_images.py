"""The image scan: right facts for good pictures, a reason for every bad one, clean released bytes."""

import io
import struct
import zlib
from pathlib import Path

import imagehash
import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageCms

from dataset_pipeline.adapters.images import release_image, scan_image, scan_images
from dataset_pipeline.config import CleanImages
from dataset_pipeline.tables import IMAGES
from dataset_pipeline_tests.pictures import CLOTHING, encoded, needs_clothing, picture

SETTINGS = CleanImages()


def png_that_claims(width: int, height: int) -> bytes:
    """A few bytes that promise a huge picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "image_empty"),
        (b"hello, this is a text file\n" * 10, "image_undecodable"),
        (encoded(picture(), "JPEG")[:-200], "image_truncated"),
        (encoded(picture(), "PNG")[:-60], "image_truncated"),
        (png_that_claims(50_000, 50_000), "image_too_large"),  # a decompression bomb
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "image_undecodable"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "image_undecodable"),  # Pillow would start a program for this one
    ],
)
def test_bad_bytes_get_a_reason(data: bytes, reason: str) -> None:
    facts = scan_image(data, SETTINGS)
    assert facts["problem"] == reason
    assert facts["problem_detail"]


def test_every_cut_of_a_picture_gets_a_reason() -> None:
    """Whatever byte a download broke off at, the scan must not raise and must not call it whole."""
    for kind in ("PNG", "JPEG", "GIF", "WEBP"):
        data = encoded(picture(size=(40, 30)), kind)
        for length in range(1, len(data) - 40, 37):
            assert scan_image(data[:length], SETTINGS).get("problem"), (
                f"{kind} cut at {length} of {len(data)}"
            )


def test_facts_of_a_plain_picture() -> None:
    image = Image.new("RGB", (100, 50), (10, 10, 10))
    image.paste((200, 200, 200), (0, 0, 50, 50))
    facts = scan_image(encoded(image), SETTINGS)
    assert (facts["format"], facts["width_px"], facts["height_px"], facts["frames"]) == ("PNG", 100, 50, 1)
    assert facts["brightness"] == pytest.approx(105)
    assert facts["contrast"] == pytest.approx(95)
    assert facts["entropy_bits"] == pytest.approx(1)
    assert len(facts["thumbnail"]) == 32 * 32 * 3


def test_hashes_are_imagehash_ones() -> None:
    """At a size where nothing is reduced first, they are exactly what the library gives."""
    image = picture(3, (80, 60))
    facts = scan_image(encoded(image), SETTINGS)
    grey = image.convert("L")
    assert facts["phash"] == int(str(imagehash.phash(grey)), 16)
    assert facts["dhash"] == int(str(imagehash.dhash(grey)), 16)


def test_orientation_is_applied() -> None:
    image = picture(1, (60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn clockwise to show
    turned = scan_image(encoded(image.transpose(Image.Transpose.ROTATE_90), exif=exif), SETTINGS)
    upright = scan_image(encoded(image), SETTINGS)
    assert turned["exif_orientation"] == 6
    assert (turned["width_px"], turned["height_px"]) == (60, 40)
    assert turned["pixel_hash"] == upright["pixel_hash"]


def test_gps_is_seen() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825)[2] = (50.0, 5.0, 0.0)
    facts = scan_image(encoded(picture(), "JPEG", exif=exif), SETTINGS)
    assert facts["has_gps"]
    assert facts["has_exif"]


def test_pixel_hash_ignores_the_encoding_and_sees_one_pixel() -> None:
    image = picture(2)
    one = scan_image(encoded(image, "PNG", compress_level=1), SETTINGS)
    two = scan_image(encoded(image, "BMP"), SETTINGS)
    assert one["pixel_hash"] == two["pixel_hash"]
    image.putpixel((5, 5), (0, 0, 0))
    assert scan_image(encoded(image), SETTINGS)["pixel_hash"] != one["pixel_hash"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_decodes(mode: str) -> None:
    base = picture(4)
    image = (
        base.convert("RGBA").convert("LA") if mode == "LA" else base.convert("L" if mode == "I;16" else mode)
    )
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image, dtype=np.uint16) * 257)
    facts = scan_image(encoded(image, "TIFF" if mode in {"CMYK", "I;16"} else "PNG"), SETTINGS)
    assert facts.get("problem") is None
    reference = scan_image(encoded(base.convert("L")), SETTINGS)
    assert facts["brightness"] == pytest.approx(reference["brightness"], abs=12)


def test_a_batch_has_the_declared_shape_and_survives_a_missing_file(tmp_path: Path) -> None:
    good = tmp_path / "a.png"
    good.write_bytes(encoded(picture()))
    batch = pl.DataFrame({"sha256": ["1", "2"], "location": [str(good), str(tmp_path / "gone.png")]})
    table = scan_images(batch, SETTINGS)
    assert set(table.columns) <= set(IMAGES)
    assert table["problem"].to_list() == [None, "image_undecodable"]


# -- release -------------------------------------------------------------------------------


def with_everything(kind: str) -> bytes:
    """A picture with GPS, a camera name, XMP and a comment."""
    exif = Image.Exif()
    exif[0x010F] = "SECRETCAMERA"
    exif.get_ifd(0x8825)[2] = (50.0, 5.0, 0.0)
    options = {"exif": exif, "xmp": b"<x:xmpmeta>SECRETXMP</x:xmpmeta>"}
    if kind == "JPEG":
        options["comment"] = b"SECRETCOMMENT"
    return encoded(picture(), kind, **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_released_bytes_hold_no_metadata(kind: str) -> None:
    data, extension = release_image(with_everything(kind))
    assert extension == (".jpg" if kind == "JPEG" else ".png")
    assert b"SECRET" not in data
    with Image.open(io.BytesIO(data)) as image:
        assert not image.getexif()
        assert "xmp" not in image.info
        assert "comment" not in image.info


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pixels_of_upright_pictures_are_untouched(kind: str) -> None:
    source = with_everything(kind)
    data, _extension = release_image(source)
    assert scan_image(data, SETTINGS)["pixel_hash"] == scan_image(source, SETTINGS)["pixel_hash"]
    assert release_image(data)[0] == data  # idempotent


def test_jpeg_thumbnails_and_trailing_bytes_go() -> None:
    data = encoded(picture(), "JPEG") + b"SECRET appended after the end of the picture"
    assert b"SECRET" not in release_image(data)[0]


def test_rotated_pictures_come_out_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    data, _extension = release_image(
        encoded(picture(5).transpose(Image.Transpose.ROTATE_180), "PNG", exif=exif)
    )
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), np.asarray(picture(5)))


def test_colour_profiles_become_srgb() -> None:
    """A Lab-profiled picture shown without its profile would have other colours."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data, _extension = release_image(encoded(picture(6), "PNG", icc_profile=profile))
    with Image.open(io.BytesIO(data)) as image:
        assert "icc_profile" not in image.info
        assert np.abs(np.asarray(image, int) - np.asarray(picture(6), int)).max() <= 2


def test_cmyk_and_animations() -> None:
    data, extension = release_image(encoded(picture(7, mode="CMYK"), "JPEG"))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.mode, extension) == ("RGB", ".jpg")
    frames = [picture(8), picture(9)]
    data, extension = release_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    with Image.open(io.BytesIO(data)) as image:
        assert (extension, getattr(image, "n_frames", 1)) == (".png", 1)


@needs_clothing
def test_real_photos_keep_their_pixels() -> None:
    for path in sorted((CLOTHING / "images").iterdir())[:40]:
        source = path.read_bytes()
        data, _extension = release_image(source)
        facts = scan_image(source, SETTINGS)
        if facts["exif_orientation"] == 1:
            assert scan_image(data, SETTINGS)["pixel_hash"] == facts["pixel_hash"]


def test_a_png_whose_pixels_were_overwritten_is_found() -> None:
    """A stored (uncompressed) block decodes whatever its bytes are: only the checksum tells."""
    whole = encoded(picture(), compress_level=0)
    at = whole.index(b"IDAT") + 2000
    damaged = whole[:at] + bytes(64) + whole[at + 64 :]
    found = scan_image(damaged, CleanImages())
    assert found["problem"] == "image_undecodable"
    assert scan_image(whole, CleanImages()).get("problem") is None
