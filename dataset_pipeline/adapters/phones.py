"""Telephone numbers, as people of many countries write them; validity by phonenumbers (Google's libphonenumber).

A valid number is not yet a telephone number: sizes, prices and article numbers are valid somewhere. So a number needs
a reason: "+", a word such as "tel", its country's grouping, or a trunk prefix. Belongs here: finding and judging them.
"""

import functools
import re
from collections.abc import Iterator
from typing import Final

Found = tuple[str, int, int, float]

# Countries whose national numbers a language suggests; numbers with "+" need no country.
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
    "sk": ("SK",),
    "hu": ("HU",),
    "ro": ("RO",),
    "bg": ("BG",),
    "hr": ("HR",),
    "sl": ("SI",),
    "nb": ("NO",),
    "ca": ("ES",),
    "et": ("EE",),
    "lv": ("LV",),
    "lt": ("LT",),
    "zh": ("CN", "TW", "HK"),
}
_ANY_REGION: Final = ("US", "GB", "DE", "FR", "IN", "BR")
_ALL_REGIONS: Final = tuple(dict.fromkeys(region for regions in _REGIONS.values() for region in regions))

# A word for telephone, mobile or calling shortly before a number, in the languages above; no longer word that
# starts like one: "tela" is a fabric, "cellulose" a fibre.
_PHONE_WORDS: Final = (
    r"(?:(?:phone|fone|fono|telef|telep|whats\s?app|mob[ií]l|m[oó]vil|\bhandy|\bcall|\bll[aá]m|\bligue|appelez|"
    r"hubungi|chiam|\b(?:an)?ruf|тел|моб|звон|τηλ|טלפון|تلفن|هاتف|موبایل|جوال|اتصل|تماس|"
    r"電話|携帯|手机|手機|电话|致电|전화|휴대폰|연락|फोन|मोबाइल|โทร)\w{0,8}"
    r"|(?:\bt[eé]l(?:s|nr|no|p)?|\bcell?|\bcel+ular\w?|\bfon|\bfax|\bsms|\bportable)(?![^\W\d_]))"
)
_PHONE_WORD = re.compile(rf"{_PHONE_WORDS}\W{{0,4}}(?:\w{{1,8}}\W{{1,4}})?$", re.IGNORECASE)
_SCORE_AFTER_WORD: Final = 0.85

_DATE = re.compile(r"(?:19|20)\d\d\D\d\d?\D\d\d?(?:\D.*)?|\d\d?\D\d\d?\D(?:19|20)\d\d(?:\D.*)?")

# Words after which a shop writes a number of its own; "no." and "nr." alone say nothing.
_SHOP_WORD = re.compile(
    r"(?<![^\W_])(?:order|invoice|article|item|art|ref|réf|sku|ean|upc|gtin|isbn|asin|mpn|tracking|parcel|shipment|serial|model|batch|lot|customer|"
    r"bestell|rechnung|artikel|sendung|auftrag|kunden|serien|modell|commande|facture|colis|suivi|modèle|pedido|factura|art[ií]culo|envío|"
    r"ordine|fattura|articolo|spedizione|cod|codice|bestel|factuur|zamówieni|faktur|przesyłk|encomenda|fatura|artigo|order|"
    r"objednávk|品番|注文|商品|商品番号|订单|货号|주문|상품)\w{0,14}\W{0,3}(?:(?:no|nr|num|number|nummer|numéro|número|numero|id|code|n)\b\W{0,3}){0,2}[#:]?\s?$",
    re.IGNORECASE,
)

_CANDIDATE = re.compile(r"(?<!\w)[+(]{0,2}\d(?:[ ().\-/]{0,3}\d){6,29}(?![\w%])")
_CURRENCY_BEFORE = re.compile(r"[$€£¥₩₹₽₫฿%]\s?$")
_CURRENCY_AFTER = re.compile(r"\s?(?:[$€£¥₩₹₽₫฿%]|(?:EUR|USD|GBP|PLN|zł|Kč|kr)\b)")
_THOUSANDS = re.compile(r"\d{1,3}(?:[ .]\d{3}){2,}")
_EAN: Final = 13
_FEWEST, _MOST = 7, 16


def search(text: str, language: str) -> Iterator[Found]:
    """PHONE_NUMBER in ``text``; ``language``: primary subtag, which says which countries' national forms to expect."""
    regions = _REGIONS.get(language, _ANY_REGION)
    for match in _CANDIDATE.finditer(text):
        start, end = _whole(text, match.start(), match.end())
        value = text[start:end]
        is_called = _is_after_word(text, start)
        count = sum(map(str.isdigit, value))
        if not is_called:
            score = _score_of_form(value, regions)
            if score <= _UNLIKELY or count < _FEWEST or _is_price(text, start, end):
                continue
            if _SHOP_WORD.search(text[max(0, start - 36) : start]):
                # A shop's own number, unless it is written as telephone numbers alone are.
                is_phone = score > _BY_GROUPS and " " in value and _is_grouped_as_usual(value, regions)
                score = _BARELY if is_phone or value.startswith("+") else _UNLIKELY
        if count <= _MOST and _is_valid(value, regions, is_called):
            if is_called:
                yield "PHONE_NUMBER", start, end, _SCORE_AFTER_WORD
            elif score == _BY_GROUPS:
                yield "PHONE_NUMBER", start, end, 0.5 if _is_grouped_as_usual(value, regions) else 0.3
            else:
                yield "PHONE_NUMBER", start, end, score
        elif is_called or value[0] in "+(0":
            yield from _within(text, start, end, regions)


