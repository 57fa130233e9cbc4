"""Values for ``quality_personal_data.py``: personal data with right check digits, and what only looks like it.

Two halves that share no list: "tuning" and "report". Check digits are computed here and number ranges and formats are
typed from standards and numbering plans: nothing is shared with the code that is measured.
"""

import hashlib
import random
from collections.abc import Callable, Sequence

Maker = Callable[[random.Random, str, str], str]
"""Takes a generator, a language and a half."""


def digits(rng: random.Random, count: int) -> str:
    """That many random digits."""
    return "".join(rng.choice("0123456789") for _ in range(count))


def filled(rng: random.Random, pattern: str) -> str:
    """``#``: any digit, ``N``: 2-9; everything else as it is."""
    return "".join(
        rng.choice("0123456789") if c == "#" else rng.choice("23456789") if c == "N" else c for c in pattern
    )


# Ranges of the national numbering plans (mobile and land lines) in the ways people write them.
PHONES_TUNING: dict[str, tuple[str, ...]] = {
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


def luhn_digit(number: str) -> str:
    """The check digit to put after ``number`` (ISO/IEC 7812)."""
    total = 0
    for place, character in enumerate(reversed(number)):
        double = int(character) * (2 if place % 2 == 0 else 1)
        total += double - 9 if double > 9 else double
    return str(-total % 10)


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


PHONES_REPORT: dict[str, tuple[str, ...]] = {
    "en": ("(646) N##-####", "773-N##-####", "+1 (503) N##-####", "+44 7911 12####", "0113 496 0###", "07911 12####", "+61 4## ### ###", "1 (415) N##-####"),
    "de": ("0221 N#######", "0176 N#######", "+49 (0) 160 N######", "+49 221 N######", "(089) N### ###", "0157 N### ####", "+43 664 N######"),
    "fr": ("04 72 ## ## ##", "0033 4 72 ## ## ##", "+33 7 81 ## ## ##", "06-42-##-##-##", "07.66.##.##.##", "+32 470 ## ## ##"),
    "es": ("622 ### ###", "+34 91 489 ## ##", "93 218 ## ##", "+34 722 ######", "655 ## ## ##"),
    "it": ("349 N## ####", "+39 02 4889 ####", "02 4889 ####", "+39 349 N######", "388-N######"),
    "nl": ("06 4# ## ## ##", "+31 20 6## ####", "010-4## ####", "0031 6 4#######", "06-5#######"),
    "pl": ("512 ### ###", "+48 22 6## ## ##", "602-###-###", "+48 512######", "22 8## ## ##"),
    "pt": ("961 ### ###", "+351 21 8## ####", "934 ### ###", "00351 96# ### ###", "21 8## ## ##"),
    "cs": ("601 ### ###", "+420 777 ### ###"),
    "sv": ("073-5## ## ##", "+46 8 50# ### ##", "08-50# ### ##"),
    "fi": ("040 5## ####", "+358 50 3## ####", "050 3######"),
}  # fmt: skip
PHONES_TUNING |= {
    "nl": ("06-1#######", "020 6## ####", "+31 6 1#######", "(020) 6######", "0611######"),
    "pl": ("501 ### ###", "601-###-###", "+48 501 ### ###", "0048 22 6## ## ##"),
    "cs": ("602 ### ###", "+420 602 ### ###"),
    "sv": ("070-3## ## ##", "+46 70 3## ## ##"),
    "fi": ("040 1## ####", "+358 40 1######"),
}  # fmt: skip


# Of languages for which there are no sentences here; searched for without any.
PHONES_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "ja": ("090-N###-####", "080-N###-####", "03-3N##-####", "(03) 3N##-####", "+81 90-N###-####", "090N#######"),
    "ar": ("050 N## ####", "050N######", "+966 50 N## ####", "00966 50 N## ####", "+971 50 N## ####", "055-N##-####"),
    "ko": ("010-2###-####", "02-7##-####", "+82 10-2###-####", "010 2### ####", "0102#######"),
    "zh": ("138 #### ####", "139########", "+86 138 #### ####", "010-6### ####", "021-6#######", "0086 139########"),
    "tr": ("0532 ### ## ##", "(0212) 2## ## ##", "+90 532 ### ## ##", "0 533 ### ## ##", "0532#######"),
    "ru": ("8 (916) ###-##-##", "+7 916 ###-##-##", "8-916-###-##-##", "+7(495)#######", "8916#######"),
    "id": ("0812-3###-####", "0812 3### ###", "021-5### ####", "+62 812-3###-####", "08123#######"),
}  # fmt: skip


