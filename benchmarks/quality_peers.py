"""This pipeline beside other programs, on the same pictures and texts in the same run: docs/quality/peers.md.

    make peers
    python benchmarks/quality_peers.py [--write] [--limit N]

Pictures and their copies are those of ``quality_duplicates.py``, written to a folder for imagededup and cleanvision;
texts are handed to datasketch and text-dedup as the shingles that this pipeline makes of them. Prints markdown; with
--write it goes to docs/quality/peers.md. Needs the emoji source data (`make demo-data`).
"""

import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import peers
import polars as pl
from PIL import Image
from quality_duplicates import (
    CHANGES,
    CLAIMED,
    EDITS,
    EVERY_CHANGE,
    LANGUAGES,
    PICTURES,
    ROOT,
    TEXTS,
    Collection,
    Edited,
    arguments_for,
    emoji_names,
    joined_names,
    long_names,
    markdown,
    percent,
    picture_folders,
    precision,
    table,
)
from speed_duplicates import near_texts_by_force

from dataset_pipeline.adapters.colour import on_page
from dataset_pipeline.stages import picture_pairs, similarity, text_pairs
from dataset_pipeline.stages.similarity import Flags, Integers

DOCUMENT = ROOT / "docs" / "quality" / "peers.md"
DISTANCES = (0, 2, 4, 6, 8, 10, 12)
DEFAULT_DISTANCE = 10
SAME_PHOTO = {("9fba5065-dc5e-40b8-9548-40d2d498d7a2", "b0d71fba-23a7-4912-b6c6-16b7d8a5bd43")}
"""Of the clothing photos, the only two that are one photo (one of them is cropped): all pairs whose pHashes differ in 12
bits or less were looked at."""


# -- pictures ------------------------------------------------------------------------------


def lossless(data: bytes) -> tuple[bytes, str]:
    """A file that every program reads, with the same pixels, and its extension."""
    with Image.open(io.BytesIO(data)) as image:
        kind = str(image.format)
        if kind in {"JPEG", "WEBP"}:
            return data, {"JPEG": ".jpg", "WEBP": ".webp"}[kind]
        buffer = io.BytesIO()
        # Drawings without a background: not every program lays them on a page.
        on_page(image.convert("RGBA")).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), ".png"


class Rivals:
    """What imagededup and cleanvision say of a collection's originals and copies."""

    def __init__(self, collection: Collection, files: dict[str, Path]) -> None:
        self._chosen = collection.chosen
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            stems = {f"original-{row}": files[name].read_bytes() for row, name in enumerate(collection.names)}
            for row in self._chosen:
                with Image.open(io.BytesIO(stems[f"original-{row}"])) as image:
                    source = on_page(image.convert("RGBA"))
                for number, make in enumerate(EVERY_CHANGE.values()):
                    stems[f"copy-{row}-{number}"] = make(source)
            for stem, data in stems.items():
                written, extension = lossless(data)
                (folder / f"{stem}{extension}").write_bytes(written)
            encoded = peers.call("imagededup_hashes", folder=name)["hashes"]
            sets = peers.call("cleanvision", folder=name)["sets"]
        hashes = {Path(file).stem: int(value, 16) for file, value in encoded.items()}
        assert hashes.keys() == stems.keys(), "imagededup left out pictures"
        self._originals = np.array(
            [hashes[f"original-{row}"] for row in range(len(collection.names))], np.uint64
        )
        self._copies = {
            change: np.array([hashes[f"copy-{row}-{number}"] for row in self._chosen], np.uint64)
            for number, change in enumerate(EVERY_CHANGE)
        }
        self._sets: dict[str, set[tuple[str, int]]] = {}
        for kind, groups in sets.items():
            for number, group in enumerate(groups):
                for file in group:
                    self._sets.setdefault(Path(file).stem, set()).add((kind, number))

    def hashes(self, change: str, distance: int) -> Flags:
        """Which copies imagededup's pHash finds."""
        return np.asarray(np.bitwise_count(self._originals[self._chosen] ^ self._copies[change]) <= distance)

    def false_hashes(self, distance: int) -> int:
        """Pairs of originals that it finds."""
        return len(near_hashes(self._originals, distance)[0])

    def sets(self, change: str) -> Flags:
        """Which copies are in a set of cleanvision's with their original."""
        number = list(EVERY_CHANGE).index(change)
        return np.array([self._share(f"original-{row}", f"copy-{row}-{number}") for row in self._chosen])

    def false_sets(self) -> int:
        """Pairs of originals in a set of cleanvision's."""
        members: dict[tuple[str, int], list[str]] = {}
        for stem, those in self._sets.items():
            for one in those:
                members.setdefault(one, []).append(stem)
        pairs = {
            pair
            for group in members.values()
            for pair in itertools.combinations(sorted(s for s in group if s.startswith("original")), 2)
        }
        return len(pairs)

    def _share(self, one: str, other: str) -> bool:
        return bool(self._sets.get(one, set()) & self._sets.get(other, set()))


