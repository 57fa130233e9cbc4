"""Language identification: short texts, texts without language, and no network."""

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.adapters.language import identifier
from dataset_pipeline.config import Language

SETTINGS = Language()


def identified(text: str) -> str:
    """The language that is believed at the default confidence."""
    ((language, confidence),) = identifier(SETTINGS).identify([text])
    return language if confidence >= SETTINGS.min_confidence else "und"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("a red shirt with short sleeves", "en"),
        ("ein rotes Hemd mit kurzen Ärmeln", "de"),
        ("une chemise rouge à manches courtes", "fr"),
        ("una camisa roja de manga corta para los niños", "es"),
        ("una camicia rossa a maniche corte", "it"),
        ("uma camisa vermelha de manga curta com botões", "pt"),
        ("женская зимняя куртка с капюшоном", "ru"),
        ("赤い半袖のシャツです", "ja"),
        ("빨간색 반팔 셔츠", "ko"),
        ("这是一件红色的短袖衬衫", "zh"),
        ("قميص أحمر بأكمام قصيرة", "ar"),
        ("kısa kollu kırmızı gömlek", "tr"),
        ("κόκκινο πουκάμισο", "el"),
        ("เสื้อเชิ้ตสีแดง", "th"),
        ("חולצה אדומה", "he"),
    ],
)
def test_short_texts(text: str, language: str) -> None:
    assert identified(text) == language


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "\n", "36 38 40", "1 299,00 €", "2024-05-12", "٣٦ ٣٨", "👩\u200d👧 ❤️", "\u0301", "!?…", "___", "½ ①",
        "<EMAIL_ADDRESS> <PHONE_NUMBER>", "https://example.com/eine/deutsche/adresse", "ada.lovelace@example.com", "12_34",
    ],
)  # fmt: skip
def test_texts_without_language(text: str) -> None:
    assert identifier(SETTINGS).identify([text]) == [("und", 0.0)]


def test_placeholders_addresses_and_digits_have_no_say() -> None:
    plain = "ein rotes Hemd mit kurzen Ärmeln"
    noisy = "ein rotes Hemd <EMAIL_ADDRESS> mit 40 42 kurzen Ärmeln https://example.com/the-red-shirt the@shirt.com"
    assert identified(noisy) == identified(plain) == "de"


def test_capitals_are_read_as_small_letters() -> None:
    text = "una camisa roja de manga corta"
    assert identifier(SETTINGS).identify([text.upper()]) == identifier(SETTINGS).identify([text])
    assert identified("ЖЕНСКАЯ ЗИМНЯЯ КУРТКА С КАПЮШОНОМ") == "ru"


def test_a_long_text_is_judged_by_its_beginning() -> None:
    german, english = "ein rotes Hemd mit kurzen Ärmeln ", "a red shirt with short sleeves "
    assert identified(german * 40 + english * 100_000) == "de"


@pytest.mark.parametrize("unit", ["@", "a@", "<A", "https://"])
def test_a_megabyte_built_to_be_slow(unit: str) -> None:
    """It is answered like its beginning, which is all that is looked at: the rest costs nothing."""
    text = unit * (1_000_000 // len(unit))
    assert identifier(SETTINGS).identify([text]) == identifier(SETTINGS).identify([text[:10_000]])


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    from dataset_pipeline.adapters import language

    language._load.cache_clear()
    assert identified("a red shirt with short sleeves") == "en"


def test_order_and_number_of_answers() -> None:
    texts = ["a red shirt with short sleeves", "", "ein rotes Hemd mit kurzen Ärmeln"]
    answers = identifier(SETTINGS).identify(texts)
    assert [language for language, _ in answers] == ["en", "und", "de"]
    assert identifier(SETTINGS).identify([]) == []


@settings(deadline=None)
@given(st.text())
def test_an_answer_is_a_language_and_a_probability(text: str) -> None:
    ((language, confidence),) = identifier(SETTINGS).identify([text])
    assert (language == "und" and confidence == 0.0) or (2 <= len(language) <= 3 and language.islower())
    assert 0.0 <= confidence <= 1.0
