"""The tables that cross a stage, and the closed list of reasons for which an item is removed.

Belongs here: names, types and meanings of columns. Does not belong here: computing them.
Per-item tables are Parquet files read as polars ``LazyFrame``; one column per text (named in
``dataset.yaml``) is added where a comment says so.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

Schema = Mapping[str, pl.DataType]

THUMBNAIL_SIDE_PX: Final = 32
"""Thumbnails are THUMBNAIL_SIDE_PX x THUMBNAIL_SIDE_PX x 3 bytes of sRGB, rows first."""

IMAGE_BYTES_ROW: Final = "__image_row"
"""Column that a reader of Parquet files with image bytes adds: ``#<file number>:<row number>``."""

RAW_ITEMS: Final[Schema] = {
    "item_id": pl.String(),
    "source": pl.String(),
    "image_ref": pl.String(),
    "label": pl.String(),
    "label_source": pl.String(),
    "language": pl.String(),
    "licence": pl.String(),
    "author": pl.String(),
    "url": pl.String(),
    "group_keys": pl.List(pl.String()),
    "published_split": pl.String(),
    "date": pl.String(),
    "strata": pl.List(pl.String()),
    "problem": pl.String(),
    "problem_detail": pl.String(),
}  # + one String column per text
"""One row per row of a manifest, and one per image file that no row names."""

FACES: Final = pl.List(
    pl.Struct(
        {
            "left": pl.Int32(),
            "top": pl.Int32(),
            "right": pl.Int32(),
            "bottom": pl.Int32(),
            "score": pl.Float32(),
        }
    )
)
"""Where faces are, in pixels of the upright picture at its full size; right and bottom are the first outside."""

IMAGES: Final[Schema] = {
    "image_ref": pl.String(),
    "location": pl.String(),
    "problem": pl.String(),
    "problem_detail": pl.String(),
    "sha256": pl.String(),
    "size_bytes": pl.Int64(),
    "format": pl.String(),
    "width_px": pl.Int32(),
    "height_px": pl.Int32(),
    "mode": pl.String(),
    "frames": pl.Int32(),
    "exif_orientation": pl.Int32(),
    "has_exif": pl.Boolean(),
    "has_gps": pl.Boolean(),
    "has_alpha": pl.Boolean(),
    "pixel_hash": pl.String(),
    "phash": pl.UInt64(),
    "dhash": pl.UInt64(),
    "brightness": pl.Float32(),
    "darkest": pl.Float32(),
    "brightest": pl.Float32(),
    "contrast": pl.Float32(),
    "entropy_bits": pl.Float32(),
    "sharpness": pl.Float32(),
    "fine_detail": pl.Float32(),
    "thumbnail": pl.Binary(),
    "faces": FACES,  # null: not looked for
}
"""One row per image reference: everything later stages need to know of the pixels.

Where faces are blurred, pixel_hash and all after it are of the blurred picture, and so is whatever a later stage shows.
"""

TEXTS: Final[Schema] = {
    "text": pl.String(),  # as it came
    "declared_language": pl.String(),  # null: none declared
    "cleaned": pl.String(),  # normalised and redacted: what is released
    "changes": pl.List(pl.String()),  # names of the rules that changed something
    "language": pl.String(),  # declared, or identified, or "und"
    "language_confidence": pl.Float32(),  # null where declared
    "language_doubt": pl.Struct(  # null where none is declared or nothing speaks against it
        {"evidence": pl.String(), "found": pl.String(), "confidence": pl.Float64()}
    ),
    "findings": pl.List(
        pl.Struct(
            {
                "entity": pl.String(),
                "start": pl.Int32(),
                "end": pl.Int32(),
                "score": pl.Float32(),
                "excerpt": pl.String(),  # for a person to look at: what stands around it, redacted; mostly null
            }
        )
    ),  # personal data; offsets in characters of the normalised text; never the value itself
}
"""One row per distinct (text, declared_language)."""

ITEMS: Final[Schema] = {
    "item_id": pl.String(),
    "source": pl.String(),
    "image_ref": pl.String(),
    "image_sha256": pl.String(),
    "label": pl.String(),
    "label_source": pl.String(),
    "language": pl.String(),
    "licence": pl.String(),
    "author": pl.String(),
    "url": pl.String(),
    "group_keys": pl.List(pl.String()),
    "published_split": pl.String(),
    "date": pl.String(),
    "strata": pl.List(pl.String()),
}  # + one String column per text
"""An item that is still in, from cleaning on."""

