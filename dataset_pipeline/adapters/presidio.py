"""Personal data found by Microsoft Presidio, python-stdnum, phonenumbers, models and rules of our own, as one finder.

Patterns are searched in every language, names by a model only where one is configured. Belongs here: putting the
searches together, Presidio's recognisers and what is wrong with them. Does not belong here: which findings count
and what happens to them (``stages/pii.py``); the searches that have a module of their own (``phones.py``,
``identifiers.py``, ``online.py``, ``persons.py``, ``ner.py``).

What differs from Presidio's own engine, and why:

- Recognisers are called directly, and only where a cheap test says that they might find something:
  a text without a digit holds no card number. A model reads a text only where it may hold a name.
- Long texts are searched in overlapping windows: some of Presidio's expressions are quadratic, and
  its answer to that, a time limit, makes results depend on the machine.
- Digits and punctuation of other scripts are read as ASCII, and characters of scripts that write no
  spaces count as spaces: ``\\b`` sees no word boundary between Japanese and an e-mail address.
- Numbers need a reason: a card an issuer's prefix and length beside the checksum, a phone number in
  national form its country's separators or a word such as "tel", a URL a scheme or "www.".
- What a model takes for a person scores low beside a word of the trade: "Stan Smith sneakers".
"""

import functools
import importlib.metadata
import logging
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dataset_pipeline.adapters import identifiers, ner, online, persons, phones
from dataset_pipeline.config import Pii

Found = tuple[str, int, int, float]
"""Entity, start, end, score."""

_WINDOW_CHARS: Final = 2_000
_OVERLAP_CHARS: Final = 400  # longer than any value of the entities below

MODEL_ENTITIES: Final = frozenset({"PERSON", "LOCATION", "NRP", "ORGANIZATION", "DATE_TIME"})
"""Entities that a model finds; PERSON, and all others, are found by patterns too."""

_SURE: Final = 0.45
_SCORE_PRODUCT: Final = 0.25
_SCORE_IN_CONTEXT: Final = 0.35
_CONTEXT_CHARS: Final = 40

# Luhn's checksum lets one number in ten pass: issuers' prefixes and lengths (ISO/IEC 7812) must fit too.
_CARD_NUMBER = re.compile(
    r"4\d{15}(?:\d{3})?|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|(?:6011|65\d\d|64[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}"
    # Maestro's rare numbers of 12 to 15 digits are left out: British EAN codes start like them.
    r"|62\d{14,17}|(?:5018|5020|5038|6304|6759|676[1-3])\d{12}(?:\d{2,3})?"
)


@dataclass(frozen=True)
class _Pattern:
    """A recogniser and a cheap test without which it cannot find anything."""

    entity: str
    recogniser: Any
    may_match: Callable[[str, int], bool]
    """Takes the text and the number of its digits."""
    score: Callable[[str, Any], float]


