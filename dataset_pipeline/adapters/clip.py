"""CLIP models from open_clip: loaded by name or from a checkpoint, or trained small from scratch.

Belongs here: weights, tokenisers, pixels to tensors, embeddings. Does not belong here: what the
embeddings are used for (``stages/baselines.py``). An embedding is a float32 vector of length 1.

On a GPU the model runs in half precision (automatic mixed precision) in large batches; on a CPU in single precision,
several small batches side by side on one thread each: sums of several threads come in another order on every number of
cores, and an embedding would hang on the machine. Decoding runs in threads beside it.
"""

import difflib
import functools
import hashlib
import io
import itertools
import logging
import os
import tempfile
import textwrap
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dataset_pipeline.adapters.engine import one_torch_thread, usable_cores
from dataset_pipeline.adapters.images import open_rgb
from dataset_pipeline.adapters.released_images import shown
from dataset_pipeline.adapters.sources import read_images
from dataset_pipeline.adapters.store import file_sha256, write_atomically
from dataset_pipeline.config import ClipModel, TrainClip
from dataset_pipeline.errors import ConfigError, OutsideWorldError

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
SMALL = "small"
_TEXT_BATCH = {"cpu": 64, "cuda": 512}
_IMAGE_BATCH = {"cpu": 64, "cuda": 512}
CPU_PRECISION = "float32"
_WEIGHT_SECONDS = 5.0
"""How long to wait for an answer on whether weights can be downloaded."""
_FROM_SCRATCH, _FINE_TUNING = 1e-3, 1e-5
_SHIFT_PX = 4


class Encoder:
    """An open_clip model that embeds pictures and texts."""

    def __init__(self, model: Any, preprocess: Any, tokenizer: Any) -> None:
        """``preprocess``: PIL image -> tensor; ``tokenizer``: texts -> token tensor."""

        self.device = _device()
        self._model = model.to(self.device).eval()
        self._preprocess = preprocess
        self._tokenizer = tokenizer

    def embed_images(self, pictures: Iterable[bytes]) -> Floats:
        """(n, dimensions) embeddings of n encoded pictures."""
        import torch

        size = _IMAGE_BATCH[self.device]
        tensors = _ahead(self._tensor, pictures, 2 * size)
        return self._embedded(
            self._model.encode_image,
            (torch.stack(some) for some in iter(lambda: list(itertools.islice(tensors, size)), [])),
        )

    def _tensor(self, data: bytes) -> Any:
        return self._preprocess(open_rgb(data))

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """(n, dimensions) embeddings of n texts; what exceeds the model's context is cut off."""
        size = _TEXT_BATCH[self.device]
        parts = (list(texts[start : start + size]) for start in range(0, len(texts), size))
        return self._embedded(self._model.encode_text, map(self._tokenizer, parts))

    def _embedded(self, encode: Callable[..., "torch.Tensor"], batches: "Iterable[torch.Tensor]") -> Floats:
        run = functools.partial(self._run, encode)
        if self.device == "cpu":
            with one_torch_thread():
                embedded = list(_ahead(run, batches, 2 * usable_cores()))
        else:
            embedded = [run(batch) for batch in batches]
        return np.concatenate(embedded) if embedded else np.zeros((0, 0), np.float32)

    def _run(self, encode: Callable[..., "torch.Tensor"], batch: "torch.Tensor") -> Floats:
        import torch

        with torch.inference_mode(), torch.autocast(self.device, enabled=self.device == "cuda"):
            embedded = encode(batch.to(self.device, non_blocking=True), normalize=True)
        result: Floats = embedded.float().cpu().numpy()
        return result


class LazyEncoder:
    """A pretrained model that is loaded where and when it is first asked for; it travels without its weights."""

    def __init__(self, model: ClipModel, base: Path) -> None:
        """See :func:`load_encoder`."""
        self._model, self._base = model, base
        self._loaded: Encoder | None = None

    def __call__(self) -> Encoder:
        """The model; raises what :func:`load_encoder` raises."""
        if self._loaded is None:
            self._loaded = load_encoder(self._model, self._base)
        return self._loaded

    def __reduce__(self) -> tuple[Any, ...]:
        return _lazy_encoder, (self._model, self._base)


@functools.lru_cache(maxsize=1)
def _lazy_encoder(model: ClipModel, base: Path) -> LazyEncoder:
    """One for all batches that arrive in a worker."""
    return LazyEncoder(model, base)


