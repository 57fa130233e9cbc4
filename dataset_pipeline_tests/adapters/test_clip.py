"""CLIP: training that repeats, embeddings that stand alone, and weights that cannot be had."""

import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from dataset_pipeline.adapters import clip
from dataset_pipeline.config import ClipModel, TrainClip
from dataset_pipeline.errors import ConfigError, OutsideWorldError
from dataset_pipeline.tables import FACES
from dataset_pipeline_tests.pictures import encoded, picture

PICTURES = 40


def small(**train: Any) -> ClipModel:
    return ClipModel(name="small-clip", train=TrainClip(**{"epochs": 2, "batch_size": 16, **train}))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[list[str]]]:
    """Places and captions of a few pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    places, captions = [], []
    for number in range(PICTURES):
        path = folder / f"{number}.png"
        path.write_bytes(encoded(picture(number)))
        places.append(str(path))
        captions.append([f"picture number {number}", f"Bild Nummer {number}"][: 1 + number % 2])
    return places, captions


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only wait for one another on several."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(
    source: tuple[list[str], list[list[str]]],
    checkpoint: Path,
    seed: int = 1,
    model: ClipModel | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> clip.Encoder:
    return clip.trained_encoder(model or small(), *source, seed, checkpoint, progress)


@pytest.fixture(scope="module")
def checkpoint(source: tuple[list[str], list[list[str]]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "a" / "model.pt"
    trained(source, path)
    return path


@pytest.fixture(scope="module")
def encoder(source: tuple[list[str], list[list[str]]], checkpoint: Path) -> clip.Encoder:
    return trained(source, checkpoint)


def weights(path: Path) -> dict[str, Any]:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


# -- training ------------------------------------------------------------------------------


def test_training_twice_gives_the_same_weights(
    source: tuple[list[str], list[list[str]]], checkpoint: Path, tmp_path: Path
) -> None:
    import torch

    torch.rand(3)  # what else draws random numbers has no say
    state = torch.random.get_rng_state()
    trained(source, tmp_path / "again.pt")
    assert torch.equal(torch.random.get_rng_state(), state)  # and training has none elsewhere
    first, second = weights(checkpoint), weights(tmp_path / "again.pt")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_seed_and_captions_change_the_weights(
    source: tuple[list[str], list[list[str]]], checkpoint: Path, tmp_path: Path
) -> None:
    import torch

    places, captions = source
    one_epoch = small(epochs=1)
    trained(source, tmp_path / "first.pt", model=one_epoch)
    trained(source, tmp_path / "seed.pt", seed=2, model=one_epoch)
    trained((places, captions[::-1]), tmp_path / "captions.pt", model=one_epoch)
    first = weights(tmp_path / "first.pt")
    for other in ("seed.pt", "captions.pt"):
        changed = weights(tmp_path / other)
        assert not all(torch.equal(first[name], changed[name]) for name in first)


def test_a_checkpoint_is_used_instead_of_training(
    source: tuple[list[str], list[list[str]]], checkpoint: Path, encoder: clip.Encoder
) -> None:
    def no_step(done: int, total: int) -> None:
        raise AssertionError("trained again")

    # Not even the pictures are needed.
    again = trained((["/no/such/file"], [["x"]]), checkpoint, progress=no_step)
    texts = ["picture number 3", "hat"]
    assert np.array_equal(again.embed_texts(texts), encoder.embed_texts(texts))


def test_training_reports_every_step(source: tuple[list[str], list[list[str]]], tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    trained(
        source, tmp_path / "m.pt", model=small(epochs=1), progress=lambda done, total: steps.append((done, total))
    )  # fmt: skip
    assert steps == [(1, 2), (2, 2)]  # 40 pictures are two whole batches of 16


def test_training_learns_which_text_belongs_to_which_picture(tmp_path: Path) -> None:
    # Plain colours named by their names: after a few epochs each picture is nearest to its own colour.
    colours = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "white": (250, 250, 250)}
    places, captions = [], []
    for number in range(32):
        name = list(colours)[number % 4]
        path = tmp_path / f"{number}.png"
        path.write_bytes(encoded(Image.new("RGB", (60, 60), colours[name])))
        places.append(str(path))
        captions.append([name])
    model = small(epochs=6, batch_size=8)
    found = clip.trained_encoder(model, places, captions, 0, tmp_path / "m.pt", lambda _done, _all: None)
    images = found.embed_images(Path(place).read_bytes() for place in places[:4])
    texts = found.embed_texts(list(colours))
    assert (images @ texts.T).argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_fewer_pictures_than_a_batch_can_be_trained_on(
    source: tuple[list[str], list[list[str]]], tmp_path: Path
) -> None:
    places, captions = source
    found = trained((places[:3], captions[:3]), tmp_path / "m.pt", model=small(epochs=1, batch_size=128))
    assert found.embed_texts(["x"]).shape == (1, 128)


def test_training_that_diverges_says_what_to_change(
    source: tuple[list[str], list[list[str]]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"training of small-clip diverged.*Lower its 'learning_rate'"):
        trained(source, tmp_path / "m.pt", model=small(learning_rate=1e30))
    assert list(tmp_path.iterdir()) == []  # no checkpoint of it


def test_what_decides_the_weights_decides_the_identity() -> None:
    first = clip.training_identity(small(), ["a", "b"], [["x"], ["y", "z"]], 1)
    assert clip.training_identity(small(), ["a", "b"], [["x"], ["y", "z"]], 1) == first
    others = [
        clip.training_identity(small(epochs=3), ["a", "b"], [["x"], ["y", "z"]], 1),
        clip.training_identity(small(), ["a", "c"], [["x"], ["y", "z"]], 1),
        clip.training_identity(small(), ["a", "b"], [["x", "y"], ["z"]], 1),
        clip.training_identity(small(), ["a", "b"], [["x"], ["y", "z"]], 2),
    ]
    assert len({first, *others}) == 5


# -- embeddings ----------------------------------------------------------------------------


def test_embeddings_have_length_one(encoder: clip.Encoder) -> None:
    images = encoder.embed_images(encoded(picture(number)) for number in range(5))
    texts = encoder.embed_texts(["a hat", "", "帽子", "a" * 5000])
    for found, count in ((images, 5), (texts, 4)):
        assert found.dtype == np.float32
        assert found.shape == (count, 128)
        assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(count), abs=1e-5)


def test_embeddings_do_not_depend_on_their_batch(encoder: clip.Encoder) -> None:
    # More pictures than one batch holds, alone and in another order.
    data = [encoded(picture(number)) for number in range(70)]
    together = encoder.embed_images(data)
    assert np.abs(encoder.embed_images(data[::-1])[::-1] - together).max() < 1e-5
    assert np.abs(encoder.embed_images(data[66:67])[0] - together[66]).max() < 1e-5
    texts = [f"text {'long ' * (number % 9)}{number}" for number in range(520)]
    all_texts = encoder.embed_texts(texts)
    assert np.abs(encoder.embed_texts(texts[::-1])[::-1] - all_texts).max() < 1e-5
    assert np.abs(encoder.embed_texts(texts[515:516])[0] - all_texts[515]).max() < 1e-5


def test_embeddings_do_not_hang_on_the_number_of_cores(encoder: clip.Encoder) -> None:
    """Sums of several threads come in another order, and the last digits decide between equally likely labels."""
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            images = encoder.embed_images(encoded(picture(number)) for number in range(70))
            found.append((images, encoder.embed_texts([f"hat {number}" for number in range(70)])))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)


def test_a_model_travels_without_its_weights_and_is_loaded_once_a_process(
    encoder: clip.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(model: ClipModel, base: Path) -> clip.Encoder:
        loaded.append(model.name)
        return encoder

    monkeypatch.setattr(clip, "load_encoder", load)
    here = clip.LazyEncoder(ClipModel(name="mine", pretrained="model.pt"), tmp_path)
    assert here() is here() is encoder
    sent = pickle.dumps(here)
    assert len(sent) < 1000
    there = [pickle.loads(sent)() for _ in range(3)]
    assert there == [encoder] * 3
    assert loaded == ["mine", "mine"], "once here, once in what stands for a worker"


def test_text_beyond_the_context_is_cut(encoder: clip.Encoder) -> None:
    words = " ".join(["hat"] * 24)
    found = encoder.embed_texts([f"{words} boot", f"{words} shirt", "hat boot"])
    assert np.array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2], atol=1e-3)


def test_nothing_gives_no_embeddings(encoder: clip.Encoder) -> None:
    assert len(encoder.embed_images([])) == 0
    assert len(encoder.embed_texts([])) == 0


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "I;16", "CMYK"])
def test_every_colour_mode_becomes_an_rgb_picture(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((40, 50), 40_000, np.uint16))
    else:
        image = picture(1, mode="RGB").convert(mode)
    kind = {"CMYK": "JPEG"}.get(mode, "PNG")
    assert clip.open_rgb(encoded(image, kind)).mode == "RGB"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_that_needs_no_conversion_can_be_read_after_its_file_is_closed(kind: str) -> None:
    picture = clip.open_rgb(encoded(Image.new("RGB", (6, 4), (255, 255, 255)), kind))
    assert np.asarray(picture).min() > 250


def test_transparent_pictures_lie_on_white() -> None:
    assert clip.open_rgb(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)


def test_rotated_pictures_stand_upright() -> None:
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    assert clip.open_rgb(encoded(image, "JPEG", exif=exif)).size == (20, 40)


def test_rows_are_embedded_in_their_order(
    source: tuple[list[str], list[list[str]]], encoder: clip.Encoder
) -> None:
    places, _captions = source
    batch = pl.DataFrame({"sha256": ["b", "a"], "location": [places[1], places[0]]})
    found = clip.embed_picture_rows(batch, lambda: encoder)
    assert found.schema == {"sha256": pl.String, "embedding": pl.List(pl.Float32)}
    assert found["sha256"].to_list() == ["b", "a"]
    expected = encoder.embed_images(Path(places[place]).read_bytes() for place in (1, 0))
    assert np.array_equal(np.array(found["embedding"].to_list(), np.float32), expected)
    texts = clip.embed_text_rows(pl.DataFrame({"text": ["x", "y"]}), lambda: encoder)
    assert texts.schema == {"text": pl.String, "embedding": pl.List(pl.Float32)}
    assert np.array_equal(np.array(texts["embedding"].to_list(), np.float32), encoder.embed_texts(["x", "y"]))


def test_the_model_is_not_asked_for_where_nothing_is_to_embed() -> None:
    def no_model() -> clip.Encoder:
        raise AssertionError("loaded a model for nothing")

    pictures = clip.embed_picture_rows(
        pl.DataFrame(schema={"sha256": pl.String, "location": pl.String}), no_model
    )
    texts = clip.embed_text_rows(pl.DataFrame(schema={"text": pl.String}), no_model)
    assert pictures.schema == {"sha256": pl.String, "embedding": pl.List(pl.Float32)}
    assert texts.schema == {"text": pl.String, "embedding": pl.List(pl.Float32)}


# -- loading -------------------------------------------------------------------------------


def test_a_checkpoint_is_found_below_the_config(checkpoint: Path, encoder: clip.Encoder) -> None:
    model = ClipModel(name="mine", architecture="small", pretrained="a/model.pt")
    found = clip.load_encoder(model, checkpoint.parent.parent)
    assert np.array_equal(found.embed_texts(["a hat"]), encoder.embed_texts(["a hat"]))


def test_the_identity_of_a_checkpoint_is_its_content(tmp_path: Path) -> None:
    model = ClipModel(name="mine", architecture="small", pretrained="model.pt")
    identities = []
    for content in (b"one", b"two", b"one"):
        (tmp_path / "model.pt").write_bytes(content)
        identities.append(clip.model_identity(model, tmp_path))
    assert identities[0] == identities[2] != identities[1]
    tagged = ClipModel(name="m", architecture="ViT-B-32", pretrained="openai")
    assert clip.model_identity(tagged, tmp_path) == "ViT-B-32/openai"


@pytest.mark.parametrize(("architecture", "nearest"), [("ViT-B/32", "ViT-B-32"), ("vit-b-23", "ViT-B-32")])
def test_an_unknown_architecture_names_the_nearest(architecture: str, nearest: str, tmp_path: Path) -> None:
    expected = rf"no architecture '{architecture}'\. Nearest: .*{nearest}"
    with pytest.raises(ConfigError, match=expected):
        clip.load_encoder(ClipModel(name="m", architecture=architecture, pretrained="openai"), tmp_path)
    with pytest.raises(ConfigError, match=expected):
        clip.trained_encoder(
            ClipModel(name="m", architecture=architecture, train=TrainClip()), [], [], 0, tmp_path / "m.pt", print
        )  # fmt: skip


def test_unknown_weights_name_the_nearest(tmp_path: Path) -> None:
    model = ClipModel(name="m", architecture="ViT-B-32", pretrained="laion2b_s34b")
    with pytest.raises(
        ConfigError, match=r"'laion2b_s34b' is no file below .* Nearest weights: laion2b_s34b_b79k"
    ):
        clip.load_encoder(model, tmp_path)
    none = ClipModel(name="m", architecture="small", pretrained="openai")
    with pytest.raises(ConfigError, match="Nearest weights: none"):
        clip.load_encoder(none, tmp_path)


def test_weights_that_cannot_be_had_end_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub.constants
    import open_clip

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    create = open_clip.create_model_and_transforms
    monkeypatch.setattr(open_clip, "create_model_and_transforms", partial(create, cache_dir=str(tmp_path)))
    model = ClipModel(name="big", architecture="RN50", pretrained="cc12m")
    with pytest.raises(OutsideWorldError, match=r"the weights of big cannot be loaded \(") as caught:
        clip.load_encoder(model, tmp_path)
    assert "name its path as 'pretrained'" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # no log lines, no progress bars


def test_a_file_that_is_no_checkpoint_is_a_fault_of_the_outside(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"not weights")
    with pytest.raises(OutsideWorldError, match="the weights of mine cannot be loaded"):
        clip.load_encoder(ClipModel(name="mine", pretrained="model.pt"), tmp_path)


def test_decoding_ahead_keeps_the_order_and_its_bounds() -> None:
    started: list[int] = []

    def inputs() -> Iterator[bytes]:
        for number in range(50):
            started.append(number)
            yield bytes([number])

    found = clip._ahead(lambda data: data[0] * 2, inputs(), 8)
    assert next(found) == 0
    assert len(started) == 8  # no more than that is decoded before it is wanted
    assert list(found) == [2 * number for number in range(1, 50)]


def test_a_picture_that_cannot_be_decoded_is_an_error_of_its_own(encoder: clip.Encoder) -> None:
    good = encoded(picture(1))
    with pytest.raises(OSError, match="cannot identify image file"):
        encoder.embed_images([good, b"no picture", good])


def test_embeddings_and_zero_shot_are_those_of_open_clips_own_code(
    source: tuple[list[str], list[list[str]]], checkpoint: Path, encoder: clip.Encoder
) -> None:
    """open_clip's factory, transform and zero-shot classifier, on the same weights."""
    import open_clip
    import torch
    from open_clip import build_zero_shot_classifier

    from dataset_pipeline.stages.baselines import label_prompts, mean_of_prompts

    model, _train, preprocess = open_clip.create_model_and_transforms("small", pretrained=str(checkpoint))
    model.eval()
    tokenizer = open_clip.get_tokenizer("small")
    places, captions = source
    pictures = torch.stack([preprocess(Image.open(place).convert("RGB")) for place in places])
    names = sorted({texts[0] for texts in captions})[:7]
    templates = ["{label}", "a photo of {label}"]
    with torch.inference_mode():
        image = model.encode_image(pictures, normalize=True)
        classifier = build_zero_shot_classifier(
            model, tokenizer, names, [lambda name, t=t: t.replace("{label}", name) for t in templates]
        )
        logits = 100.0 * image @ classifier
    ours = encoder.embed_images(Path(place).read_bytes() for place in places)
    assert ours == pytest.approx(image.numpy(), abs=1e-5)
    flat = [prompt for row in label_prompts(names, templates) for prompt in row]
    labels = mean_of_prompts(encoder.embed_texts(flat), len(names))
    assert labels == pytest.approx(classifier.numpy().T, abs=1e-5)
    cosine = ours @ labels.T
    assert 100 * cosine == pytest.approx(logits.numpy(), abs=1e-2)
    target = torch.arange(len(places)) % len(names)
    hits = logits.topk(5, dim=1).indices == target[:, None]  # as open_clip_train's accuracy counts
    theirs = int(hits[:, 0].sum()), int(hits.any(dim=1).sum())
    order = np.argsort(-cosine, axis=1)
    assert (order[:, 0] == target.numpy()).sum() == theirs[0]
    assert (order[:, :5] == target.numpy()[:, None]).any(axis=1).sum() == theirs[1]


