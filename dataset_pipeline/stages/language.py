"""Whether a text is in the language that it is said to be in, and what a stage asks of an identifier.

Belongs here: the Protocol, so that a stage can be tested with a fake, and when an answer or a script
contradicts a declared language. Does not belong here: any model (``adapters/language.py`` has one), and
what follows from a doubt (``texts.py``, ``clean.py``).
"""

import functools
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

UNDETERMINED: Final = "und"
"""BCP 47 for a text whose language is not known."""


class LanguageIdentifier(Protocol):
    """Says in which language texts are."""

    def identify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """The likeliest language (BCP 47) of each text, and its probability in 0..1.

        ``("und", 0.0)`` for a text without linguistic content, such as digits alone.
        """
        ...


class Doubt(NamedTuple):
    """Why a text does not look like its declared language."""

    evidence: Literal["script", "identified"]
    found: str
    """The script, by its name in Unicode ("cyrillic"), or the language (BCP 47)."""
    confidence: float
    """Of the identifier; for a script, the share of letters that the language is not written in."""


CLOSE_LANGUAGES: Final = 20
"""Languages up to this distance are not told apart: Norwegian and Danish, Croatian and Serbian, Indonesian and Malay.

The distance is that of the language matching of Unicode's CLDR (UTS #35, part 1, section 4.4), as langcodes gives it.
"""

_SCRIPT_LETTERS: Final = 4
"""A letter or three of another script, as in "5 μm" or "α-β", are no other language."""

# Scripts that a language is also written in, beside the likeliest: CLDR, supplemental data, languageData.
_ALSO: Final[Mapping[str, tuple[str, ...]]] = {
    "az": ("Cyrl", "Arab"), "bs": ("Cyrl",), "ha": ("Arab",), "kk": ("Arab",), "ks": ("Deva",),
    "ku": ("Arab", "Cyrl"), "ky": ("Arab",), "mn": ("Mong",), "ms": ("Arab",), "pa": ("Arab",), "sd": ("Deva",),
    "tg": ("Arab",), "tk": ("Cyrl", "Arab"), "ug": ("Cyrl",), "uz": ("Cyrl", "Arab"), "yue": ("Hani",),
}  # fmt: skip
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "Jpan": ("Hira", "Kana", "Hani"), "Kore": ("Hang", "Hani"), "Hans": ("Hani", "Bopo"), "Hant": ("Hani", "Bopo"),
}  # fmt: skip


def doubt(text: str, declared: str, identified: tuple[str, float] | None, least: float) -> Doubt | None:
    """Why ``text`` is not in the language ``declared`` (BCP 47), or None.

    Latin letters never speak against a language by themselves: brands and names are written in them anywhere. Another
    script does where it is of more than half of the letters, and an identified language where its confidence is ``least``
    or more and it is none that is easily taken for the declared one.
    """
    return _of_script(text, declared) or _of_identifier(declared, identified, least)


def letters(text: str) -> int:
    """How many letters a text has."""
    return sum(map(str.isalpha, text))


def _of_script(text: str, declared: str) -> Doubt | None:
    if text.isascii():
        return None
    foreign = _foreign_letters(declared)
    found: list[str] = foreign.findall(text) if foreign else []
    total = letters(text)
    if len(found) < _SCRIPT_LETTERS or 2 * len(found) <= total:
        return None
    script = unicodedata.name(found[0], "unknown").split(" ")[0].lower()
    return Doubt("script", script, min(1.0, len(found) / total))


def _of_identifier(declared: str, identified: tuple[str, float] | None, least: float) -> Doubt | None:
    if identified is None or identified[0] == UNDETERMINED or identified[1] < least:
        return None
    if are_close(declared, identified[0]):
        return None
    return Doubt("identified", identified[0], identified[1])


@functools.lru_cache(maxsize=4096)
def are_close(one: str, other: str) -> bool:
    """Whether two languages (BCP 47) are the same, or easily taken for each other; script and region do not count.

    Of what is no language tag nothing is known, so that it is close to everything.
    """
    import langcodes

    first, second = _language(one), _language(other)
    if first is None or second is None or first == second:
        return True
    # With the same script in both, the distance is that of the languages.
    first, second = f"{first}-Latn", f"{second}-Latn"
    distance = min(langcodes.tag_distance(first, second), langcodes.tag_distance(second, first))
    return bool(distance <= CLOSE_LANGUAGES)


def _language(tag: str) -> str | None:
    """The language of a tag; None for one that names none, as a private or a malformed one."""
    import langcodes
    from langcodes.tag_parser import LanguageTagError

    try:
        language = langcodes.Language.get(tag).language
    except LanguageTagError:
        return None
    return language if language and language != UNDETERMINED and len(language) <= 3 else None


@functools.lru_cache(maxsize=1024)
def _foreign_letters(declared: str) -> Any:
    """Pattern of one letter of a script that the language is not written in; None where its scripts are not known."""
    import langcodes
    import regex

    language = _language(declared)
    if language is None:
        return None
    tag = langcodes.Language.get(declared)
    likeliest = str(tag.maximize().script)
    own = (likeliest,) if tag.script else (likeliest, *_ALSO.get(language, ()))
    names = {part for script in own for part in _PARTS.get(script, (script,))} | {"Latn", "Zyyy"}
    try:
        return regex.compile(
            "[\\p{L}" + "".join(f"--\\p{{Script={name}}}" for name in sorted(names)) + "]", regex.V1
        )
    except regex.error:  # a script that Unicode does not encode, such as that of Klingon
        return None
