"""Texts as they are released: normalised, with a language, without personal data.

Belongs here: what happens to one text, whoever's it is. Does not belong here: which items are kept
(``clean.py``), models (``adapters``), and what personal data is (``pii.py``).

Every rule is linear in the length of the text, and the rules are repeated until nothing changes, so
that normalising a normalised text changes nothing: an entity may hide a tag, an invisible character
may split one, and a compatibility form may unfold into either.
"""

import functools
import html
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import polars as pl

from dataset_pipeline.config import Clean, CleanTexts, Pii, TextRule
from dataset_pipeline.stages.language import UNDETERMINED, Doubt, LanguageIdentifier, doubt, letters
from dataset_pipeline.stages.pii import Finding, PersonalDataFinder, excerpts, redact, resolve
from dataset_pipeline.tables import TEXTS

MOJIBAKE: Final[TextRule] = "mojibake"
HTML: Final[TextRule] = "html"
CONTROL_CHARACTERS: Final[TextRule] = "control_characters"
UNICODE_FORM: Final[TextRule] = "unicode_form"
WHITESPACE: Final[TextRule] = "whitespace"
REPEATED_CHARACTERS: Final[TextRule] = "repeated_characters"
BOILERPLATE: Final = "boilerplate"
TOO_LONG: Final = "too_long"
PERSONAL_DATA: Final = "personal_data"

RULES: Final = {
    MOJIBAKE: "text decoded with the wrong encoding was decoded anew",
    HTML: "tags and comments were removed, character references resolved",
    CONTROL_CHARACTERS: "control, zero-width and bidirectional characters were removed",
    UNICODE_FORM: "characters were composed to clean.texts.unicode_form",
    WHITESPACE: "white space was collapsed",
    REPEATED_CHARACTERS: "a long run of one letter or sign was cut to three",
    TOO_LONG: "the text was emptied: it is longer than clean.texts.max_chars",
    PERSONAL_DATA: "personal data was replaced by placeholders",
    BOILERPLATE: "a passage that many texts share was taken out",
}
"""Names that ``TEXTS.changes`` may hold, in the order in which the rules apply."""

_MAX_ROUNDS: Final = 8
_MARKUP_FACTOR: Final = 10
"""A raw text may be this many times longer than ``max_chars``: markup may take most of it."""

# Printable ASCII without markup, single-spaced: no rule has anything to do. Most texts are like this.
_PLAIN = re.compile(r"[!-%'-;=?-~]+(?: [!-%'-;=?-~]+)*")
_MARKUP_CHARACTERS = re.compile("[&<>]+")


def normalise(text: str, settings: CleanTexts) -> tuple[str, list[str]]:
    """``text`` without the traces of how it was stored, and the names of the rules that changed it.

    Rules, in order: mojibake (by ftfy: Speer 2019, doi:10.5281/zenodo.2591652), HTML tags and
    character references, control and invisible characters, Unicode normalisation form (UAX #15), white
    space: one space, or one line break where there was any, and runs of one letter or sign. Joiners stay where the
    script or an emoji needs them (UAX #31 section 2.3, UTS #51). Idempotent; linear in the length of ``text``.
    """
    if _PLAIN.fullmatch(text) and not _run_of(settings.max_repeats).search(text):
        return text, []
    every: tuple[tuple[TextRule, Callable[[str], str]], ...] = (
        (MOJIBAKE, _without_mojibake),
        (HTML, _without_html),
        (CONTROL_CHARACTERS, _without_control_characters),
        (UNICODE_FORM, functools.partial(_in_form, form=settings.unicode_form)),
        (WHITESPACE, _with_single_spaces),
    )
    rules = [(name, rule) for name, rule in every if name in settings.rules]
    whole = _without_surrogates(text)  # whatever the rules: half a character cannot be written to a file
    text, changes = _settled(rules, whole, set() if whole == text else {MOJIBAKE})
    # Runs come last, when no markup is left that a cut could break.
    while (
        REPEATED_CHARACTERS in settings.rules and (cut := _without_runs(text, settings.max_repeats)) != text
    ):
        text, changes = _settled(rules, cut, {*changes, REPEATED_CHARACTERS})
    return text, [name for name in RULES if name in changes]


def _settled(
    rules: Sequence[tuple[str, Callable[[str], str]]], text: str, changes: set[str]
) -> tuple[str, set[str]]:
    """Text that the ``rules`` change no more, and the changes to it."""
    text, changes, is_stable = _repeat(rules, text, changes)
    for _ in range(_MAX_ROUNDS):
        if is_stable:
            break
        # Built to survive: references nested in references. Without their characters nothing is left
        # that a round could resolve further.
        text, changes, is_stable = _repeat(rules, _MARKUP_CHARACTERS.sub(" ", text), {*changes, HTML})
    return text, changes


