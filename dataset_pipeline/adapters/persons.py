"""Names of persons, postal addresses and dates of birth, by how people write them, in any language at once.

No model: titles ("Frau", "Sr."), phrases that come before or after a name ("my name is", "Cordialement,"), and given
names followed by surnames, both in the lists of names that Faker ships for some 70 countries. Belongs here: what a
rule can say about names. Does not belong here: models (``ner.py``).

A name beside a word of the trade ("Stan Smith sneakers", "robe Emma") is mostly a product's: it scores low.
Every expression is bounded, so that its time is linear in the length of the text.
"""

import functools
import importlib
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

from dataset_pipeline.adapters.beginnings import beginnings, beginnings_of, search_at

Found = tuple[str, int, int, float]

_SCORE_TITLE: Final = 0.9
_SCORE_PHRASE: Final = 0.88  # more than a model's, which takes "Thanks, Olivia" for a firm
_SCORE_ADDRESSEE: Final = 0.87
_SCORE_BOTH_LISTED: Final = 0.7
_SCORE_ONE_LISTED: Final = 0.45
_SCORE_PRODUCT: Final = 0.25


def _letters(category: str) -> str:
    """Letters of a category in the scripts that write names with capitals: Latin, Greek, Cyrillic, Armenian."""
    codes = [*range(0x41, 0x250), *range(0x370, 0x590), *range(0x1E00, 0x2000)]
    return "".join(chr(code) for code in codes if unicodedata.category(chr(code)) == category)


_TITLES: Final = (
    r"mr|mrs|ms|miss|mx|dr|prof|professor|sir|madam|lady|rev|"
    r"herrn?|frau|fräulein|hr|fr|dipl\.-?ing|"
    r"m|mme|mmes|mlle|monsieur|madame|mademoiselle|docteur|maître|"
    r"sr|sra|srta|señora?|señorita|don|doña|dª|"
    r"sig|sig\.ra|sig\.na|signora?|signorina|dott|dott\.ssa|avv|ing|geom|"
    r"dhr|mevr|mw|meneer|mevrouw|de heer|"
    r"pan|pani|pana|panu|panem|panią|panie|paní|panie|slečna|"
    r"senhora?|dona|dra|eng|"
    r"fru|fröken|"
    r"sayın|bay|bayan|"
    r"г-н|г-жа|господин|госпожа|κ|κα|κύριος|κυρία"
)
# Short ones stand before a name only with their full stop or in this form.
_TITLE = r"(?:(?:" + _TITLES + r")\.?[ \u00a0]{1,2}){1,3}"

_BEFORE: Final = (
    # presenting oneself or someone
    r"my name is|my name's|name is|i am called|this is|speaking with|spoke (?:to|with)|signed by|signed|ask for|asked for|"
    r"regards from|reviewed by|review by|written by|contact person|contact|recipient|attn|attention|care of|c/o|"
    r"mein name ist|ich hei(?:ß|ss)e|mit freundlichen grü(?:ß|ss)en|viele grü(?:ß|ss)e|liebe grü(?:ß|ss)e|beste grü(?:ß|ss)e|"
    r"freundliche grü(?:ß|ss)e|ansprechpartner(?:in)?|empfänger(?:in)?|gruß|z\. ?hd\.?|"
    r"je m['’]appelle|mon nom est|je suis|cordialement|bien à vous|bien cordialement|salutations|destinataire|de la part de|"
    r"me llamo|mi nombre es|soy|saludos|un saludo|atentamente|cordialmente|destinatario|a la atención de|a nombre de|"
    r"mi chiamo|il mio nome è|sono|cordiali saluti|distinti saluti|saluti|all['’]attenzione di|a nome di|"
    r"mijn naam is|ik heet|met vriendelijke groet(?:en)?|vriendelijke groet(?:en)?|groet(?:jes|en)?|t\.a\.v\.|ten name van|"
    r"nazywam się|mam na imię|pozdrawiam(?:y)?|z poważaniem|adresat|"
    r"meu nome é|o meu nome é|chamo-me|me chamo|sou o|sou a|atenciosamente|com os melhores cumprimentos|cumprimentos|abraços|"
    r"jag heter|mitt namn är|med vänlig hälsning|vänliga hälsningar|hälsningar|mvh|"
    r"jeg hedder|jeg heter|mit navn er|venlig hilsen|med vennlig hilsen|hilsen|"
    r"nimeni on|olen|ystävällisin terveisin|terveisin|"
    r"jmenuji se|jmenuju se|s pozdravem|volám sa|s pozdravom|"
    r"adım|benim adım|saygılarımla|меня зовут|с уважением|"
    r"best regards|kind regards|warm regards|regards|best wishes|sincerely|yours sincerely|yours truly|yours faithfully|"
    r"many thanks|thanks|thank you|cheers|best|love|danke|merci|gracias|grazie|bedankt|dank|dziękuję|obrigad[oa]|tack"
)
_GREETING: Final = (
    r"dear|hi|hello|hey|liebe[rs]?|hallo|guten tag|sehr geehrte[rs]?|bonjour|cher|chère|salut|hola|querid[oa]|estimad[oa]|"
    r"ciao|gentile|caro|cara|beste|geachte|cześć|witam|drogi|droga|szanowny|szanowna|olá|caro|cara|prezad[oa]|hej|kära|bästa"
)

