"""Tokens and n-grams of English text, as torchtext's `basic_english` tokenizer makes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

_DROPPED = '"'
_BLANKED = ";:"
_SEPARATED = "'.,()!?"
_LINE_BREAK = "<br />"


def ngrams_iterator(token_list: Sequence[str], ngrams: int) -> Iterator[str]:
    """Yield the tokens, then all pairs, triples ... up to `ngrams` neighbours, joined by a space."""
    yield from token_list
    for size in range(2, ngrams + 1):
        for start in range(len(token_list) - size + 1):
            yield " ".join(token_list[start : start + size])


def get_tokenizer(
    tokenizer: str | Callable[[str], list[str]] | None, language: str = "en"
) -> Callable[[str], list[str]]:
    """Return a function from text to tokens.

    None splits at white space, "basic_english" also lowercases and separates punctuation, a callable is
    returned as it is. ValueError for any other name or another language.
    """
    if tokenizer is None:
        return str.split
    if callable(tokenizer):
        return tokenizer
    if tokenizer != "basic_english":
        raise ValueError(f"there is no tokenizer {tokenizer!r}; pass None, 'basic_english' or a function")
    if language != "en":
        raise ValueError(f"the tokenizer basic_english is for 'en' only, not {language!r}")
    return _basic_english


_TABLE = str.maketrans(
    {
        **dict.fromkeys(_DROPPED, ""),
        **dict.fromkeys(_BLANKED, " "),
        **{mark: f" {mark} " for mark in _SEPARATED},
    }
)


def _basic_english(line: str) -> list[str]:
    return re.sub(re.escape(_LINE_BREAK), " ", line.lower()).translate(_TABLE).split()
