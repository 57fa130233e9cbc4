"""What people are reached by online: e-mail addresses, profiles, handles and wallets.

Belongs here: forms that are the same in every language. Does not belong here: addresses of machines, which
Presidio checks (``presidio.py``). Every expression is bounded, so that its time is linear in the length of the text.
"""

import functools
import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final

from dataset_pipeline.adapters.beginnings import beginnings, beginnings_of

Found = tuple[str, int, int, float]

# -- e-mail -------------------------------------------------------------------------------------------

# Latin, Greek and Cyrillic letters: others follow an address without a space, and must not be taken in.
_LETTER: Final = "A-Za-z0-9\u00c0-\u024f\u0370-\u052f"
_LOCAL: Final = rf"[{_LETTER}_](?:[{_LETTER}_.!#$%&'*+/=?^`{{|}}~-]{{0,62}}[{_LETTER}_+=-])?"
_ASCII_HOST: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ANY_HOST: Final = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_AT: Final = "at|ät|arroba|arobase|chiocciola|małpa|malpa|apenstaartje|snabel-?a"
_DOT: Final = "dot|punkt|point|punto|ponto|kropka|punt|prick"
_WORD: Final = r"[A-Za-z0-9][A-Za-z0-9_+-]{0,30}"

_PLAIN_EMAIL = re.compile(
    rf"(?<![{_LETTER}_.+-]){_LOCAL}@(?:{_ASCII_HOST}\.){{1,6}}(?P<tld>[A-Za-z][A-Za-z0-9-]{{1,22}}[A-Za-z0-9]|[A-Za-z]{{2}})(?![A-Za-z0-9])"
)
_INTERNATIONAL_EMAIL = re.compile(
    rf"(?<![{_LETTER}_.+-])(?:{_LOCAL}|[\w.]{{1,32}})@(?:{_ANY_HOST}\.){{1,6}}(?P<tld>[^\W\d_]{{2,24}})(?![\w])"
)
# "ada (at) example.com", "ada [at] example [dot] com", "ada at example dot com": words alone need both of them.
_BRACKETED_EMAIL = re.compile(
    rf"(?<![\w.+-]){_WORD}(?:(?:\.|\s?[\[({{<]\s?(?:{_DOT}|\.)\s?[\])}}>]\s?|\s(?:{_DOT})\s){_WORD}){{0,4}}\s?[\[({{<]\s?(?:{_AT}|@)\s?[\])}}>]\s?"
    rf"{_WORD}(?:(?:\.|\s?[\[({{<]\s?(?:{_DOT}|\.)\s?[\])}}>]\s?|\s(?:{_DOT})\s){_WORD}){{0,4}}"
    rf"(?:\.|\s?[\[({{<]\s?(?:{_DOT}|\.)\s?[\])}}>]\s?|\s(?:{_DOT})\s)(?P<tld>[A-Za-z]{{2,12}})(?![\w])",
    re.IGNORECASE,
)
_SPOKEN_EMAIL = re.compile(
    rf"(?<![\w.+-]){_WORD}(?:(?:\.|\s(?:{_DOT})\s){_WORD}){{0,4}}\s(?:{_AT})\s{_WORD}(?:(?:\.|\s(?:{_DOT})\s){_WORD}){{0,3}}\s(?:{_DOT})\s(?P<tld>[A-Za-z]{{2,12}})(?![\w])",
    re.IGNORECASE,
)
# RFC 2606, RFC 6762, RFC 7686 and the names of private networks: no public suffix, but someone's address.
_RESERVED_NAMES: Final = """
example test invalid localhost local internal intranet lan corp home onion
"""
_RESERVED: Final = frozenset(_RESERVED_NAMES.split())
_DOT_DOT = re.compile(rf"(?:{_DOT})\s(?:{_DOT})(?!\w)", re.IGNORECASE)
_AT_WORDS = beginnings_of(_AT, are_whole=True)


@functools.lru_cache(maxsize=1)
def _suffixes() -> Any:
    """Public suffixes, from the list that ships with tldextract instead of a download."""
    import tldextract

    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


@functools.lru_cache(maxsize=1024)
def _is_known(tld: str) -> bool:
    return tld.lower() in _RESERVED or bool(_suffixes()(f"a.{tld}").suffix)


