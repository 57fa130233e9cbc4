"""The image scan: right facts for good pictures, a reason for every bad one, clean released bytes."""

import struct
import zlib
from pathlib import Path

import imagehash
import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageFilter

from dataset_pipeline.adapters.images import MEASURED, scan_image, scan_images
from dataset_pipeline.config import CleanImages
from dataset_pipeline.tables import IMAGES
from dataset_pipeline_tests.pictures import encoded, picture

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
        (b"  <!DOCTYPE html><title>404 Not Found</title>", "image_is_text"),
        (b'\xef\xbb\xbf<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "image_is_text"),
        (b'{"error": "not found"}', "image_is_text"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "image_undecodable"),
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


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_what_is_not_measured_is_left_out_and_the_rest_is_as_it_was(mode: str) -> None:
    data = encoded(picture(3, (300, 280), mode))
    whole = scan_image(data, CleanImages())
    part = scan_image(data, CleanImages(), is_measured=False)
    assert set(whole) - set(part) == set(MEASURED)
    assert part == {name: value for name, value in whole.items() if name not in MEASURED}
    assert scan_image(data[:99], CleanImages(), is_measured=False) == scan_image(data[:99], CleanImages())


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


def test_a_png_whose_pixels_were_overwritten_is_found() -> None:
    """A stored (uncompressed) block decodes whatever its bytes are: only the checksum tells."""
    whole = encoded(picture(), compress_level=0)
    at = whole.index(b"IDAT") + 2000
    damaged = whole[:at] + bytes(64) + whole[at + 64 :]
    found = scan_image(damaged, CleanImages())
    assert found["problem"] == "image_undecodable"
    assert scan_image(whole, CleanImages()).get("problem") is None


# -- measures of the checks ----------------------------------------------------------------


def photo(seed: int, size: tuple[int, int] = (300, 240)) -> Image.Image:
    """A picture with detail at all scales, as photos have: noise with a 1/f spectrum."""
    generator = np.random.default_rng(seed)
    vertical, horizontal = np.fft.fftfreq(size[1])[:, None], np.fft.fftfreq(size[0])[None, :]
    frequency = np.hypot(vertical, horizontal)
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(generator.normal(size=(size[1], size[0]))) / frequency
    spectrum[0, 0] = 0
    values = np.fft.ifft2(spectrum).real
    return Image.fromarray(np.clip(128 + 45 * values / values.std(), 0, 255).astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize("radius", [3, 5, 8])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_blur_takes_fine_detail_away_whatever_its_size(radius: int, kind: str) -> None:
    sharp = photo(1)
    assert scan_image(encoded(sharp, kind), SETTINGS)["fine_detail"] > 0.4
    blurred = sharp.filter(ImageFilter.GaussianBlur(radius))
    assert scan_image(encoded(blurred, kind), SETTINGS)["fine_detail"] < SETTINGS.min_fine_detail


def test_fine_detail_does_not_hang_on_contrast_or_resolution() -> None:
    """A dark, a faint and a large sharp picture are as sharp as the picture that they are made from."""
    sharp = photo(2)
    of_sharp = scan_image(encoded(sharp), SETTINGS)
    for changed in (
        sharp.point(lambda value: value // 4),
        sharp.point(lambda value: 100 + value // 5),
        photo(2, (1200, 960)),
    ):
        facts = scan_image(encoded(changed), SETTINGS)
        assert facts["fine_detail"] == pytest.approx(of_sharp["fine_detail"], rel=0.5)
        assert facts["fine_detail"] > SETTINGS.min_fine_detail


def test_one_percent_of_the_pixels_decides_what_is_dark_or_bright() -> None:
    image = Image.new("L", (100, 100), 10)
    image.paste(250, (0, 0, 100, 1))  # one row: 1 %
    facts = scan_image(encoded(image), SETTINGS)
    assert (facts["darkest"], facts["brightest"]) == (10, 10)
    image.paste(250, (0, 0, 100, 2))
    assert scan_image(encoded(image), SETTINGS)["brightest"] == 250
    assert scan_image(encoded(Image.new("L", (50, 50), 255)), SETTINGS)["brightest"] == 255


def test_a_white_drawing_on_nothing_is_not_blank() -> None:
    image = Image.new("RGBA", (60, 60), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (10, 10, 40, 40))
    assert scan_image(encoded(image), SETTINGS)["contrast"] > 50
    assert scan_image(encoded(Image.new("RGBA", (60, 60), (0, 0, 0, 0))), SETTINGS)["contrast"] == 0


def test_a_flat_picture_has_no_fine_detail_to_judge() -> None:
    assert scan_image(encoded(Image.new("RGB", (200, 200), (9, 80, 7))), SETTINGS)["fine_detail"] is None


def test_both_decoders_of_jpeg_see_the_same() -> None:
    """Bytes that libjpeg-turbo warns of go to Pillow, which must find the picture that it is."""
    clean = encoded(photo(3, (900, 700)), "JPEG", quality=90)
    at = clean.index(b"\xff\xda")
    odd = clean[:at] + b"\0\0\0" + clean[at:]  # stray bytes before a marker: a warning, no harm
    first, second = scan_image(clean, SETTINGS), scan_image(odd, SETTINGS)
    assert second.get("problem") is None
    thumbnails = [np.frombuffer(facts["thumbnail"], np.uint8).astype(int) for facts in (first, second)]
    assert np.abs(thumbnails[0] - thumbnails[1]).max() <= 3
    assert (first["width_px"], first["height_px"]) == (second["width_px"], second["height_px"]) == (900, 700)


def test_every_cut_of_a_large_jpeg_is_found_by_the_fast_decoder_too() -> None:
    data = encoded(photo(4, (600, 500)), "JPEG", quality=92)
    progressive = encoded(photo(4, (600, 500)), "JPEG", quality=92, progressive=True)
    for whole in (data, progressive):
        assert scan_image(whole, SETTINGS).get("problem") is None
        for length in range(len(whole) // 10, len(whole) - 200, len(whole) // 23):
            assert scan_image(whole[:length], SETTINGS).get("problem"), length


def test_frames_are_counted() -> None:
    frames = [picture(8), picture(9)]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert scan_image(data, SETTINGS)["frames"] == 2


def test_previews_and_depth_maps_of_a_phone_are_no_frames() -> None:
    """A JPEG with more pictures in it (MPO) does not move: nobody sees but the first."""
    data = encoded(picture(8), "MPO", save_all=True, append_images=[picture(9)])
    facts = scan_image(data, SETTINGS)
    assert (facts["format"], facts["frames"], facts.get("problem")) == ("MPO", 1, None)
