"""``dataset.yaml`` as frozen models; nothing else in the package reads YAML.

Belongs here: the shape, the defaults and the validation of the configuration. Does not belong
here: looking at the data the configuration points to (``commands/check.py`` does that).
"""

import difflib
import math
import re
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from dataset_pipeline.errors import ConfigError
from dataset_pipeline.tables import RESERVED_COLUMNS

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,62}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]
VERSION_PATTERN: Final = r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$"
SemanticVersion = Annotated[str, StringConstraints(pattern=VERSION_PATTERN)]
Date = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
WebAddress = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$")]
Share = Annotated[float, Field(gt=0, lt=1)]


class Settings(BaseModel):
    """Base of every section: immutable, and a key that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Creator(Settings):
    """A person or organisation that made the dataset."""

    name: str
    affiliation: str | None = None
    orcid: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{4}-\d{4}-\d{3}[\dX]$")] | None = None


class Permission(Settings):
    """Why this source may be redistributed, and where the proof is."""

    basis: Literal["own-data", "public-licence", "owner-approval"]
    evidence: str | None = Field(None, description="a file beside the config, or a URL")


class Columns(Settings):
    """Which column of a manifest means what.

    ``label_source``, ``language``, ``licence`` and ``author`` take a column's name or, where no
    column has that name, a constant.
    """

    item_id: str | None = Field(None, description="unique id; absent: the image's path, or the row's number")
    image: str | None = Field(None, description="a column, or a template of columns such as '{image}.jpg'")
    texts: dict[ColumnName, str] = Field(default_factory=dict, description="released name -> column")
    label: str | None = None
    label_source: str | None = Field(None, description="who or what gave the label: a column or a constant")
    language: str | None = Field(None, description="BCP 47: a column or a constant; absent: detected")
    group_keys: tuple[str, ...] = Field((), description="rows that share one of these never cross splits")
    licence: str | None = Field(None, description="SPDX id: a column or a constant; absent: the source's")
    author: str | None = None
    url: str | None = Field(None, description="where the item itself is published")
    split: str | None = Field(None, description="an existing split")
    annotations: dict[ColumnName, str] = Field(
        default_factory=dict, description="annotator -> column with the label that this annotator gave"
    )
    date: str | None = Field(
        None, description="ISO 8601 dates, for split.method: temporal; released as 'date'"
    )
    strata: dict[ColumnName, str] = Field(
        default_factory=dict, description="name -> column: more that split.stratify may name; not released"
    )

    @field_validator("strata")
    @classmethod
    def _no_names_of_items(cls, strata: dict[str, str]) -> dict[str, str]:
        if clash := sorted(set(strata) & (RESERVED_COLUMNS - {"date"})):
            raise ValueError(
                f"names {clash} are reserved: split.stratify knows them, or other columns have them"
            )
        return strata

    @field_validator("texts")
    @classmethod
    def _no_reserved_names(cls, texts: dict[str, str]) -> dict[str, str]:
        if clash := sorted(set(texts) & RESERVED_COLUMNS):
            raise ValueError(f"text names {clash} are reserved; choose others, such as 'title' or 'caption'")
        return texts


class Source(Settings):
    """One place that raw items come from."""

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
    path: str | tuple[str, ...] = Field(
        description="csv, tsv, jsonl, parquet or a folder tree, or several files"
    )
    image_root: str | None = Field(
        None, description="images may lie nowhere else; absent: the manifest's folder"
    )
    columns: Columns = Columns()
    encoding: str = Field("utf-8", description="of csv, tsv and jsonl files")
    licence: str = Field(description="SPDX id of everything in this source that says nothing else")
    author: str | None = None
    url: str | None = Field(None, description="where the source is published")
    permission: Permission | None = None
    unlisted_images: Literal["report", "ignore"] = Field(
        "report", description="files under image_root that no row names: listed as removed, or not looked at"
    )

    @property
    def paths(self) -> tuple[str, ...]:
        """The source's paths, always as a tuple."""
        return (self.path,) if isinstance(self.path, str) else self.path


class Review(Settings):
    """The list of what the machine is unsure of, for people; it is kept in the storage folder."""

    max_rows: int = Field(1000, ge=0, description="questions in review.csv, the most valuable first")
    max_pictures: int = Field(200, ge=0, le=2000, description="questions shown with pictures in review.html")


LicenceAction = Literal["stop", "drop", "reference"]


class Licences(Settings):
    """What to do with items that may be named, and not passed on under the dataset's licence.

    ``stop``: the build stops; ``drop``: they are removed; ``reference``: removed too, and listed by hash and URL.
    """

    no_derivatives: LicenceAction = Field("stop", description="items under a licence that allows no changes")
    unlicensed: LicenceAction = Field("stop", description="items whose licence is NONE or NOASSERTION")


class Labels(Settings):
    """What to do with particular labels."""

    drop: tuple[str, ...] = Field((), description="rows with these labels are removed")
    unsure: tuple[str, ...] = Field((), description="removed too, but listed for review")
    human_sources: tuple[str, ...] = Field(
        ("human", "annotator"), description="label_source values that a person stands behind"
    )
    required: bool = Field(
        True, description="a row without a label is removed, where the source has a label column"
    )


ImageCheck = Literal[
    "too_small",
    "extreme_aspect",
    "blank",
    "too_dark",
    "too_bright",
    "blurred",
    "low_information",
    "odd_size",
    "placeholder",
    "animated",
]
ImageAction = Literal["drop", "report", "off"]

_DROPPED_IMAGES = frozenset({"too_small", "extreme_aspect", "blank"})


