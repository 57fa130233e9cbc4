"""Masks, hashes and made-up values."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.config import PersonalDataAction, PersonalDataEntity, Pii
from dataset_pipeline.stages.pii import PLACEHOLDER_PATTERN, Finding, redact
from dataset_pipeline.stages.surrogates import hashed, masked, surrogate

SECRET, OTHER = b"0123456789abcdef", b"fedcba9876543210"


def replaced(
    entity: PersonalDataEntity, action: PersonalDataAction, value: str, secret: bytes | None = SECRET
) -> str:
    pii = Pii(actions={entity: action}, key={"environment": "X"})  # type: ignore[arg-type]
    text = f"a {value} b"
    return redact(text, [Finding(entity, 2, 2 + len(value), 1.0)], pii, "en", secret)[2:-2]


def test_a_hash_depends_on_the_value_and_the_secret_alone() -> None:
    first = replaced("EMAIL_ADDRESS", "hash", "ada@example.com")
    assert re.fullmatch(r"<EMAIL_ADDRESS:[0-9a-f]{16}>", first)
    assert re.fullmatch(PLACEHOLDER_PATTERN, first)
    assert first == replaced("EMAIL_ADDRESS", "hash", "Ada@Example.com")  # another way of writing it
    assert first != replaced("EMAIL_ADDRESS", "hash", "ada@example.com", OTHER)
    assert first != replaced("EMAIL_ADDRESS", "hash", "bob@example.com")
    assert hashed("PHONE_NUMBER", "+44 20 7946 0958", SECRET) == hashed(
        "PHONE_NUMBER", "+44-20-79460958", SECRET
    )
    # As openssl dgst -sha256 -hmac computes it.
    assert hashed("URL", "x", SECRET) == "e42595770285554b"


def test_an_action_that_needs_a_secret_stops_without_one() -> None:
    with pytest.raises(ValueError, match="'hash' of URL needs a key"):
        replaced("URL", "hash", "x.org", None)


def test_a_mask_keeps_the_form_and_nothing_else() -> None:
    assert masked("Ada-1@x.org") == "***-*@*.***"
    assert replaced("EMAIL_ADDRESS", "mask", "ada@x.org") == "***@*.***"


@pytest.mark.parametrize(
    ("entity", "value", "form"),
    [
        ("EMAIL_ADDRESS", "ada@web.de", r"[a-z0-9]+@example\.com"),
        ("PHONE_NUMBER", "(212) 736-5000", r"\([2-9]\d\d\) 555-01\d\d"),
        ("PHONE_NUMBER", "+49 171 1234567", r"\+49 17\d \d{7}"),
        ("CREDIT_CARD", "4111-1111-1111-1111", r"4000-00\d\d-\d{4}-\d{4}"),
        ("IBAN_CODE", "DE89 3704 0044 0532 0130 00", r"DE\d\d 0000 0000 \d{4} \d{4} \d\d"),
        ("IP_ADDRESS", "8.8.8.8", r"192\.0\.2\.\d+"),
        ("IP_ADDRESS", "2a00:1450::1:2", r"2001:db8::[0-9a-f]+:[0-9a-f]+"),
        ("MAC_ADDRESS", "00:1A:2B:3C:4D:5E", r"02(:[0-9a-f]{2}){5}"),
        ("PERSON", "Ada Lovelace", r"[A-Z]\S+ [A-Z]\S+"),
        ("PERSON", "Ada", r"\S+"),
        ("DATE_OF_BIRTH", "12 March 1985", r"\d\d March (19|20)\d\d"),
        ("NATIONAL_ID", "44051401359", r"\d{11}"),
        ("UK_NINO", "AB 12 34 56 C", r"[A-Z]{2} \d\d \d\d \d\d [A-Z]"),
        ("SOCIAL_HANDLE", "@ada", r"@[a-z0-9]+"),
        ("PROFILE_URL", "t.me/ada", r"https://example\.com/[a-z0-9]+"),
        ("ADDRESS", "17 Elm Grove, Leeds", r".*\d.*"),
        ("CRYPTO", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "<CRYPTO>"),  # a made-up one would lead money astray
    ],
)  # fmt: skip
def test_a_surrogate_has_the_form_of_its_kind(entity: PersonalDataEntity, value: str, form: str) -> None:
    made = replaced(entity, "surrogate", value)
    assert re.fullmatch(form, made), made
    assert made == replaced(entity, "surrogate", value)
    if entity != "CRYPTO":
        assert made != value
        others = {surrogate(entity, value, "en", bytes([n] * 16)) for n in range(20)}
        assert len(others) > 5  # the secret decides


def test_check_digits_of_made_up_numbers_are_right() -> None:
    from stdnum import iban, luhn

    for number in range(20):
        secret = bytes([number] * 16)
        assert luhn.is_valid(str(surrogate("CREDIT_CARD", "378282246310005", "en", secret)))
        assert iban.is_valid(
            str(surrogate("IBAN_CODE", "DE89 3704 0044 0532 0130 00", "en", secret)), check_country=False
        )


def test_names_are_of_the_language() -> None:
    assert re.fullmatch(r"[\u4e00-\u9fff\u3040-\u30ff]+", str(surrogate("PERSON", "山田太郎", "ja", SECRET)))
    assert surrogate("PERSON", "Ada Lovelace", "de-AT", SECRET) == surrogate(
        "PERSON", "Ada Lovelace", "de", SECRET
    )


@settings(deadline=None, max_examples=50)
@given(
    entity=st.sampled_from(
        [
            "PHONE_NUMBER",
            "CREDIT_CARD",
            "IBAN_CODE",
            "IP_ADDRESS",
            "MAC_ADDRESS",
            "NATIONAL_ID",
            "DATE_OF_BIRTH",
            "PERSON",
            "ADDRESS",
        ]
    ),
    value=st.text(min_size=1, max_size=30),
)
def test_any_value_has_a_replacement(entity: PersonalDataEntity, value: str) -> None:
    # What a model calls a card or an IBAN need not look like one.
    assert isinstance(surrogate(entity, value, "en", SECRET), str)