def test_fine_tuning_starts_from_the_weights(
    source: tuple[list[str], list[list[str]]], checkpoint: Path, tmp_path: Path
) -> None:
    import torch

    model = ClipModel(
        name="tuned", architecture="small", pretrained="a/model.pt", train=TrainClip(epochs=1, batch_size=16)
    )
    base = checkpoint.parent.parent
    clip.trained_encoder(model, *source, 1, tmp_path / "tuned.pt", lambda _done, _all: None, base)
    start, tuned = weights(checkpoint), weights(tmp_path / "tuned.pt")
    assert not all(torch.equal(start[name], tuned[name]) for name in start)
    # Two steps of 0.00001 at most: near the weights it came from, far from those of another beginning.
    assert max(float((start[name].float() - tuned[name].float()).abs().max()) for name in start) < 1e-3
    identity = clip.training_identity(model, ["s"], [["t"]], 0, base)
    scratch = clip.training_identity(small(epochs=1), ["s"], [["t"]], 0, base)
    assert identity != scratch


def test_the_name_of_a_model_does_not_change_its_weights() -> None:
    first, second = (ClipModel(name=name, train=TrainClip()) for name in ("a", "b"))
    assert clip.training_identity(first, ["s"], [["t"]], 0) == clip.training_identity(
        second, ["s"], [["t"]], 0
    )


