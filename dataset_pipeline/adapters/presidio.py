"""Personal data found by Microsoft Presidio, without its network access, log lines and guesses.

Patterns are searched in every language, names only where a spaCy model is configured. Belongs here:
Presidio's recognisers and what is wrong with them. Does not belong here: which findings count and
what happens to them (``stages/pii.py``).

What differs from Presidio's own engine, and why:

- Recognisers are called directly, and only where a cheap test says that they might find something:
  a text without a digit holds no card number.
- Long texts are searched in overlapping windows: some of Presidio's expressions are quadratic, and
  its answer to that, a time limit, makes results depend on the machine.
- Digits and punctuation of other scripts are read as ASCII, and characters of scripts that write no
  spaces count as spaces: ``\\b`` sees no word boundary between Japanese and an e-mail address.
- Numbers need a reason: a card an issuer's prefix and length beside the checksum, a phone number in
  national form its country's separators or a word such as "tel", a URL a scheme or "www.".
"""

import functools
import logging
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dataset_pipeline.config import Pii
from dataset_pipeline.errors import OutsideWorldError

Found = tuple[str, int, int, float]
"""Entity, start, end, score."""

_WINDOW_CHARS: Final = 2_000
_OVERLAP_CHARS: Final = 400  # longer than any value of the entities below

MODEL_ENTITIES: Final = frozenset({"PERSON", "LOCATION", "NRP", "ORGANIZATION", "DATE_TIME"})
"""Entities that a spaCy model finds; all others are patterns."""

# Countries whose national phone numbers a language suggests; numbers with "+" need no country.
_REGIONS: Final = {
    "ar": ("SA", "AE", "EG", "MA"),
    "cs": ("CZ",),
    "da": ("DK",),
    "de": ("DE", "AT", "CH"),
    "el": ("GR",),
    "en": ("US", "GB", "AU", "IN"),
    "es": ("ES", "MX", "AR", "CO"),
    "fa": ("IR",),
    "fi": ("FI",),
    "fr": ("FR", "BE", "CH"),
    "he": ("IL",),
    "hi": ("IN",),
    "id": ("ID",),
    "it": ("IT", "CH"),
    "ja": ("JP",),
    "ko": ("KR",),
    "nl": ("NL", "BE"),
    "no": ("NO",),
    "pl": ("PL",),
    "pt": ("BR", "PT"),
    "ru": ("RU",),
    "sv": ("SE",),
    "th": ("TH",),
    "tr": ("TR",),
    "uk": ("UA",),
    "vi": ("VN",),
    "zh": ("CN", "TW", "HK"),
}
_ANY_REGION: Final = ("US", "GB", "DE", "FR", "IN", "BR")
_ALL_REGIONS: Final = tuple(dict.fromkeys(region for regions in _REGIONS.values() for region in regions))

# A word for telephone, mobile or calling shortly before a number, in the languages above; no longer word that
# starts like one: "tela" is a fabric, "cellulose" a fibre.
_PHONE_WORDS: Final = (
    r"(?:(?:phone|fone|fono|telef|telep|whats\s?app|mob[ií]l|m[oó]vil|\bhandy|\bcall|\bllam[ae]|\bligue|appelez|"
    r"hubungi|chiam|\b(?:an)?ruf|тел|моб|звон|τηλ|טלפון|تلفن|هاتف|موبایل|جوال|اتصل|تماس|"
    r"電話|携帯|手机|手機|电话|致电|전화|휴대폰|연락|फोन|मोबाइल|โทร)\w{0,8}"
    r"|(?:\bt[eé]l(?:s|nr|no|p)?|\bcell?|\bcel+ular\w?|\bfon|\bfax|\bsms|\bportable)(?![^\W\d_]))"
)
_HAS_PHONE_WORD = re.compile(_PHONE_WORDS, re.IGNORECASE)
_PHONE_WORD = re.compile(rf"{_PHONE_WORDS}\W{{0,4}}(?:\w{{1,8}}\W{{1,4}})?$", re.IGNORECASE)
_SCORE_AFTER_WORD: Final = 0.85