_NOT_NAME_WORDS: Final = """
sir madam team all everyone customer customers client clients support service friend friends folks guys
seller buyer shop store staff kunde kundin kunden damen herren kundenservice kundendienst verkäufer
zusammen leute équipe tous messieurs mesdames vendeur cliente clienti tutti signori venditore klant
klanten allemaal verkoper klient klienci państwo państwa panowie sprzedawca equipa equipe todos senhores
vendedor equipo señores kunder alla i we you he she it they the a an this that these those there what
when where how why yes no not please just ich wir sie er es die der das ein eine ist sind bitte nicht ja
nein le la les un une il elle je nous vous el los las una yo lo gli io noi de het een ik wij jij nie tak
jest to się o os as um uma eu nós monday tuesday wednesday thursday friday saturday sunday january
february march april june july august september october november december montag dienstag mittwoch
donnerstag freitag samstag sonntag januar februar märz mai juni juli oktober dezember order invoice
delivery account number email phone bestellung rechnung lieferung nummer telefon commande facture pedido
factura ordine fattura bestelling factuur zamówienie encomenda martens pepper oetker scholl hinch
"""
_NOT_NAMES: Final = frozenset(_NOT_NAME_WORDS.split())
"""Capitalised words that are no name where one would stand; and brands that begin like a title and a name."""

_TRADE_WORDS: Final = """
dress dresses shirt shirts t-shirt tshirt tee top tops blouse jacket jackets coat coats parka blazer
hoodie sweater sweatshirt jumper cardigan pullover jeans trousers pants chinos leggings shorts skirt
skirts suit vest waistcoat sock socks shoe shoes boot boots sneaker sneakers trainer trainers sandal
sandals loafer loafers heel heels slipper slippers bag bags handbag backpack wallet belt hat cap scarf
gloves watch ring necklace bracelet earrings glasses sunglasses bikini swimsuit pyjamas bra underwear
tie chair table lamp sofa bed rug mug style model edition collection series line fit size sleeve print
pattern leather denim cotton wool silk linen suede gold silver black white red blue green grey gray
brown beige navy pink purple yellow orange ivory cream khaki camel rose pearl oak walnut vintage classic
premium slim regular oversized midi maxi mini long short small medium large new sale summer winter
spring autumn fall perfume eau sunglass headphones phone case cover kleid kleider hemd hemden bluse
jacke jacken mantel hose hosen rock schuh schuhe stiefel stiefelette tasche rucksack gürtel mütze schal
strickjacke anzug weste socken sandalen modell kollektion serie größe farbe leder wolle baumwolle seide
schwarz weiß rot blau grün grau braun stuhl tisch lampe teppich uhr kette brille kissen robe robes
chemise chemisier veste manteau pantalon jupe pull chaussure chaussures botte bottes bottine sac
ceinture écharpe bonnet modèle taille cuir laine coton soie noir blanc rouge bleu vert gris brun montre
bague collier chaise tapis parfum vestido camisa camiseta blusa chaqueta abrigo pantalón falda jersey
zapato zapatos bota botas botín bolso mochila cinturón bufanda modelo colección talla cuero lana algodón
seda negro blanco rojo azul verde marrón reloj anillo collar silla lámpara abito vestito camicia maglia
maglione giacca cappotto pantaloni gonna scarpa scarpe stivale stivali borsa zaino cintura sciarpa
modello collezione taglia pelle cotone seta nero bianco rosso blu grigio marrone orologio anello collana
sedia tappeto profumo jurk overhemd jas broek rok trui schoen schoenen laars laarzen tas riem sjaal muts
collectie maat leer wol katoen zijde zwart wit rood blauw groen grijs bruin horloge stoel tafel
vloerkleed sukienka koszula bluzka kurtka płaszcz spodnie spódnica sweter but buty kozaki torebka plecak
pasek szalik czapka kolekcja rozmiar skóra wełna bawełna jedwab czarny biały czerwony niebieski zielony
szary brązowy zegarek krzesło stół dywan casaco calças saia camisola sapato sapatos mala cinto cachecol
coleção tamanho couro lã algodão preto branco vermelho castanho relógio cadeira mesa tapete klänning
skjorta jacka kappa byxor kjol tröja sko skor stövlar väska storlek läder ull bomull svart vit röd claus
"""
_TRADE: Final = frozenset(_TRADE_WORDS.split())
"""Words of shops: beside them, and as part of one, a name is a product's. In lower case."""