def _repeat(
    rules: Sequence[tuple[str, Callable[[str], str]]], text: str, changes: set[str]
) -> tuple[str, set[str], bool]:
    """Apply ``rules`` until nothing changes: the text, the changes, and whether it came to rest."""
    for _ in range(_MAX_ROUNDS):
        before = text
        for name, rule in rules:
            changed = rule(text)
            if changed != text:
                changes.add(name)
                text = changed
        if text == before:
            return text, changes, True
    return text, changes, False


# -- mojibake ------------------------------------------------------------------------------

_SURROGATE = re.compile("[\ud800-\udfff]")


def _without_surrogates(text: str) -> str:
    """Surrogates become the characters that they are halves of, or U+FFFD."""
    if _SURROGATE.search(text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _without_mojibake(text: str) -> str:
    """UTF-8 read as another encoding is read as UTF-8."""
    if text.isascii():
        return text
    import ftfy

    return str(ftfy.fix_text(text, _ftfy_settings()))


@functools.lru_cache(maxsize=1)
def _ftfy_settings() -> Any:
    """Repair of encodings alone: quotes, ligatures and widths are the author's."""
    import ftfy

    return ftfy.TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_encoding=True,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
        max_decode_length=sys.maxsize,
        explain=False,
    )


# -- HTML ----------------------------------------------------------------------------------

# Only elements that exist: "<3", "a < b" and the placeholder "<PERSON>" are not markup.
_BLOCKS = (
    "address article aside blockquote body br caption center dd details div dl dt fieldset figcaption "
    "figure footer form h1 h2 h3 h4 h5 h6 head header hr html li main nav ol option p pre section select "
    "summary table tbody td tfoot th thead title tr ul"
)
_INLINES = (
    "a abbr acronym audio b base bdi bdo big button canvas cite code col colgroup data datalist del dfn em "
    "embed font i iframe img input ins kbd label legend link map mark meta meter noscript object output "
    "param picture progress q rp rt ruby s samp script small source span strike strong style sub sup svg "
    "template textarea time track tt u var video wbr"
)


def _any_of(names: str) -> str:
    return "|".join(sorted(names.split(), key=len, reverse=True))


_BLOCK_TAG = re.compile(rf"</?(?:{_any_of(_BLOCKS)})(?=[\s/>])[^<>]*>", re.IGNORECASE)
_INLINE_TAG = re.compile(rf"</?(?:{_any_of(_INLINES)})(?=[\s/>])[^<>]*>", re.IGNORECASE)
_DECLARATION = re.compile(r"<!doctype\b[^<>]*>|<\?xml\b[^<>]*>", re.IGNORECASE)
_OPENING = re.compile(r"<!--|<(?:script|style)(?=[\s/>])[^<>]*>", re.IGNORECASE)
_CLOSING = {
    "<!-": re.compile("-->"),
    "<sc": re.compile(r"</script\s*>", re.IGNORECASE),
    "<st": re.compile(r"</style\s*>", re.IGNORECASE),
}
_ESCAPED_AMPERSAND = re.compile(r"&(?:amp;|#0{0,5}38;|#[xX]0{0,5}26;)+")
# With the semicolon only: "R&D", "?a=1&copy=2" and "fish&chips" are not references.
_REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def _without_html(text: str) -> str:
    """Text that a browser would show of HTML; text that is no HTML stays as it is."""
    if "<" in text:
        text = "".join(_outside_hidden_parts(text))
        text = _DECLARATION.sub("", text)
        text = _BLOCK_TAG.sub("\n", text)
        text = _INLINE_TAG.sub("", text)
    if "&" in text and ";" in text:
        text = _ESCAPED_AMPERSAND.sub("&", text)
        text = _REFERENCE.sub(lambda match: html.unescape(match[0]), text)
    return text


def _outside_hidden_parts(text: str) -> Iterator[str]:
    """Parts of ``text`` that are in no comment, script or style sheet; one never closed hides nothing."""
    start, position, never_closed = 0, 0, set[str]()
    while opening := _OPENING.search(text, position):
        position = opening.end()
        kind = opening[0][:3].lower()
        if kind in never_closed:
            continue
        closing = _CLOSING[kind].search(text, position)
        if closing is None:
            never_closed.add(kind)  # not searched for again: thousands of openings stay linear
            continue
        yield text[start : opening.start()]
        start = position = closing.end()
    yield text[start:]


# -- control and invisible characters --------------------------------------------------------