def phone(rng: random.Random, language: str, half: str) -> str:
    """A number of a country in which the language is spoken."""
    return filled(rng, rng.choice((PHONES_TUNING if half == "tuning" else PHONES_REPORT)[language]))


# -- persons -----------------------------------------------------------------------------------------

FIRST: dict[str, dict[str, str]] = {
    "tuning": {
        "en": "Olivia Jack Priya Mohammed Chloe Tyrone Siobhan Wei Grace Liam Fatima Noah",
        "de": "Anna Jürgen Lukas Sabine Mehmet Katrin Björn Leonie Aylin Stefan",
        "fr": "Chloé Luc Amandine Youssef Benoît Élodie Jean-Pierre Inès Théo Aïcha",
        "es": "María José Lucía Álvaro Carmen Iker Nuria Joaquín Pilar Hugo",
        "it": "Luca Giulia Francesco Chiara Matteo Alessia Salvatore Beatrice Paolo",
        "nl": "Sanne Daan Joost Fleur Willem Anouk Pieter Lotte Mohammed",
        "pl": "Katarzyna Piotr Agnieszka Wojciech Małgorzata Paweł Zofia Tomasz",
        "pt": "João Inês Tiago Beatriz Rui Catarina Gonçalo Mariana Duarte",
        "cs": "Jana Petr Lenka Tomáš", "sv": "Astrid Björn Linnea Oskar", "fi": "Aino Jukka Päivi Mikko",
    },
    "report": {
        "en": "Hannah Oliver Aisha Dmitri Megan Kwame Saoirse Hiroshi Charlotte Ravi Zoe Connor Ngozi Eleanor Declan Imani",
        "de": "Friederike Uwe Marlene Tobias Elif Heike Jonas Annegret Cem Ulrike Moritz",
        "fr": "Mathilde Olivier Fatou Sébastien Camille Marie-Claude Karim Apolline Gaël Noémie",
        "es": "Rocío Ignacio Marta Xavier Yolanda Andrés Begoña Íñigo Sara Emilio",
        "it": "Federica Giovanni Ilaria Davide Martina Gianluca Serena Raffaele Elisa",
        "nl": "Marieke Sjoerd Femke Bram Jasmijn Gerrit Naima Koen Tess",
        "pl": "Joanna Krzysztof Ewa Mateusz Barbara Grzegorz Natalia Jakub",
        "pt": "Sofia Miguel Leonor Vasco Rita Nuno Madalena Afonso Teresa",
        "cs": "Markéta Jiří Eva Ondřej", "sv": "Ebba Lars Karin Viktor", "fi": "Helmi Antti Sanna Timo",
    },
}  # fmt: skip
LAST: dict[str, dict[str, str]] = {
    "tuning": {
        "en": "Smith|Patel|O'Neill|Johnson|Chen|McGregor|Okafor|Taylor-Brown|Walker|Singh",
        "de": "Müller|Schmidt|von Arnim|Yılmaz|Krüger|Hoffmann|Schulze-Berg|Weiß",
        "fr": "Dubois|Lefèvre|Benali|de La Tour|Moreau|N'Diaye|Girard",
        "es": "García López|Fernández|Etxeberria|de la Cruz|Romero|Núñez Ortiz",
        "it": "Rossi|Esposito|De Luca|Bianchi|D'Angelo|Ferrari",
        "nl": "de Vries|Jansen|van den Berg|Bakker|el Amrani|Visser",
        "pl": "Kowalska|Nowak|Wiśniewski|Zając|Lewandowska",
        "pt": "Silva|dos Santos|Ferreira|Carvalho|Gonçalves Dias",
        "cs": "Nováková|Svoboda|Dvořák", "sv": "Lindqvist|Johansson|Ek", "fi": "Virtanen|Korhonen|Mäkelä",
    },
    "report": {
        "en": "Thompson|Nakamura|Fitzgerald|Mensah|Kaur|Hughes|Volkov|Delgado|Ashworth|Adeyemi|McAllister|Lindgren|Nguyen|Whitaker|Osei-Bonsu",
        "de": "Vogel|Zimmermann|Özdemir|von der Heide|Lindner|Brandt|Petersen-Klein|Seidel",
        "fr": "Fontaine|Rousseau|Traoré|du Plessis|Chevalier|Haddad|Lemaître",
        "es": "Morales Vega|Iglesias|Castaño|del Olmo|Ibáñez|Serra Pons",
        "it": "Marchetti|Colombo|Di Stefano|Greco|Dell'Acqua|Rinaldi",
        "nl": "van Dijk|Smit|ter Horst|Hendriks|Bouazza|de Groot",
        "pl": "Wójcik|Kamińska|Mazur|Szymański|Dąbrowska",
        "pt": "Oliveira|da Costa|Marques|Teixeira|Pinto Leal",
        "cs": "Černá|Procházka|Kučera", "sv": "Nyström|Bergman|Hedlund", "fi": "Nieminen|Laine|Salonen",
    },
}  # fmt: skip
TITLES = {
    "en": ("Mr", "Mrs", "Ms", "Dr", "Mr.", "Dr."), "de": ("Frau", "Herr", "Frau Dr."), "fr": ("M.", "Mme", "Madame", "Monsieur"),
    "es": ("Sr.", "Sra.", "la señora", "don"), "it": ("Sig.", "Sig.ra", "la signora", "il signor"), "nl": ("mevrouw", "meneer", "dhr."),
    "pl": ("pan", "pani", "Pani"), "pt": ("Sra.", "Sr.", "Dona", "a senhora"),
}  # fmt: skip