_DATE = re.compile(r"(?:19|20)\d\d\D\d\d?\D\d\d?(?:\D.*)?|\d\d?\D\d\d?\D(?:19|20)\d\d(?:\D.*)?")

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
    may_match: Callable[[str], bool]
    score: Callable[[str, Any], float]


class PresidioFinder:
    """Finds personal data. Implements ``stages.pii.PersonalDataFinder``."""

    def __init__(self, settings: Pii) -> None:
        """Raises ``OutsideWorldError`` where a configured model is not installed."""
        _be_quiet()
        self._patterns = _patterns(frozenset(settings.entities) - MODEL_ENTITIES)
        self._searches_phones = "PHONE_NUMBER" in settings.entities
        self._phones: dict[tuple[str, ...], Any] = {}
        self._model_entities = sorted(MODEL_ENTITIES & frozenset(settings.entities))
        self._models = {
            _primary(language): _SpacyModel(language, name)
            for language, name in sorted(settings.ner_models.items())
            if self._model_entities
        }

    def find(self, texts: Sequence[str], languages: Sequence[str]) -> list[list[Found]]:
        """See ``PersonalDataFinder``. An unknown language (``und``) gets patterns only."""
        found: list[list[Found]] = []
        by_model: dict[str, list[tuple[int, int, str]]] = {}
        for row, (text, language) in enumerate(zip(texts, languages, strict=True)):
            primary = _primary(language)
            results = set[Found]()
            for offset, window in _windows(text):
                for entity, start, end, score in self._search_patterns(window, primary):
                    results.add((entity, offset + start, offset + end, score))
                if primary in self._models and window.strip():
                    by_model.setdefault(primary, []).append((row, offset, window))
            found.append(sorted(results))
        for primary, windows in sorted(by_model.items()):
            searched = self._models[primary].search(
                [window for _, _, window in windows], self._model_entities
            )
            for (row, offset, _), results_in_window in zip(windows, searched, strict=True):
                found[row] += [
                    (entity, offset + start, offset + end, score)
                    for entity, start, end, score in results_in_window
                ]
        return found

    def _search_patterns(self, text: str, language: str) -> Iterator[Found]:
        views = _views(text)
        for view in views:
            for pattern in self._patterns:
                if pattern.may_match(view):
                    for result in pattern.recogniser.analyze(view, [pattern.entity], None):
                        # What stands around a value is judged where nothing is blanked out.
                        score = pattern.score(views[0], result)
                        start, end = _trimmed(view, result.start, result.end)
                        yield pattern.entity, start, end, round(score, 6)
            if self._searches_phones and _has_digits(view, 7):
                regions = _REGIONS.get(language, _ANY_REGION)
                for start, end in self._search_phones(view, regions):
                    yield "PHONE_NUMBER", start, end, _phone_score(views[0], start, end, regions)
                # After a word for it, a number of any country counts, whatever the language.
                if _HAS_PHONE_WORD.search(views[0]):
                    for start, end in self._search_phones(view, _ALL_REGIONS):
                        if _is_after_phone_word(views[0], start):
                            yield "PHONE_NUMBER", start, end, _SCORE_AFTER_WORD

    def _search_phones(self, text: str, regions: tuple[str, ...]) -> Iterator[tuple[int, int]]:
        recogniser = self._phones.get(regions)
        if recogniser is None:
            from presidio_analyzer.predefined_recognizers import PhoneRecognizer

            recogniser = PhoneRecognizer(supported_regions=regions, leniency=1)
            self._phones[regions] = recogniser
        for result in recogniser.analyze(text, ["PHONE_NUMBER"], None):
            yield _whole_phone(text, result.start, result.end)


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
        _Pattern("EMAIL_ADDRESS", _email_recogniser(), lambda text: "@" in text, own_score),
        _Pattern("CREDIT_CARD", _card_recogniser(), lambda text: _has_digits(text, 12), own_score),
        _Pattern("IBAN_CODE", presidio.IbanRecognizer(), _may_be_iban, own_score),
        _Pattern(
            "IP_ADDRESS",
            _ip_recogniser(),
            lambda text: text.count(".") >= 3 or text.count(":") >= 2,
            _ip_score,
        ),
        _Pattern(
            "MAC_ADDRESS",
            presidio.MacAddressRecognizer(),
            lambda text: text.count(":") >= 5 or text.count("-") >= 5 or text.count(".") >= 2,
            _mac_score,
        ),
        _Pattern("CRYPTO", presidio.CryptoRecognizer(), _may_be_wallet, own_score),
        _Pattern("US_SSN", presidio.UsSsnRecognizer(), lambda text: _has_digits(text, 9), own_score),
        _Pattern("UK_NINO", presidio.UkNinoRecognizer(), lambda text: _has_digits(text, 6), own_score),
        _Pattern(
            "IT_FISCAL_CODE",
            presidio.ItFiscalCodeRecognizer(),
            lambda text: _LONG_WORD_16.search(text) is not None,
            own_score,
        ),
        _Pattern("ES_NIF", presidio.EsNifRecognizer(), lambda text: _has_digits(text, 7), own_score),
        _Pattern("ES_NIE", presidio.EsNieRecognizer(), lambda text: _has_digits(text, 7), own_score),
        _Pattern(
            "FI_PERSONAL_IDENTITY_CODE",
            _finnish_recogniser(),
            lambda text: _has_digits(text, 9),
            own_score,
        ),
        _Pattern("URL", _url_recogniser(), lambda text: "://" in text or "www." in text.lower(), own_score),
    ]
    return [pattern for pattern in made if pattern.entity in entities]


