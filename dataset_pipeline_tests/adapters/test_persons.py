"""Names, addresses and dates of birth by rules."""

import pytest

from dataset_pipeline.adapters import persons


def names(text: str, language: str = "en", least: float = 0.4) -> list[str]:
    """What counts as a name, each once, the longest first."""
    found = {text[a:b] for _, a, b, score in persons.search_names(text, language) if score >= least}
    return sorted(found, key=lambda name: (-len(name), name))


@pytest.mark.parametrize(
    ("language", "text", "name"),
    [
        ("en", "Mr. Babbage called", "Babbage"),  # by title, and without it
        ("de", "Frau Dr. von der Heide war da", "von der Heide"),
        ("fr", "demandez Mme de La Tour", "de La Tour"),
        ("es", "la señora Castaño", "Castaño"),
        ("it", "il Sig. D'Angelo", "D'Angelo"),
        ("nl", "mevrouw van den Berg", "van den Berg"),
        ("pl", "pani Kamińska", "Kamińska"),
        ("pt", "a senhora Madalena", "Madalena"),
        ("en", "my name is Xylo Quarx and", "Xylo Quarx"),  # by phrase, in no list
        ("en", "Thanks,\nNgozi", "Ngozi"),
        ("de", "Mit freundlichen Grüßen\nUwe Seidel", "Uwe Seidel"),
        ("fr", "je m'appelle Gaël Haddad.", "Gaël Haddad"),
        ("en", "Dear Hannah, your parcel", "Hannah"),
        ("en", "yesterday Ada Lovelace bought one", "Ada Lovelace"),  # by lists
        ("es", "la compró José García López ayer", "José García López"),
        ("pl", "wczoraj kupiła ją u nas Anna Kowalska", "Anna Kowalska"),
    ],
)
def test_names(language: str, text: str, name: str) -> None:
    assert names(text, language)[:1] == [name]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Stan Smith sneakers, white"),  # beside a word of the trade
        ("de", "Kleid Anna Maria in Roségold"),
        ("fr", "la robe Emma Rose arrive au genou"),
        ("en", "I ordered the Anna Maria in size 40"),  # after an article, before a size
        ("en", "Dear Customer, your order"),
        ("de", "Sehr geehrte Damen und Herren"),
        ("en", "Dr. Martens boots"),
        ("en", "I took a M. Arrived after three days"),  # a size, no "monsieur"
        ("en", "Rose Gold Ring, Summer Sale, Long Sleeve"),
        ("en", "grinning face with big eyes"),
    ],
)
def test_what_only_looks_like_a_name(language: str, text: str) -> None:
    assert names(text, language) == []


@pytest.mark.parametrize(
    "address",
    [
        "17 Elm Grove, Manchester, M14 6FT",
        "1600 Sunset Boulevard, Los Angeles, CA 90028",
        "Flat 3, 88 King's Road, London SW3 5UZ",
        "PO Box 412, Portland, OR 97201",
        "Bahnhofstraße 12, 50667 Köln",
        "Am Markt 4, 04109 Leipzig",
        "12 rue de la République, 69002 Lyon",
        "C/ Gran Vía 5, 2º B, 48001 Bilbao",
        "Via Roma 12, 20121 Milano",
        "Prinsengracht 112, 1017 GC Amsterdam",
        "ul. Kwiatowa 7/33, 30-001 Kraków",
        "Rua Augusta 48, 1100-048 Lisboa",
        "Dlouhá 12/3, 110 00 Praha",
        "Storgatan 32, 111 22 Stockholm",
        "Mannerheimintie 12, 00100 Helsinki",
        "〒100-0001 東京都千代田区千代田1-1",
        "北京市海淀区中关村大街27号",
        "서울특별시 강남구 테헤란로 152",
    ],
)
def test_addresses(address: str) -> None:
    text = f"x: {address}"
    assert any(text[a:b] == address for _, a, b, _ in persons.search_addresses(text)), [
        text[a:b] for _, a, b, _ in persons.search_addresses(text)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "45 x 52 x 80 cm", "Sizes 36 38 40, made in Portugal", "delivery in 5-7 days", "2 for 1 in Summer", "100% Cotton, Style 1234",
        "Route 66 print", "via DHL 24 hours", "5 Stars", "The Street style look of 2026", "Ring 12 mm, Gold 585",
    ],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    assert list(persons.search_addresses(text)) == []


def test_the_line_before_an_address_is_a_name() -> None:
    text = "Regards from nobody\nXylo Babbage, 17 Elm Grove, Manchester, M14 6FT"
    start = text.index("17")
    assert [text[a:b] for _, a, b, _ in persons.search_addressees(text, start)] == ["Xylo Babbage"]


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("Date of birth: 12/03/1985", "12/03/1985"),
        ("geboren am 3. März 1985 in Ulm", "3. März 1985"),
        ("née le 3 mars 1985", "3 mars 1985"),
        ("Nacida el 3 de marzo de 1985", "3 de marzo de 1985"),
        ("DOB March 3, 1985", "March 3, 1985"),
        ("生年月日 1985年3月12日", "1985年3月12日"),
        ("データ 1985年3月12日", None),
        ("Delivered on 12/03/2026", None),
        ("born to run, since 1985", None),
    ],
)
def test_births(text: str, date: str | None) -> None:
    assert [text[a:b] for _, a, b, _ in persons.search_births(text)] == ([date] if date else [])