def _within(text: str, start: int, end: int, regions: tuple[str, ...]) -> Iterator[Found]:
    """Numbers in a longer row of digits: two beside each other, or one before a date. The longest, from the left."""
    parts = [(start + part.start(), start + part.end()) for part in re.finditer(r"[^ ]+", text[start:end])]
    first = 0
    while first < len(parts):
        for last in range(len(parts) - 1, first - 1, -1):
            begin, stop = _whole(text, parts[first][0], parts[last][1])
            value = text[begin:stop].rstrip(" -/.(")
            is_called = _is_after_word(text, begin)
            score = _SCORE_AFTER_WORD if is_called else _score_of_form(value, regions)
            if (
                score > _UNLIKELY
                and _FEWEST <= sum(map(str.isdigit, value)) <= _MOST
                and _is_valid(value, regions, is_called)
            ):
                if score == _BY_GROUPS:
                    score = 0.5 if _is_grouped_as_usual(value, regions) else 0.3
                yield "PHONE_NUMBER", begin, begin + len(value), score
                first = last
                break
        first += 1


def _is_valid(value: str, regions: tuple[str, ...], is_any_region: bool) -> bool:
    """Whether it is a number of one of the countries; with ``is_any_region``, of any that a language names."""
    if value.startswith("00"):
        value = f"+{value[2:]}"
    if value.startswith("+"):
        value = value.replace("(0)", "", 1)  # what one dials at home
        return _is_number(value, None)
    return any(
        _is_number(value, region) for region in ((*regions, *_ALL_REGIONS) if is_any_region else regions)
    )


@functools.lru_cache(maxsize=64)
def _is_number(value: str, region: str | None) -> bool:
    """Whether it is a number of a country, or has a country code."""
    import phonenumbers

    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        return False
    # With its country code a number of the right length is meant as one, whether or not it is given out.
    return phonenumbers.is_possible_number(number) if region is None else phonenumbers.is_valid_number(number)


def _whole(text: str, start: int, end: int) -> tuple[int, int]:
    """The number with the country code that ends before it, and without a bracket that closes nothing."""
    while text[start] in "+(" and text[start + 1] in "+(":
        if text[start] == "(" and ")" in text[start:end]:
            break
        start += 1
    if text[start] == "(" and ")" not in text[start:end]:
        start += 1
    if code := _COUNTRY_CODE.search(text, max(0, start - 8), start):
        start = code.start()
    return start, end


_COUNTRY_CODE = re.compile(r"(?:\+|\b00)\d{1,3}[ -]?$")


def _is_after_word(text: str, start: int) -> bool:
    return _PHONE_WORD.search(text[max(0, start - 40) : start]) is not None


def _is_price(text: str, start: int, end: int) -> bool:
    """Whether a currency stands beside it."""
    before = _CURRENCY_BEFORE.search(text[max(0, start - 2) : start])
    return before is not None or _CURRENCY_AFTER.match(text, end) is not None


_UNLIKELY: Final = 0.2
_BARELY: Final = 0.45
_BY_GROUPS: Final = 0.31  # decided by how its digits are grouped


def _score_of_form(value: str, regions: tuple[str, ...]) -> float:
    """How sure a number that is valid in some country is meant as a phone number, by its form."""
    if value.startswith("+"):
        return 0.75
    groups = re.findall(r"\d+", value)
    if len(groups) == 1:
        # Digits alone are article numbers or prices more often, unless they start as one dials at home.
        is_dialled = re.fullmatch(r"0\d{8,13}", value) or (
            "CN" in regions and re.fullmatch(r"1[3-9]\d{9}", value)
        )
        return 0.45 if is_dialled and not (len(value) == _EAN and not value.startswith("00")) else 0.2
    if _DATE.fullmatch(value) or (
        _THOUSANDS.fullmatch(value) and not value.startswith("0") and len(groups[0]) < 3
    ):
        return 0.1
    if re.match(r"\(|0\d", value):
        return 0.5
    # "32 34 36 38 40" are sizes: without a trunk prefix one group has three digits, and none has many.
    if max(map(len, groups)) < 3 or len(groups[0]) > 5:
        return 0.2
    return _BY_GROUPS


def _is_grouped_as_usual(value: str, regions: tuple[str, ...]) -> bool:
    """Whether the digits stand in groups in which one of the countries writes its numbers."""
    from phonenumbers import Leniency, PhoneNumberMatcher

    return any(
        match.end - match.start == len(value)
        for region in regions
        if _is_number(value, region)
        for match in PhoneNumberMatcher(value, region, leniency=Leniency.STRICT_GROUPING)
    )