DEDUPLICATED: Final[Schema] = {**ITEMS, "duplicate_group": pl.String()}
SPLIT_ITEMS: Final[Schema] = {
    **DEDUPLICATED,
    "leak_group": pl.String(),
    "split": pl.String(),
    "fold": pl.Int64(),
}

RELEASED_ITEMS: Final[Sequence[str]] = (
    "item_id",
    "split",
    "label",
    "label_source",
    "language",
    "source",
    "licence",
    "author",
    "image_sha256",
    "duplicate_group",
    "leak_group",
)  # + those of RELEASED_WHERE_THERE, + one column per text; all but those are String
"""Columns of a released item, in order: of metadata/items.parquet, and after ``image`` of the shards."""

RELEASED_WHERE_THERE: Final[Schema] = {"fold": pl.Int64(), "date": pl.String()}
"""Columns of a released item that are there where the configuration asks for folds, or a source gives dates."""

REMOVED: Final[Schema] = {
    "item_id": pl.String(),
    "stage": pl.String(),
    "reason": pl.String(),
    "detail": pl.String(),
    "kept_item_id": pl.String(),
}
"""One row per raw item that is not released."""

REFERENCES: Final[Schema] = {
    "item_id": pl.String(),
    "source": pl.String(),
    "url": pl.String(),
    "image_sha256": pl.String(),
    "label": pl.String(),
    "licence": pl.String(),
    "author": pl.String(),
}
"""Items that may be named and not passed on: where they are, the hash of what is there, and no content."""

DECISIONS: Final[Schema] = {
    "item_id": pl.String(),
    "decision": pl.String(),
    "value": pl.String(),
    "by": pl.String(),
    "date": pl.String(),
}
"""What people have decided about items; in a release with ``state``, which says what became of it."""

REVIEW: Final[Schema] = {
    "kind": pl.String(),
    "item_id": pl.String(),
    "other_item_id": pl.String(),
    "value": pl.Float64(),
    "found": pl.String(),
}
"""What people should look at: the kind of question, and how much an answer is worth."""

PAIRS: Final[Schema] = {
    "item_id": pl.String(),
    "other_item_id": pl.String(),
    "kind": pl.String(),
    "score": pl.Float64(),
}
"""Verified duplicate pairs. Exact kinds are stars: every member paired with the group's first id."""

OUTSIDE_PICTURES: Final[Schema] = {
    "set": pl.String(),
    "name": pl.String(),
    "sha256": pl.String(),
    "pixel_hash": pl.String(),
    "phash": pl.UInt64(),
    "thumbnail": pl.Binary(),
}
"""Pictures of outside sets: ``set`` names the set, ``name`` the picture in it."""

OUTSIDE_LINES: Final[Schema] = {"set": pl.String(), "name": pl.String(), "value": pl.String()}
"""Texts or hashes of outside sets: ``name`` says which line or row it is."""

MATCHES: Final[Schema] = {
    "item_id": pl.String(),
    "set": pl.String(),
    "kind": pl.String(),
    "score": pl.Float64(),
    "outside": pl.String(),
}
"""Items that an outside set holds too; ``outside`` is the name of the picture, line or row there."""

MERGED: Final[Schema] = {
    "item_id": pl.String(),
    "column": pl.String(),
    "value": pl.String(),
    "former": pl.String(),
    "from_item_id": pl.String(),
}
"""Values that a kept item takes over from a removed duplicate; ``former`` is what it had itself."""

ANNOTATIONS: Final[Schema] = {"item_id": pl.String(), "annotator": pl.String(), "label": pl.String()}
"""One row per label that one of several annotators gave."""

LABEL_CANDIDATES: Final[Schema] = {
    "item_id": pl.String(),
    "split": pl.String(),
    "label": pl.String(),
    "suggested": pl.String(),
    "own_probability": pl.Float64(),
    "suggested_probability": pl.Float64(),
    "leak_group": pl.String(),
}
"""Items whose label is probably wrong, the most suspicious first."""

IMAGE_WARNINGS: Final[Schema] = {
    "item_id": pl.String(),
    "warning": pl.String(),
    "detail": pl.String(),
}
"""One row per item and image check that it does not pass and that is reported, not acted upon."""

