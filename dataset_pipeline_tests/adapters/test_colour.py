"""Colours: known values in known spaces come out as the sRGB that shows the same colour."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from dataset_pipeline.adapters.colour import colour_space, to_srgb
from dataset_pipeline.adapters.released_images import metadata_in, release_image
from dataset_pipeline.config import ReleasedImages
from dataset_pipeline_tests.pictures import encoded, picture

D50 = (0.96422, 1.0, 0.82521)
DISPLAY_P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
"""XYZ of red, green and blue under D50, as the profiles of these spaces state them."""


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile (version 2.4) with the given tags."""
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", place + len(body), b"\0" * 4, 0x02400000, b"mntr", space, b"XYZ ")
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + b"".join(map(_fixed, D50)) + b"\0" * 48
    return head + struct.pack(">I", len(tags)) + table + body


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def rgb_profile(columns: tuple[tuple[float, ...], ...], gamma: float) -> bytes:
    primaries = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz, columns), strict=True))
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _gamma(gamma))
    return _profile(b"RGB ", {b"wtpt": _xyz(D50), **primaries, **curves})


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", {b"wtpt": _xyz(D50), b"kTRC": _gamma(gamma)})


def released(data: bytes) -> Image.Image:
    made = release_image(data, ReleasedImages()).data
    assert metadata_in(made) == []
    image = Image.open(io.BytesIO(made))
    image.load()
    return image


def srgb_curve(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(
    ("columns", "gamma", "colour", "expected"),
    [
        # Within sRGB, the same colour has other numbers; values by the matrices of the two spaces.
        (DISPLAY_P3, 2.2, (200, 100, 50), (216, 93, 24)),
        (ADOBE_RGB, 2.19921875, (150, 150, 100), (150, 150, 97)),
        (ADOBE_RGB, 2.19921875, (128, 128, 128), (128, 128, 128)),
        # What sRGB cannot show is clipped to its edge.
        (DISPLAY_P3, 2.2, (0, 255, 0), (0, 255, 0)),
        (ADOBE_RGB, 2.19921875, (0, 255, 0), (0, 255, 0)),
    ],
)
def test_wide_gamut_profiles(
    columns: tuple[tuple[float, ...], ...], gamma: float, colour: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    image = Image.new("RGB", (8, 8), colour)
    pixel = released(encoded(image, icc_profile=rgb_profile(columns, gamma))).getpixel((3, 3))
    assert np.abs(np.subtract(pixel, expected)).max() <= 3


def test_a_profile_is_applied_as_its_matrix_says() -> None:
    """Every colour of a grid against the arithmetic of the two matrices, LittleCMS left out."""
    srgb = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))
    colours = np.stack(np.meshgrid(*[[60, 110, 160, 210]] * 3), axis=-1).reshape(1, -1, 3).astype(np.uint8)
    light = (colours / 255.0) ** 2.2
    linear = light @ np.array(DISPLAY_P3) @ np.linalg.inv(np.array(srgb))
    expected = 255 * srgb_curve(np.clip(linear, 0, 1))
    shown = released(encoded(Image.fromarray(colours), icc_profile=rgb_profile(DISPLAY_P3, 2.2)))
    assert np.abs(np.asarray(shown, float) - expected).max() <= 2.5