def near_hashes(hashes: Integers, distance: int) -> tuple[Integers, Integers]:
    """Pairs of rows whose hashes differ in so many bits at most."""
    left, right = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for row in range(len(hashes)):
        near = row + 1 + np.flatnonzero(np.bitwise_count(hashes[row] ^ hashes[row + 1 :]) <= distance)
        left.append(np.full(len(near), row))
        right.append(near)
    return np.concatenate(left), np.concatenate(right)


def found_copies(collection: Collection, rivals: Rivals | None) -> pl.DataFrame:
    """All methods on one collection."""
    rows = []

    def add(method: str, holds: Callable[[str], Flags], false: int) -> None:
        recall = collection.recall(holds)
        every = collection.recall(holds, list(CHANGES))
        shown = (percent(recall), percent(every), f"{false:,}", precision(collection, recall, false))
        rows.append((method, *shown))

    add("**this pipeline**", collection.near, int(collection.false(PICTURES).sum()))
    for distance in DISTANCES if rivals else ():
        name = f"imagededup PHash, distance <= {distance}"
        add(
            f"{name} (its default)" if distance == DEFAULT_DISTANCE else name,
            lambda change, d=distance: rivals.hashes(change, d),
            rivals.false_hashes(distance),
        )
    if rivals:
        add("cleanvision, exact and near duplicates", rivals.sets, rivals.false_sets())
    else:
        rows.append((f"imagededup, cleanvision: {peers.NOT_INSTALLED}", *"----"))
    for distance in (0, 4, 8, 10):
        add(
            f"imagehash pHash, distance <= {distance}",
            lambda change, d=distance: collection.plain(change, d),
            collection.plain_false(distance),
        )
    return table(
        rows, "method", "copies found", "of all changes", "different pictures taken for one", "precision"
    )


def found_by_change(collection: Collection, rivals: Rivals | None) -> pl.DataFrame:
    """Share of the copies of each change that each method finds."""
    methods: dict[str, Callable[[str], Flags]] = {"this pipeline": collection.near}
    if rivals:
        methods |= {
            "imagededup 4": lambda change: rivals.hashes(change, 4),
            "imagededup 10": lambda change: rivals.hashes(change, DEFAULT_DISTANCE),
            "cleanvision": rivals.sets,
        }
    rows = [
        (kind, change, *(percent(holds(change).mean()) for holds in methods.values()))
        for kind, changes in CHANGES.items()
        for change in changes
    ]
    return table(rows, "kind", "change", *methods)