class PresidioFinder:
    """Finds personal data. Implements ``stages.pii.PersonalDataFinder``."""

    def __init__(self, settings: Pii, *, is_selective: bool = True) -> None:
        """Raises ``OutsideWorldError`` where a configured model is not installed.

        ``is_selective``: models read only texts that may hold a name; False is for measuring what that loses.
        """
        _be_quiet()
        self._entities = frozenset(settings.entities)
        self._patterns = _patterns(self._entities)
        self._model_entities = MODEL_ENTITIES & self._entities
        # Dates are written in lower case and in digits: asked for them, a model reads everything.
        self._is_selective = is_selective and "DATE_TIME" not in self._entities
        self._models = {
            _primary(language): ner.load(language, model)
            for language, model in sorted(settings.ner_models.items())
            if self._model_entities
        }
        self._context: dict[str, re.Pattern[str]] = {
            entity: re.compile(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, words))})", re.IGNORECASE)
            for entity, words in settings.context.items()
            if words
        }

    def find(self, texts: Sequence[str], languages: Sequence[str]) -> list[list[Found]]:
        """See ``PersonalDataFinder``. An unknown language (``und``) gets patterns only."""
        found: list[list[Found]] = []
        by_model: dict[str, list[tuple[int, int, str]]] = {}
        for row, (text, language) in enumerate(zip(map(_encodable, texts), languages, strict=True)):
            primary = _primary(language)
            results = set[Found]()
            for offset, window in _windows(text):
                by_pattern = list(self._search_patterns(window, primary))
                results.update(
                    (entity, offset + start, offset + end, score) for entity, start, end, score in by_pattern
                )
                if primary in self._models and self._is_for_model(window, by_pattern):
                    by_model.setdefault(primary, []).append((row, offset, window))
            found.append(sorted(results))
        for primary, windows in sorted(by_model.items()):
            searched = self._models[primary].search(
                [window for _, _, window in windows], self._model_entities | (self._entities & {"ADDRESS"})
            )
            for (row, offset, window), results_in_window in zip(windows, searched, strict=True):
                found[row] += [
                    (entity, offset + start, offset + end, self._judged(window, entity, start, end, score))
                    for entity, start, end, score in results_in_window
                ]
        return found

    def _is_for_model(self, text: str, found: Sequence[Found]) -> bool:
        """Whether a model should read the text: what patterns are sure of needs no second opinion."""
        if not self._is_selective:
            return bool(text.strip())
        return may_hold_names(
            _blanked(text, [(start, end) for _, start, end, score in found if score >= _SURE])
        )

    def _judged(self, text: str, entity: str, start: int, end: int, score: float) -> float:
        """The score of a finding of a model."""
        if entity == "PERSON" and persons.is_no_person(text, start, end):
            return _SCORE_PRODUCT
        return self._in_context(text, entity, start, score)

    def _in_context(self, text: str, entity: str, start: int, score: float) -> float:
        """The score, higher after a word of ``pii.context``."""
        words = self._context.get(entity)
        if words is not None and words.search(text, max(0, start - _CONTEXT_CHARS), start):
            return round(min(1.0, score + _SCORE_IN_CONTEXT), 6)
        return score

    def _search_patterns(self, text: str, language: str) -> Iterator[Found]:
        views = _views(text)
        for view in views:
            for entity, first, last, score in self._search_view(view, views[0], language):
                start, end = _trimmed(view, first, last)
                if start < end and entity in self._entities:
                    yield entity, start, end, self._in_context(views[0], entity, start, round(score, 6))

    def _search_view(self, view: str, whole: str, language: str) -> Iterator[Found]:
        """``whole`` is the view in which nothing is blanked out: what stands around a value is judged there."""
        digits = len(_DIGIT.findall(view))
        for pattern in self._patterns:
            if pattern.may_match(view, digits):
                for result in pattern.recogniser.analyze(view, [pattern.entity], None):
                    yield pattern.entity, result.start, result.end, pattern.score(whole, result)
        yield from online.search_emails(view)
        yield from online.search_profiles(view)
        yield from online.search_handles(view)
        if digits >= 1:
            yield from online.search_wallets(view)
            for address in persons.search_addresses(view):
                yield address
                yield from persons.search_addressees(view, address[1])
        if digits >= 4:
            yield from persons.search_births(view)
        if digits >= 6:
            yield from identifiers.search(view, language)
            yield from phones.search(view, language)
        if view is whole:
            yield from persons.search_names(view, language)