COLUMN_MEANINGS: Final[Mapping[str, str]] = {
    "item_id": "unique id of the item",
    "split": "the split that the item belongs to",
    "fold": "the fold of cross-validation that the item belongs to, from 0; each split is divided evenly among them",
    "date": "when the item was made, as its source gives it",
    "label": "the class",
    "label_source": "who or what gave the label",
    "language": "language of the texts (BCP 47); 'und': not determined; missing: the item has no text",
    "source": "the source that the item comes from",
    "licence": "SPDX id of the item's licence",
    "author": "the item's author, where known",
    "url": "where the item itself is published",
    "image": "the picture: bytes and a file name; no EXIF or other embedded metadata",
    "image_sha256": "SHA-256 of the picture's file as it was collected, before embedded metadata was removed",
    "duplicate_group": "items that share a value are duplicates of one another, or of one another's duplicates",
    "leak_group": "items that share a value must stay in one split",
    "image_ref": "source id and path (or row) of the picture",
    "group_keys": "column=value of every group that the item belongs to",
    "published_split": "the split that the source gives",
    "strata": "name=value of further columns to stratify by",
    "problem": "reason code of what is wrong; missing: nothing",
    "problem_detail": "what was found",
    "location": "where the bytes are; known to the reader of sources alone",
    "sha256": "SHA-256 of the file's bytes",
    "size_bytes": "size of the file",
    "format": "file format: JPEG, PNG, ...",
    "width_px": "width after EXIF orientation",
    "height_px": "height after EXIF orientation",
    "mode": "Pillow's colour mode: RGB, P, CMYK, ...",
    "frames": "number of frames or pages; more than 1: animated",
    "exif_orientation": "1-8; 1 where absent",
    "has_exif": "whether the file carries EXIF data",
    "has_gps": "whether its EXIF data holds a place",
    "has_alpha": "whether parts are transparent",
    "pixel_hash": "SHA-256 of the size and the upright sRGB(A) pixels",
    "phash": "64-bit DCT hash of the 8 x 8 lowest frequencies of luminance",
    "dhash": "64 signs of horizontal gradients on a 9 x 8 grid of luminance",
    "brightness": "mean luminance, 0-255",
    "darkest": "luminance that 1 % of the pixels stay under, 0-255",
    "brightest": "luminance that 1 % of the pixels pass, 0-255",
    "contrast": "standard deviation of luminance, 0-127.5",
    "entropy_bits": "entropy of the luminance histogram, 0-8",
    "sharpness": "variance of the Laplacian of luminance",
    "fine_detail": "variance of the Laplacian at one scale over that at half of it; the least of three scales",
    "warning": "what may be wrong with the item's picture, as a code of the documented list of reasons",
    "thumbnail": f"{THUMBNAIL_SIDE_PX} x {THUMBNAIL_SIDE_PX} pixels of sRGB, rows first",
    "faces": "where a detector finds faces, in pixels of the upright picture; missing: not looked for",
    "stage": "the stage that removed the item",
    "reason": "why, as a code of the documented list",
    "detail": "what was found",
    "kept_item_id": "the item that this one duplicates",
    "other_item_id": "id of the other item; the larger of the two",
    "kind": "the kind of pair, or of question",
    "value": "what an answer is worth: doubt, from 0 to 1, times the items in question",
    "found": "what was found",
    "annotator": "who gave the label, as the config names them",
    "suggested": "the label that a model without the item's leak group would give",
    "own_probability": "that model's probability of the item's own label; the lower, the more suspicious",
    "suggested_probability": "its probability of the suggested label",
    "score": "1 for exact kinds, else the similarity that verified the pair",
}
"""What each column that crosses a stage, or is released, means."""

PAIR_KINDS: Final[Mapping[str, str]] = {
    "same_bytes": "the image files are identical",
    "same_pixels": "the decoded pictures are identical",
    "near_image": "the pictures are nearly identical: verified on their pixels, whatever search proposed the pair",
    "same_text": "all texts are identical after normalisation, letter case and spacing apart",
    "near_text": "the texts are nearly identical: their words are equal, or the Jaccard similarity of their shingles says so",
}

