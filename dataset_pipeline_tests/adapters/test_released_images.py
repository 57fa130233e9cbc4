"""Released pictures: right colours, upright, of the released size, and on the bytes nothing but the picture."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from dataset_pipeline.adapters.images import scan_image
from dataset_pipeline.adapters.released_images import hidden_area, metadata_in, release_image, release_images
from dataset_pipeline.config import CleanImages, ReleasedImages
from dataset_pipeline_tests.pictures import CLOTHING, encoded, needs_clothing, picture

AS_IT_IS = ReleasedImages()
SETTINGS = CleanImages()
KINDS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def with_everything(kind: str, image: Image.Image | None = None) -> bytes:
    """A picture with GPS, a camera name, a maker note, a thumbnail, XMP, IPTC, comments and appended bytes."""
    exif = Image.Exif()
    exif[0x010F] = "SECRETCAMERA"
    exif.get_ifd(0x8825)[2] = (50.0, 5.0, 0.0)
    exif.get_ifd(0x8769)[0x927C] = b"SECRETMAKERNOTE"
    options: dict[str, object] = {"exif": exif, "xmp": b"<x:xmpmeta>SECRETXMP</x:xmpmeta>"}
    if kind == "JPEG":
        options["comment"] = b"SECRETCOMMENT"
    if kind in {"GIF", "BMP"}:
        options = {"comment": b"SECRETCOMMENT"} if kind == "GIF" else {}
    data = encoded(image or picture(), kind, **options)
    if kind == "JPEG":
        iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x08SECRETPT"
        thumbnail = b"JFXX\0\x10SECRETTHUMBNAIL"
        for app, body in ((0xED, iptc), (0xE0, thumbnail), (0xEA, b"SECRETVENDOR")):
            data = data[:2] + bytes([0xFF, app]) + (len(body) + 2).to_bytes(2, "big") + body + data[2:]
    if kind == "PNG":
        for name, body in ((b"tEXt", b"Author\0SECRET"), (b"zTXt", b"a\0\0" + zlib.compress(b"SECRET")), (b"prVt", b"SECRET")):  # fmt: skip
            chunk = len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")
            data = data[:33] + chunk + data[33:]
    return data + b"SECRET after the end"


@pytest.mark.parametrize("kind", KINDS)
def test_released_bytes_hold_nothing_but_the_picture(kind: str) -> None:
    source = with_everything(kind)
    if kind in {"JPEG", "PNG", "WEBP"}:
        assert metadata_in(source)  # the check sees what it is to see
    data, extension = release_image(source, AS_IT_IS)
    assert extension == {"JPEG": ".jpg", "WEBP": ".webp"}.get(kind, ".png")
    assert b"SECRET" not in data
    assert metadata_in(data) == []
    assert not opened(data).getexif()
    assert set(opened(data).info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "loop", "background", "timestamp", "duration"}  # fmt: skip


def test_the_kinds_of_metadata_are_named() -> None:
    found = metadata_in(with_everything("JPEG"))
    assert {"JPEG segment APP1 (EXIF)", "JPEG segment APP1 (XMP)", "JPEG segment APP13 (IPTC)",
            "JPEG segment APP0 (JFIF thumbnail)", "JPEG segment APP10 (data)", "JPEG comment",
            "20 bytes after the picture"} <= set(found)  # fmt: skip
    assert {"PNG chunk tEXt", "PNG chunk zTXt", "PNG chunk prVt", "PNG chunk eXIf"} <= set(
        metadata_in(with_everything("PNG"))
    )
    assert {"WebP chunk EXIF", "WebP chunk XMP"} <= set(metadata_in(with_everything("WEBP")))
    assert metadata_in(encoded(picture(), "GIF")) == ["a format that is never released"]
    assert metadata_in(encoded(picture(), "JPEG")[:-300])[0].startswith("no sound file")


def test_a_second_picture_after_the_first_goes() -> None:
    """Phones append videos and further pictures, each with an end-of-image marker of its own."""
    first, second = encoded(picture(1), "JPEG"), with_everything("JPEG", picture(2))
    data = release_image(first + second, AS_IT_IS).data
    assert b"SECRET" not in data
    assert metadata_in(data) == []
    assert np.array_equal(np.asarray(opened(data)), np.asarray(opened(first)))


def test_comments_between_the_scans_of_a_progressive_jpeg_go() -> None:
    data = encoded(picture(size=(200, 160)), "JPEG", progressive=True)
    second_scan = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    comment = b"\xff\xfe\x00\x08SECRET"
    hidden = data[:second_scan] + comment + data[second_scan:]
    assert metadata_in(hidden) == ["JPEG comment"]
    released = release_image(hidden, AS_IT_IS).data
    assert b"SECRET" not in released
    assert np.array_equal(np.asarray(opened(released)), np.asarray(opened(data)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pixels_of_upright_pictures_are_untouched(kind: str) -> None:
    source = with_everything(kind)
    data = release_image(source, AS_IT_IS).data
    assert np.array_equal(np.asarray(opened(data)), np.asarray(opened(source)))
    assert release_image(data, AS_IT_IS).data == data  # idempotent


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_every_orientation_comes_out_upright(orientation: int, kind: str) -> None:
    """The stored pixels are turned back, as a camera that was held that way stores them."""
    stored = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    shown = picture(5)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    source = encoded(shown.transpose(stored) if stored is not None else shown, kind, exif=exif, **options)
    assert np.array_equal(
        np.asarray(opened(release_image(source, AS_IT_IS).data).convert("RGB")), np.asarray(shown)
    )
    facts = scan_image(source, SETTINGS)
    assert (facts["width_px"], facts["height_px"]) == shown.size
    assert facts["pixel_hash"] == scan_image(encoded(shown), SETTINGS)["pixel_hash"]


# -- sizes -----------------------------------------------------------------------------------


def test_variants_have_their_sizes_and_nothing_is_scaled_up() -> None:
    data = encoded(picture(1, (400, 300)), "JPEG", quality=80)
    variants = [
        AS_IT_IS,
        ReleasedImages(max_side=200),
        ReleasedImages(max_side=100, quality=60),
        ReleasedImages(max_side=400),
    ]
    released = release_images(data, variants)
    assert [opened(one.data).size for one in released] == [(400, 300), (200, 150), (100, 75), (400, 300)]
    assert released[0].data == released[3].data == release_image(data, AS_IT_IS).data  # no second encoding
    assert all(metadata_in(one.data) == [] for one in released)
    assert release_images(data, variants) == released


def test_scaling_does_not_let_hidden_colours_bleed() -> None:
    """Transparent pixels carry a colour that nobody sees: green here, beside opaque red."""
    image = Image.new("RGBA", (64, 64), (0, 255, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 33, 64))
    small = np.asarray(opened(release_image(encoded(image), ReleasedImages(max_side=32)).data))
    assert small[small[..., 3] > 0][:, 1].max() <= 8


def test_extreme_sides_keep_a_pixel() -> None:
    assert opened(
        release_image(encoded(Image.new("RGB", (1000, 2))), ReleasedImages(max_side=100)).data
    ).size == (100, 1)


def test_animations_release_their_first_frame() -> None:
    frames = [picture(8), picture(9)]
    for kind in ("GIF", "WEBP", "PNG"):
        source = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        data, extension = release_image(source, AS_IT_IS)
        assert (extension, getattr(opened(data), "n_frames", 1)) == (".png", 1)
        first = opened(source)
        assert (
            np.abs(np.asarray(opened(data).convert("RGB"), int) - np.asarray(first.convert("RGB"), int)).max()
            == 0
        )


@needs_clothing
def test_real_photos_keep_their_pixels() -> None:
    for path in sorted((CLOTHING / "images").iterdir())[:40]:
        source = path.read_bytes()
        data, _extension = release_image(source, AS_IT_IS)
        assert metadata_in(data) == []
        facts = scan_image(source, SETTINGS)
        if facts["exif_orientation"] == 1:
            assert scan_image(data, SETTINGS)["pixel_hash"] == facts["pixel_hash"]


# -- faces ---------------------------------------------------------------------------------------

FACE = {"left": 24, "top": 16, "right": 40, "bottom": 32, "score": 0.95}
AREA = (20, 12, 44, 36)  # a quarter of 16 pixels more at every edge


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_a_hidden_face_is_a_few_soft_blocks_and_all_else_stays(mode: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    source = Image.fromarray(noise).convert(mode)
    data, extension = release_image(encoded(source), AS_IT_IS, [FACE])
    assert (extension, metadata_in(data)) == (".png", [])
    before, after = (
        np.asarray(image.convert("RGB"), int) for image in (opened(encoded(source)), opened(data))
    )
    left, top, right, bottom = AREA
    inside = np.zeros((48, 64), bool)
    inside[top:bottom, left:right] = True
    assert np.array_equal(after[~inside], before[~inside])
    area = after[top:bottom, left:right]
    assert np.abs(np.diff(area, axis=0)).max() <= 24  # noise is gone
    assert np.abs(np.diff(area, axis=1)).max() <= 24
    assert area.std() < before[top:bottom, left:right].std() / 3


def test_what_a_hidden_face_showed_cannot_be_told_from_what_is_left() -> None:
    # Every block of 6 x 6 pixels turned round: the same means, another face, and the same bytes are released.
    pixels = np.asarray(picture(3, (64, 48))).copy()
    left, top, right, bottom = AREA
    other = pixels.copy()
    blocks = other[top:bottom, left:right].reshape(4, 6, 4, 6, 3)
    other[top:bottom, left:right] = blocks[:, ::-1, :, ::-1].reshape(24, 24, 3)
    assert not np.array_equal(other, pixels)
    released = [release_image(encoded(Image.fromarray(image)), AS_IT_IS, [FACE]) for image in (pixels, other)]
    assert released[0] == released[1]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_a_picture_with_a_face_is_never_copied_byte_for_byte(kind: str) -> None:
    source = encoded(picture(4, (64, 48)), kind)
    for released in release_images(source, (AS_IT_IS, ReleasedImages(max_side=32)), [FACE]):
        assert released.data != release_image(source, AS_IT_IS).data
        assert metadata_in(released.data) == []
    assert release_images(source, (AS_IT_IS,), ()) == [release_image(source, AS_IT_IS)]


def test_boxes_are_those_of_the_upright_picture() -> None:
    # A white square on black, in a file that lies on its side (EXIF orientation 6: turn by a quarter, clockwise).
    upright = Image.new("RGB", (48, 96))
    upright.paste("white", (8, 8, 24, 24))
    exif = Image.Exif()
    exif[0x0112] = 6
    source = encoded(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    assert np.asarray(opened(release_image(source, AS_IT_IS).data).convert("L"))[16, 16] > 250
    face = {"left": 8, "top": 8, "right": 24, "bottom": 24, "score": 1.0}
    shown = np.asarray(opened(release_image(source, AS_IT_IS, [face]).data).convert("L"))
    assert shown.shape == (96, 48)
    assert (
        np.abs(np.diff(shown[4:28, 4:28].astype(int), axis=0)).max() < 60
    )  # the square has no edge any more
    assert shown[40:].max() < 20


def test_faces_at_an_edge_are_hidden_to_the_edge() -> None:
    assert hidden_area({"left": 0, "top": 40, "right": 20, "bottom": 48}, (64, 48)) == (0, 38, 25, 48)
    assert hidden_area({"left": 1, "top": 1, "right": 2, "bottom": 2}, (64, 48)) == (1, 1, 2, 2)