def search_emails(text: str) -> Iterator[Found]:
    """EMAIL_ADDRESS, also international ones (RFC 6531) and those written for people alone."""
    if "@" in text:
        for match in _PLAIN_EMAIL.finditer(text):
            # An ending that nobody knows is mostly code; a list of endings is never complete.
            score = 1.0 if _is_known(match["tld"]) else 0.5 if match["tld"].isalpha() else 0.1
            yield "EMAIL_ADDRESS", match.start(), match.end(), score
        if not text.isascii():
            for match in _INTERNATIONAL_EMAIL.finditer(text):
                if _is_known(match["tld"]):
                    yield "EMAIL_ADDRESS", match.start(), match.end(), 0.9
    if not beginnings(text).isdisjoint(_AT_WORDS) or "(@" in text or "[@" in text:
        for match in _BRACKETED_EMAIL.finditer(text):
            if _is_known(match["tld"]):
                yield "EMAIL_ADDRESS", match.start(), match.end(), 0.8
        for match in _SPOKEN_EMAIL.finditer(text):
            if _is_known(match["tld"]) and not _DOT_DOT.search(match[0]):
                yield "EMAIL_ADDRESS", match.start(), match.end(), 0.75


# -- profiles and handles -------------------------------------------------------------------------------

_USER: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,38}[A-Za-z0-9_])?"
_PROFILE = re.compile(
    r"(?<![\w@.-])(?:https?://)?(?:[a-z]{1,6}\.)?(?:"
    rf"(?:facebook|fb)\.com/(?:profile\.php\?id=\d{{5,20}}|people/[^\s/]{{1,60}}/\d{{5,20}}|(?!sharer|groups|events|pages|watch|marketplace|hashtag|tr\b|help|policies|dialog|login|plugins|photo|story|permalink|people|profile\.php){_USER})"
    rf"|instagram\.com/(?!p/|reel|explore|stories/highlights|tv/|accounts|about|legal|developer){_USER}"
    rf"|(?:twitter|x)\.com/(?!intent|share|hashtag|search|i/|home|login|privacy|tos|explore|settings){_USER}"
    rf"|tiktok\.com/@{_USER}|youtube\.com/(?:@|user/|c/){_USER}|snapchat\.com/add/{_USER}|threads\.(?:net|com)/@{_USER}"
    r"|linkedin\.com/(?:in|pub)/[^\s/?#<>\"']{2,80}"
    rf"|(?:github|gitlab)\.com/(?!features|pricing|about|login|explore|marketplace|sponsors|topics|orgs|search|collections){_USER}(?![\w.-]|/\w)"
    rf"|t\.me/(?!s/|share|joinchat|\+){_USER}|wa\.me/\+?\d{{6,15}}|whatsapp\.com/send\?phone=\+?\d{{6,15}}|paypal\.me/{_USER}"
    rf"|pinterest\.[a-z.]{{2,6}}/(?!pin/|search|ideas){_USER}|vk\.com/(?!wall|photo|video|club|public){_USER}|reddit\.com/(?:u|user)/{_USER}|medium\.com/@{_USER}"
    rf"|bsky\.app/profile/[A-Za-z0-9.-]{{3,60}}|soundcloud\.com/(?!discover|search|charts){_USER}|vinted\.[a-z.]{{2,6}}/member/[\w-]{{1,60}}|ebay\.[a-z.]{{2,6}}/usr/[\w.-]{{1,60}}"
    r")/?",
    re.IGNORECASE,
)
# Paths that say so, on any host: home pages of users, members, profiles; Mastodon's "/@name".
_PERSONAL_PATH = re.compile(
    r"(?:https?://|www\.)[\w.-]{3,80}(?::\d{1,5})?(?:/[\w.-]{1,40}){0,3}?/(?:~|@|(?:users?|u|profiles?|profil|perfil|profilo|members?|membre|miembro|people|person|author|"
    r"autor|mitglied|nutzer|benutzer|usuario|utente|gebruiker)/)(?!(?:me|login|register|new|edit|settings|all|list|search|index)\b)[\w.%+-]{2,60}",
    re.IGNORECASE,
)
_LINK = re.compile(r"\.(?:com|net|me|app|social)/|://|www\.", re.IGNORECASE)


def search_profiles(text: str) -> Iterator[Found]:
    """PROFILE_URL: links to one person's page, with or without a scheme."""
    if not _LINK.search(text):
        return
    for pattern, score in ((_PROFILE, 0.95), (_PERSONAL_PATH, 0.92)):
        for match in pattern.finditer(text):
            value = match[0].rstrip(".,;:!?")
            yield "PROFILE_URL", match.start(), match.start() + len(value), score