def first(rng: random.Random, language: str, half: str) -> str:
    """A given name; one in eight of another culture."""
    other = rng.choice(sorted(FIRST[half])) if rng.random() < 0.125 else language
    return rng.choice(FIRST[half][other].split())


def last(rng: random.Random, language: str, half: str) -> str:
    """A surname."""
    other = rng.choice(sorted(LAST[half])) if rng.random() < 0.125 else language
    return rng.choice(LAST[half][other].split("|"))


def person(rng: random.Random, language: str, half: str) -> str:
    """A given name and a surname, at times with an initial."""
    initial = f" {rng.choice('ABEJKLMRST')}." if language == "en" and rng.random() < 0.1 else ""
    return f"{first(rng, language, half)}{initial} {last(rng, language, half)}"


def title(rng: random.Random, language: str, _half: str) -> str:
    """A form of address; not marked itself."""
    return rng.choice(TITLES[language])


# -- addresses ---------------------------------------------------------------------------------------

ADDRESSES: dict[str, dict[str, tuple[str, ...]]] = {
    "tuning": {
        "en": ("## High Street, Leeds LS1 4AP", "4## Maple Avenue, Springfield, IL 627##", "Flat N, ## King's Road, London SW3 5UZ", "1## W 42nd St, New York, NY 10036", "## Station Road", "N## Oak Lane, Apt NB, Austin TX 787##"),
        "de": ("Hauptstraße ##, 10115 Berlin", "Am Markt N, 04109 Leipzig", "Goethestr. ##a, 80336 München", "Lindenweg N"),
        "fr": ("## rue de la République, 69002 Lyon", "N bis, avenue Victor Hugo, 75016 Paris", "## boulevard Saint-Michel"),
        "es": ("Calle Mayor ##, 28013 Madrid", "C/ Gran Vía N, 2º B, 48001 Bilbao", "Avenida de la Constitución ##"),
        "it": ("Via Roma ##, 20121 Milano", "Piazza Garibaldi N, 80142 Napoli (NA)", "Corso Vittorio Emanuele ##"),
        "nl": ("Kerkstraat ##, 1017 GC Amsterdam", "Dorpsweg N, 3512 JE Utrecht", "Prinsengracht 1##"),
        "pl": ("ul. Długa ##, 00-238 Warszawa", "ul. Kwiatowa N/##, 30-001 Kraków", "al. Jana Pawła II ##"),
        "pt": ("Rua Augusta ##, 1100-048 Lisboa", "Avenida da Liberdade N, 1250-096 Lisboa", "Rua das Flores ##"),
        "cs": ("Dlouhá ##/N, 110 00 Praha",), "sv": ("Storgatan ##, 111 22 Stockholm",), "fi": ("Mannerheimintie ##, 00100 Helsinki",),
    },
    "report": {
        "en": ("## Victoria Terrace, Edinburgh EH1 2JL", "N### Sunset Boulevard, Los Angeles, CA 900##", "Unit N, ## Mill Lane, Bristol BS1 6QH", "2## Pine Crest Drive, Denver, CO 802##", "## Church Close", "17 Elm Grove, Manchester, M14 6FT", "N## Birch Court", "PO Box 4##, Portland, OR 972##", "2## E Jefferson Ave, Phoenix AZ 850##"),
        "de": ("Bahnhofstraße ##, 50667 Köln", "An der Alster N, 20099 Hamburg", "Schillerplatz ##, 70173 Stuttgart", "Mozartgasse N", "Kaiser-Wilhelm-Ring ##, 50672 Köln"),
        "fr": ("## impasse des Lilas, 33000 Bordeaux", "N place du Capitole, 31000 Toulouse", "## chemin du Moulin", "1## cours Gambetta, 13100 Aix-en-Provence"),
        "es": ("Paseo de Gracia ##, 08007 Barcelona", "Plaza de España N, 41013 Sevilla", "Calle del Pez ##", "Av. del Puerto N, 46021 Valencia"),
        "it": ("Viale Monza ##, 20127 Milano", "Via Giuseppe Verdi N, 10124 Torino (TO)", "Largo Argentina ##", "Vicolo Stretto N, 00186 Roma"),
        "nl": ("Molenlaan ##, 3055 EG Rotterdam", "Stationsplein N, 2312 AJ Leiden", "Oude Gracht 1##", "Beatrixstraat ##, 5611 Eindhoven"),
        "pl": ("ul. Słowackiego ##, 80-257 Gdańsk", "pl. Wolności N, 61-738 Poznań", "ul. Ogrodowa ##", "os. Piastowskie ##/N, 61-148 Poznań"),
        "pt": ("Travessa do Carmo ##, 1200-095 Lisboa", "Praça da República N, 4050-498 Porto", "Rua do Almada ##", "Av. Brasil N, 3000-134 Coimbra"),
        "cs": ("Vinohradská ##/N, 120 00 Praha",), "sv": ("Drottninggatan ##, 411 14 Göteborg", "Kyrkvägen ##"), "fi": ("Hämeenkatu ##, 33100 Tampere", "Koivutie N"),
    },
}  # fmt: skip