def precision() -> str:
    """In what precision, and where, this machine embeds: part of what decides the last digits of an embedding."""
    return {"cpu": CPU_PRECISION, "cuda": "mixed precision on cuda"}[_device()]


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _ahead(function: Callable[[Any], Any], inputs: Iterable[Any], most: int) -> Iterator[Any]:
    """``function`` of every input in order, computed by threads that run at most ``most`` inputs ahead.

    Decoding and resizing release Python's lock, so that threads are enough.
    """
    threads = min(16, usable_cores())
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for value in inputs:
                waiting.append(pool.submit(function, value))
                if len(waiting) >= most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def embed_picture_rows(batch: pl.DataFrame, encoder: Callable[[], Encoder]) -> pl.DataFrame:
    """``sha256`` and ``embedding`` for rows with ``sha256`` and ``location``; those of a column ``faces`` are hidden.

    ``encoder`` is called for the model only where there is something to embed.
    """
    if batch.is_empty():
        return pl.DataFrame(schema={"sha256": pl.String, "embedding": pl.List(pl.Float32)})
    vectors = encoder().embed_images(
        shown_pictures(
            batch["location"].to_list(), batch["faces"].to_list() if "faces" in batch.columns else None
        )
    )
    return batch.select("sha256", embedding=pl.Series(vectors).cast(pl.List(pl.Float32)))


def shown_pictures(
    locations: Sequence[str], faces: Sequence[Sequence[Any] | None] | None = None
) -> Iterator[bytes]:
    """Bytes of the pictures at ``locations``, with the ``faces`` of each hidden."""
    for data, boxes in zip(read_images(list(locations)), faces or [None] * len(locations), strict=True):
        yield shown(data, boxes)


def embed_text_rows(batch: pl.DataFrame, encoder: Callable[[], Encoder]) -> pl.DataFrame:
    """``text`` and ``embedding`` for rows with ``text``; see :func:`embed_picture_rows`."""
    if batch.is_empty():
        return pl.DataFrame(schema={"text": pl.String, "embedding": pl.List(pl.Float32)})
    vectors = encoder().embed_texts(batch["text"].to_list())
    return batch.select("text", embedding=pl.Series(vectors).cast(pl.List(pl.Float32)))


# -- loading -------------------------------------------------------------------------------


def model_identity(model: ClipModel, base: Path) -> str:
    """What decides a pretrained model's embeddings: names, and the bytes of a checkpoint file."""
    checkpoint = _checkpoint(model, base)
    return f"{model.architecture}/{file_sha256(checkpoint) if checkpoint else model.pretrained}"


def load_encoder(model: ClipModel, base: Path) -> Encoder:
    """A model by open_clip name and tag, or from a checkpoint relative to ``base``.

    Raises ``ConfigError`` for a name that does not exist (with the nearest ones) and
    ``OutsideWorldError`` where the weights cannot be had, with the ways to get them.
    """
    open_clip = _open_clip()
    _check_names(open_clip, model, base)
    made, preprocess = _created(open_clip, model, base)
    return Encoder(made, preprocess, open_clip.get_tokenizer(model.architecture))


def _created(open_clip: Any, model: ClipModel, base: Path) -> tuple[Any, Any]:
    """The model with its weights, and its preprocessing. Raises ``OutsideWorldError`` where they cannot be had."""
    checkpoint = _checkpoint(model, base)
    try:
        with _quiet():
            made, _train, preprocess = open_clip.create_model_and_transforms(
                model.architecture, pretrained=str(checkpoint) if checkpoint else model.pretrained
            )
            return made, preprocess
    except Exception as error:  # hub clients raise many kinds of errors, all of which mean this
        cause = textwrap.shorten(f"{type(error).__name__}: {error}", 160, placeholder=" …")
        raise OutsideWorldError(
            f"the weights of {model.name} cannot be loaded ({cause})", hint=_HOW_TO_GET_WEIGHTS
        ) from None


def _check_names(open_clip: Any, model: ClipModel, base: Path) -> None:
    """Raises ``ConfigError`` for an architecture or weights that do not exist, with the nearest ones."""
    _check_architecture(open_clip, model)
    tags = open_clip.list_pretrained_tags_by_model(model.architecture)
    if model.pretrained is not None and _checkpoint(model, base) is None and model.pretrained not in tags:
        raise ConfigError(
            f"baselines.models: '{model.pretrained}' is no file below {base} and no weights of {model.architecture}",
            hint=f"Nearest weights: {_nearest(str(model.pretrained), tags)}",
        )


def require_weights(model: ClipModel, base: Path) -> None:
    """Say in seconds whether a model can be had, without loading it: names, file, local cache, and the network.

    Raises ``ConfigError`` for names that do not exist, ``OutsideWorldError`` for weights that are neither here nor
    answered for by the network within seconds.
    """
    if model.architecture == SMALL and model.pretrained is None:
        return  # it ships here: no need to load open_clip to know that
    open_clip = _open_clip()
    _check_names(open_clip, model, base)
    if model.pretrained is None or _checkpoint(model, base) is not None:
        return
    settings = open_clip.get_pretrained_cfg(model.architecture, model.pretrained)
    problem = _hub_problem(settings["hf_hub"]) if settings.get("hf_hub") else _url_problem(settings["url"])
    if problem is not None:
        raise OutsideWorldError(
            f"the weights of {model.name} are not on this machine and cannot be downloaded ({problem})",
            hint=_HOW_TO_GET_WEIGHTS,
        )