_PLATFORMS: Final = (
    r"insta(?:gram)?|ig|twitter|tiktok|tik tok|snap(?:chat)?|telegram|discord|skype|threads|mastodon|bluesky|bsky|signal|wechat|weixin|"
    r"微信|line id|kakao(?:talk)?|카톡|pinterest|twitch|youtube|vinted|depop|ebay|followe?|follow me|follow us|find me|dm|pm|tag me|message me|"
    r"folgt? (?:mir|uns)|schreib(?:t)? mir|suivez|retrouvez|sígueme|seguidme|síguenos|seguimi|seguiteci|volg|obserwuj|segue|segue-me|siga|följ|handle|username|"
    r"benutzername|pseudo|usuario|nick(?:name)?|インスタ|ツイッター"
)
_HANDLE = re.compile(
    r"(?<![\w@./:+-])@(?P<name>[A-Za-z0-9_](?:[A-Za-z0-9_.]{0,28}[A-Za-z0-9_])?)(?![\w@]|-\w|\.\w)"
)
_FEDERATED = re.compile(
    rf"(?<![\w@./:+-])@[A-Za-z0-9_.-]{{1,30}}@(?:{_ASCII_HOST}\.){{1,4}}[A-Za-z]{{2,24}}(?![\w])"
)
_NAMED_HANDLE = re.compile(
    rf"(?<![\w])(?:{_PLATFORMS})(?:[ -]?(?:name|handle|account|konto|id|user|nick))?\s?[:=]\s?@?(?P<name>[A-Za-z0-9_](?:[A-Za-z0-9_.#-]{{1,30}}[A-Za-z0-9_])?)(?![\w@/])",
    re.IGNORECASE,
)
_PLATFORM_BEFORE = re.compile(rf"(?<![\w])(?:{_PLATFORMS})(?![^\W_])", re.IGNORECASE)
_CODE_WORDS: Final = """
media import override param return returns charset font-face keyframes supports page layer test todo
author deprecated property staticmethod classmethod dataclass app home work here all everyone channel
"""
_CODE: Final = frozenset(_CODE_WORDS.split())


def search_handles(text: str) -> Iterator[Found]:
    """SOCIAL_HANDLE: "@name", surer near a platform's name; "insta: name"."""
    if "@" in text:
        for match in _FEDERATED.finditer(text):
            yield "SOCIAL_HANDLE", match.start(), match.end(), 0.95
        for match in _HANDLE.finditer(text):
            name = match["name"]
            if _PLATFORM_BEFORE.search(text, max(0, match.start() - 50), match.start()):
                score = 0.8
            elif name.lower() in _CODE or name.isdigit():
                score = 0.1
            else:
                # "@ada": a shop's sign for "at", or code; a name of more than letters is somebody's.
                score = 0.5 if len(name) > 4 and re.search(r"[\d_.]", name) else 0.3
            yield "SOCIAL_HANDLE", match.start(), match.end(), score
    if ":" in text or "=" in text:
        for match in _NAMED_HANDLE.finditer(text):
            if not match["name"].isdigit() and len(match["name"]) > 2:
                start = match.start("name")
                yield "SOCIAL_HANDLE", start - (text[start - 1] == "@"), match.end("name"), 0.7


# -- wallets ---------------------------------------------------------------------------------------------

_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# Version bytes of coins whose addresses end in four bytes of a double SHA-256: Bitcoin, Litecoin, Dogecoin, Dash, Tron, Zcash.
_VERSIONS: Final = frozenset(
    {b"\x00", b"\x05", b"\x30", b"\x32", b"\x1e", b"\x16", b"\x4c", b"\x10", b"\x41", b"\x1c"}
)
_CHECKED = re.compile(rf"(?<![\w])[13LMDXT9At][{_BASE58}]{{25,35}}(?![\w])")
_HEX_WALLET = re.compile(r"(?<![\w])0x[0-9a-fA-F]{40}(?![\w])")


def search_wallets(text: str) -> Iterator[Found]:
    """CRYPTO: addresses with a Base58Check checksum, and Ethereum's, whose form is checksum enough.

    Bitcoin's newer ones (Bech32) are Presidio's.
    """
    for match in _CHECKED.finditer(text):
        if _is_base58_checked(match[0]):
            yield "CRYPTO", match.start(), match.end(), 1.0
    if "0x" in text:
        for match in _HEX_WALLET.finditer(text):
            yield "CRYPTO", match.start(), match.end(), 0.9


def _is_base58_checked(value: str) -> bool:
    number = 0
    for character in value:
        number = number * 58 + _BASE58.index(character)
    ones = len(value) - len(value.lstrip("1"))
    data = b"\0" * ones + number.to_bytes((number.bit_length() + 7) // 8, "big")
    if len(data) not in (25, 26) or (data[:1] not in _VERSIONS):
        return False
    return hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()[:4] == data[-4:]