MATCH_KINDS: Final[Mapping[str, str]] = {
    "same_bytes": "the picture's file is one of the set's",
    "same_pixels": "the picture has the pixels of one of the set's",
    "same_text": "a text of the item is one of the set's, letter case and spacing apart",
    "near_image": "the picture is nearly one of the set's, by the rule for duplicates",
    "near_text": "a text of the item is nearly one of the set's, by the rule for duplicates",
    "near_phash": "the picture's pHash is listed by the set, or nearly",
    "near_embedding": "the embedding of the item's picture, or of its texts, is nearly one of the set's",
}
"""How an item may match an outside set, the surest way first."""

REASONS_OF_STAGES: Final[Mapping[str, Mapping[str, str]]] = {
    "raw": {
        "image_path_outside_root": "the row's image path leaves the source's image root",
        "image_not_named": "the row names no image, and the source has images",
        "image_without_row": "an image file that no row names",
    },
    "clean": {
        "image_missing": "the row names an image file that is not there",
        "image_empty": "the image file has no bytes",
        "image_undecodable": "the image file is not a picture that can be decoded",
        "image_is_text": "the image file holds HTML or other text, such as a saved error page",
        "image_truncated": "the image file ends before the picture does",
        "image_too_large": "the picture has more pixels than may be decoded",
        "image_too_small": "the picture's shorter side is under clean.images.min_side_px",
        "image_extreme_aspect": "the picture's sides differ by more than clean.images.max_aspect_ratio",
        "image_blank": "the picture's contrast is under clean.images.min_contrast",
        "image_too_dark": "99 % of the picture's pixels are darker than clean.images.min_brightest",
        "image_too_bright": "99 % of the picture's pixels are brighter than clean.images.max_darkest",
        "image_blurred": "the picture lacks fine detail: less than clean.images.min_fine_detail",
        "image_low_information": "the entropy of the picture's grey values is under clean.images.min_entropy_bits",
        "image_odd_size": "the picture is clean.images.max_size_factor times larger or smaller than the median one",
        "image_placeholder": "the same pixels are shown for many labels or texts, as an 'image not available' picture is",
        "image_animated": "the picture has more than one frame; its first is released where it stays",
        "image_faces": "the picture shows a face (pii.images); where it stays, a person kept it, it is blurred, or reported",
        "image_faces_unsure": "the picture shows a face, and pii.images.faces is 'review': for review",
        "text_empty": "all texts of the row are empty after cleaning",
        "language_doubtful": "a text does not look like its declared language (clean.language.declared)",
        "text_without_letters": "the row's texts hold digits, punctuation and signs alone (clean.texts.require_letters)",
        "text_too_short": "every text of the row is shorter than clean.texts.min_chars",
        "text_too_long": "a text of the row is longer than clean.texts.max_chars",
        "personal_data": "a text holds personal data whose action is 'drop'",
        "personal_data_unsure": "a text holds personal data whose action is 'review': for review",
        "licence_no_derivatives": "the item's licence allows no changes, and licences.no_derivatives leaves it out",
        "licence_missing": "the item has no licence, and licences.unlicensed leaves it out",
        "label_missing": "the row has no label",
        "label_dropped": "the row's label is listed in labels.drop",
        "label_unsure": "the row's label is listed in labels.unsure: for review",
        "taken_down": "the item is listed in the takedowns file",
        "decided_drop": "a person decided to leave the item out",
    },
    "decontamination": {
        "in_outside_set": "the item's picture, or a text of it, is in an outside set that decontaminate removes",
    },
    "duplicates": {
        "duplicate_of_taken_down": "the item is the same as one that was taken down; a decision can keep it",
        "label_contradicted": "duplicates of the item have another label, and duplicates.merge holds them back for review",
        "duplicate": "the item duplicates the item in kept_item_id",
    },
}
"""Stage that may remove items -> every reason it may give -> what that means."""

STAGES: Final[Sequence[str]] = tuple(REASONS_OF_STAGES)
REASONS: Final[Mapping[str, str]] = {
    reason: meaning for reasons in REASONS_OF_STAGES.values() for reason, meaning in reasons.items()
}
"""Closed list: every removed row carries one of these."""

RESERVED_COLUMNS: Final = frozenset(
    {*RAW_ITEMS, *ITEMS, *SPLIT_ITEMS, *IMAGES, "image", "stage", "reason", "detail", "kept_item_id"}
)
"""Names a text column may not have."""


def empty(schema: Schema) -> pl.DataFrame:
    """A table of that schema without rows."""
    return pl.DataFrame(schema=dict(schema))