class CleanImages(Settings):
    """Thresholds of the image checks. See docs/quality/images.md for how they were chosen."""

    min_side_px: int = Field(32, ge=1)
    max_aspect_ratio: float = Field(8.0, gt=1)
    min_contrast: float = Field(
        2.0, ge=0, description="standard deviation of grey values, 0-127.5; less is blank"
    )
    min_brightest: float = Field(
        50.0, ge=0, le=255, description="luminance that 1 % of the pixels pass; less is too dark"
    )
    max_darkest: float = Field(
        235.0, ge=0, le=255, description="luminance that 1 % of the pixels stay under; more is too bright"
    )
    min_fine_detail: float = Field(
        0.2, ge=0, description="energy of edges at one scale over the next coarser one; less is blurred"
    )
    min_entropy_bits: float = Field(
        0.2, ge=0, le=8, description="of the grey values; less is low information"
    )
    max_size_factor: float = Field(
        5.0, gt=1, description="an image so many times larger or smaller than the median one has an odd size"
    )
    placeholder_labels: int = Field(
        3, ge=2, description="the same pixels under so many labels are a placeholder"
    )
    placeholder_texts: int = Field(
        10, ge=2, description="the same pixels under so many different texts of one language likewise"
    )
    actions: dict[ImageCheck, ImageAction] = Field(
        default_factory=dict,
        description="check -> action; not named here: too_small, extreme_aspect and blank are dropped, the others "
        "are reported; of an animated image that is not dropped the first frame is released",
    )
    min_decodable_share: float = Field(0.5, ge=0, le=1, description="fewer decodable images stop the build")
    max_pixels: int = Field(100_000_000, ge=1, description="more are not decoded: a decompression bomb")

    def action(self, check: str) -> ImageAction:
        """What happens to an item whose image does not pass ``check``."""
        for name, action in self.actions.items():
            if name == check:
                return action
        return "drop" if check in _DROPPED_IMAGES else "report"


TextRule = Literal[
    "mojibake", "html", "control_characters", "unicode_form", "whitespace", "repeated_characters"
]


class Boilerplate(Settings):
    """Sentences and lines that many texts share, such as a shop's terms of delivery; found, not listed."""

    action: Literal["report", "remove", "off"] = Field(
        "report", description="remove: taken out of every text that holds them"
    )
    min_texts: int = Field(20, ge=2, description="as many different texts hold it")
    min_share: float = Field(0.01, ge=0, le=1, description="and so large a part of the different texts")
    min_chars: int = Field(20, ge=1, description="shorter passages, such as 'Size M.', are never boilerplate")
    keep: tuple[str, ...] = Field((), description="passages that stay, however many texts share them")


class CleanTexts(Settings):
    """Text normalisation and its limits."""

    rules: tuple[TextRule, ...] = Field(
        get_args(TextRule), description="what is repaired; a rule that is left out changes nothing"
    )
    unicode_form: Literal["NFC", "NFKC"] = "NFC"
    max_repeats: int = Field(
        10, ge=3, description="repeated_characters: a longer run of one letter or sign is cut to three"
    )
    boilerplate: Boilerplate = Boilerplate()
    min_chars: int = Field(1, ge=1)
    max_chars: int = Field(20_000, ge=1)
    require_letters: bool = Field(
        False, description="a row is removed whose texts hold digits, punctuation and signs alone"
    )
    required: bool = Field(
        True, description="a row whose texts are all empty is removed, where there are texts"
    )


class Language(Settings):
    """Language identification."""

    detect: Literal["missing", "never"] = "missing"
    min_confidence: float = Field(0.5, ge=0, le=1, description="below it the language stays 'und'")
    declared: Literal["trust", "report", "review", "drop", "replace"] = Field(
        "report",
        description="what happens where a text does not look like the language that the source declares",
    )
    min_doubt: float = Field(
        0.8, ge=0, le=1, description="confidence from which on another language contradicts the declared one"
    )
    min_doubt_letters: int = Field(
        10, ge=1, description="letters from which on a text can contradict its declared language"
    )


class Clean(Settings):
    """The cleaning stage."""

    images: CleanImages = CleanImages()
    texts: CleanTexts = CleanTexts()
    language: Language = Language()


PersonalDataEntity = Literal[
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "CREDIT_CARD",
    "IBAN_CODE",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "CRYPTO",
    "US_SSN",
    "UK_NINO",
    "IT_FISCAL_CODE",
    "ES_NIF",
    "ES_NIE",
    "FI_PERSONAL_IDENTITY_CODE",
    "NATIONAL_ID",
    "DATE_OF_BIRTH",
    "ADDRESS",
    "SOCIAL_HANDLE",
    "PROFILE_URL",
    "URL",
    "PERSON",
    "LOCATION",
    "NRP",
    "ORGANIZATION",
    "DATE_TIME",
]
PersonalDataAction = Literal["redact", "mask", "hash", "surrogate", "drop", "review", "report"]

_REPORTED_ENTITIES = frozenset({"URL", "PERSON", "LOCATION", "NRP", "ORGANIZATION", "DATE_TIME"})
KEYED_ACTIONS = frozenset({"hash", "surrogate"})


class NerModel(Settings):
    """A model that finds names, by the library that runs it."""

    engine: Literal["spacy", "transformers", "gliner"] = "spacy"
    model: str = Field(
        description="an installed spaCy package, a model's folder, or a name in the local Hugging Face cache"
    )
    labels: dict[str, PersonalDataEntity] = Field(
        default_factory=dict,
        description="the model's labels -> entities; empty: the usual ones (PER, LOC, ORG, ...). GLiNER is asked for them",
    )


class PiiKey(Settings):
    """Where the secret of hashes and surrogates is read from; it is written nowhere."""

    environment: str | None = Field(None, description="an environment variable that holds it")
    file: str | None = Field(None, description="a file that holds it, beside the config or absolute")

    @model_validator(mode="after")
    def _is_one_place(self) -> "PiiKey":
        if (self.environment is None) == (self.file is None):
            raise ValueError("expected one of 'environment' and 'file'")
        return self


FaceAction = Literal["off", "report", "blur", "drop", "review"]


class PiiImages(Settings):
    """Faces in pictures. What the detector finds and misses is measured in docs/quality/faces.md."""

    faces: FaceAction = Field(
        "off",
        description="what happens to a picture that shows one: counted, blurred wherever it is shown, its items removed, "
        "or removed for review; all but off need: pip install 'dataset-pipeline[faces]'",
    )
    min_score: float = Field(0.9, ge=0.7, le=1, description="the detector's score from which a face counts")
    min_side_px: int = Field(
        20, ge=12, description="smaller faces are not looked for; measured as max_side_px says"
    )
    max_side_px: int = Field(
        1280, ge=64, description="a larger picture is looked at scaled down to this longer side"
    )


