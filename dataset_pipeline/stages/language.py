"""What the cleaning stage asks of a language identifier.

Belongs here: the Protocol, so that a stage can be tested with a fake. Does not belong here: any
model (``adapters/language.py`` has one).
"""

from collections.abc import Sequence
from typing import Final, Protocol

UNDETERMINED: Final = "und"
"""BCP 47 for a text whose language is not known."""


class LanguageIdentifier(Protocol):
    """Says in which language texts are."""

    def identify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """The likeliest language (BCP 47) of each text, and its probability in 0..1.

        ``("und", 0.0)`` for a text without linguistic content, such as digits alone.
        """
        ...