_COMMON_WORDS: Final = """
kind regards best wishes sincerely cheers yours truly
about after again all also although always and another any are as at back be because been before below
between both but by can could did do does doing done down during each even ever every few first for from
get give go got great had has have having her here hers him his how however if in into is it its last
less let like made make many may me more most much must my need never new next nice no none nor not
nothing now of off on once one only or other our out over own perfect please put rather really same see
should since so some still such super than thank thanks that the their them then there these they this
those through to too two under until up used using very via was we well were what when where whether
which while who why will with within without would yet you your fits looks comes goes good love loved
lovely beautiful excellent amazing soft warm light dark machine hand wash price colour color material
item article order delivery flag hello sorry sent
"""
_PARTICLE_WORDS: Final = """
von van vom zu zum zur de der den del della dello di da do dos das du des la lo le bin bint ibn al el ten ter af av y e
"""
_FUNCTION_WORDS: Final = frozenset(_COMMON_WORDS.split())
"""Words with which sentences begin, in the language whose models are in use most: capitals that are no name's."""


_PARTICLES: Final = frozenset(_PARTICLE_WORDS.split())


def is_common(lowered: str) -> bool:
    """Whether a capitalised word, here in lower case, is no reason to look for a name."""
    return lowered in _FUNCTION_WORDS or lowered in _NOT_NAMES or lowered in _TRADE


class _Grammar:
    """The expressions, compiled when they are first needed."""

    def __init__(self) -> None:
        upper, lower = _letters("Lu"), _letters("Ll")
        word = rf"(?:[ODN]['’]|Mc|Mac)?[{upper}][{lower}]{{1,20}}(?:[-'’][{upper}{lower}][{lower}]{{1,20}}){{0,2}}"
        self.word = word
        particle = r"(?:von|van|vom|zu|zum|zur|de|der|den|del|della|dello|di|da|do|dos|das|du|des|la|le|lo|bin|bint|ibn|al|el|ten|ter|af|av|y|e)"
        gap = r"[ \u00a0]{1,2}"
        follow = rf"(?:{gap}(?:{particle}{gap}){{0,2}}|-)(?:{word}|[{upper}]\.?(?![\w.]))"
        self.name = rf"(?:{word}|[{upper}]\.(?:[ \u00a0]?[{upper}]\.)?(?={gap}[{upper}]))(?:{follow}){{0,3}}"
        capitals = rf"[{upper}]{{2,20}}(?:-[{upper}]{{2,20}})?"
        self.title = re.compile(
            rf"(?<![\w.])(?i:{_TITLE})(?P<name>(?:{particle}{gap}){{1,3}}{word}(?:{follow}){{0,2}}|{self.name}|{capitals}(?![\w]))"
        )
        self.phrase = re.compile(
            rf"(?<!\w)(?:(?i:{_BEFORE}))(?!\w)[ \u00a0]?[,:;.!–-]{{0,2}}\s{{0,4}}(?:[-–—~]\s?)?(?P<name>{self.name})"
        )
        self.greeting = re.compile(
            rf"(?<!\w)(?:(?i:{_GREETING}))\s{{1,2}}(?P<name>{self.name})(?=\s{{0,2}}[,!.:;–\n-]|$)"
        )
        # "Smith, John" needs its first line to itself; too rare to be worth its errors elsewhere.
        self.pair = re.compile(
            rf"(?<![\w@.])(?P<first>{word}|[{upper}]\.)(?P<middle>(?:{gap}(?:{word}|[{upper}]\.?)){{0,2}}?)"
            rf"(?P<last>{gap}(?:{particle}{gap}){{0,2}}(?:{word}|{capitals}))(?![\w@])"
        )
        self.after = re.compile(
            rf"\s{{0,2}}[\"'»”]?\s{{0,2}}(?P<word>[{upper}{lower}][{upper}{lower}-]{{1,24}})"
        )
        self.before = re.compile(
            rf"(?P<word>[{upper}{lower}][{upper}{lower}-]{{1,24}})[\"'«“„:]?\s{{0,2}}[\"'«“„]?$"
        )
        self.follow = re.compile(rf"(?:{gap}|-)(?P<word>{word})(?![\w@])")
        self.article = re.compile(
            r"(?<![^\W_])(?:the|a|an|our|this|das|dem|den|unser|le|la|un|une|el|los|il|lo|het|o|os|um|uma)\s$",
            re.IGNORECASE,
        )
        self.sizes = re.compile(
            r"[\W_]{0,3}(?:[^\W\d_]{1,6}[\W_]{1,2}){0,2}(?:size|größe|groesse|gr\.|taille|talla|taglia|maat|maten|rozmiar|tamanho|storlek|koko|koot|velikost|veľkosť)",
            re.IGNORECASE,
        )
        self.addressee = re.compile(rf"(?P<name>{self.name})[,;\s]{{1,3}}$")
        self.capital = re.compile(rf"(?<![\w])[{upper}]")
        self.introduced = (
            (beginnings_of(_TITLES, are_whole=True), self.title, _SCORE_TITLE),
            (beginnings_of(_BEFORE, are_whole=True), self.phrase, _SCORE_PHRASE),
            (beginnings_of(_GREETING, are_whole=True), self.greeting, _SCORE_PHRASE),
        )