_NONCHARACTERS = "".join(
    f"{chr(plane * 0x10000 + 0xFFFE)}{chr(plane * 0x10000 + 0xFFFF)}" for plane in range(17)
)
# Line breaks of all kinds (\t\n\v\f\r, U+0085, U+2028, U+2029) are left to the white space rule.
_UNSEEN = re.compile(
    # The flags of England, Scotland and Wales are spelled in tag characters; those stay, as a whole.
    "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"
    "|[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e"
    f"\u2060-\u206f\u3164\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffc\U000e0000-\U000e0fff{_NONCHARACTERS}]"
)
_ZWNJ, _ZWJ, _VS16 = "\u200c", "\u200d", "\ufe0f"


def _without_control_characters(text: str) -> str:
    """Text without characters that show nothing, except where they change how their neighbours look.

    Also takes out what such characters are abused for: reversed file names (bidirectional overrides)
    and messages hidden in tag characters and variation selectors.
    """
    return _UNSEEN.sub(_seen, text)


def _seen(match: re.Match[str]) -> str:
    """What stays of one invisible character: itself, or nothing."""
    found = match[0]
    if len(found) > 1:
        return found  # a flag
    before = match.string[match.start() - 1] if match.start() else ""
    after = match.string[match.end() : match.end() + 1]
    if not before:
        return ""
    if found == _ZWJ:
        is_needed = _joins(before) or (_is_pictograph(before) and _is_pictograph(after))
    elif found == _ZWNJ:
        is_needed = _joins(before) and _joins(after)
    elif "\ufe00" <= found <= "\ufe0f":
        # One only: bytes can be hidden in a row of them.
        is_needed = (
            before in "#*0123456789" or (before != _VS16 and _is_pictograph(before)) or _is_cjk(before)
        )
    elif "\U000e0100" <= found <= "\U000e01ef":
        is_needed = _is_cjk(before)
    else:
        is_needed = False
    return found if is_needed else ""


def _joins(character: str) -> bool:
    """Whether letters around it change shape by joiners: Arabic to Sinhala, Myanmar to Mongolian."""
    return bool(character) and (
        "\u0600" <= character <= "\u0dff"
        or "\u1000" <= character <= "\u109f"
        or "\u1780" <= character <= "\u18af"
        or "\ufb50" <= character <= "\ufdcf"
        or "\ufe70" <= character <= "\ufefc"
    )


def _is_pictograph(character: str) -> bool:
    """Whether it may be part of an emoji or is a symbol that has an emoji form."""
    return bool(character) and (
        character in f"\u00a9\u00ae{_VS16}"
        or "\u203c" <= character <= "\u2049"
        or "\u20d0" <= character <= "\u2bff"
        or "\u3030" <= character <= "\u303d"
        or "\u3297" <= character <= "\u3299"
        or "\U0001f000" <= character <= "\U0001faff"
    )


def _is_cjk(character: str) -> bool:
    return (
        "\u2e80" <= character <= "\u9fff"
        or "\uf900" <= character <= "\ufaff"
        or "\U00020000" <= character <= "\U0003ffff"
    )


# -- Unicode form ----------------------------------------------------------------------------


def _in_form(text: str, form: str) -> str:
    """The normalisation form of UAX #15, in linear time.

    At most 30 marks stay on one character, as in the Stream-Safe Text Format (UAX #15 section 13):
    sorting a million of them would take hours, and no language uses more.
    """
    if text.isascii():
        return text
    if len(text) > 30:
        text = _many_marks().sub(r"\1", text)
    if form == "NFKC":
        return unicodedata.normalize("NFKC", text)
    return unicodedata.normalize("NFC", text)


@functools.lru_cache(maxsize=1)
def _many_marks() -> re.Pattern[str]:
    """Matches 31 or more combining marks in a row; the first 30 are group 1."""
    marks = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.combining(c)]
    return re.compile(f"([{''.join(marks)}]{{30}})[{''.join(marks)}]+")


# -- white space -----------------------------------------------------------------------------

_SPACES = re.compile(r"[^\S\n\r\v\f\x85\u2028\u2029]+")
_BREAKS = re.compile(r" ?[\n\r\v\f\x85\u2028\u2029]\s*")


def _with_single_spaces(text: str) -> str:
    """One space for white space, one line break where it holds any, nothing at the ends."""
    return _BREAKS.sub("\n", _SPACES.sub(" ", text)).strip()


# -- runs of one character -------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _run_of(most: int) -> re.Pattern[str]:
    """Matches more than ``most`` of one character. A digit counts: a number or an article code is as long as it is."""
    return re.compile(rf"([^\d\s])\1{{{most},}}")