def address(rng: random.Random, language: str, half: str) -> str:
    """A street and a number, mostly with postcode and place."""
    return _filled_address(rng, rng.choice(ADDRESSES[half][language]))


def _filled_address(rng: random.Random, pattern: str) -> str:
    """As ``filled``, but only for an N that is not part of a word or a code; no number starts with 0."""
    made = []
    for place, character in enumerate(pattern):
        before = pattern[place - 1] if place else " "
        after = pattern[place + 1] if place + 1 < len(pattern) else " "
        if character == "#":
            made.append(
                rng.choice("123456789")
                if not (before.isdigit() or before in "#N")
                else rng.choice("0123456789")
            )
        elif (
            character == "N"
            and before in " /"
            and (after in " ,/#" or (after == "B" and pattern[place + 2 : place + 3] == ","))
        ):
            made.append(rng.choice("23456789"))
        else:
            made.append(character)
    return "".join(made)


# -- reached online ------------------------------------------------------------------------------------

DOMAINS = {
    "tuning": ("example.com", "gmail.com", "web.de", "mail.uni-ulm.de", "orange.fr", "libero.it", "company.co.uk", "shop.online", "x.io"),
    "report": ("outlook.com", "gmx.net", "posta.example", "proton.me", "wanadoo.fr", "alice.it", "ziggo.nl", "wp.pl", "sapo.pt", "firma.test",
               "students.ac.uk", "bücher.example", "kontor.berlin", "mail.amsterdam", "hey.xyz", "sub.department.gov.uk"),
}  # fmt: skip
_ASCII = str.maketrans(
    "üãíéçöäßèêïëñáóàâôřžíšůěćłńśźżęąøåÁÉÍÓÚÖÜŁŚŻČŘŠŽÑ", "uaiecoaseeienaoaaorzisueclnszzeaoaAEIOUOULSZCRSZN"
)