@functools.lru_cache(maxsize=1)
def _grammar() -> _Grammar:
    return _Grammar()


@functools.lru_cache(maxsize=1)
def _listed() -> tuple[frozenset[str], frozenset[str]]:
    """Given names and surnames of all countries, in lower case (Faker's lists)."""
    import faker.config

    first, last = set[str](), set[str]()
    for locale in faker.config.AVAILABLE_LOCALES:
        try:
            provider: Any = importlib.import_module(f"faker.providers.person.{locale}").Provider
        except ImportError:
            continue
        for attribute in dir(provider):
            names = getattr(provider, attribute)
            if isinstance(names, tuple | list | dict):
                if attribute.startswith("first_name"):
                    first.update(map(str, names))
                elif attribute.startswith("last_name"):
                    last.update(map(str, names))
    first_words = {part.lower() for name in first for part in name.split() if len(part) > 2}
    last_words = {part.lower() for name in last for part in name.split() if len(part) > 1}
    return frozenset(first_words), frozenset(last_words)


def is_given_name(word: str) -> bool:
    """Whether somewhere children are named so."""
    lowered = word.lower()
    first, _ = _listed()
    return lowered in first or all(part in first for part in lowered.split("-"))


def is_surname(word: str) -> bool:
    """Whether somewhere families are named so."""
    lowered = word.lower().replace("’", "'")
    _, last = _listed()
    return all(part in last or _masculine(part) in last for part in lowered.split("-"))


def _masculine(surname: str) -> str:
    """The form of a Slavic surname that men bear: lists hold one of the two."""
    for women, men in (
        ("ska", "ski"),
        ("cka", "cki"),
        ("dzka", "dzki"),
        ("ová", ""),
        ("ova", "ov"),
        ("eva", "ev"),
        ("ina", "in"),
    ):
        if surname.endswith(women) and len(surname) > len(women) + 2:
            return surname.removesuffix(women) + men
    return surname


def is_no_person(text: str, start: int, end: int) -> bool:
    """Whether what a model takes for a person is none: a digit in it, a common word, or a product's name."""
    value = text[start:end]
    if any(character.isdigit() for character in value):
        return True
    if is_common(value.lower()):
        return True
    return is_beside_trade(text, start, end)


def is_beside_trade(text: str, start: int, end: int, *, is_sure: bool = False) -> bool:
    """Whether it is a product's name: beside a word of shops or a size, after an article, or ending in such a word.

    ``is_sure``: what stands before has said that it is a person's; "Weiß" is a surname too.
    """
    grammar = _grammar()
    if grammar.sizes.match(text, end):
        return not is_sure
    if not is_sure:
        if any(part.lower() in _TRADE for part in re.split(r"[ \u00a0]+", text[start:end])[1:]):
            return True
        if grammar.article.search(text, max(0, start - 8), start):
            return True
    after = grammar.after.match(text, end)
    if after is not None and after["word"].lower() in _TRADE:
        return True
    if is_sure:
        return False
    before = grammar.before.search(text, max(0, start - 30), start)
    return before is not None and before["word"].lower() in _TRADE