def _blanked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text without the spans."""
    parts, position = list[str](), 0
    for start, end in sorted(spans):
        if start > position:
            parts.append(text[position:start])
        position = max(position, end)
    return " ".join([*parts, text[position:]])


_CAPITALISED = re.compile(
    f"[{''.join(map(chr, range(0x41, 0x5B)))}\u00c0-\u00de\u0100-\u024f\u0370-\u052f][^\\W\\d_]*"
)


def may_hold_names(text: str) -> bool:
    """Whether a model might find a name: a capital letter in a word that is not common, or a script without capitals."""
    if not text.isascii() and _OTHER_SCRIPTS.search(text):
        return True
    for word in _CAPITALISED.finditer(text):
        lowered = word[0].lower()
        if lowered != word[0] and not persons.is_common(lowered):
            return True
    return False


def versions(settings: Pii) -> dict[str, str]:
    """Versions of everything that decides what is found: part of the address of cached findings."""
    libraries = ("presidio-analyzer", "phonenumbers", "python-stdnum", "tldextract", "faker")
    return {
        **{name: importlib.metadata.version(name) for name in libraries},
        **ner.versions(settings.ner_models),
    }


def missing_models(settings: Pii) -> list[str]:
    """One line for each configured model that is not on this machine: which, and how to get it."""
    if not settings.enabled:
        return []
    problems = [ner.missing(language, model) for language, model in sorted(settings.ner_models.items())]
    return [problem for problem in problems if problem is not None]


@functools.lru_cache(maxsize=4)
def _finder(settings: str) -> PresidioFinder:
    return PresidioFinder(Pii.model_validate_json(settings))


def finder(settings: Pii) -> PresidioFinder:
    """The finder of this process for these settings; recognisers and models are loaded once."""
    return _finder(settings.model_dump_json())


# -- patterns ----------------------------------------------------------------------------------


def _patterns(entities: frozenset[str]) -> list[_Pattern]:
    """Recognisers of the entities, in a fixed order."""
    from presidio_analyzer import predefined_recognizers as presidio

    own_score: Callable[[str, Any], float] = lambda _text, result: result.score  # noqa: E731
    made = [
        _Pattern(
            "CREDIT_CARD",
            _card_recogniser(),
            lambda text, digits: digits >= 12 and _CARD_LIKE.search(text) is not None,
            own_score,
        ),
        _Pattern(
            "IBAN_CODE",
            presidio.IbanRecognizer(),
            lambda text, digits: digits >= 8 and _IBAN_START.search(text) is not None,
            own_score,
        ),
        _Pattern(
            "IP_ADDRESS",
            _ip_recogniser(),
            lambda text, _: _IP_LIKE.search(text) is not None,
            _ip_score,
        ),
        _Pattern(
            "MAC_ADDRESS",
            presidio.MacAddressRecognizer(),
            lambda text, _: _MAC_LIKE.search(text) is not None,
            _mac_score,
        ),
        _Pattern(
            "CRYPTO",
            presidio.CryptoRecognizer(),
            lambda text, digits: digits >= 1 and _LONG_WORD_26.search(text) is not None,
            own_score,
        ),
        _Pattern(
            "US_SSN",
            presidio.UsSsnRecognizer(),
            lambda text, digits: digits >= 9 and _SSN_LIKE.search(text) is not None,
            own_score,
        ),
        _Pattern(
            "UK_NINO",
            presidio.UkNinoRecognizer(),
            lambda text, digits: digits >= 6 and _NINO_LIKE.search(text) is not None,
            own_score,
        ),
        _Pattern(
            "IT_FISCAL_CODE",
            presidio.ItFiscalCodeRecognizer(),
            lambda text, _: _LONG_WORD_16.search(text) is not None,
            own_score,
        ),
        _Pattern(
            "ES_NIF",
            presidio.EsNifRecognizer(),
            lambda text, digits: digits >= 7 and _SPANISH_LIKE.search(text) is not None,
            own_score,
        ),
        _Pattern(
            "ES_NIE",
            presidio.EsNieRecognizer(),
            lambda text, digits: digits >= 7 and _SPANISH_LIKE.search(text) is not None,
            own_score,
        ),
        _Pattern(
            "FI_PERSONAL_IDENTITY_CODE",
            _finnish_recogniser(),
            lambda text, digits: digits >= 9 and _FINNISH_LIKE.search(text) is not None,
            own_score,
        ),
        _Pattern(
            "URL", _url_recogniser(), lambda text, _: "://" in text or "www." in text.lower(), own_score
        ),
    ]
    return [pattern for pattern in made if pattern.entity in entities]


# What every match holds: a look costs a tenth of what a recogniser does before it has looked.
_CARD_LIKE = re.compile(r"[0-9](?:[ -]?[0-9]){11}")
_IP_LIKE = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|:[0-9a-fA-F]{0,4}:")
_MAC_LIKE = re.compile(r"[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-]|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.")
_SSN_LIKE = re.compile(r"[0-9]{3}[- .]?[0-9]{2}[- .]?[0-9]{4}")
_NINO_LIKE = re.compile(r"[^\W\d_] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2}")
_SPANISH_LIKE = re.compile(r"[0-9]{7}-?[^\W\d_]")
_FINNISH_LIKE = re.compile(r"[0-9]{6}[^0-9][0-9]{3}")
_LONG_WORD_16 = re.compile(r"[A-Za-z0-9]{16}")
_LONG_WORD_26 = re.compile(r"(?:bc1|[13])[A-Za-z0-9]{25}")
_IBAN_START = re.compile(r"[A-Z]{2}[0-9]{2}")
_DIGIT = re.compile(r"[0-9]")


def _ip_recogniser() -> Any:
    """Presidio's check of addresses, behind expressions that take a whole address and are linear.

    Presidio's expression for IPv6 stops at the first ``::``; and "::" alone costs it minutes.
    """
    from presidio_analyzer import Pattern
    from presidio_analyzer.predefined_recognizers import IpRecognizer

    v4 = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)"
    v6 = r"(?<![\w:.])(?:[0-9a-fA-F]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F]{1,4})?(?![\w:])"
    return IpRecognizer([Pattern("IPv4", v4, 0.6), Pattern("IPv6", v6, 0.6)])


def _ip_score(text: str, result: Any) -> float:
    """``a::b`` is valid too, but mostly code: three groups and a digit are asked for; "version 1.2.3.4"."""
    value = text[result.start : result.end]
    if ":" in value and "." not in value:
        groups = [group for group in value.split(":") if group]
        if len(groups) < 3 or not any(character.isdigit() for character in value):
            return 0.1
    if _VERSION_WORD.search(text[max(0, result.start - 20) : result.start]):
        return 0.1
    return float(result.score)


# A word for version in the languages of the words for telephone above.
_VERSION_WORD = re.compile(
    r"(?:\bv|\bver|\bvers\w{0,6}|\bverze|\bwersja|\brelease|\bfirmware|\bbuild|\bupdate|"
    r"\bверс\w{0,3}|έκδοση|s[üu]r[üu]m|גרסה|إصدار|اصدار|نسخه|バージョン|版本?|버전|버젼|संस्करण|รุ่น|เวอร์ชัน|phiên bản)\W{0,3}$",
    re.IGNORECASE,
)


def _mac_score(text: str, result: Any) -> float:
    """Digits alone are sizes ("36-38-40-42-44-46") or codes: 1 address in 280 has no letter."""
    value = text[result.start : result.end]
    return float(result.score) if any(character.isalpha() for character in value) else 0.1


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The stretch without spaces at its ends, which some expressions take in."""
    value = text[start:end]
    return start + len(value) - len(value.lstrip()), end - len(value) + len(value.rstrip())