def _without_runs(text: str, most: int) -> str:
    """ "Soooooooooooo nice!!!!!!!!!!!!" and rules of dashes: a long run says no more than three of the same."""
    return _run_of(most).sub(r"\1\1\1", text)


# -- a shard of texts --------------------------------------------------------------------------


def analysis_settings(settings: Clean) -> dict[str, Any]:
    """Those of the settings on which ``analyse_texts`` depends: another value of any other changes no analysis."""
    judged = {"min_chars", "require_letters", "required", "boilerplate"}
    return {
        "texts": settings.texts.model_dump(mode="json", exclude=judged),
        "language": settings.language.model_dump(mode="json"),
    }


def analyse_texts(
    texts: pl.DataFrame,
    settings: Clean,
    pii: Pii,
    identifier: LanguageIdentifier,
    finder: PersonalDataFinder,
    secret: bytes | None = None,
) -> pl.DataFrame:
    """``TEXTS`` rows of distinct pairs (text, declared_language), in the order given.

    A text too long to be released is emptied and searched for nothing; ``TOO_LONG`` among its
    changes says so. Personal data is replaced as its action says (``secret``: the key of hashes and surrogates);
    what is only reported stays in the text. Replaced values are in no other column than ``text``.
    """
    raw: list[str] = texts.get_column("text").to_list()
    declared: list[str | None] = texts.get_column("declared_language").to_list()
    normalised, changes = _normalise_all(raw, settings.texts)
    languages, confidences, doubts = _languages(normalised, declared, settings, identifier)
    findings: list[list[Finding]] = [[] for _ in raw]
    if pii.enabled:
        found = finder.find(normalised, languages)
        findings = [resolve(text, results, pii) for text, results in zip(normalised, found, strict=True)]
    cleaned = [
        redact(text, spans, pii, language, secret)
        for text, spans, language in zip(normalised, findings, languages, strict=True)
    ]
    for names, before, after in zip(changes, normalised, cleaned, strict=True):
        if before != after:
            names.append(PERSONAL_DATA)
    return pl.DataFrame(
        {
            "text": raw,
            "declared_language": declared,
            "cleaned": cleaned,
            "changes": changes,
            "language": languages,
            "language_confidence": confidences,
            "language_doubt": [found and found._asdict() for found in doubts],
            "findings": [
                [
                    {**finding._asdict(), "excerpt": excerpt}
                    for finding, excerpt in zip(spans, excerpts(text, spans, pii), strict=True)
                ]
                for text, spans in zip(normalised, findings, strict=True)
            ],
        },
        schema=dict(TEXTS),
    )


def _normalise_all(raw: Sequence[str], settings: CleanTexts) -> tuple[list[str], list[list[str]]]:
    """Normalised texts and the changes to each; a text that is too long is empty."""
    texts, changes = [], []
    for text in raw:
        normalised, names = "", [TOO_LONG]
        if len(text) <= _MARKUP_FACTOR * settings.max_chars:
            normalised, names = normalise(text, settings)
            if len(normalised) > settings.max_chars:
                normalised, names = "", [*names, TOO_LONG]
        texts.append(normalised)
        changes.append(names)
    return texts, changes


def _languages(
    texts: Sequence[str],
    declared: Sequence[str | None],
    settings: Clean,
    identifier: LanguageIdentifier,
) -> tuple[list[str], list[float | None], list[Doubt | None]]:
    """Language of each text, the confidence in it (null where declared or not identified), and doubts in a declared one."""
    rules = settings.language
    languages = [language or UNDETERMINED for language in declared]
    confidences: list[float | None] = [None] * len(texts)
    doubts: list[Doubt | None] = [None] * len(texts)
    is_asked = [
        rules.detect != "never"
        and bool(text)
        and (not language or (rules.declared != "trust" and letters(text) >= rules.min_doubt_letters))
        for text, language in zip(texts, declared, strict=True)
    ]
    asked = [text for text, is_one in zip(texts, is_asked, strict=True) if is_one]
    answers = iter(identifier.identify(asked) if asked else ())
    for row, (text, language) in enumerate(zip(texts, declared, strict=True)):
        answer = next(answers) if is_asked[row] else None
        if not language:
            if answer is not None:
                confidences[row] = round(answer[1], 6)
                if answer[1] >= rules.min_confidence:
                    languages[row] = answer[0]
        elif rules.declared != "trust":
            doubts[row] = doubt(text, language, answer, rules.min_doubt)
            if doubts[row] and rules.declared == "replace":
                is_known = answer is not None and answer[1] >= rules.min_confidence
                languages[row] = answer[0] if answer is not None and is_known else UNDETERMINED
    return languages, confidences, doubts