def account(rng: random.Random, language: str, half: str) -> str:
    """A name for an account, in ASCII."""
    words = [
        "".join(c for c in word.translate(_ASCII).lower() if c.isascii() and c.isalpha())
        for word in (first(rng, language, half), last(rng, language, half).split()[-1])
    ]
    return rng.choice([".", "_"]).join(words) + rng.choice(
        ["", str(rng.randrange(1950, 2010)), digits(rng, 2)]
    )


def email(rng: random.Random, language: str, half: str) -> str:
    """An address as providers, firms and universities give them out."""
    name = account(rng, language, half)
    return (
        rng.choice(
            [
                name,
                name.replace("_", "."),
                f"{name}+shop",
                name.upper() if half == "tuning" else name.title(),
                f"{name[0]}.{digits(rng, 4)}",
            ]
        )
        + "@"
        + rng.choice(DOMAINS[half])
    )


OBFUSCATED = {
    "tuning": ("{name} (at) {host}.com", "{name}[at]{host}[dot]de", "{name} at {host} dot com"),
    "report": (
        "{name} [at] {host} [dot] net",
        "{name}(at){host}.org",
        "{name} AT {host} DOT com",
        "{name} {{at}} {host} (dot) co (dot) uk",
    ),
}


def obfuscated(rng: random.Random, language: str, half: str) -> str:
    """An address for people alone."""
    pattern = rng.choice(OBFUSCATED[half])
    return pattern.format(
        name=account(rng, language, half).replace(".", "_"),
        host=rng.choice(["mailbox", "example", "fastpost", "uni-mail"]),
    )


def handle(rng: random.Random, language: str, half: str) -> str:
    """An account of a platform."""
    return f"@{account(rng, language, half)}"


PROFILES = {
    "tuning": ("https://www.instagram.com/{name}", "facebook.com/{name}", "https://linkedin.com/in/{name}", "https://shop.example/users/{name}"),
    "report": ("https://www.tiktok.com/@{name}", "instagram.com/{name}/", "https://t.me/{name}", "www.linkedin.com/in/{name}", "https://blog.example.org/~{name}", "https://x.com/{name}"),
}  # fmt: skip


def profile(rng: random.Random, language: str, half: str) -> str:
    """A link to one person's page."""
    return rng.choice(PROFILES[half]).format(name=account(rng, language, half).replace(".", "_"))


# -- numbers with check digits ---------------------------------------------------------------------------


def card(rng: random.Random, _language: str, half: str) -> str:
    """Visa, Mastercard, American Express, Discover, JCB or Diners Club, solid or grouped."""
    kinds = (
        [("4", 16), ("53", 16), ("37", 15), ("3566", 16)]
        if half == "tuning"
        else [("4", 16), ("2412", 16), ("51", 16), ("34", 15), ("6011", 16), ("36", 14)]
    )
    prefix, length = rng.choice(kinds)
    number = prefix + digits(rng, length - len(prefix) - 1)
    number += luhn_digit(number)
    groups = (
        [number[:4], number[4:10], number[10:]]
        if length < 16
        else [number[i : i + 4] for i in range(0, 16, 4)]
    )
    return rng.choice(["", " ", "-"]).join(groups)


def ip(rng: random.Random, _language: str, half: str) -> str:
    """IPv4, or IPv6 full, compressed or mapped."""
    v4 = ".".join(str(rng.randrange(1, 255)) for _ in range(4))
    groups = [f"{rng.randrange(0x1000, 0x10000):x}" for _ in range(8)]
    compressed = f"2001:db8::{groups[0]}:{groups[1]}:{groups[2]}"
    return rng.choice(
        [v4, v4, ":".join(groups), compressed]
        if half == "tuning"
        else [v4, v4, ":".join(groups).upper(), f"2a00:{groups[0]}::{groups[1]}:{groups[2]}:{groups[3]}"]
    )