def untouched_photos(collections: Sequence[Collection], files: dict[str, Path]) -> pl.DataFrame:
    """What each method takes for one among the photos as they are."""
    names = [name for one in collections for name in one.names]
    rows = []

    def add(method: str, left: Integers, right: Integers) -> None:
        pairs = {tuple(sorted((names[i], names[j]))) for i, j in zip(left, right, strict=True)}
        right_ones = len(pairs & SAME_PHOTO)
        rows.append((method, f"{right_ones} of {len(SAME_PHOTO)}", f"{len(pairs) - right_ones}"))

    thumbnails = np.concatenate([one.originals.thumbnails for one in collections])
    alike = list(picture_pairs._products(thumbnails, np.arange(len(names)), None, PICTURES))
    left, right = (np.concatenate([part[side] for part in alike]) for side in (0, 1))
    holds, _ = similarity.near_pictures(thumbnails, left, right, PICTURES)
    add("**this pipeline**", left[holds], right[holds])
    if peers.installed():
        folder = str(next(iter(files.values())).parent)
        encoded = peers.call("imagededup_hashes", folder=folder)["hashes"]
        by_stem = {Path(file).stem: int(value, 16) for file, value in encoded.items()}
        hashes = np.array([by_stem[name] for name in names], np.uint64)
        for distance in DISTANCES:
            add(f"imagededup PHash, distance <= {distance}", *near_hashes(hashes, distance))
        place = {name: row for row, name in enumerate(names)}
        sets = peers.call("cleanvision", folder=folder)["sets"]
        pairs = [
            (place[Path(a).stem], place[Path(b).stem])
            for groups in sets.values()
            for group in groups
            for a, b in itertools.combinations(group, 2)
        ]
        ends = np.array(pairs, np.int64).reshape(-1, 2).T
        add("cleanvision, exact and near duplicates", ends[0], ends[1])
    else:
        rows.append((f"imagededup, cleanvision: {peers.NOT_INSTALLED}", "-", "-"))
    plain = np.concatenate([one.originals.plain_phash for one in collections])
    for distance in (4, 8, 10):
        add(f"imagehash pHash, distance <= {distance}", *near_hashes(plain, distance))
    return table(rows, "method", "one photo", "different photos")


# -- texts ---------------------------------------------------------------------------------

Pairs = set[tuple[int, int]]


def shingles_of(texts: Sequence[str]) -> list[list[str]]:
    """Distinct shingles of every text, as this pipeline makes them."""
    width = TEXTS.shingle_chars
    return [sorted({text[at : at + width] for at in range(len(text) - width + 1)}) for text in texts]


def near_texts(texts: pl.Series, planted: Pairs) -> pl.DataFrame:
    """All methods on one corpus. ``planted``: pairs of a text and its edited copy."""
    limit = TEXTS.min_jaccard
    truth = {(int(i), int(j)) for i, j in near_texts_by_force(texts)}
    rows = []

    def add(method: str, pairs: Pairs, seconds: float) -> None:
        true = len(pairs & truth)
        row = [
            method,
            f"{len(pairs):,}",
            percent(true / len(truth)),
            percent(true / len(pairs)) if pairs else "-",
        ]
        if planted:
            row.append(percent(len(pairs & planted) / len(planted)))
        rows.append((*row, f"{seconds:.2f}"))

    def ordered(pairs: list[list[int]]) -> Pairs:
        return {(min(i, j), max(i, j)) for i, j, *_ in pairs}

    started = time.perf_counter()
    left, right, _ = text_pairs.near_text_pairs(texts, TEXTS)
    seconds = time.perf_counter() - started
    add("**this pipeline**", {(int(i), int(j)) for i, j in zip(left, right, strict=True)}, seconds)
    if peers.installed():
        request = {
            "shingles": shingles_of(texts.to_list()),
            "permutations": TEXTS.permutations,
            "threshold": limit,
        }
        found = peers.call("datasketch", **request)
        add("datasketch MinHashLSH", ordered(found["pairs"]), found["seconds"])
        estimated = [pair for pair in found["pairs"] if pair[2] >= limit]
        add(f"datasketch MinHashLSH, estimate >= {limit:g}", ordered(estimated), found["seconds"])
        found = peers.call("text_dedup", **request)
        add("text-dedup minhash, texts of one cluster", ordered(found["pairs"]), found["seconds"])
    else:
        rows.append((f"datasketch, text-dedup: {peers.NOT_INSTALLED}", *("----" if planted else "---"), "-"))
    columns = ["method", "pairs found", f"of {len(truth):,} near pairs", "precision"]
    return table(rows, *columns, *(["edits found"] if planted else []), "seconds")