_LONG_WORD_16 = re.compile(r"[A-Za-z0-9]{16}")
_LONG_WORD_26 = re.compile(r"(?:bc1|[13])[A-Za-z0-9]{25}")
_IBAN_START = re.compile(r"[A-Z]{2}[0-9]{2}")
_DIGIT = re.compile(r"[0-9]")


def _has_digits(text: str, count: int) -> bool:
    """Whether there are that many ASCII digits anywhere; stops counting there."""
    return any(number >= count for number, _ in enumerate(_DIGIT.finditer(text), start=1))


def _may_be_iban(text: str) -> bool:
    return _IBAN_START.search(text) is not None


def _may_be_wallet(text: str) -> bool:
    return _LONG_WORD_26.search(text) is not None


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


def _whole_phone(text: str, start: int, end: int) -> tuple[int, int]:
    """The number with the country code that ends before it, and without a bracket that closes nothing."""
    if text[start] == "(" and ")" not in text[start:end]:
        start += 1
    if code := _COUNTRY_CODE.search(text, max(0, start - 8), start):
        start = code.start()
    return start, end


_COUNTRY_CODE = re.compile(r"(?:\+|\b00)\d{1,3}[ -]?$")


def _is_after_phone_word(text: str, start: int) -> bool:
    return _PHONE_WORD.search(text[max(0, start - 40) : start]) is not None


def _phone_score(text: str, start: int, end: int, regions: tuple[str, ...]) -> float:
    """How sure a number that is valid in some country is meant as a phone number."""
    value = text[start:end].strip()
    if _is_after_phone_word(text, start):
        return _SCORE_AFTER_WORD
    if value.startswith("+"):
        return 0.75
    groups = re.findall(r"\d+", value)
    if len(groups) == 1:
        # Digits alone are article numbers or prices more often, unless they start as one dials at home.
        is_dialled = re.fullmatch(r"0\d{8,13}", value) or (
            "CN" in regions and re.fullmatch(r"1[3-9]\d{9}", value)
        )
        return 0.45 if is_dialled else 0.2
    if _DATE.fullmatch(value):
        return 0.1
    if re.match(r"\(|0\d", value):
        return 0.5
    # "32 34 36 38 40" are sizes: without a trunk prefix one group has three digits, and none has many.
    if max(map(len, groups)) < 3 or len(groups[0]) > 5:
        return 0.2
    return 0.5 if _is_grouped_as_usual(value, regions) else 0.3