def mac(rng: random.Random, _language: str, half: str) -> str:
    """With colons, hyphens, or as Cisco writes it; at least one letter, as 279 of 280 have."""
    number = f"{rng.randrange(16**11):011x}" + "b"
    pairs = [number[i : i + 2] for i in range(0, 12, 2)]
    return rng.choice(
        [":".join(pairs), "-".join(pairs).upper()]
        if half == "tuning"
        else [":".join(pairs).upper(), "-".join(pairs), ".".join(number[i : i + 4] for i in (0, 4, 8))]
    )


def _weighted(number: str, weights: Sequence[int]) -> int:
    return sum(int(c) * w for c, w in zip(number, weights, strict=True))


def nhs(rng: random.Random) -> str:
    """A number of the British health service (modulus 11)."""
    while True:
        body = rng.choice("4679") + digits(rng, 8)
        check = 11 - _weighted(body, range(10, 1, -1)) % 11
        if check != 10:
            number = body + str(check % 11)
            return rng.choice([number, f"{number[:3]} {number[3:6]} {number[6:]}"])


def steuer_id(rng: random.Random) -> str:
    """A German tax id: one digit twice among the first ten, check digit by ISO 7064 MOD 11, 10."""
    while True:
        ten = rng.sample("0123456789", 9)
        ten.insert(rng.randrange(10), rng.choice(ten))
        body = "".join(ten)
        if body[0] == "0" or any(body[i] == body[i + 1] == body[i + 2] for i in range(8)):
            continue
        product = 10
        for character in body:
            total = (int(character) + product) % 10 or 10
            product = total * 2 % 11
        number = body + str((11 - product) % 10)
        return rng.choice([number, f"{number[:2]} {number[2:5]} {number[5:8]} {number[8:]}"])


def nir(rng: random.Random) -> str:
    """A French social security number (key: 97 less the number modulo 97)."""
    body = f"{rng.choice('12')}{digits(rng, 2)}{rng.randrange(1, 13):02}{rng.randrange(1, 96):02}{rng.randrange(1, 900):03}{rng.randrange(1, 999):03}"
    number = f"{body}{97 - int(body) % 97:02}"
    return rng.choice(
        [number, f"{body[0]} {body[1:3]} {body[3:5]} {body[5:7]} {body[7:10]} {body[10:]} {number[13:]}"]
    )


def bsn(rng: random.Random) -> str:
    """A Dutch citizen service number (the eleven test)."""
    while True:
        body = rng.choice("123456789") + digits(rng, 7)
        check = _weighted(body, range(9, 1, -1)) % 11
        if check != 10:
            return body + str(check)