def _hub_problem(place: str) -> str | None:
    """Why a file of the Hugging Face hub cannot be had; None: it is here, or the hub has it."""
    import huggingface_hub
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repository, _, name = place.rpartition("/")
    if not name or "/" not in repository:
        repository, name = place.rstrip("/"), ""
    names = [name] if name else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    if any(isinstance(huggingface_hub.try_to_load_from_cache(repository, name), str) for name in names):
        return None
    problem = ""
    for name in names:
        try:
            with _quiet():
                url = huggingface_hub.hf_hub_url(repository, name)
                huggingface_hub.get_hf_file_metadata(url, timeout=_WEIGHT_SECONDS)
            return None
        except Exception as error:  # see _created
            problem = problem or textwrap.shorten(f"{type(error).__name__}: {error}", 120, placeholder=" …")
    return problem


def _url_problem(url: str) -> str | None:
    import urllib.request

    cached = Path("~/.cache/clip").expanduser() / Path(url).name  # where open_clip keeps it
    if cached.is_file():
        return None
    try:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - open_clip's own list, https
        with urllib.request.urlopen(request, timeout=_WEIGHT_SECONDS):  # noqa: S310
            return None
    except OSError as error:
        return textwrap.shorten(f"{type(error).__name__}: {error}", 120, placeholder=" …")


_HOW_TO_GET_WEIGHTS = (
    "Build once where the network is, or download the checkpoint there and name its path as "
    "'pretrained'; 'models: [small]' trains a small one without any download"
)


def _check_architecture(open_clip: Any, model: ClipModel) -> None:
    known = open_clip.list_models()
    if model.architecture not in known:
        raise ConfigError(
            f"baselines.models: no architecture '{model.architecture}'",
            hint=f"Nearest: {_nearest(model.architecture, known)}",
        )


def _nearest(name: str, known: Sequence[str]) -> str:
    by_lower = {other.lower(): other for other in known}
    near = [by_lower[found] for found in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]
    return ", ".join(near or known[:3]) or "none"


def _checkpoint(model: ClipModel, base: Path) -> Path | None:
    path = base / str(model.pretrained)
    return path if model.pretrained is not None and path.is_file() else None


def _open_clip() -> Any:
    import open_clip

    with resources.as_file(resources.files("dataset_pipeline") / "models") as folder:
        open_clip.add_model_config(folder)
    return open_clip


@contextmanager
def _quiet() -> Any:
    """Hub clients print progress bars, warnings and errors; what matters is in the exception."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    before = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    try:
        yield
    finally:
        logging.disable(disabled)
        if before is None:
            del os.environ["HF_HUB_DISABLE_PROGRESS_BARS"]


# -- training ------------------------------------------------------------------------------


def training_identity(
    model: ClipModel,
    sha256s: Sequence[str],
    captions: Sequence[Sequence[str]],
    seed: int,
    base: Path | None = None,
) -> str:
    """What decides a trained model's weights: settings, seed, weights it starts from, pictures and their captions."""
    start = None if model.pretrained is None or base is None else model_identity(model, base)
    digest = hashlib.sha256(repr((model.model_dump(exclude={"name"}), seed, start)).encode())
    for sha256, texts in zip(sha256s, captions, strict=True):
        digest.update(repr((sha256, list(texts))).encode())
    return digest.hexdigest()[:32]