def edited_corpus(count: int) -> tuple[pl.Series, Pairs]:
    """Texts of several names and their edited copies, each text once; and which are a text and its copy."""
    texts = joined_names(emoji_names(), count)
    copies = Edited(texts, TEXTS).copies
    keys = pl.Series([*texts, *itertools.chain.from_iterable(copies.values())]).unique().sort()
    place = {text: row for row, text in enumerate(keys)}
    pairs = {
        (min(place[a], place[b]), max(place[a], place[b]))
        for edited in copies.values()
        for a, b in zip(texts, edited, strict=True)
        if a != b
    }
    return keys, pairs


# -- the document --------------------------------------------------------------------------


def document(limit: int) -> Iterator[str]:
    """Paragraphs of docs/quality/peers.md."""
    yield "# Beside other programs"
    there = peers.named() if peers.installed() else f"The other programs are {peers.NOT_INSTALLED}"
    yield (
        f"Written by `python benchmarks/quality_peers.py --write`; no number here is typed by hand. {there}; `make peers` "
        "installs them into an environment of their own. Every program has its default settings where nothing else is said, "
        "and the same files. imagededup's CNN is not here: its weights come from the network. The section on speed is written by "
        "`python benchmarks/speed_images.py --write`."
    )
    yield "## Copies of pictures"
    yield (
        "Pictures and changes of [duplicates.md](duplicates.md): the half of each collection on which no threshold was chosen, "
        "and changed copies of some of it. *Copies found* is the mean over the kinds of changes that this pipeline looks for "
        f"by default ({', '.join(CLAIMED)}), *of all changes* the mean over these and label, watermark, mirrored and turned "
        "copies. Different pictures are the hard negatives: emoji that differ in a skin tone or a gender, photos of shirts in "
        "one pose on one floor. *Precision* is of the pairs found between originals and copies and among the originals. Drawings "
        "without a background were laid on white for all programs, and copies without loss are PNG files. Where imagededup's "
        "default finds more than this pipeline (watermarks, brightened drawings), it pays for it in the fourth column."
    )
    for name, folder in picture_folders().items():
        files = {file.stem: file for file in sorted(folder.iterdir())}
        collection = Collection(name, folder, 1, limit)
        rivals = Rivals(collection, files) if peers.installed() else None
        yield f"### {name}"
        yield (
            f"{len(collection.names):,} different pictures, {collection.pairs:,} pairs; {len(collection.chosen)} of them "
            f"with {len(EVERY_CHANGE)} changes each."
        )
        yield markdown(found_copies(collection, rivals))
        yield markdown(found_by_change(collection, rivals))
        if name == "clothing":
            both = [Collection(name, folder, 0, 1), collection]
            yield (
                f"All {sum(len(one.names) for one in both)} clothing photos as they are. All pairs whose pHashes differ in "
                "12 bits or less were looked at: two photos are one, cropped; all others show different clothes."
            )
            yield markdown(untouched_photos(both, files))
    yield "## Near texts"
    yield (
        f"All programs get the same shingles of {TEXTS.shingle_chars} characters, the threshold {TEXTS.min_jaccard:g} and "
        f"{TEXTS.permutations} permutations. *Near pairs* are those whose Jaccard similarity, computed of all pairs, reaches "
        "the threshold. Seconds are wall time without imports; this pipeline's include making the shingles, text-dedup's "
        "reading and writing its tables. Neither datasketch nor text-dedup measures what its bands of hashes propose; "
        "text-dedup also joins clusters that share a text."
    )
    names = emoji_names()
    single = pl.concat([long_names(names, language) for language in LANGUAGES]).unique().sort()
    yield f"{len(single):,} different names of emoji, of {TEXTS.min_chars} characters and more:"
    yield markdown(near_texts(single, set()))
    keys, planted = edited_corpus(limit * 3)
    yield f"{len(keys):,} texts of several names and their copies, with {len(EDITS)} edits each:"
    yield markdown(near_texts(keys, planted))


def main() -> None:
    """Print the document or write it."""
    arguments = arguments_for(DOCUMENT, __doc__, 60)
    if arguments.write and not peers.installed():
        raise SystemExit(f"the other programs are {peers.NOT_INSTALLED}")
    text = "\n\n".join(document(arguments.limit)) + "\n"
    if arguments.write:
        before = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
        DOCUMENT.write_text(peers.with_speed(text, peers.speed_of(before)), encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