def search_names(text: str, language: str) -> Iterator[Found]:
    """PERSON by title, by phrase and by lists; without the title. ``language``: primary subtag."""
    grammar = _grammar()
    if not grammar.capital.search(text):
        return
    for begins, pattern, score in grammar.introduced:
        for match in search_at(pattern, begins, text):
            start, end = match.span("name")
            if span := _without_other_words(text, start, end):
                start, end = span
                # "M." is a size, or an initial, but in French.
                is_title = pattern is grammar.title and (language == "fr" or match[0][:2] not in {"M.", "M "})
                if pattern is grammar.title and not is_title:
                    continue
                is_sure = is_title or _is_likely(text, start, end)
                is_person = is_sure and not is_beside_trade(text, start, end, is_sure=True)
                yield "PERSON", start, end, score if is_person else _SCORE_PRODUCT
    yield from _pairs(text, language)


def _pairs(text: str, language: str) -> Iterator[Found]:
    """Given names and what follows them."""
    grammar, position = _grammar(), 0
    while pair := grammar.pair.search(text, position):
        position = pair.end("first")  # the next word may be the given name
        start, end = pair.start("first"), pair.end("last")
        first, last = pair["first"], re.split(r"[ \u00a0]+", pair["last"].strip())[-1]
        if first.lower() in _NOT_NAMES or last.lower() in _NOT_NAMES:
            continue
        is_initial = first.endswith(".")
        if not (is_initial or is_given_name(first)) or (is_initial and not is_surname(last)):
            continue
        is_listed = is_surname(last) or is_given_name(last)
        while (further := grammar.follow.match(text, end)) and is_surname(further["word"]):
            end, is_listed = further.end(), True
        position = end
        if is_beside_trade(text, start, end):
            score = _SCORE_PRODUCT
        elif is_listed:
            score = _SCORE_BOTH_LISTED
        else:
            # German writes every noun with a capital, and titles of products every word.
            score = _SCORE_PRODUCT if language == "de" or _is_title_case(text) else _SCORE_ONE_LISTED
        yield "PERSON", start, end, score


_A_WORD = re.compile(r"[^\W\d_]{2,}")


def _is_title_case(text: str) -> bool:
    """Whether more than half of the words begin with a capital."""
    words: list[str] = _A_WORD.findall(text)
    return len([word for word in words if word[0].isupper()]) * 2 > len(words)


def search_addressees(text: str, address_start: int) -> Iterator[Found]:
    """PERSON in the line before a postal address."""
    before = _grammar().addressee.search(text, max(0, address_start - 80), address_start)
    if before is None:
        return
    words = before["name"].lower().split()
    if len(words) > 1 and not any(
        word in _NOT_NAMES or word in _TRADE or word in _FUNCTION_WORDS for word in words[:1]
    ):
        yield "PERSON", before.start("name"), before.end("name"), _SCORE_ADDRESSEE