def test_weights_are_asked_for_before_the_work_begins(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    base = checkpoint.parent.parent
    clip.require_weights(small(), base)
    clip.require_weights(ClipModel(name="mine", architecture="small", pretrained="a/model.pt"), base)
    big = ClipModel(name="big", architecture="ViT-B-32", pretrained="laion2b_s34b_b79k")
    with pytest.raises(
        OutsideWorldError, match="the weights of big are not on this machine and cannot be downloaded"
    ) as caught:
        clip.require_weights(big, base)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "/somewhere/weights")
    clip.require_weights(big, base)
    with pytest.raises(ConfigError, match="Nearest weights: laion2b_s34b_b79k"):
        clip.require_weights(ClipModel(name="m", architecture="ViT-B-32", pretrained="laion2b_s34b"), base)


def test_a_model_sees_pictures_with_their_faces_hidden(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(5).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    place = tmp_path / "noise.png"
    place.write_bytes(encoded(noise))
    face = {"left": 24, "top": 16, "right": 40, "bottom": 32, "score": 0.95}
    as_it_is, none, hidden = clip.shown_pictures([str(place)] * 3, [None, [], [face]])
    assert as_it_is == none == place.read_bytes() == next(clip.shown_pictures([str(place)]))
    seen = np.asarray(clip.open_rgb(hidden), int)
    assert np.abs(np.diff(seen[12:36, 20:44], axis=0)).max() <= 24
    assert np.array_equal(seen[36:], np.asarray(noise, int)[36:])

    class Encoder:
        def embed_images(self, pictures: Any) -> Any:
            return np.array([[float(data == hidden)] for data in pictures], np.float32)

    batch = pl.DataFrame(
        {"sha256": ["a", "b"], "location": [str(place)] * 2, "faces": [[], [face]]},
        schema={"sha256": pl.String(), "location": pl.String(), "faces": FACES},
    )
    rows = clip.embed_picture_rows(batch, Encoder)
    assert rows["embedding"].to_list() == [[0.0], [1.0]]