class Pii(Settings):
    """Personal data in texts and pictures. See docs/quality/personal_data.md for how the defaults were chosen."""

    enabled: bool = Field(True, description="whether texts are searched")
    images: PiiImages = Field(PiiImages(), description="whether pictures are searched for faces")
    min_score: float = Field(0.4, ge=0, le=1)
    min_scores: dict[PersonalDataEntity, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="entity -> threshold, instead of min_score"
    )
    entities: tuple[PersonalDataEntity, ...] = Field(
        tuple(e for e in get_args(PersonalDataEntity) if e not in {"ORGANIZATION", "DATE_TIME"}),
        description="what is searched for; LOCATION and those after it need a model in ner_models",
    )
    ner_models: dict[str, NerModel] = Field(
        default_factory=dict,
        description="language -> spaCy model package, or engine and model; patterns alone elsewhere",
    )
    actions: dict[PersonalDataEntity, PersonalDataAction] = Field(
        default_factory=dict,
        description="entity -> action; not named here: URL and what a model finds (PERSON, LOCATION, NRP, "
        "ORGANIZATION, DATE_TIME) are reported, everything else is redacted",
    )
    key: PiiKey | None = Field(None, description="needed by the actions 'hash' and 'surrogate'")
    allow: tuple[str, ...] = Field(
        (),
        description="strings that are never personal data, in any letter case: brands, product names, own addresses",
    )
    allow_patterns: tuple[str, ...] = Field(
        (), description="regular expressions of whole values that are never personal data: product codes"
    )
    allow_files: tuple[str, ...] = Field((), description="files with one string of 'allow' a line")
    context: dict[PersonalDataEntity, tuple[str, ...]] = Field(
        default_factory=dict,
        description="entity -> words that, shortly before a value, make it more likely (score + 0.35)",
    )

    @field_validator("ner_models", mode="before", json_schema_input_type=dict[str, NerModel | str])
    @classmethod
    def _name_is_a_spacy_model(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                key: {"model": model} if isinstance(model, str) else model for key, model in value.items()
            }
        return value

    @field_validator("allow_patterns")
    @classmethod
    def _is_a_pattern(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"'{pattern}' is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _has_a_key_where_needed(self) -> "Pii":
        keyed = sorted(entity for entity, action in self.actions.items() if action in KEYED_ACTIONS)
        if keyed and self.key is None:
            raise ValueError(
                f"actions.{keyed[0]} is '{self.actions[keyed[0]]}', which needs a secret: add "
                "key: {environment: NAME} or key: {file: PATH}"
            )
        return self

    def action(self, entity: str) -> PersonalDataAction:
        """What happens to a text in which ``entity`` is found."""
        for name, action in self.actions.items():
            if name == entity:
                return action
        return "report" if entity in _REPORTED_ENTITIES else "redact"

    def threshold(self, entity: str) -> float:
        """The score from which a finding counts."""
        for name, score in self.min_scores.items():
            if name == entity:
                return score
        return self.min_score


ImageChange = Literal["colour", "crop", "overlay", "mirror", "turn"]


class ImageDuplicates(Settings):
    """Near-identical pictures: re-encoded, resized, softened, of another brightness or contrast, and ``changes``."""

    near: bool = True
    changes: tuple[ImageChange, ...] = Field(
        ("colour", "crop"),
        description="what else a copy may have gone through: colour: less of it, down to grey; crop: up to 5 % less, "
        "or a border of up to 5 %, at every edge; overlay: a label, watermark or logo over a photo; mirror; "
        "turn: by quarters",
    )
    linked_changes: tuple[ImageChange, ...] = Field(
        ("overlay",),
        description="what two pictures may differ by besides, to be listed as a pair and to stay in one split; they are "
        "never merged for it",
    )
    max_hash_distance: int = Field(
        4, ge=0, le=4, description="bits of 64 in which two pHashes of a candidate differ"
    )
    min_similarity: float = Field(
        0.98, gt=0, le=1, description="correlation of the two pictures' softened colour thumbnails"
    )
    max_block_difference: float = Field(
        20.0, gt=0, description="largest difference of any 4x4 block of the thumbnails, in grey levels of 255"
    )
    max_tone_difference: float = Field(
        64.0, ge=0, description="largest difference in brightness plus contrast, in grey levels of 255"
    )

    @property
    def linking(self) -> "ImageDuplicates":
        """The same, of pictures that are not merged but linked: ``changes`` are both."""
        changes = tuple(dict.fromkeys((*self.changes, *self.linked_changes)))
        return self.model_copy(update={"changes": changes})


class TextDuplicates(Settings):
    """Near-identical texts: MinHash candidates, verified by true Jaccard."""

    near: bool = True
    shingle_chars: int = Field(4, ge=2, le=16)
    min_jaccard: float = Field(0.85, gt=0, le=1)
    min_chars: int = Field(
        24, ge=1, description="shorter texts are near only where all their words are equal"
    )
    permutations: int = Field(128, ge=16, le=1024)


class MergeDuplicates(Settings):
    """What the item that stays takes over from its removed duplicates."""

    texts: Literal["keep", "fill"] = Field(
        "keep",
        description="fill: a text that it lacks comes from the best duplicate that has it, in its language, under its "
        "licence and by its author",
    )
    labels: Literal["keep", "majority", "unsure"] = Field(
        "keep",
        description="majority: the label of most of them, persons before all others; unsure: where labels contradict, "
        "the whole set is removed for review",
    )


class Duplicates(Settings):
    """What a duplicate is and which one is kept."""

    item: Literal["auto", "image_and_text", "image", "text", "never"] = Field(
        "auto",
        description="what two items must share to be one item; auto: picture and text where there are texts",
    )
    distinct_by: tuple[Literal["language", "label", "source"], ...] = Field(
        ("language",), description="items that differ in one of these are never merged"
    )
    keep: tuple[Literal["human_label", "resolution", "text_length"], ...] = Field(
        ("human_label", "resolution", "text_length"),
        description="which one stays, first rule first; then the id",
    )
    merge: MergeDuplicates = MergeDuplicates()
    image: ImageDuplicates = ImageDuplicates()
    text: TextDuplicates = TextDuplicates()


class OutsideEmbeddings(Settings):
    """Embeddings of pictures or texts that the dataset must not overlap with."""

    path: str = Field(description="a .npy file of shape (vectors, dimensions), or a Parquet file")
    model: str = Field(
        description="what made them: name of one of baselines.models, with weights of its own and not trained here"
    )
    of: Literal["image", "text"] = Field("image", description="what of an item they are compared with")
    column: str = Field("embedding", description="of a Parquet file: the column with vectors")
    min_cosine: float = Field(0.97, gt=0, le=1, description="cosine from which an item is in the set")


class OutsideSet(Settings):
    """Something that the dataset must not overlap with, such as the test set of a benchmark."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
    action: Literal["remove", "report"] = Field(
        "remove", description="what happens to an item that is in the set as well"
    )
    images: str | None = Field(None, description="a folder of pictures, or a manifest with image_column")
    image_column: str = Field(
        "image", description="of the manifest: files, a template of columns such as '{id}.jpg', or bytes"
    )
    image_root: str | None = Field(
        None, description="where a manifest's pictures are; absent: the manifest's folder"
    )
    texts: str | None = Field(None, description="a .txt file with a text a line, or a manifest")
    text_columns: tuple[str, ...] = Field(
        (), description="of the manifest: columns that hold texts; absent: its only column"
    )
    min_text_chars: int = Field(
        1,
        ge=1,
        description="shorter texts of the set match nothing: raise it where it holds phrases like 'red'",
    )
    hashes: str | None = Field(
        None,
        description="a file with a hash a line: SHA-256 of a file or of pixels, or 64-bit pHash, in hexadecimal",
    )
    max_hash_distance: int = Field(
        0, ge=0, le=8, description="bits in which a picture's pHash may differ from one of hashes"
    )
    embeddings: OutsideEmbeddings | None = Field(
        None, description="vectors of a model, and from which cosine on they match"
    )

    @model_validator(mode="after")
    def _something_to_compare_with(self) -> "OutsideSet":
        if not any((self.images, self.texts, self.hashes, self.embeddings)):
            raise ValueError(
                f"'{self.name}' needs at least one of 'images', 'texts', 'hashes' and 'embeddings', found none"
            )
        if self.text_columns and (self.texts is None or self.texts.endswith(".txt")):
            raise ValueError(f"text_columns name columns of a manifest, and 'texts' is {self.texts!r}")
        return self


class SemanticLinks(Settings):
    """Items that a model's embeddings call alike share a split."""

    model: str = Field(
        description="name of one of baselines.models, with weights of its own and not trained here"
    )
    image: float | None = Field(
        None, gt=0, le=1, description="cosine of two pictures' embeddings from which they share a split"
    )
    text: float | None = Field(None, gt=0, le=1, description="the same of the texts of two items")
    max_group_items: int = Field(
        100, ge=2, description="a pair that would make a leak group of more items is left apart, and counted"
    )

    @model_validator(mode="after")
    def _some_threshold(self) -> "SemanticLinks":
        if self.image is None and self.text is None:
            raise ValueError("needs a cosine for 'image', 'text' or both, found none")
        return self


class Split(Settings):
    """The train/validation/test split."""

    ratios: dict[Name, Share] = Field(default_factory=lambda: {"train": 0.8, "validation": 0.1, "test": 0.1})
    stratify: tuple[str, ...] = Field(
        ("label", "language"),
        description="of label, language, source, label_source, licence, author and the names in columns.strata",
    )
    link: tuple[Literal["group_keys", "image", "text"], ...] = Field(
        ("group_keys", "image", "text"), description="what keeps two items in one split"
    )
    semantic: SemanticLinks | None = Field(
        None, description="what else keeps two items in one split: likeness to a model"
    )
    min_link_text_chars: int = Field(
        1, ge=1, description="equal or nearly equal texts shorter than this do not link two items"
    )
    method: Literal["stratified", "temporal", "published", "repaired"] = Field(
        "stratified",
        description="temporal: cut in time, in the order of ratios; published: keep the sources' own split, and let "
        "the leak gate judge it; repaired: change that as little as it takes for no group to be cut",
    )
    repair: Literal["fewest_moves", "test_stays"] = Field(
        "fewest_moves",
        description="where a group goes that a published split cuts: where most of its items are, or to test if any is",
    )
    on_leak: Literal["block", "warn"] = Field(
        "block", description="warn: a published split is released with its leaks, and every document says so"
    )
    keep: Literal["released", "none"] = Field(
        "released", description="released: what a lower version has released stays in its split and fold"
    )
    test_label_sources: tuple[str, ...] = Field(
        (), description="items of a leak group with any other label_source are never in test; empty: any"
    )
    min_test_per_label: int = Field(
        0, ge=0, description="so many test items a label; a label that cannot have them goes to train"
    )
    min_search_recall: float = Field(
        0.9, ge=0, le=1, description="share of planted copies that the search for leaks must find, by kind"
    )
    folds: int = Field(
        0, ge=0, le=1000, description="folds for cross-validation, in the column fold; 0: none"
    )

    @field_validator("ratios")
    @classmethod
    def _sum_to_one(cls, ratios: dict[str, float]) -> dict[str, float]:
        if len(ratios) < 2 or abs(sum(ratios.values()) - 1) > 1e-6:
            raise ValueError(
                f"needs two or more splits whose shares add up to 1, found {ratios}, together "
                f"{sum(ratios.values()):g}"
            )
        if not {"train", "test"} <= ratios.keys():
            raise ValueError(f"needs a 'train' and a 'test' split, found {sorted(ratios)}")
        names = [re.sub(r"\W", "_", name) for name in ratios]  # as Hugging Face calls them
        if twice := sorted(name for name in ratios if names.count(re.sub(r"\W", "_", name)) > 1):
            raise ValueError(f"names of splits must differ in more than punctuation, found {twice}")
        return ratios

    @field_validator("folds")
    @classmethod
    def _two_folds_or_none(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("needs 2 folds or more, or 0 for none, found 1")
        return folds

    @model_validator(mode="after")
    def _rules_go_together(self) -> "Split":
        if self.method in ("published", "temporal") and (self.test_label_sources or self.min_test_per_label):
            raise ValueError(
                "test_label_sources and min_test_per_label change a split, and method "
                + (
                    "'published' keeps it: use 'repaired' or 'stratified'"
                    if self.method == "published"
                    else "'temporal' looks at dates alone: use 'stratified'"
                )
            )
        if self.on_leak == "warn" and self.method != "published":
            raise ValueError(
                "on_leak: warn is for method 'published'; any other split has no leak to warn of"
            )
        names = list(self.ratios)
        if self.method == "temporal" and names.index("train") > names.index("test"):
            raise ValueError(
                f"method 'temporal' takes ratios in order of time, train before test, found {names}"
            )
        return self


class Statistics(Settings):
    """The statistics stage and the HTML report."""

    top_words: int = Field(30, ge=1, le=1000)
    example_images: int = Field(48, ge=0, le=400, description="pictures shown in the report")


class LabelQuality(Settings):
    """The search for wrong labels, and what a human audit found."""

    errors: bool = Field(True, description="whether labels that are probably wrong are searched for")
    features: str = Field(
        "auto",
        description="what the search looks at: 'classical' (no model), or the name of one of baselines.models; "
        "auto: the first of these that was not trained on the labels, else classical",
    )
    folds: int = Field(5, ge=2, le=20)
    max_training_items: int = Field(
        20_000, ge=100, description="distinct items that each fold's model learns from; more are sampled"
    )
    audit: str | None = Field(None, description="a filled-in sheet of 'dataset-pipeline audit', csv")
    min_agreement: float | None = Field(
        None, le=1, description="Krippendorff's alpha of the annotators; less stops the build"
    )
    max_error_share: float | None = Field(
        None, ge=0, le=1, description="share of wrong labels by the audit; more stops the build"
    )


class TrainClip(Settings):
    """A CLIP trained on the training split: from scratch, or from pretrained weights."""

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(128, ge=8)
    learning_rate: float | None = Field(
        None, gt=0, description="absent: 0.001 from scratch, 0.00001 from pretrained weights"
    )


class ClipModel(Settings):
    """One model: an open_clip name, a checkpoint on disk, ``train`` for one trained here, or both: fine-tuned."""

    name: str = Field(description="how tables call it")
    architecture: str = Field("small", description="an open_clip architecture, or 'small', which ships here")
    pretrained: str | None = Field(None, description="an open_clip tag or a checkpoint's path")
    train: TrainClip | None = None

    @model_validator(mode="after")
    def _weights_from_one_place(self) -> "ClipModel":
        if self.pretrained is None and self.train is None:
            raise ValueError("needs 'pretrained' (a tag or a path), 'train', or both to fine-tune")
        return self


def _small_clip() -> tuple[ClipModel, ...]:
    return (ClipModel(name="small-clip", train=TrainClip()),)


class Baselines(Settings):
    """CLIP baselines and the trivial ones beside them."""

    enabled: bool = True
    models: tuple[ClipModel, ...] = Field(
        default_factory=_small_clip, description="'ARCHITECTURE/TAG' strings or full entries"
    )
    prompts: tuple[str, ...] = Field(("a photo of a {label}",), min_length=1)
    bootstrap_samples: int = Field(1000, ge=100, le=100_000)
    seeds: int = Field(
        1, ge=1, le=20, description="how often each model with 'train' is trained, each time anew"
    )
    max_training_items: int = Field(
        100_000, ge=100, description="distinct items that k-NN and linear probe learn from; more are sampled"
    )

    @field_validator("prompts")
    @classmethod
    def _label_in_every_prompt(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in prompts:
            if "{label}" not in prompt or template_columns(prompt.replace("{label}", "")):
                raise ValueError(f"the one placeholder of a prompt is {{label}}, found {prompt!r}")
        return prompts

    @field_validator("models", mode="before", json_schema_input_type=tuple[ClipModel | str, ...])
    @classmethod
    def _parse_short_form(cls, models: Any) -> Any:
        if not isinstance(models, (list, tuple)):
            return models
        return [_parse_model(model) if isinstance(model, str) else model for model in models]

    @field_validator("models")
    @classmethod
    def _distinct_names(cls, models: tuple[ClipModel, ...]) -> tuple[ClipModel, ...]:
        names = [re.sub(r"\W+", "_", model.name) for model in models]  # as files are called
        if twice := sorted(
            {model.name for model, name in zip(models, names, strict=True) if names.count(name) > 1}
        ):
            raise ValueError(f"names must differ in more than punctuation, found {twice}: give each a 'name'")
        return models


def _parse_model(text: str) -> dict[str, Any]:
    """``"small"`` or ``"ViT-B-32/laion2b_s34b_b79k"`` as a full entry."""
    if text == "small":
        return {"name": "small-clip", "train": {}}
    architecture, _, pretrained = text.partition("/")
    return {"name": text, "architecture": architecture, "pretrained": pretrained or None}


class ReleasedImages(Settings):
    """One resolution of the released images."""

    name: Name | None = Field(
        None, description="of the variant; absent: 'default' for the first, 'max-side-800' and the like"
    )
    max_side: int | None = Field(
        None,
        ge=16,
        description="pixels of the longer side; larger images are scaled down, none up; absent: as it is",
    )
    quality: int = Field(95, ge=1, le=100, description="of JPEG files that have to be encoded again")


class Release(Settings):
    """The released files."""

    images: tuple[ReleasedImages, ...] = Field(
        (ReleasedImages(name="default"),),
        min_length=1,
        description="the first is in data/, each further one in variants/<name>/ and a Hugging Face configuration",
    )
    formats: tuple[Literal["parquet", "webdataset", "zip"], ...] = Field(
        ("parquet",),
        description="parquet is always there; webdataset: tars as well; zip: one zip with pictures as files and a table",
    )
    mini: bool = Field(
        False,
        description="a sample in mini/ with every class and split, under 5 % of the size where these fit into it",
    )
    max_shard_mib: int = Field(256, ge=1, le=4096, description="no Parquet file or tar is larger")
    rows_per_row_group: int = Field(
        100, ge=1, le=1000, description="at most; what a viewer or a reader of single rows reads at once"
    )
    notebook: bool = True

    @field_validator("formats")
    @classmethod
    def _parquet_is_there(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        """Everything else of a release refers to the Parquet files."""
        if "parquet" not in formats:
            raise ValueError(
                f"parquet is what the others are made from: [{', '.join(['parquet', *formats])}]"
            )
        if len(set(formats)) < len(formats):
            raise ValueError("each format at most once")
        return formats

    @field_validator("images")
    @classmethod
    def _named_variants(cls, images: tuple[ReleasedImages, ...]) -> tuple[ReleasedImages, ...]:
        """Every variant with its name; two of one name would overwrite one another."""
        named = tuple(
            entry
            if entry.name is not None
            else entry.model_copy(update={"name": _variant_name(entry, is_first=place == 0)})
            for place, entry in enumerate(images)
        )
        names = [entry.name for entry in named]
        if twice := sorted({str(name) for name in names if names.count(name) > 1}):
            raise ValueError(f"variants must have different names, found twice: {twice}; give them a 'name'")
        return named


def _variant_name(images: ReleasedImages, *, is_first: bool) -> str:
    if is_first:
        return "default"
    return "full-size" if images.max_side is None else f"max-side-{images.max_side}"


class FolderDestination(Settings):
    """A local or mounted folder."""

    kind: Literal["folder"]
    path: str = Field(description="a local or mounted folder")


class S3Destination(Settings):
    """A bucket of Amazon S3 or of anything that speaks its protocol."""

    kind: Literal["s3"]
    bucket: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    prefix: Annotated[str, StringConstraints(pattern=r"^([\w.-]+(/[\w.-]+)*)?$")] = Field(
        "", description="folder in the bucket that the dataset's own folder is in"
    )
    endpoint: WebAddress | None = Field(None, description="absent: Amazon's, or what the AWS settings say")
    region: str | None = None
    is_public: bool = Field(False, description="whether anyone may read the dataset's folder")
    public_url: WebAddress | None = Field(None, description="address that the bucket is read at")
    parallel: int = Field(4, ge=1, le=64, description="transfers at a time")
    part_mib: int = Field(16, ge=5, le=1024, description="larger files are sent in parts of this size")

    def public_base(self, name: str, version: str) -> str | None:
        """Address of a version's folder, where anybody can read it at one."""
        base = self.public_url
        if base is None and self.is_public:
            base = (
                f"{self.endpoint.rstrip('/')}/{self.bucket}"
                if self.endpoint
                else f"https://{self.bucket}.s3.amazonaws.com"
            )
        if base is None:
            return None
        return "/".join([base.rstrip("/"), *filter(None, [self.prefix]), name, version])


class HuggingFaceDestination(Settings):
    """A dataset repository on the Hugging Face Hub."""

    kind: Literal["huggingface"]
    repository: Annotated[str, StringConstraints(pattern=r"^[\w-][\w.-]*/[\w-][\w.-]*$")] = Field(
        description="owner/name"
    )
    endpoint: WebAddress | None = Field(None, description="absent: HF_ENDPOINT, or https://huggingface.co")
    is_public: bool = Field(False, description="whether the repository is made public once it is complete")
    gated: Literal["no", "auto", "manual"] = Field(
        "no", description="whether readers ask for access, and who grants it"
    )


class ZenodoDestination(Settings):
    """Zenodo, its sandbox, or any other InvenioRDM."""

    kind: Literal["zenodo"]
    url: WebAddress = Field("https://zenodo.org", description="https://sandbox.zenodo.org for trials")
    publisher: str = "Zenodo"
    record: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")] | None = Field(
        None, description="id of any published version, where the title is another now"
    )


_MAX_RECORD_FILES: Final = 100
"""Of a record of InvenioRDM."""


def record_files(paths: Iterable[str], name: str, version: str) -> dict[str, tuple[str, bool]]:
    """Path of a release -> the file of a record that holds it, and whether that is an archive with the path in it.

    A record has no folders and at most 100 files. What is at the top of the release and the shards are files of the
    record; folders that hold items once more are archives of their own, and everything else is one archive. Where there
    are too many shards, they are in archives, too. ``download.py`` has the same rule in its own words.
    """
    found: dict[str, tuple[str, bool]] = {}
    shards = []
    for path in sorted(paths, key=lambda path: "/" in path):
        folder = path.partition("/")[0]
        if folder == path:
            found[path] = (path, False)
        elif folder == "data":
            shards.append(path)
        elif folder in ("mini", "variants", "webdataset"):
            found[path] = (f"{name}-{folder}.zip", True)
        else:
            found[path] = (f"{name}-{version}-documents.zip", True)
    each = math.ceil(len(shards) / (_MAX_RECORD_FILES - len({file for file, _ in found.values()})))
    for number, path in enumerate(sorted(shards)):
        archive = f"{name}-data-{number // each + 1:03d}-of-{math.ceil(len(shards) / each):03d}.zip"
        found[path] = (archive, True) if each > 1 else (path.removeprefix("data/"), False)
    return found


Destination = Annotated[
    FolderDestination | S3Destination | HuggingFaceDestination | ZenodoDestination,
    Field(discriminator="kind"),
]


class Approval(Settings):
    """One entry of the approvals file: a person lets a version leave."""

    version: SemanticVersion
    by: Annotated[str, StringConstraints(min_length=1)]
    date: Date
    destinations: tuple[Name, ...] = Field((), description="empty: all of them")
    items_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="of metadata/items.parquet: what was approved, to the byte"
    )


class Approvals(Settings):
    """The approvals file."""

    approvals: tuple[Approval, ...]


class Documentation(Settings):
    """What only the author knows; each goes into the card, the datasheet and Croissant."""

    motivation: str | None = None
    collection: str | None = None
    uses: str | None = None
    limitations: str | None = None
    biases: str | None = None
    social_impact: str | None = None
    personal_information: str | None = None
    maintenance: str | None = None
    is_synthetic: bool = False


class Automation(Settings):
    """What happens by itself while the UI runs; each can be switched on and off there, too."""

    look_every_minutes: Literal[1, 2, 3, 5, 10, 15, 20, 30, 60] = Field(
        15, description="how often the sources are looked at"
    )
    build_after_changes: bool = Field(
        False, description="whether a change of a source starts a build from the start"
    )
    build_nightly: bool = Field(False, description="whether the nightly build is on from the start")
    nightly_at: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "03:00"
    timezone: str = Field("UTC", description="of nightly_at, such as Europe/Berlin")

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        if name != "UTC" and name not in (known := zoneinfo.available_timezones()):
            near = difflib.get_close_matches(name, sorted(known), n=1)
            raise ValueError(
                f"found {name!r}, expected a name such as Europe/Berlin"
                + (f"; did you mean '{near[0]}'?" if near else "")
            )
        return name


Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class Webhook(Settings):
    """An address that alerts are sent to as JSON, by POST."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/\S*)?$")] | None = None
    url_variable: Variable | None = Field(
        None, description="environment variable with the address: who knows one may write to it"
    )

    @model_validator(mode="after")
    def _one_address(self) -> "Webhook":
        if (self.url is None) == (self.url_variable is None):
            raise ValueError("expected one of 'url' and 'url_variable'")
        return self


MailAddress = Annotated[str, StringConstraints(pattern=r"^[^\s@<>,;:\"]+@[^\s@<>,;:\"]+$")]


class Mail(Settings):
    """A server that takes alerts as e-mail."""

    host: Annotated[str, StringConstraints(pattern=r"^[\w.:-]+$")]
    port: int = Field(587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    sender: MailAddress
    to: tuple[MailAddress, ...] = Field(min_length=1)
    user: str | None = Field(None, description="absent: no login")
    password_variable: Variable | None = Field(
        None, description="environment variable with the user's password"
    )

    @model_validator(mode="after")
    def _whole_login(self) -> "Mail":
        if (self.user is None) != (self.password_variable is None):
            raise ValueError("'user' and 'password_variable' go together")
        if self.user is not None and self.security == "none":
            raise ValueError("a password is not sent in clear: expected security 'starttls' or 'tls'")
        return self


class Alerts(Settings):
    """Who is told of failed builds and failed gates, beside the log."""

    webhook: Webhook | None = None
    email: Mail | None = None
    ui: WebAddress | None = Field(
        None, description="address of the Dagster UI, for links; absent: that of 'dataset-pipeline dev'"
    )


class DatasetConfig(Settings):
    """A whole ``dataset.yaml``."""

    name: Name
    version: SemanticVersion
    title: str | None = None
    description: str | None = None
    licence: str = Field(description="SPDX id of the dataset")
    date: Date | None = Field(
        None, description="publication date; there is no default, so that builds repeat"
    )
    url: str | None = None
    doi: Annotated[str, StringConstraints(pattern=r"^10\.\d{4,9}/\S+$")] | None = Field(
        None, description="of this version, as reserved at the host that will publish it"
    )
    creators: tuple[Creator, ...] = ()
    keywords: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ("image-classification", "zero-shot-image-classification")
    seed: int = Field(0, ge=0)
    sources: tuple[Source, ...] = Field(min_length=1)
    takedowns: str | None = Field(None, description="csv: item_id, sha256 or url; reason, date")
    review: Review = Review()
    decisions: str | None = Field(None, description="csv: item_id, decision, value, by, date")
    comparison: str | None = Field(
        None, description="csv: dataset, figure, value, says, source; set beside the datasets that ship here"
    )
    licences: Licences = Licences()
    labels: Labels = Labels()
    clean: Clean = Clean()
    pii: Pii = Pii()
    decontaminate: tuple[OutsideSet, ...] = Field(
        (), description="outside sets that the dataset must not overlap with"
    )
    duplicates: Duplicates = Duplicates()
    split: Split = Split()
    statistics: Statistics = Statistics()
    baselines: Baselines = Baselines()
    label_quality: LabelQuality = LabelQuality()
    release: Release = Release()
    publish: dict[Name, Destination] = Field(default_factory=dict)
    mirrors: str = Field("mirrors.json", description="speeds of the places it is published at, once measured")
    approvals: str = Field("approvals.yaml", description="who approved which version for publication")
    documentation: Documentation = Documentation()
    automation: Automation = Automation()
    alerts: Alerts = Alerts()

    @field_validator("sources")
    @classmethod
    def _unique_ids(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        ids = [source.id for source in sources]
        if twice := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"source ids must be unique, found twice: {twice}")
        return sources

    @field_validator("decontaminate")
    @classmethod
    def _unique_sets(cls, sets: tuple[OutsideSet, ...]) -> tuple[OutsideSet, ...]:
        names = [one.name for one in sets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"names must be unique, found twice: {twice}")
        return sets

    @model_validator(mode="after")
    def _features_of_a_known_model(self) -> "DatasetConfig":
        known = [
            "auto",
            "classical",
            *(model.name for model in self.baselines.models if self.baselines.enabled),
        ]
        if self.label_quality.features not in known:
            raise ValueError(
                f"label_quality.features: expected {', '.join(known)}, found {self.label_quality.features!r}"
            )
        return self

    @model_validator(mode="after")
    def _models_before_the_split_are_pretrained(self) -> "DatasetConfig":
        named = {
            f"decontaminate.{one.name}.embeddings.model": one.embeddings.model
            for one in self.decontaminate
            if one.embeddings is not None
        }
        if self.split.semantic is not None:
            named["split.semantic.model"] = self.split.semantic.model
        usable = [model.name for model in self.baselines.models if model.train is None]
        for key, name in named.items():
            if name not in usable:
                raise ValueError(
                    f"{key}: found {name!r}; expected one of baselines.models that is not trained "
                    f"here, as training needs a split: {', '.join(usable) or 'there is none'}"
                )
        return self

    @model_validator(mode="after")
    def _columns_of_the_split(self) -> "DatasetConfig":
        further = {name for source in self.sources for name in source.columns.strata}
        known = {"label", "language", "source", "label_source", "licence", "author", *further}
        if unknown := sorted(set(self.split.stratify) - known):
            near = difflib.get_close_matches(unknown[0], sorted(known), n=1, cutoff=0.5)
            raise ValueError(
                f"split.stratify: found {unknown}; expected some of {', '.join(sorted(known))}"
                + (f"; did you mean '{near[0]}'?" if near else "")
                + "; name more columns in columns.strata"
            )
        undated = [source.id for source in self.sources if source.columns.date is None]
        if self.split.method == "temporal" and undated:
            raise ValueError(
                f"split.method 'temporal' needs columns.date of every source, missing for {', '.join(undated)}"
            )
        return self

    def of_the_release(self) -> "DatasetConfig":
        """The configuration as a release tells it: without what says when and for whom this machine works."""
        return self.model_copy(update={"automation": Automation(), "alerts": Alerts()})

    @property
    def has_dates(self) -> bool:
        """Whether any source gives dates: then they are released."""
        return any(source.columns.date is not None for source in self.sources)

    @property
    def text_names(self) -> tuple[str, ...]:
        """Names of the released text columns, in order of first mention."""
        return tuple(dict.fromkeys(name for source in self.sources for name in source.columns.texts))

    @property
    def zip_name(self) -> str:
        """Name of the zip of a release that has one."""
        return f"{self.name}-{self.version}.zip"

    @property
    def display_title(self) -> str:
        """The title, or the name where there is none."""
        return self.title or self.name


class _Loader(yaml.SafeLoader):
    """YAML in which a date stays text, Norway's ``no`` is no boolean, and no key may be there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See the base class, which lets the last of equal keys win silently."""
        seen = set[str]()
        for key, _value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # the base class refuses it
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key '{key.value}' is there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":bool"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$", re.IGNORECASE), list("tTfF")
)


def json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of ``dataset.yaml``, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **DatasetConfig.model_json_schema(by_alias=True),
        "title": "dataset.yaml",
    }