def _is_grouped_as_usual(value: str, regions: tuple[str, ...]) -> bool:
    """Whether the digits stand in groups in which one of the countries writes its numbers."""
    from phonenumbers import Leniency, PhoneNumberMatcher

    return any(
        match.end - match.start == len(value)
        for region in regions
        for match in PhoneNumberMatcher(value, region, leniency=Leniency.STRICT_GROUPING)
    )


def _email_recogniser() -> Any:
    """Presidio's, with the public suffix list that ships with tldextract instead of a download."""
    import tldextract
    from presidio_analyzer.predefined_recognizers import EmailRecognizer

    suffixes = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    class OfflineEmailRecognizer(EmailRecognizer):  # type: ignore[misc]
        def validate_result(self, pattern_text: str) -> bool:
            return bool(suffixes(pattern_text.rpartition("@")[2]).fqdn)

    return OfflineEmailRecognizer()


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


# -- names -------------------------------------------------------------------------------------


class _SpacyModel:
    """A spaCy model behind Presidio's mapping of its labels."""

    def __init__(self, language: str, name: str) -> None:
        import spacy
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer

        where = f"pii.ner_models.{language}: the spaCy model '{name}'"
        # Presidio would download what is not there.
        if not spacy.util.is_package(name) and not Path(name).is_dir():
            raise OutsideWorldError(
                f"{where} is not installed",
                hint=f"Install it with: pip install {name.replace('_', '-')}; or remove the line: "
                "then only patterns are searched",
            )
        primary = _primary(language)
        self._language = primary
        self._engine = SpacyNlpEngine(models=[{"lang_code": primary, "model_name": name}])
        try:
            self._engine.load()
        except (OSError, ValueError) as error:
            raise OutsideWorldError(
                f"{where} cannot be loaded: {str(error).splitlines()[0]}",
                hint="Name an installed spaCy model or the folder of one; or remove the line",
            ) from None
        pipeline = self._engine.nlp[primary]
        if "ner" not in pipeline.pipe_names:
            raise OutsideWorldError(
                f"{where} finds no names: it has no component 'ner', only {', '.join(pipeline.pipe_names)}",
                hint="Name a model that was trained for named entities; or remove the line",
            )
        # Lemmas, tags and parses are for context words, which are not used: twice as fast without.
        pipeline.select_pipes(enable=_with_upstream(pipeline))
        self._recogniser = SpacyRecognizer(supported_language=primary)

    def search(self, texts: Sequence[str], entities: list[str]) -> list[list[Found]]:
        found = []
        for text, artifacts in self._engine.process_batch(list(texts), self._language):
            found.append(
                sorted(
                    (result.entity_type, result.start, result.end, round(float(result.score), 6))
                    for result in self._recogniser.analyze(text, entities, artifacts)
                    if result.entity_type in entities
                )
            )
        return found


def _with_upstream(pipeline: Any) -> list[str]:
    """The component that finds names, and the shared vectors it listens to, if it has none of its own."""
    nodes = pipeline.get_pipe("ner").model.walk()
    is_listening = any(node.name.endswith("-listener") for node in nodes)
    wanted = {"ner", "tok2vec", "transformer"} if is_listening else {"ner"}
    return [name for name in pipeline.pipe_names if name in wanted]


def _primary(language: str) -> str:
    """Primary subtag of a BCP 47 tag: "en" of "en-GB"."""
    return language.replace("_", "-").split("-", 1)[0].lower()


def _be_quiet() -> None:
    """Presidio and tldextract write matched values and tracebacks to their logs: personal data."""
    for name in ("presidio-analyzer", "tldextract"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
