"""Language identification by py3langid, a naive Bayes model over byte n-grams.

Lui & Baldwin (2012), "langid.py: An Off-the-shelf Language Identification Tool"; py3langid is its
successor. Measured against lingua and fastText in docs/quality/texts.md. The model ships with the package: no
network, 60 MB of memory a process, microseconds a text.

Belongs here: the model behind ``stages.language.LanguageIdentifier``. Does not belong here: when a
text's language is looked for and from which confidence on it is believed (``stages/texts.py``).
"""

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from dataset_pipeline.config import Language

_UNDETERMINED = ("und", 0.0)
_NO_LANGUAGE = "zxx"  # BCP 47: no linguistic content
# More text makes no identification better, and an adversary's megabyte costs no more than this.
_MAX_CHARS = 1_000
# Placeholders, addresses and digits say nothing about the language around them.
_NOT_LANGUAGE = re.compile(r"<[A-Z_]{3,40}>|\bhttps?://\S{1,500}|\S{1,100}@\S{1,100}|[\d_]+")


class ByteNgramIdentifier:
    """Identifies about 130 languages. Implements ``stages.language.LanguageIdentifier``."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def identify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """See ``LanguageIdentifier``."""
        return [self._identify_one(text) for text in texts]

    def _identify_one(self, text: str) -> tuple[str, float]:
        text = _NOT_LANGUAGE.sub(" ", text[:_MAX_CHARS])
        if not any(unicodedata.category(character)[0] == "L" for character in text):
            return _UNDETERMINED
        # All capitals look like acronyms of another language to a model of lower-case text.
        language, confidence = self._model.classify(text.lower() if text.isupper() else text)
        return _UNDETERMINED if language == _NO_LANGUAGE else (str(language), float(confidence))


def identifier(settings: Language) -> ByteNgramIdentifier:
    """The identifier of this process; the model is loaded once."""
    del settings  # when and from which confidence on is for the stage to decide
    return _load()


@functools.lru_cache(maxsize=1)
def _load() -> ByteNgramIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return ByteNgramIdentifier(LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True))