def load_config(path: str | Path) -> DatasetConfig:
    """Read and validate a ``dataset.yaml``.

    Raises ``ConfigError`` with the file, the line and the key of the first few faults; a key that
    does not exist is answered with the nearest one that does.
    """
    loaded, root = _read_yaml(Path(path), _NO_CONFIG)
    if not isinstance(loaded, Mapping):
        raise ConfigError(
            f"{path}: expected keys such as name, version, licence and sources, found no mapping"
        )
    return _validated(DatasetConfig, loaded, Path(path), root)


def load_approvals(path: Path) -> tuple[Approval, ...] | None:
    """Entries of an approvals file, which is a list; None where there is no such file.

    Raises ``ConfigError`` as :func:`load_config` does.
    """
    if not path.exists():
        return None
    loaded, root = _read_yaml(path, "")
    node = (
        yaml.MappingNode("map", [(yaml.ScalarNode("str", "approvals", root.start_mark), root)])
        if root
        else None
    )
    return _validated(Approvals, {"approvals": loaded or ()}, path, node).approvals


_NO_CONFIG = "Write one with: dataset-pipeline init DIR --from PATH"
Model = TypeVar("Model", bound=BaseModel)


def _read_yaml(path: Path, hint: str) -> tuple[Any, yaml.Node | None]:
    """Values and nodes of a YAML file; ``hint``: what to do where there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", hint=hint) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, expected a dataset.yaml file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 at byte {error.start}", hint="Save the file as UTF-8."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return yaml.load(text, Loader=_Loader), yaml.compose(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else f"{path}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{where}: not valid YAML: {problem}") from None


def _validated(model: type[Model], loaded: Any, path: Path, root: yaml.Node | None) -> Model:
    try:
        return model.model_validate(loaded)
    except ValidationError as error:
        faults = _without_echoes(error.errors())
        lines = [_describe(fault, path, root, model) for fault in faults[:5]]
        more = len(faults) - len(lines)
        raise ConfigError("\n".join(lines) + (f"\n... and {more} more" if more > 0 else "")) from None


def _without_echoes(faults: list[Any]) -> list[Any]:
    """Faults without those that only repeat that something inside them is wrong.

    A tuple whose one member is invalid is also reported as too short.
    """
    places = [fault["loc"] for fault in faults]
    return [
        fault
        for fault in faults
        if fault["type"] != "too_short"
        or not any(place[: len(fault["loc"])] == fault["loc"] and place != fault["loc"] for place in places)
    ]


def _describe(fault: Any, path: Path, root: yaml.Node | None, model: type[BaseModel]) -> str:
    """One fault as ``file:line: key: what was found and what was expected``."""
    location = [part for part in fault["loc"] if not (isinstance(part, str) and "[" in part)]
    kind = None
    if location[:1] == ["publish"] and len(location) > 2:
        kind = location.pop(2)  # pydantic names it in the place, the file does not
    elif fault["type"].startswith("union_tag"):
        location.append("kind")
    where = f"{path}:{_line(root, location)}"
    key = ".".join(str(part) for part in location)
    if not key:  # a fault of several sections: its message names them
        return f"{where}: {re.sub(r'^Value error, ', '', fault['msg'])}"
    if fault["type"] == "extra_forbidden":
        valid = _valid_keys(model, location[:-1], kind)
        near = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.5)
        remedy = f"did you mean '{near[0]}'?" if near else f"valid keys: {', '.join(valid)}"
        return f"{where}: {key}: unknown key; {remedy}"
    if fault["type"] in ("missing", "union_tag_not_found"):
        return f"{where}: {key}: required, but missing"
    if fault["type"] == "union_tag_invalid":
        context = fault["ctx"]
        return f"{where}: {key}: Input should be {context['expected_tags']}, found '{context['tag']}'"
    message = re.sub(r"^(Value error|Assertion failed), ", "", fault["msg"]).replace("valid tuple", "list")
    given = fault.get("input")
    found = (
        f", found {given!r}" if isinstance(given, (str, int, float, bool)) and "found" not in message else ""
    )
    return f"{where}: {key}: {message}{found}"


def _line(root: yaml.Node | None, location: list[Any]) -> int:
    """Line (from 1) of the deepest node of ``location`` that the file has."""
    node, line = root, 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _valid_keys(model: type[BaseModel], location: list[Any], kind: str | None) -> list[str]:
    """Keys allowed in the section at ``location``, which is of a ``kind`` where there are several."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            models = list(_models_in(model.model_fields[part].annotation))
            of_kind = [m for m in models if "kind" in m.model_fields and kind in _literals(m, "kind")]
            model = next(iter(of_kind or models), model)
    return sorted(model.model_fields)