def _without_other_words(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The stretch up to the first word that is no name; None where that is the first one."""
    position = start
    for part in re.finditer(r"[^ \u00a0]+", text[start:end]):
        lowered = part[0].strip(".,").lower()
        if lowered in _NOT_NAMES and lowered not in _PARTICLES:
            break
        if lowered in _PARTICLES:
            continue
        position = start + part.end()
    value = text[start:position].rstrip(" \u00a0.-") if position > start else ""
    return (start, start + len(value)) if len(value) > 1 else None


def _is_likely(text: str, start: int, end: int) -> bool:
    """Whether a stretch after a phrase is a name: a word of the lists in it, two words in a text of sentences, or a signature."""
    parts = [part.strip(".") for part in re.split(r"[ \u00a0-]+", text[start:end])]
    if any(is_given_name(part) or is_surname(part) for part in parts):
        return True
    if len(parts) > 1:
        return not _is_title_case(text)
    # A signature ends its line.
    return bool(text[:start].strip()) and text[end : end + 2].lstrip(" .!")[:1] in {"", "\n"}


# -- dates of birth ---------------------------------------------------------------------------------

_BIRTH_WORDS: Final = (
    r"born(?: on)?|date of birth|birth ?date|birthday(?: is)?(?: on)?|d\.?o\.?b\.?|"
    r"geboren(?: am)?|geburtsdatum|geburtstag|geb\.|née?(?:\(e\))? le|date de naissance|naissance|"
    r"nacid[oa](?: el)?|nací(?: el)?|fecha de nacimiento|f\. ?nac\.?|nat[oa](?: il)?|data di nascita|"
    r"geboren op|geboortedatum|geb\. ?dat\.?|urodzon[ya](?: dnia)?|urodziłe?[mć]? się|urodziłam się|data urodzenia|ur\.|"
    r"nascid[oa](?: em)?|nasci(?: em)?|data de nascimento|född(?: den)?|födelsedatum|født(?: den)?|fødselsdato|fødselsdag|"
    r"syntynyt|syntymäaika|narozen[aý]?|datum narození|narodený|dátum narodenia|doğum tarihi(?:m)?|"
    r"дата рождения|родил(?:ся|ась)|д\.р\.|ημερομηνία γέννησης|生年月日|出生日期|생년월일|تاريخ الميلاد|תאריך לידה|data nașterii|születési"
)


@functools.lru_cache(maxsize=1)
def _birth() -> tuple[frozenset[str], re.Pattern[str], re.Pattern[str]]:
    month = rf"[{_letters('Lu')}{_letters('Ll')}]{{3,12}}\.?"
    date = (
        r"(?:\d{1,2}[./ -]{1,2}\d{1,2}[./ -]{1,2}(?:\d{4}|\d{2})"
        r"|\d{4}[./-]\d{1,2}[./-]\d{1,2}"
        r"|\d{4}\s?[年년]\s?\d{1,2}\s?[月월]\s?\d{1,2}\s?[日일]"
        rf"|\d{{1,2}}(?:st|nd|rd|th|er|[.ºª°])?(?:\s(?:of|de|den))?\s{month}(?:\s(?:de|del))?,?\s\d{{4}}"
        rf"|{month}\s\d{{1,2}}(?:st|nd|rd|th)?,?\s\d{{4}})"
    )
    words = re.compile(rf"(?<![^\W_])(?:{_BIRTH_WORDS})", re.IGNORECASE)
    # A few words may stand between: "born in Leeds on", "Geburtsdatum lautet".
    after = re.compile(
        rf"(?:\W{{0,4}}[^\W\d]{{1,14}}){{0,4}}\W{{0,4}}(?<![\d{_letters('Lu')}{_letters('Ll')}])(?P<date>{date})(?!\d)"
    )
    return beginnings_of(_BIRTH_WORDS), words, after


def search_births(text: str) -> Iterator[Found]:
    """DATE_OF_BIRTH: a date shortly after a word for birth."""
    begins, words, after = _birth()
    for word in search_at(words, begins, text):
        match = after.match(text, word.end(), word.end() + 90)
        if match is not None:
            yield "DATE_OF_BIRTH", match.start("date"), match.end("date"), 0.85


# -- postal addresses -------------------------------------------------------------------------------

_STATES: Final = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|DC|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA|RI|SC|SD|TN|"
    "TX|UT|VT|VA|WA|WV|WI|WY|NSW|VIC|QLD|TAS|ACT|ON|QC|BC|AB|MB|SK|NS|NB"
)


@functools.lru_cache(maxsize=1)
def _addresses() -> tuple[tuple[frozenset[str] | None, re.Pattern[str], re.Pattern[str]], ...]:
    """How one of its words begins, where that is known; an expression without which nothing is searched; the address."""
    upper, lower = _letters("Lu"), _letters("Ll")
    cap = rf"[{upper}](?:[{lower}]{{0,3}}\\.(?=[ {upper}])|[{upper}{lower}'’-]{{0,24}})"
    place = rf"{cap}(?:[ -](?:{cap}|sur|am|an der|im|de|del|la|le|les|do|da|di|upon|aan|den|der|in|a\.?d\.?|nad)){{0,4}}"
    small = r"(?:de la|de las|de los|de|del|della|delle|dello|dei|degli|di|du|des|la|le|les|da|do|das|dos|of|the|e|y|aux?|à|en|d['’]|l['’]|de l['’]|dell['’])"
    names = rf"(?:(?:{small})[ ]?)?(?:{cap}|\d{{1,2}})(?:[ -](?:{small}[ ]?)?{cap}){{0,3}}"
    number = r"\d{1,5}(?:[ ]?[-–/][ ]?\d{1,4})?(?:[ ]?[A-Za-z](?![\w]))?"
    british = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
    sep = r"[, \u00a0\n–-]{1,4}"
    types = (
        "Street|St|Avenue|Ave|Av|Road|Rd|Lane|Ln|Drive|Dr|Court|Ct|Boulevard|Blvd|Way|Close|Crescent|Cres|Terrace|Place|Pl|Square|Sq|"
        "Gardens|Gdns|Mews|Hill|Row|Grove|Parkway|Pkwy|Circle|Cir|Trail|Highway|Hwy|Walk|Rise|Parade|Broadway|Quay|Green|Park|View|Loop|Alley"
    )
    unit = r"(?:(?:[Aa]pt|[Aa]partment|[Ff]lat|[Uu]nit|[Ss]uite|[Ss]te|[Rr]oom|[Ff]loor)\.? ?#?[A-Z]?\d{0,4}[A-Z]?|#\d{1,4}[A-Z]?)"
    zips = rf"(?:{british}|(?:{_STATES}),? \d{{5}}(?:-\d{{4}})?|(?:{_STATES}) [A-Z]\d[A-Z] ?\d[A-Z]\d|(?:{_STATES}) \d{{4}}|(?:{_STATES})(?![\w])|\d{{5}}(?:-\d{{4}})?(?!\d)|[A-Z]\d[A-Z] ?\d[A-Z]\d)"
    english = (
        rf"(?:{unit}{sep})?\d{{1,5}}[A-Za-z]?(?:[-–]\d{{1,4}})?,? (?:[NSEW]\.? |North |South |East |West )?(?:{cap} |\d{{1,3}}(?:st|nd|rd|th) ){{1,3}}"
        rf"(?:{types})(?![\w])\.?(?: [NSEW]{{1,2}}(?![\w]))?(?:{sep}{unit})?(?:{sep}{place}(?:{sep}{place})?{sep}{zips}|{sep}{zips}|{sep}{british}|, {place}(?![\w]))?"
    )
    box = rf"P\.? ?O\.? ?Box \d{{1,6}}(?:{sep}{place}{sep}{zips})?"
    code_place = rf"(?:{sep}(?:[A-Z]{{1,2}}-)?(?:\d{{4,5}}(?:[ -]\d{{2,3}})?(?: ?[A-Z]{{2}}(?![\w]))?|\d{{2}}-\d{{3}}|\d{{3}} \d{{2}}) {place})"
    endings = (
        "straße|strasse|str\\.|weg|platz|allee|gasse|ring|damm|ufer|chaussee|steig|stieg|pfad|graben|markt|berg|hof|kamp|"
        "straat|laan|plein|gracht|kade|singel|dijk|dreef|steenweg|lei|"
        "gatan|gata|vägen|väg|gränd|torget|stigen|backen|gade|vej|vejen|veien|vei|gaten|plads|allé|"
        "katu|tie|kuja|polku|tori|raitti"
    )
    germanic = (
        rf"(?:{cap}[ -]){{0,3}}(?:[{upper}][{lower}ß]{{1,24}}(?:{endings})|{cap}[ -](?:Straße|Strasse|Str\.|Weg|Platz|Allee|Gasse|Ring|Damm|Ufer|Laan|Straat|Plein|Weg)|"
        rf"(?:Am|An der|An den|Auf der|Auf dem|Im|In der|Zum|Zur|Unter den) {cap})"
        rf" {number}(?: ?(?:bis|bus|hs|III?|[A-Z](?: ?\d{{1,3}})?)(?![\w]))?{code_place}?"
    )
    romance_before = r"(?:rue|avenue|av\.|ave|boulevard|bd|bld|place|pl\.|chemin|allée|allées|impasse|quai|cours|route|square|passage|faubourg|résidence)"
    french = rf"(?:\d{{1,4}}(?: ?(?:bis|ter|[A-D](?![\w])))?,? )(?i:{romance_before}) {names}{code_place}?"
    iberian_types = (
        r"(?:Calle|calle|C/|c/|C\.|Avda\.?|Avenida|avenida|Av\.|Plaza|plaza|Pza\.?|Paseo|paseo|Pº|Carretera|Camino|Ronda|Travesía|Carrer|"
        r"Via|Viale|viale|V\.le|Piazza|piazza|P\.zza|Piazzale|Corso|corso|C\.so|Largo|largo|Vicolo|vicolo|Strada|Lungomare|"
        r"Rua|rua|R\.|Travessa|Praça|praça|Alameda|Estrada|Rodovia|Rúa|"
        r"ul\.|ulica|ulicy|al\.|Al\.|aleja|Aleje|pl\.|os\.|Plac|ulice|nám\.|náměstí|třída|"
        r"ул\.|улица|пр\.|проспект|Cad\.|Sok\.)"
    )
    extra = r"(?:,? (?:n\.? ?º|nº|n°|núm\.?|num\.?|n\.|no\.?|д\.))?"
    floors = (
        r"(?:,? \d{1,2} ?[ºªo°](?: ?[A-Za-z](?![\w])| ?(?:dcha|izda|izq|Dto|Esq|drt)\.?)?|,? (?:bajo|piso|andar|ap(?:to|artamento)?\.?|int\.|scala|m\.|lok\.|кв\.) ?\w{1,4}"
        r"|/\d{1,4}){0,2}"
    )
    after_number = rf"{iberian_types} ?{names}{extra},? ?{number}{floors}(?:{code_place}|{sep}\d{{4}}-\d{{3}} {place}|{sep}\d{{5}}-\d{{3}}(?: {place})?|,? {place}{sep}\d{{5}}-\d{{3}})?(?: \([A-Z]{{2}}\))?"
    turkish = rf"{cap}(?: {cap}){{0,2}} (?:Caddesi|Sokak|Sokağı|Cad\.|Sok\.|Bulvarı|Mah\.|Mahallesi)(?:,? No: ?\d{{1,4}}(?:/\d{{1,4}})?)"
    czech = rf"{cap}(?: {cap}){{0,2}} \d{{1,4}}/\d{{1,4}}[a-z]?{sep}\d{{3}} \d{{2}} {place}"
    code_first = rf"(?<![\d.,/-])\d{{5}} {cap}(?:[ -]{cap}){{0,2}}, (?:[{upper}][{lower}ß]{{1,24}}(?:{endings})) {number}"
    japanese = r"〒?\d{3}-\d{4}\s?[\u4e00-\u9fff]{2,4}[都道府県][\u3040-\u30ff\u4e00-\u9fff]{1,20}[\d０-９]{1,4}(?:[-－丁][\d０-９目番地号-]{1,12})?|[\u4e00-\u9fff]{2,3}[都道府県][\u4e00-\u9fff\u3040-\u30ff]{1,8}[市区町村][\u4e00-\u9fff\u3040-\u30ff]{1,12}\d{1,4}(?:[-丁目番地号]\d{0,3}){1,4}"
    chinese = r"[\u4e00-\u9fff]{2,8}(?:省|市|区|區|县)[\u4e00-\u9fff]{1,12}(?:路|街|道|巷)\d{1,5}[号號](?:[\d\u4e00-\u9fff]{1,10}[室楼层])?"
    korean = r"[\uac00-\ud7a3]{2,8}(?:시|도)\s[\uac00-\ud7a3]{1,6}(?:구|군|시)\s[\uac00-\ud7a3\d]{1,12}(?:로|길)\s?\d{1,4}(?:-\d{1,4})?"

    def made(
        trigger: str, address: str, words: str = ""
    ) -> tuple[frozenset[str] | None, re.Pattern[str], re.Pattern[str]]:
        begins = beginnings_of(words, are_whole=True) if words else None
        return begins, re.compile(trigger), re.compile(rf"(?<![\w]){address}(?![\w])")

    return (
        made(rf"(?:{types})(?![a-z])", english, types),
        made(r"P\.? ?O\.? ?Box", box),
        made(
            rf"(?:{endings}|Straße|Strasse|Str\.|Weg|Platz|Laan|\b(?:Am|An|Auf|Im|In|Zum|Zur|Unter)\b)[^\d]{{0,30}}\d",
            germanic,
        ),
        made(r"\d", french, romance_before),
        made(rf"{iberian_types} ?[^\d]{{0,60}}\d", after_number),
        made(r"Caddesi|Sokak|Sokağı|Cad\.|Sok\.|Bulvarı|Mah", turkish),
        made(r"\d{3} \d{2} ", czech),
        made(r"\d{5} ", code_first),
        (None, re.compile("[都道府県]"), re.compile(japanese)),
        (None, re.compile("[号號]"), re.compile(chinese)),
        (None, re.compile("[로길]"), re.compile(korean)),
    )


_HAS_DIGIT = re.compile(r"\d")
_HAS_CODE = re.compile(r"\d{4,}|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|\d{3} \d{2} |\d{2}-\d{3}|〒")


def search_addresses(text: str) -> Iterator[Found]:
    """ADDRESS: a street with a number; surer with a postcode and a place."""
    if not _HAS_DIGIT.search(text):
        return
    words = beginnings(text)
    for begins, trigger, pattern in _addresses():
        if (begins is None or not words.isdisjoint(begins)) and trigger.search(text):
            for match in pattern.finditer(text):
                value = match[0].rstrip(" ,.\n-–")
                has_code = _HAS_CODE.search(value) is not None
                yield "ADDRESS", match.start(), match.start() + len(value), 0.85 if has_code else 0.6
