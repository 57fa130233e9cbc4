"""What people are reached by online, telephone numbers, and numbers that states give."""

import pytest

from dataset_pipeline.adapters import identifiers, online, phones


def found(search: object, text: str, *more: str, least: float = 0.4) -> list[str]:
    """What counts, in order of place."""
    results = {(a, b) for _, a, b, score in search(text, *more) if score >= least}  # type: ignore[operator]
    return [text[a:b] for a, b in sorted(results)]


@pytest.mark.parametrize(
    "address",
    [
        "ada@posta.example", "ada@firma.test", "ada@server.local",  # reserved endings
        "ada@kontor.berlin", "ADA.L+shop@mail.amsterdam", "o'neill@example.ie",
        "ada@bücher.de", "müller@bücher.example", "ada@例え.jp",  # international
        "ada (at) mailbox.org", "ada [at] mail [dot] net", "ada at example dot com", "ada(at)web(punkt)de",
    ],
)  # fmt: skip
def test_emails(address: str) -> None:
    assert address in found(online.search_emails, f"write to {address} now")


@pytest.mark.parametrize(
    "text",
    [
        "meet me at noon dot dot dot",
        "2 @ 5.99",
        "look at this dot",
        "T-shirt@home",
        "@media.screen",
        "size (at) your own risk",
        "a@b",
    ],
)
def test_no_emails(text: str) -> None:
    assert found(online.search_emails, text) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://www.instagram.com/ada_l", "facebook.com/ada.lovelace", "linkedin.com/in/ada-lovelace", "https://t.me/ada",
        "https://shop.example/users/ada", "https://blog.example.org/~ada", "https://mastodon.example/@ada", "wa.me/4915112345678",
    ],
)  # fmt: skip
def test_profiles(url: str) -> None:
    assert found(online.search_profiles, f"see {url}, please") == [url]


@pytest.mark.parametrize(
    "text",
    [
        "https://www.instagram.com/p/Cxyz",
        "https://facebook.com/sharer?u=1",
        "https://example.com/shoes/red",
        "https://github.com/features",
        "https://x.com/intent/post",
    ],
)
def test_links_that_are_nobodys(text: str) -> None:
    assert found(online.search_profiles, text) == []


@pytest.mark.parametrize(
    ("text", "handles"),
    [
        ("follow me @ada", ["@ada"]),
        ("insta: ada_lovelace", ["ada_lovelace"]),
        ("by @ada_lovelace", ["@ada_lovelace"]),  # a name of more than letters is somebody's
        ("@ada@mastodon.example", ["@ada@mastodon.example"]),
        ("@home, @media, @ada, 3 @ 5", []),
        ("mail ada@example.com", []),
    ],
)
def test_handles(text: str, handles: list[str]) -> None:
    assert found(online.search_handles, text) == handles


@pytest.mark.parametrize(
    ("address", "is_valid"),
    [
        ("1BoatSLRHtKNngkdXEeobR76b53LETtpyT", True),
        ("1BoatSLRHtKNngkdXEeobR76b53LETtpyU", False),  # one letter further
        ("DH5yaieqoZN36fDVciNyRueRGvGLR3mr7L", True),  # Dogecoin
        ("0x52908400098527886E0F7030069857D2E4169EE7", True),
        ("0x529084000985278", False),
    ],
)
def test_wallets(address: str, is_valid: bool) -> None:
    assert found(online.search_wallets, f"to {address}.") == ([address] if is_valid else [])


@pytest.mark.parametrize(
    ("language", "text", "number"),
    [
        ("pl", "PESEL 44051401359", "44051401359"),
        ("pl", "numer 44051401359", "44051401359"),  # a date and a check digit, in its country's language
        ("en", "numer 44051401359", None),  # in another it may be anything
        ("en", "PESEL 44051401359", "44051401359"),  # but with a word for it
        ("pl", "PESEL 44051401358", None),  # the wrong check digit
        ("nl", "mijn BSN is 111222333", "111222333"),
        ("nl", "bestelling 111222333", None),
        ("de", "Steuer-ID 36 574 261 809", "36 574 261 809"),
        ("fr", "n° de sécurité sociale 2 95 10 99 126 111 93", "2 95 10 99 126 111 93"),
        ("pt", "CPF 390.533.447-05", "390.533.447-05"),
        ("cs", "rodné číslo 710319/2745", "710319/2745"),
        ("sv", "880320-0016", "880320-0016"),
        ("en", "NHS number 943 476 5870", "943 476 5870"),
        ("de", "AHV 756.9217.0769.85", "756.9217.0769.85"),
        ("zh", "身份证 360426199101010071", "360426199101010071"),
        ("en", "EAN 4006381333931, order 20231234567", None),
    ],
)
def test_national_ids(language: str, text: str, number: str | None) -> None:
    assert found(identifiers.search, text, language) == ([number] if number else [])


@pytest.mark.parametrize(
    ("language", "text", "numbers"),
    [
        ("en", "order 212-555-0182", []),  # a shop's number
        ("fr", "commande 0612345678", []),
        ("en", "$212 555 0182", []),
        ("es", "Llámame al 612345678", ["612345678"]),
        ("de", "0171 1234567 0171 7654321", ["0171 1234567", "0171 7654321"]),  # side by side
        ("sk", "0905 123 456", ["0905 123 456"]),
    ],
)
def test_phones_and_numbers_of_shops(language: str, text: str, numbers: list[str]) -> None:
    assert found(phones.search, text, language) == numbers