def trained_encoder(
    model: ClipModel,
    locations: Sequence[str],
    captions: Sequence[Sequence[str]],
    seed: int,
    checkpoint: Path,
    progress: Callable[[int, int], None],
    base: Path | None = None,
    faces: Sequence[Sequence[Any] | None] | None = None,
) -> Encoder:
    """A model trained on n pictures and their captions; from ``checkpoint`` if it is there.

    It starts from scratch or, with ``pretrained``, from those weights (a path is relative to ``base``).

    ``locations`` and ``faces``: n places of pictures, and what is hidden in each; ``captions``: n non-empty lists of texts. One epoch shows
    each picture once, with one of its captions. The loss is CLIP's symmetric cross-entropy
    (Radford et al., 2021). Same input, seed and machine give the same weights. Raises ``ConfigError``
    for an architecture that does not exist and where training diverges.
    """
    import torch

    if model.train is None:
        raise ValueError(f"{model.name} is not a model to train")
    open_clip = _open_clip()
    _check_names(open_clip, model, base or Path())
    if model.pretrained is not None and not checkpoint.is_file():
        clip, _preprocess = _created(open_clip, model, base or Path())
    else:
        with (
            torch.random.fork_rng(devices=[]),
            _quiet(),
        ):  # open_clip warns that the weights are random: so it is
            torch.manual_seed(seed)
            clip = open_clip.create_model(model.architecture)
    tokenizer = open_clip.get_tokenizer(model.architecture)
    preprocess = open_clip.image_transform(
        clip.visual.image_size, is_train=False, mean=clip.visual.image_mean, std=clip.visual.image_std
    )
    if checkpoint.is_file():
        checkpoint.touch()  # when it was used last: ``gc`` deletes what no build needs
        clip.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    else:
        side = int(np.max(clip.visual.image_size))
        with tempfile.TemporaryFile() as file:  # a million pictures are 9 GB: the system pages them
            pixels = np.memmap(file, np.uint8, "w+", shape=(len(locations), side, side, 3))
            for row, data in enumerate(shown_pictures(locations, faces)):
                pixels[row] = _square(data, side)
            loss = _train(
                clip, tokenizer, pixels, captions, model.train, _learning_rate(model), seed, progress
            )
        if not np.isfinite(loss):
            raise ConfigError(
                f"baselines.models: training of {model.name} diverged, its loss is {loss}",
                hint=f"Lower its 'learning_rate', which is {_learning_rate(model)}",
            )
        stream = io.BytesIO()
        torch.save(clip.state_dict(), stream)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(checkpoint, stream.getvalue())
    return Encoder(clip, preprocess, tokenizer)


def _learning_rate(model: ClipModel) -> float:
    """As configured; otherwise what suits training from scratch, or a model that knows something already."""
    if model.train is not None and model.train.learning_rate is not None:
        return model.train.learning_rate
    return _FROM_SCRATCH if model.pretrained is None else _FINE_TUNING


def _square(data: bytes, side: int) -> Bytes:
    """(side, side, 3) pixels: the middle square, as open_clip's evaluation transform cuts it."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(open_rgb(data), (side, side), Image.Resampling.BICUBIC))


def _train(
    clip: Any,
    tokenizer: Any,
    pixels: Bytes,
    captions: Sequence[Sequence[str]],
    settings: TrainClip,
    learning_rate: float,
    seed: int,
    progress: Callable[[int, int], None],
) -> float:
    """Train in place; the last loss."""
    import torch
    from open_clip.loss import ClipLoss

    device = _device()
    clip.to(device).train()
    mean = torch.tensor(clip.visual.image_mean).view(1, 3, 1, 1)
    std = torch.tensor(clip.visual.image_std).view(1, 3, 1, 1)
    flat = [text for texts in captions for text in texts]
    tokens = torch.cat([tokenizer(flat[start : start + 4096]).int() for start in range(0, len(flat), 4096)])
    starts = np.concatenate([[0], np.cumsum([len(texts) for texts in captions])])
    batch = min(settings.batch_size, len(pixels))
    steps = settings.epochs * (len(pixels) // batch)
    decayed = [p for p in clip.parameters() if p.ndim >= 2]
    plain = [p for p in clip.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=max(2, steps))
    loss_of = ClipLoss()
    generator = np.random.default_rng(seed)
    step = 0
    for _epoch in range(settings.epochs):
        order = generator.permutation(len(pixels))
        for start in range(0, len(order) - batch + 1, batch):
            rows = order[start : start + batch]
            picked = starts[rows] + generator.integers(0, starts[rows + 1] - starts[rows])
            images = torch.from_numpy(_shifted(pixels[rows], generator)).permute(0, 3, 1, 2).float() / 255
            image_features, text_features, scale = clip(
                ((images - mean) / std).to(device), tokens[torch.from_numpy(picked)].long().to(device)
            )
            loss = loss_of(image_features, text_features, scale)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                clip.logit_scale.clamp_(0, np.log(100))
            step += 1
            progress(step, steps)
    return float(loss.item())


def _shifted(pixels: Bytes, generator: np.random.Generator) -> Bytes:
    """Each picture moved by up to ``_SHIFT_PX`` pixels: the cheapest augmentation that helps."""
    side = pixels.shape[1]
    padded = np.pad(pixels, ((0, 0), (_SHIFT_PX, _SHIFT_PX), (_SHIFT_PX, _SHIFT_PX), (0, 0)), mode="edge")
    offsets = generator.integers(0, 2 * _SHIFT_PX + 1, (len(pixels), 2))
    return np.stack(
        [picture[y : y + side, x : x + side] for picture, (y, x) in zip(padded, offsets, strict=True)]
    )
