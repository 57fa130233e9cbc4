"""National identity, social security and tax numbers of persons, by their form and check digits.

python-stdnum knows the rules; here is which numbers are searched, in what form, and when one counts. Belongs
here: numbers that a state gives a person. Does not belong here: the numbers that Presidio knows under names of
their own (``presidio.py``), numbers of firms, telephone numbers.

A check digit lets one number in ten or eleven pass, and shops write many numbers. So a number counts by itself
only where its form says much (a date of birth in it, separators of its own, two check digits) and the text is in a
language of its country; any other needs a word for it nearby, such as "BSN" or "numéro fiscal".
"""

import functools
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from dataset_pipeline.adapters.beginnings import beginnings, beginnings_of

Found = tuple[str, int, int, float]

ENTITY: Final = "NATIONAL_ID"
_AFTER_WORD: Final = 0.9
_BY_FORM: Final = 0.6
_UNSURE: Final = 0.2
_CONTEXT_CHARS: Final = 48


@dataclass(frozen=True)
class _Number:
    """One kind of number. ``strong``: the form in which it counts without a word; "" where it never does."""

    country: str
    module: str
    languages: str
    form: str
    words: str
    strong: str = ""


# Forms allow the separators that people write. Words are matched at the start of a word, in any letter case.
_NUMBERS: Final = (
    _Number("US ITIN", "us.itin", "en", r"9\d\d-?[5-9]\d-?\d{4}", r"itin|taxpayer"),
    _Number("GB NHS", "gb.nhs", "en", r"\d{3}[ -]?\d{3}[ -]?\d{4}", r"nhs"),
    _Number("IE", "ie.pps", "en ga", r"\d{7}[A-W][ABW]?", r"pps"),
    _Number("CA", "ca.sin", "en fr", r"\d{3}[ -]\d{3}[ -]\d{3}|\d{9}", r"sin\b|nas\b|social insurance|assurance sociale"),
    _Number("AU", "au.tfn", "en", r"\d{3} ?\d{3} ?\d{2,3}", r"tfn|tax file"),
    _Number("ZA", "za.idnr", "en af zu", r"\d{13}", r"id\b|identity", r"\d{13}"),
    _Number("DE", "de.idnr", "de", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", r"steuer-?\s?id|steuer-?identifikation|idnr|tin\b|steuernummer|identifikationsnummer"),
    _Number("AT", "at.vnr", "de", r"\d{4} ?\d{6}", r"sv-?n|svnr|sozialversicherung|versicherungsnummer|vnr"),
    _Number("CH", "ch.ssn", "de fr it rm", r"756\.?\d{4}\.?\d{4}\.?\d{2}", r"ahv|avs|oasi|sozialversicherung", r"756\.\d{4}\.\d{4}\.\d{2}"),
    _Number("FR", "fr.nir", "fr", r"[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", r"nir\b|sécu|sécurité sociale|securite sociale|insee", r".+"),
    _Number("FR tax", "fr.nif", "fr", r"[0-3]\d ?\d{2} ?\d{3} ?\d{3} ?\d{3}", r"fiscal|spi\b"),
    _Number("NL", "nl.bsn", "nl", r"\d{4}[. ]?\d{2}[. ]?\d{3}|\d{3}[. ]\d{3}[. ]\d{3}|\d{9}", r"bsn|burger-?service|sofi-?n|persoonsnummer"),
    _Number("BE", "be.nn", "nl fr de", r"\d\d\.?[0-1]\d\.?[0-3]\d[- ]?\d{3}[. -]?\d\d", r"rijksregister|registre national|insz|niss|nationaal nummer|numéro national|nationalregister", r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d"),
    _Number("PL", "pl.pesel", "pl", r"\d{11}", r"pesel", r"\d{11}"),
    _Number("CZ SK", "cz.rc", "cs sk", r"\d{6}/?\d{3,4}", r"rodné|rodne|rodného|rč\b|r\.\s?č|rč:|osobné číslo", r"\d{6}/\d{3,4}"),
    _Number("SE", "se.personnummer", "sv", r"(?:19|20)?\d{6}[-+]?\d{4}", r"person-?n|pnr|samordning|id-?nummer", r"(?:19|20)?\d{6}[-+]\d{4}|(?:19|20)\d{10}"),
    _Number("DK", "dk.cpr", "da", r"\d{6}[- ]?\d{4}", r"cpr|person-?n", r"\d{6}-\d{4}"),
    _Number("NO", "no.fodselsnummer", "no nb nn", r"\d{6} ?\d{5}", r"fødsels|fodsels|person-?n|fnr", r".+"),
    _Number("EE", "ee.ik", "et", r"[1-6]\d{10}", r"isikukood|ik\b", r"\d{11}"),
    _Number("LT", "lt.asmens", "lt", r"[1-6]\d{10}", r"asmens", r"\d{11}"),
    _Number("PT", "pt.nif", "pt", r"[1-3]\d\d ?\d{3} ?\d{3}|[1-3]\d{8}", r"nif\b|contribuinte|fiscal"),
    _Number("PT card", "pt.cc", "pt", r"\d{8} ?\d ?[A-Z0-9]{2}\d", r"cart[ãa]o de cidad|\bcc\b|bilhete de ident", r"\d{8} \d ?[A-Z]{2}\d"),
    _Number("BR", "br.cpf", "pt", r"\d{3}\.?\d{3}\.?\d{3}-?\d\d", r"cpf", r"\d{3}\.\d{3}\.\d{3}-\d\d"),
    _Number("MX", "mx.curp", "es", r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d", r"curp", r".+"),
    _Number("CL", "cl.rut", "es", r"\d{1,2}\.?\d{3}\.?\d{3}-[\dKk]", r"rut\b|run\b", r"\d{1,2}\.\d{3}\.\d{3}-[\dKk]"),
    _Number("RO", "ro.cnp", "ro", r"[1-9]\d{12}", r"cnp|cod numeric", r"\d{13}"),
    _Number("BG", "bg.egn", "bg", r"\d{10}", r"егн|egn"),
    _Number("HR", "hr.oib", "hr", r"\d{11}", r"oib"),
    _Number("GR", "gr.amka", "el", r"\d{11}", r"αμκα|amka"),
    _Number("TR", "tr.tckimlik", "tr", r"[1-9]\d{10}", r"t\.?c\.? ?(?:kimlik|no)|kimlik|tckn", r"\d{11}"),
    _Number("RU", "ru.inn", "ru", r"\d{12}", r"инн|inn\b", r"\d{12}"),
    _Number("CN", "cn.ric", "zh", r"\d{17}[\dXx]", r"身份证|身份證|公民身份", r".+"),
    _Number("KR", "kr.rrn", "ko", r"\d{6}-?[1-4]\d{6}", r"주민", r"\d{6}-\d{7}"),
    _Number("JP", "jp.in_", "ja", r"\d{4}[ -]?\d{4}[ -]?\d{4}", r"マイナンバー|個人番号"),
    _Number("IN", "in_.aadhaar", "en hi bn ta te mr", r"[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}", r"aadhaar|aadhar|आधार|uid\b"),
    _Number("IN tax", "in_.pan", "en hi", r"[A-Z]{3}P[A-Z]\d{4}[A-Z]", r"pan\b|पैन"),
    _Number("IL", "il.idnr", "he", r"\d{9}", r"ת\.?ז|תעודת זהות|מספר זהות"),
    _Number("TH", "th.pin", "th", r"\d-?\d{4}-?\d{5}-?\d\d-?\d", r"บัตรประชาชน|เลขประจำตัว", r"\d-\d{4}-\d{5}-\d\d-\d"),
    _Number("ID", "id.nik", "id", r"\d{16}", r"nik\b|ktp", r"\d{16}"),
)  # fmt: skip


class _Compiled(NamedTuple):
    module: Any
    form: re.Pattern[str]
    begins: frozenset[str]
    """How the words begin."""
    words: re.Pattern[str]
    strong: re.Pattern[str] | None
    at_home: frozenset[str]
    """Languages in which a strong form counts."""


@functools.lru_cache(maxsize=1)
def _compiled() -> tuple[_Compiled, ...]:
    return tuple(
        _Compiled(
            importlib.import_module(f"stdnum.{number.module}"),
            re.compile(rf"(?<![\w.+/-])(?:{number.form})(?![\w/]|[.-]\d)"),
            beginnings_of(number.words),
            re.compile(rf"(?<![^\W_])(?:{number.words})", re.IGNORECASE),
            re.compile(number.strong) if number.strong else None,
            frozenset(number.languages.split()) if number.strong else frozenset(),
        )
        for number in _NUMBERS
    )


_WORTH_A_LOOK = re.compile(r"\d(?:[ ./-]{0,2}[\dA-Za-z]){6}")


def search(text: str, language: str) -> Iterator[Found]:
    """Numbers in ``text``; ``language``: primary subtag. Linear: every form has a bounded length."""
    if not _WORTH_A_LOOK.search(text):
        return
    begin = beginnings(text)
    for module, form, begins, words, strong, at_home in _compiled():
        has_word = not begin.isdisjoint(begins) and words.search(text) is not None
        if not has_word and language not in at_home:
            continue
        for match in form.finditer(text):
            if not module.is_valid(match[0]):
                continue
            is_named = has_word and any(
                words.finditer(text, max(0, match.start() - _CONTEXT_CHARS), match.start())
            )
            if is_named:
                score = _AFTER_WORD
            elif strong is not None and language in at_home and strong.fullmatch(match[0]):
                score = _BY_FORM
            else:
                score = _UNSURE
            yield ENTITY, match.start(), match.end(), score