def _card_recogniser() -> Any:
    """Presidio's, for numbers that an issuer could have given out."""
    from presidio_analyzer import Pattern
    from presidio_analyzer.predefined_recognizers import CreditCardRecognizer

    class IssuedCardRecognizer(CreditCardRecognizer):  # type: ignore[misc]
        def validate_result(self, pattern_text: str) -> bool:
            digits = re.sub(r"[ -]", "", pattern_text)
            return _CARD_NUMBER.fullmatch(digits) is not None and bool(super().validate_result(pattern_text))

    pattern = Pattern("12 to 19 digits", r"(?<![\d])\d(?:[ -]?\d){11,18}(?![\d])", 0.3)
    return IssuedCardRecognizer(patterns=[pattern])


def _finnish_recogniser() -> Any:
    """Presidio's checksum, for whole words: its own expression takes a digit for the century's sign."""
    from presidio_analyzer import Pattern
    from presidio_analyzer.predefined_recognizers import FiPersonalIdentityCodeRecognizer

    code = r"\b[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]\b"
    return FiPersonalIdentityCodeRecognizer(patterns=[Pattern("date, sign, number, check", code, 0.5)])


def _url_recogniser() -> Any:
    """URLs that say so; Presidio's own takes "e.g. it" and "node.js" for some.

    What ends a sentence or closes a bracket around the URL is not part of it.
    """
    from presidio_analyzer import Pattern, PatternRecognizer

    pattern = Pattern(
        "scheme or www", r"(?:\bhttps?://|\bftp://|\bwww\.)[^\s<>\"']{2,349}[^\s<>\"'.,;:!?)\]}]", 0.9
    )
    return PatternRecognizer(supported_entity="URL", patterns=[pattern], name="UrlWithSchemeRecognizer")