def _birth(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(50, 100), rng.randrange(1, 13), rng.randrange(1, 29)


def pesel(rng: random.Random) -> str:
    """A Polish number, of somebody born in the last century."""
    body = "{:02}{:02}{:02}".format(*_birth(rng)) + digits(rng, 4)
    return body + str(-_weighted(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10)


def portuguese_nif(rng: random.Random) -> str:
    """A Portuguese tax number of a person."""
    body = rng.choice("12") + digits(rng, 7)
    check = 11 - _weighted(body, range(9, 1, -1)) % 11
    number = body + str(0 if check > 9 else check)
    return rng.choice([number, f"{number[:3]} {number[3:6]} {number[6:]}"])


def cpf(rng: random.Random) -> str:
    """A Brazilian number with its punctuation."""
    body = digits(rng, 9)
    for count in (9, 10):
        body += str(_weighted(body, range(count + 1, 1, -1)) * 10 % 11 % 10)
    return f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}"


def rodne_cislo(rng: random.Random) -> str:
    """A Czech or Slovak birth number: divisible by eleven."""
    while True:
        year, month, day = _birth(rng)
        body = f"{year:02}{month + rng.choice((0, 50)):02}{day:02}{digits(rng, 3)}"
        check = int(body) % 11
        if check != 10:
            return f"{body[:6]}/{body[6:]}{check}"


def personnummer(rng: random.Random) -> str:
    """A Swedish number."""
    body = "{:02}{:02}{:02}".format(*_birth(rng)) + digits(rng, 3)
    return f"{body[:6]}-{body[6:]}{luhn_digit(body)}"


IDS: dict[str, tuple[tuple[str, str, Callable[[random.Random], str]], ...]] = {  # kind, phrase, maker
    "en": (
        ("US_SSN", "my SSN is {}", lambda r: ssn(r, "")),
        ("UK_NINO", "my National Insurance number is {}", lambda r: nino(r, "")),
        ("NATIONAL_ID", "my NHS number is {}", nhs),
    ),
    "de": (("NATIONAL_ID", "meine Steuer-ID ist {}", steuer_id),),
    "fr": (("NATIONAL_ID", "mon numéro de sécurité sociale est {}", nir), ("NATIONAL_ID", "n° {}", nir)),
    "es": (("ES_NIF", "mi DNI es {}", lambda r: nif(r, "")), ("ES_NIE", "mi NIE es {}", lambda r: nie(r, ""))),
    "it": (("IT_FISCAL_CODE", "codice fiscale {}", lambda r: fiscal_code(r, "")),),
    "nl": (("NATIONAL_ID", "mijn BSN is {}", bsn),),
    "pl": (("NATIONAL_ID", "PESEL {}", pesel), ("NATIONAL_ID", "numer {}", pesel)),
    "pt": (("NATIONAL_ID", "o meu NIF é {}", portuguese_nif), ("NATIONAL_ID", "CPF {}", cpf)),
    "cs": (("NATIONAL_ID", "rodné číslo {}", rodne_cislo),),
    "sv": (("NATIONAL_ID", "personnummer {}", personnummer),),
    "fi": (("FI_PERSONAL_IDENTITY_CODE", "henkilötunnus {}", lambda r: finnish_code(r, "")),),
}  # fmt: skip

MONTHS = {
    "en": "March October", "de": "März Oktober", "fr": "mars octobre", "es": "marzo octubre", "it": "marzo ottobre", "nl": "maart oktober",
    "pl": "marca października", "pt": "março outubro", "cs": "března", "sv": "mars", "fi": "maaliskuuta",
}  # fmt: skip


def dob(rng: random.Random, language: str, half: str) -> str:
    """A date, as the language writes it."""
    day, month, year = rng.randrange(1, 29), rng.randrange(1, 13), rng.randrange(1940, 2008)
    named = rng.choice(MONTHS[language].split())
    if half == "tuning":
        forms = [f"{day:02}.{month:02}.{year}", f"{day:02}/{month:02}/{year}", f"{day} {named} {year}"]
    else:
        forms = [f"{day}.{month}.{year}", f"{year}-{month:02}-{day:02}", f"{day:02}-{month:02}-{year}"]
        forms.append(
            {
                "en": f"{named} {day}, {year}",
                "de": f"{day}. {named} {year}",
                "es": f"{day} de {named} de {year}",
                "pt": f"{day} de {named} de {year}",
            }.get(language, f"{day} {named} {year}")
        )
    return rng.choice(forms)


# -- what only looks like personal data -----------------------------------------------------------------

MODELS = {
    "tuning": (
        "Emma",
        "Chelsea",
        "Oxford",
        "Anna Maria",
        "Stan",
        "Mia",
        "Florence",
        "Jackson",
        "Sofia Lux",
        "Derby Max",
    ),
    "report": (
        "Clara",
        "Savannah",
        "Monte Carlo",
        "Lena Lou",
        "Hudson",
        "Victoria",
        "Isabel Soft",
        "Austin",
        "Bruno",
        "Marie Claire",
    ),
}
BRANDS = {
    "tuning": ("Tom Tailor", "Ted Baker", "Levi's", "Jack Wolfskin", "Massimo Dutti", "Adidas"),
    "report": (
        "Calvin Klein",
        "Hugo Boss",
        "Paul Smith",
        "Ralph Lauren",
        "Puma",
        "Karl Lagerfeld",
        "Desigual",
    ),
}


def ean(rng: random.Random, _language: str, _half: str) -> str:
    """A European article number with its check digit."""
    number = rng.choice(["40", "50", "30", "84", "80", "45", "978", "5018"])
    number += digits(rng, 12 - len(number))
    return number + str(-sum(int(c) * (3 if i % 2 else 1) for i, c in enumerate(number)) % 10)


def sku(rng: random.Random, _language: str, half: str) -> str:
    """An article number as shops make them up."""
    tuning = ("SK######", "####-###", "########", "##.###.##", "B0#######")
    report = ("AX-####-##", "#######N", "MOD###.##", "##-#####-##", "#########", "### ### ##")
    return filled(rng, rng.choice(tuning if half == "tuning" else report))


def order(rng: random.Random, _language: str, half: str) -> str:
    """An order's number."""
    tuning, report = (
        ("########", "20##-#####", "A-#######"),
        ("#########", "2026#######", "W########", "###-#######"),
    )
    return filled(rng, rng.choice(tuning if half == "tuning" else report))


def tracking(rng: random.Random, _language: str, half: str) -> str:
    """A parcel's number."""
    return filled(
        rng,
        rng.choice(("0034##############", "1Z999AA1##########"))
        if half == "tuning"
        else rng.choice(("JD0002############", "RR#########GB", "############")),
    )


def sizes(rng: random.Random, _language: str, _half: str) -> str:
    """Sizes in stock."""
    start = rng.choice([32, 34, 36, 38, 86, 104, 128])
    step = 6 if start > 80 else 2
    numbers = [str(start + step * i) for i in range(rng.randrange(3, 8))]
    return rng.choice([" ", ", ", "/", "-", " - "]).join(numbers)


def price(rng: random.Random, _language: str, half: str) -> str:
    """An amount of money."""
    tuning = (
        f"{rng.randrange(9, 999)},{digits(rng, 2)} €",
        f"${rng.randrange(9, 999)}.99",
        f"1.{digits(rng, 3)},00 €",
    )
    report = (
        f"EUR {rng.randrange(9, 999)}.{digits(rng, 2)}",
        f"£{rng.randrange(9, 999)}.50",
        f"{rng.randrange(1, 9)} {digits(rng, 3)},00 zł",
        f"{rng.randrange(99, 999)} kr",
    )
    return rng.choice(tuning if half == "tuning" else report)


def date(rng: random.Random, _language: str, _half: str) -> str:
    """A day of a purchase."""
    day, month = rng.randrange(1, 29), rng.randrange(1, 13)
    return rng.choice(
        [
            f"{day:02}.{month:02}.2026",
            f"2026-{month:02}-{day:02}",
            f"{day:02}/{month:02}/26",
            f"{day:02}.{month:02}.2026 12:30",
        ]
    )


MARKED: dict[str, tuple[str, Maker]] = {  # kind -> entity, maker
    "person": ("PERSON", person),
    "first": ("PERSON", first),
    "last": ("PERSON", last),
    "address": ("ADDRESS", address),
    "email": ("EMAIL_ADDRESS", email),
    "obfuscated": ("EMAIL_ADDRESS", obfuscated),
    "phone": ("PHONE_NUMBER", phone),
    "iban": ("IBAN_CODE", lambda rng, _language, _half: iban(rng, "")),
    "card": ("CREDIT_CARD", card),
    "ip": ("IP_ADDRESS", ip),
    "mac": ("MAC_ADDRESS", mac),
    "wallet": ("CRYPTO", lambda rng, _language, _half: wallet(rng, "")),
    "dob": ("DATE_OF_BIRTH", dob),
    "handle": ("SOCIAL_HANDLE", handle),
    "profile": ("PROFILE_URL", profile),
}
UNMARKED: dict[str, Maker] = {
    "title": title,
    "model": lambda rng, _language, half: rng.choice(MODELS[half]),
    "brand": lambda rng, _language, half: rng.choice(BRANDS[half]),
    "ean": ean,
    "sku": sku,
    "order": order,
    "tracking": tracking,
    "sizes": sizes,
    "size": lambda rng, _language, _half: rng.choice(["36", "40", "M", "L", "XL", "42", "9.5"]),
    "price": price,
    "date": date,
    "version": lambda rng, _language, _half: (
        f"{rng.randrange(9)}.{rng.randrange(20)}.{rng.randrange(9)}.{rng.randrange(99)}"
    ),
}
