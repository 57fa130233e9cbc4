"""What stands in a text instead of a value: a keyed hash, or a made-up value of the same kind.

Both are functions of the value and a secret alone, so a value is replaced in the same way wherever it occurs, in any
order and on any machine. Without the secret neither can be guessed by trying values: a plain hash of a telephone
number is found again in minutes. Belongs here: replacements. Does not belong here: which value gets one (``pii.py``),
and where the secret is kept.

Made-up values cannot reach anybody where a range is reserved for that: example.com (RFC 2606), 192.0.2.0/24 and
2001:db8::/32 (RFC 5737, RFC 3849), locally administered MAC addresses, test numbers of cards, telephone numbers
with 555-01xx in English. A made-up telephone number of another country may by chance be somebody's.
"""

import functools
import hashlib
import hmac
import random
import re
from typing import Any, Final

HASH_CHARS: Final = 16

_LOCALES: Final = {
    "ar": "ar_AA",
    "bg": "bg_BG",
    "cs": "cs_CZ",
    "da": "da_DK",
    "de": "de_DE",
    "el": "el_GR",
    "en": "en_US",
    "es": "es_ES",
    "et": "et_EE",
    "fa": "fa_IR",
    "fi": "fi_FI",
    "fr": "fr_FR",
    "he": "he_IL",
    "hi": "hi_IN",
    "hr": "hr_HR",
    "hu": "hu_HU",
    "id": "id_ID",
    "it": "it_IT",
    "ja": "ja_JP",
    "ko": "ko_KR",
    "lt": "lt_LT",
    "lv": "lv_LV",
    "nl": "nl_NL",
    "no": "no_NO",
    "nb": "no_NO",
    "pl": "pl_PL",
    "pt": "pt_PT",
    "ro": "ro_RO",
    "ru": "ru_RU",
    "sk": "sk_SK",
    "sl": "sl_SI",
    "sv": "sv_SE",
    "th": "th_TH",
    "tr": "tr_TR",
    "uk": "uk_UA",
    "vi": "vi_VN",
    "zh": "zh_CN",
}
_SEPARATORS = re.compile(r"[\s./()\-–]+")
_NUMBERS: Final = frozenset(
    {"PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "NATIONAL_ID", "US_SSN", "UK_NINO", "ES_NIF", "ES_NIE"}
)


def digest(entity: str, value: str, secret: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104) of a value; ways of writing the same value have the same one."""
    same = " ".join(value.casefold().split())
    if entity in _NUMBERS:
        same = _SEPARATORS.sub("", same)
    return hmac.new(secret, f"{entity}\0{same}".encode(errors="replace"), hashlib.sha256).digest()


def hashed(entity: str, value: str, secret: bytes) -> str:
    """The first characters of a value's keyed hash: enough to tell a billion values apart."""
    return digest(entity, value, secret).hex()[:HASH_CHARS]


def masked(value: str) -> str:
    """The value with a star for every letter and digit: its form stays, nothing of it."""
    return "".join("*" if character.isalnum() else character for character in value)


def surrogate(entity: str, value: str, language: str, secret: bytes) -> str | None:
    """A made-up value of the same kind; None where a made-up one would mislead more than it helps.

    The same for the same value in all texts of one language: names and addresses are of the language.
    """
    seed = digest(entity, value, secret)
    generator = random.Random(seed)  # noqa: S311 - seeded by the HMAC: what it draws is no secret
    make = _MAKERS.get(entity)
    return (
        None if make is None else make(value, language.replace("_", "-").split("-", 1)[0].lower(), generator)
    )


@functools.lru_cache(maxsize=64)
def _faker(language: str) -> Any:
    from faker import Faker

    return Faker(_LOCALES.get(language, "en_US"))


def _made(language: str, generator: random.Random) -> Any:
    """Faker of the language, where the generator is."""
    faker = _faker(language)
    faker.seed_instance(generator.getrandbits(64))
    return faker


def _person(value: str, language: str, generator: random.Random) -> str:
    faker = _made(language, generator)
    if len(value.split()) == 1 and language not in {"ja", "zh", "ko", "th"}:
        return str(faker.first_name() if generator.random() < 0.5 else faker.last_name())
    if language in {"ja", "zh", "ko"}:
        return f"{faker.last_name()}{faker.first_name()}"
    return f"{faker.first_name()} {faker.last_name()}"


def _word(generator: random.Random) -> str:
    """A name for an account, in ASCII."""
    faker = _made("en", generator)
    return re.sub("[^a-z0-9]", "", f"{faker.first_name()}{faker.last_name()}".lower()) + str(
        generator.randrange(10, 100)
    )


def _email(_value: str, _language: str, generator: random.Random) -> str:
    return f"{_word(generator)}@example.com"


def _handle(_value: str, _language: str, generator: random.Random) -> str:
    return f"@{_word(generator)}"


def _url(_value: str, _language: str, generator: random.Random) -> str:
    return f"https://example.com/{_word(generator)}"


def _place(_value: str, language: str, generator: random.Random) -> str:
    return str(_made(language, generator).city())


def _company(_value: str, language: str, generator: random.Random) -> str:
    return str(_made(language, generator).company())


def _address(_value: str, language: str, generator: random.Random) -> str:
    return ", ".join(str(_made(language, generator).address()).split("\n"))


def _with_digits(value: str, digits: str) -> str:
    """The value with its digits, from the first, replaced by as many others."""
    fresh = iter(digits)
    return "".join(next(fresh) if c.isdecimal() else c for c in value)


def _random_digits(generator: random.Random, count: int) -> str:
    return "".join(str(generator.randrange(10)) for _ in range(count))


def _shape(value: str, generator: random.Random) -> str:
    """Another number or code of the same form: digits for digits, letters for letters."""
    letters = "ABCDEFGHJKLMNPRSTUVWXYZ"
    made = []
    for character in value:
        if character.isdecimal():
            made.append(str(generator.randrange(10)))
        elif character.isalpha():
            letter = generator.choice(letters)
            made.append(letter if character.isupper() else letter.lower())
        else:
            made.append(character)
    return "".join(made)


def _code(value: str, _language: str, generator: random.Random) -> str:
    return _shape(value, generator)


def _phone(value: str, language: str, generator: random.Random) -> str:
    digits = [c for c in value if c.isdecimal()]
    count = len(digits)
    if language == "en" and count in (10, 11) and (count == 10) == (digits[0] not in "01"):
        # North America: 555-01xx is kept for films and books.
        start = "".join(digits[:1]) if count == 11 else ""
        return _with_digits(
            value,
            f"{start}{generator.randrange(2, 10)}{_random_digits(generator, 2)}55501{_random_digits(generator, 2)}",
        )
    kept = 4 if value.startswith(("+", "00")) else 2
    return _with_digits(value, "".join(digits[:kept]) + _random_digits(generator, count - kept))


def _card(value: str, _language: str, generator: random.Random) -> str:
    """A test number (4000 00...) with its check digit (ISO/IEC 7812)."""
    count = sum(c.isdecimal() for c in value)
    body = ("400000" + _random_digits(generator, count))[: count - 1]
    total = 0
    for place, character in enumerate(reversed(body)):
        double = int(character) * (2 if place % 2 == 0 else 1)
        total += double - 9 if double > 9 else double
    return _with_digits(value, f"{body}{-total % 10}")


def _iban(value: str, _language: str, generator: random.Random) -> str:
    """The same country, a bank that does not exist, and the right check digits (ISO 13616)."""
    solid = _SEPARATORS.sub("", value)
    if not re.fullmatch(r"[A-Za-z]{2}[0-9]{2}[A-Za-z0-9]{8,30}", solid) or not re.fullmatch(
        r"[A-Za-z0-9\s./()\-–]+", value
    ):
        return _shape(value, generator)
    bank, account = solid[4:12], solid[12:]
    fresh = re.sub(r"\d", "0", bank) + _shape(account, generator).upper()
    number = "".join(str(int(c, 36)) for c in f"{fresh}{solid[:2]}00")
    characters = iter(f"{solid[:2]}{98 - int(number) % 97:02}{fresh}")
    return "".join(next(characters) if c.isalnum() else c for c in value)


def _ip(value: str, _language: str, generator: random.Random) -> str:
    if ":" in value:
        return f"2001:db8::{generator.randrange(1, 0x10000):x}:{generator.randrange(1, 0x10000):x}"
    return f"192.0.2.{generator.randrange(1, 255)}"


def _mac(value: str, _language: str, generator: random.Random) -> str:
    digits = iter(f"02{generator.getrandbits(40):010x}")
    return "".join(next(digits, "0") if c.isalnum() else c for c in value)


def _date(value: str, _language: str, generator: random.Random) -> str:
    """Another date in the same form; a month that is written out stays."""

    def other(match: re.Match[str]) -> str:
        if len(match[0]) == 4:
            return str(generator.randrange(1940, 2006))
        return (
            f"{generator.randrange(1, 13):0{len(match[0])}}"
            if len(match[0]) == 2
            else str(generator.randrange(1, 10))
        )

    return re.sub(r"\d+", other, value)


_MAKERS: Final = {
    "PERSON": _person,
    "EMAIL_ADDRESS": _email,
    "PHONE_NUMBER": _phone,
    "CREDIT_CARD": _card,
    "IBAN_CODE": _iban,
    "IP_ADDRESS": _ip,
    "MAC_ADDRESS": _mac,
    "US_SSN": _code,
    "UK_NINO": _code,
    "IT_FISCAL_CODE": _code,
    "ES_NIF": _code,
    "ES_NIE": _code,
    "FI_PERSONAL_IDENTITY_CODE": _code,
    "NATIONAL_ID": _code,
    "DATE_OF_BIRTH": _date,
    "ADDRESS": _address,
    "SOCIAL_HANDLE": _handle,
    "PROFILE_URL": _url,
    "URL": _url,
    "LOCATION": _place,
    "ORGANIZATION": _company,
}
