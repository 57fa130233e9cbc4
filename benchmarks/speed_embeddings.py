"""How much of the time of embedding pictures is the model's own.

    python benchmarks/speed_embeddings.py [--architecture ViT-B-32] [--pictures 256] [FOLDER]

Encoded pictures are embedded as a build does it (decode, transform, forward), and the model's forward pass is run alone on
tensors that are ready, in batches of the same size. Weights are random: they do not change the time. The two take turns,
so that another load on the machine hits both; CPU seconds count, and on a GPU the wall clock. Without a folder: clothing
photos or the emoji.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dataset_pipeline.adapters.clip import _IMAGE_BATCH, Encoder, _open_clip, _quiet

ROOT = Path(__file__).parent.parent
FOLDERS = (ROOT / "datasets/clothing/source/images", ROOT / "datasets/emoji/source/images")
ROUNDS = 3


def pictures(folder: Path, count: int) -> list[bytes]:
    """The bytes of ``count`` files, over again where there are fewer."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    return [files[number % len(files)].read_bytes() for number in range(count)]


def seconds(run: Callable[[], object], is_gpu: bool) -> tuple[float, float]:
    """CPU seconds (wall-clock ones on a GPU) and wall-clock seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    passed = time.perf_counter() - wall
    return (passed if is_gpu else time.process_time() - cpu), passed


def main() -> None:
    """Print the table."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--pictures", type=int, default=256)
    arguments = parser.parse_args()
    folder = arguments.folder or next((f for f in FOLDERS if f.is_dir()), None)
    if folder is None:
        raise SystemExit("no pictures found: run 'make demo-data', or name a folder")
    with _quiet():
        model, _train, preprocess = _open_clip().create_model_and_transforms(arguments.architecture)
    encoder = Encoder(model, preprocess, None)
    is_gpu = encoder.device == "cuda"
    data = pictures(folder, arguments.pictures)
    size = _IMAGE_BATCH[encoder.device]
    ready = [torch.stack([encoder._tensor(d) for d in data[n : n + size]]) for n in range(0, len(data), size)]

    def forward() -> list[object]:
        return [encoder._run(encoder._model.encode_image, batch) for batch in ready]

    forward()  # warm up
    whole, alone = [], []
    for _round in range(ROUNDS):
        whole.append(seconds(lambda: encoder.embed_images(data), is_gpu))
        alone.append(seconds(forward, is_gpu))
    cost, own = (np.array(part).min(axis=0) for part in (whole, alone))
    print(
        f"{arguments.architecture} on {encoder.device}, {len(data)} pictures of {folder}, batches of {size}"
    )
    print(f"forward pass alone   {own[0]:8.2f} s of CPU {len(data) / own[1]:8.1f} pictures/s")
    print(f"decode and embed     {cost[0]:8.2f} s of CPU {len(data) / cost[1]:8.1f} pictures/s")
    print(f"decoding adds        {cost[0] / own[0] - 1:8.1%} of the forward pass")


if __name__ == "__main__":
    main()
