"""Which words a text may hold, told by how its words begin: a cheap test before an expression of many alternatives.

An expression that looks for one of a hundred phrases tries all of them at every word. Whether any word of the text
begins like one of the phrases is a look into a set. Belongs here: that test. Does not belong here: the phrases.
"""

import functools
import re
from collections.abc import Iterator
from typing import Final

_LENGTH: Final = 3
_END: Final = "\0"
_MORE: Final = "\1"
_WORD: Final = re.compile(r"[^\W_]+")
# Letters that re.IGNORECASE takes for others, beside those that str.lower makes the same.
_SAME: Final = str.maketrans(
    {
        "\u0130": "i", "\u0131": "i", "\u017f": "s", "\u00b5": "\u03bc", "\u03c2": "\u03c3", "\u03d0": "\u03b2", "\u03d1": "\u03b8",
        "\u03d5": "\u03c6", "\u03d6": "\u03c0", "\u03f0": "\u03ba", "\u03f1": "\u03c1", "\u03f5": "\u03b5", "\u1c80": "\u0432",
        "\u1c81": "\u0434", "\u1c82": "\u043e", "\u1c83": "\u0441", "\u1c84": "\u0442", "\u1c85": "\u0442", "\u1c86": "\u044a",
    }
)  # fmt: skip


@functools.lru_cache(maxsize=2)
def beginnings(text: str) -> frozenset[str]:
    """The first three letters of every word, in lower case; of shorter words, the word.

    In a text that is not all ASCII, the first two as well, marked: scripts without an alphabet say much with two.
    """
    words = [begin for _, begin in _words(text)]
    return frozenset(words if text.isascii() else [*words, *(begin[:2] + _MORE for begin in words)])


@functools.lru_cache(maxsize=2)
def _words(text: str) -> list[tuple[int, str]]:
    """Where every word starts, and how it begins."""
    lowered = text.lower() if text.isascii() else text.translate(_SAME).lower().replace("\u03c2", "\u03c3")
    # Character for character: the one letter whose small form is two is among _SAME.
    return [(word.start(), word[0][:_LENGTH]) for word in _WORD.finditer(lowered)]


def search_at(pattern: re.Pattern[str], begins: frozenset[str], text: str) -> Iterator[re.Match[str]]:
    """The matches of ``pattern.finditer(text)``, where these start at words that begin like one of ``begins``."""
    if beginnings(text).isdisjoint(begins):
        return
    position = 0
    for start, begin in _words(text):
        if start >= position and begin in begins and (match := pattern.match(text, start)):
            position = match.end()
            yield match


def beginnings_of(alternatives: str, *, are_whole: bool = False) -> frozenset[str]:
    """How the matches of a regular expression begin, which is matched at the start of a word in any letter case.

    ``are_whole``: no letter or digit follows a match. A text whose :func:`beginnings` are disjoint from these has none.
    Raises ``ValueError`` for what this does not understand: it knows literals, ``(?:a|b)``, ``[ab]``, ``?`` and classes
    that are no letters.
    """
    found = set[str]()
    for alternative in _split(alternatives):
        for start in _starts(alternative):
            head, ended, _ = start.partition(_END)
            head = head.translate(_SAME).lower()
            if len(head) == _LENGTH or (head and (ended or are_whole)):
                found.add(head)
            elif len(head) == 2 and not head.isascii():
                found |= {head, head + _MORE}
            else:
                raise ValueError(f"{alternative!r} may begin with {head!r} alone")
    return frozenset(found)


def _split(alternatives: str) -> list[str]:
    """The alternatives outside of all brackets."""
    found, depth, position, is_set = [""], 0, 0, False
    while position < len(alternatives):
        step = 2 if alternatives[position] == "\\" else 1
        part = alternatives[position : position + step]
        if not is_set:
            depth += (part == "(") - (part == ")")
        is_set = part == "[" or (is_set and part != "]")
        if part == "|" and depth == 0 and not is_set:
            found.append("")
        else:
            found[-1] += part
        position += step
    return found


def _starts(expression: str) -> set[str]:
    """The first letters of what matches; ``_END`` stands where the word ends."""
    starts = {""}
    for options, is_optional in _tokens(expression):
        starts = {
            joined
            for start in starts
            for joined in (
                [start]
                if _is_complete(start)
                else [*(start + option for option in options), *([start] if is_optional else [])]
            )
        }
        if all(map(_is_complete, starts)):
            break
    return {start[:_LENGTH] for start in starts}


def _is_complete(start: str) -> bool:
    return _END in start[:_LENGTH] or len(start) >= _LENGTH


def _tokens(expression: str) -> Iterator[tuple[set[str], bool]]:
    """What each part of an expression may be, and whether it may be missing."""
    position = 0
    while position < len(expression):
        part = expression[position]
        options: set[str]
        if part == "\\":
            part = expression[position : position + 2]
            if part in (r"\w", r"\d", r"\S"):
                raise ValueError(f"{expression!r} may begin with any letter")
            options = {""} if part == r"\b" and position == 0 else {_END}
        elif part == "(":
            inner = _inner(expression[position:])
            if not inner.startswith("?:"):
                raise ValueError(f"{expression!r}: of brackets, (?:...) is understood")
            part = f"({inner})"
            options = {start for part in _split(inner[2:]) for start in _starts(part)}
        elif part == "[":
            part = expression[position : expression.index("]", position) + 1]
            if part[1] == "^" or (len(part) > 3 and "-" in part[2:-2]):
                raise ValueError(f"{expression!r}: of classes, [ab] is understood")
            options = {letter if letter.isalnum() else _END for letter in part[1:-1]}
        else:
            options = {part if part.isalnum() else _END}
        position += len(part)
        following = expression[position : position + 1]
        if following in ("*", "+", "{"):
            raise ValueError(f"{expression!r}: of repetitions, ? is understood")
        position += following == "?"
        yield options, following == "?"


def _inner(expression: str) -> str:
    """What stands between the bracket that begins an expression and the one that closes it."""
    depth = 0
    for position, letter in enumerate(expression):
        if position and expression[position - 1] == "\\":
            continue
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return expression[1:position]
    raise ValueError(f"{expression!r}: a bracket is not closed")