def _literals(model: type[BaseModel], key: str) -> tuple[Any, ...]:
    return get_args(model.model_fields[key].annotation)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Settings classes anywhere in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def yaml_texts(text: str, *, max_chars: int = 1 << 20) -> Any:
    """A YAML document of somebody else, every value as text; raises ``ValueError`` where it is none, or too long."""
    if len(text) > max_chars:
        raise ValueError(f"a YAML document of more than {max_chars} characters")
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it makes texts, lists and mappings only
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {str(error).splitlines()[0]}") from None


def version_order(version: str) -> tuple[tuple[int, ...], bool, list[tuple[int, int, str]]]:
    """Precedence of semantic versions: a pre-release comes before its release, numbers before words."""
    core, _, extra = version.partition("-")
    numbers = tuple(int(part) if part.isdigit() else 0 for part in core.split("."))
    parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in extra.split(".")]
    return numbers, not extra, parts


def asset_prefix(name: str) -> str:
    """First part of the asset keys of a dataset: its name in the characters that Dagster allows."""
    return "".join(c if c.isalnum() else "_" for c in name)


def is_inside(path: str) -> bool:
    """Whether a relative POSIX path stays below the folder it is relative to."""
    pure = PurePosixPath(path.replace("\\", "/"))
    return bool(path) and "\0" not in path and not pure.is_absolute() and ".." not in pure.parts


def template_columns(template: str) -> list[str]:
    """Columns that a template such as ``"{folder}/{id}.jpg"`` names, in order; none: no template."""
    return re.findall(r"\{([^{}]+)\}", template)