def test_grey_profiles() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None, :].repeat(4, 0))
    shown = released(encoded(ramp, icc_profile=grey_profile(1.8)))
    assert shown.mode == "L"
    expected = 255 * srgb_curve((np.arange(256) / 255.0) ** 1.8)
    assert np.abs(np.asarray(shown, float)[0] - expected).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_srgb_under_any_name_changes_nothing(kind: str) -> None:
    """No second encoding where the profile says what is assumed anyway."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = encoded(picture(6), kind, icc_profile=profile)
    with Image.open(io.BytesIO(source)) as image:
        assert np.array_equal(np.asarray(released(source)), np.asarray(image))


@pytest.mark.parametrize(
    "profile",
    [b"rubbish", b"\0" * 200, rgb_profile(ADOBE_RGB, 2.2)[:150], grey_profile(2.2)],
    ids=["text", "zeros", "cut short", "of grey pictures"],
)
def test_a_profile_that_cannot_be_applied_is_left_out(profile: bytes) -> None:
    shown = released(encoded(picture(6), icc_profile=profile))
    assert np.array_equal(np.asarray(shown), np.asarray(picture(6)))


def test_alpha_is_no_colour() -> None:
    image = picture(3, mode="RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    plain = released(encoded(image))
    profiled = released(encoded(image, icc_profile=rgb_profile(ADOBE_RGB, 2.2)))
    assert np.array_equal(np.asarray(profiled)[..., 3], np.asarray(image)[..., 3])
    assert np.array_equal(np.asarray(plain), np.asarray(image))
    assert np.abs(np.asarray(profiled, int)[..., :3] - np.asarray(image, int)[..., :3]).max() > 10


def test_palettes_with_a_profile() -> None:
    image = Image.new("RGB", (8, 8), (0, 0, 200)).quantize(4)
    shown = released(encoded(image, icc_profile=rgb_profile(DISPLAY_P3, 2.2)))
    assert shown.mode == "RGB"
    assert np.abs(np.subtract(shown.getpixel((1, 1)), (0, 0, 209))).max() <= 4


def test_grey_pictures_with_an_rgb_profile_stay_grey() -> None:
    shown = released(
        encoded(picture(6, mode="L"), "JPEG", quality=95, icc_profile=rgb_profile(ADOBE_RGB, 2.2))
    )
    assert shown.mode == "L"
    assert np.abs(np.asarray(shown, int) - np.asarray(picture(6, mode="L"), int)).mean() < 3


def test_cmyk_without_a_profile_and_with_a_broken_one() -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow: red
    for options in ({}, {"icc_profile": b"rubbish"}):
        shown = released(encoded(ink, "JPEG", quality=95, **options))
        assert shown.mode == "RGB"
        red, green, blue = shown.getpixel((5, 5))
        assert red > 200
        assert max(green, blue) < 60


def test_lab_pictures() -> None:
    lab = Image.new("LAB", (8, 8), (136, 208, 195))  # CIE L* 53.2, a* 80, b* 67: the red of sRGB
    assert np.abs(np.subtract(released(encoded(lab, "TIFF")).getpixel((2, 2)), (255, 0, 0))).max() <= 14


def test_sixteen_bits_are_rounded_not_cut() -> None:
    values = np.arange(256, dtype=np.uint16)[None, :].repeat(4, 0)
    exact = Image.fromarray(values * 257)
    assert np.array_equal(np.asarray(released(encoded(exact)))[0], np.arange(256))
    almost = Image.fromarray(np.maximum(values * 257, 100) - 100)
    assert np.array_equal(np.asarray(released(encoded(almost)))[0], np.arange(256))
    dark = Image.fromarray(np.full((4, 4), 200, np.uint16))  # nearly black, not nearly white
    assert np.asarray(released(encoded(dark))).max() == 1


def test_every_mode_is_released_in_a_plain_one() -> None:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK", "YCbCr", "LAB", "HSV"):
        if mode in {"I;16", "I", "F"}:
            array = np.asarray(picture(4, mode="L"))
            scale, dtype = {"I;16": (257, np.uint16), "I": (1, np.int32), "F": (1, np.float32)}[mode]
            image = Image.fromarray((array * np.float64(scale)).astype(dtype))
        elif mode == "LAB":
            image = ImageCms.profileToProfile(
                picture(4), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
            )
        else:
            image = picture(4).convert(mode)
        shown = to_srgb(image, colour_space(image))
        assert shown.mode in {"L", "LA", "RGB", "RGBA"}, mode
        grey = np.asarray(shown.convert("RGB").convert("L"), int)
        if mode != "1":
            assert np.abs(grey - np.asarray(picture(4, mode="L"), int)).mean() < 12, mode


# -- PNG chunks and EXIF instead of a profile --------------------------------------------------


def with_chunks(image: Image.Image, **chunks: bytes) -> bytes:
    data = encoded(image)
    made = b"".join(
        len(body).to_bytes(4, "big")
        + name.encode()
        + body
        + zlib.crc32(name.encode() + body).to_bytes(4, "big")
        for name, body in chunks.items()
    )
    return data[:33] + made + data[33:]


ADOBE_POINTS = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)


def test_gamma_of_a_png() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None, :].repeat(4, 0))
    linear = released(with_chunks(ramp, gAMA=struct.pack(">I", 100_000)))
    assert np.abs(np.asarray(linear, float)[0] - 255 * srgb_curve(np.arange(256) / 255)).max() <= 1
    usual = released(with_chunks(ramp, gAMA=struct.pack(">I", 45_455)))
    assert np.array_equal(np.asarray(usual), np.asarray(ramp))
    told = released(with_chunks(ramp, sRGB=b"\0", gAMA=struct.pack(">I", 100_000)))  # sRGB has precedence
    assert np.array_equal(np.asarray(told), np.asarray(ramp))
    nonsense = released(with_chunks(ramp, gAMA=struct.pack(">I", 0)))
    assert np.array_equal(np.asarray(nonsense), np.asarray(ramp))


def test_chromaticities_of_a_png_and_the_mark_of_adobe_rgb_agree_with_the_profile() -> None:
    image = picture(9, (40, 30))
    by_profile = np.asarray(released(encoded(image, icc_profile=rgb_profile(ADOBE_RGB, 563 / 256))), int)
    chunks = with_chunks(image, gAMA=struct.pack(">I", 45_471), cHRM=ADOBE_POINTS)
    assert np.abs(np.asarray(released(chunks), int) - by_profile).max() <= 3
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 0xFFFF
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    marked = released(encoded(image, "JPEG", quality=100, subsampling=0, exif=exif))
    assert np.abs(np.asarray(marked, int) - by_profile).mean() < 3