# -- views and windows -----------------------------------------------------------------------


def _views(text: str) -> list[str]:
    """The text as patterns see it, character for character: offsets are the same in all of them.

    First with other scripts' digits and full-width forms as ASCII; then, where it holds letters of
    scripts that write no spaces or join endings to foreign words, with those as spaces.
    """
    if text.isascii():
        return [text]
    folded = text.translate(_ascii_forms())
    if folded.isascii():
        return [folded]
    spaced = _OTHER_SCRIPTS.sub(" ", folded)
    return [folded] if spaced == folded else [folded, spaced]


# Beyond Latin, Greek and Cyrillic with their extensions.
_OTHER_SCRIPTS = re.compile("[\u0530-\u1dff\u2000-\U0010ffff]")


@functools.lru_cache(maxsize=1)
def _ascii_forms() -> dict[int, str]:
    """Digits, full-width characters, dashes and spaces of other scripts -> ASCII, one to one."""
    forms = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    for code in range(0x80, sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Nd":
            forms[code] = str(unicodedata.digit(character))
        elif category == "Zs":
            forms[code] = " "
        elif category == "Pd" and code not in forms:
            forms[code] = "-"
    forms[0x2212] = "-"  # minus sign
    forms[0x3002] = forms[0xFF61] = "."  # ideographic full stop
    forms[0xFE52] = "."
    forms[0xFE6B] = "@"
    return forms


def _windows(text: str) -> Iterator[tuple[int, str]]:
    """Stretches of a long text with their offsets; each overlaps the next and, if it can, ends at a space."""
    start = 0
    while len(text) - start > _WINDOW_CHARS:
        end = start + _WINDOW_CHARS
        space = text.rfind(" ", end - _OVERLAP_CHARS // 2, end)
        end = end if space < 0 else space
        yield start, text[start:end]
        start = end - _OVERLAP_CHARS
        space = text.find(" ", start, end - _OVERLAP_CHARS // 2)
        start = start if space < 0 else space
    yield start, text[start:]


def _encodable(text: str) -> str:
    """The text with the same number of characters, all of which can be encoded: models stop at lone surrogates."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


_SURROGATE = re.compile("[\ud800-\udfff]")


def _primary(language: str) -> str:
    """Primary subtag of a BCP 47 tag: "en" of "en-GB"."""
    return language.replace("_", "-").split("-", 1)[0].lower()


def _be_quiet() -> None:
    """Presidio and tldextract write matched values and tracebacks to their logs: personal data."""
    for name in ("presidio-analyzer", "tldextract"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
