"""What runs in worker processes. They start within a second because nothing here imports Dagster.

Belongs here: a batch through a stage's function, with the models that the process already has. Does not
belong here: any decision about the data.
"""

from collections.abc import Sequence

import polars as pl

from dataset_pipeline.adapters import language, presidio
from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages import texts
from dataset_pipeline.stages.language import UNDETERMINED


def analyse_texts(batch: pl.DataFrame, config: DatasetConfig, secret: bytes | None = None) -> pl.DataFrame:
    """``TEXTS`` of a batch of (text, declared_language); ``secret``: the key of hashes and surrogates."""
    return texts.analyse_texts(
        batch,
        config.clean,
        config.pii,
        language.identifier(config.clean.language),
        presidio.finder(config.pii),
        secret,
    )


def hold_personal_data(found: Sequence[str], config: DatasetConfig) -> list[bool]:
    """Whether the patterns and models of the configuration find personal data in each of a few texts."""
    spans = presidio.finder(config.pii).find(found, [UNDETERMINED] * len(found))
    return [bool(of_one) for of_one in spans]
