"""English contractions and what they stand for."""

from __future__ import annotations

import re

_ENDINGS = {
    ("n't", " not"): "are could did do does had has have is may might must need ought should was were would",
    ("'ve", " have"): "could i might must should so to they we what when where who why will would you",
    ("'ll", " will"): "he how i it she they we what who you",
    ("'d", " would"): "he i it she that there they we you",
    ("'d", " did"): "how where",
    ("'re", " are"): "they we what you",
    ("'s", " is"): "he how it she that there what when where who why",
    ("'m", " am"): "i",
}

_IRREGULAR = {
    "ain't": "is not",
    "can't": "cannot",
    "shan't": "shall not",
    "sha'n't": "shall not",
    "won't": "will not",
    "let's": "let us",
    "so's": "so as",
    "'cause": "because",
    "ma'am": "madam",
    "o'clock": "of the clock",
    "y'all": "you all",
}

CONTRACTION_MAP = {
    word + short: word + full for (short, full), words in _ENDINGS.items() for word in words.split()
} | _IRREGULAR
"""Lower-case contraction to its full form. Double ones ("can't've") are their first half and the rest."""

_PATTERN = re.compile("|".join(map(re.escape, CONTRACTION_MAP)), re.IGNORECASE)


def expand_contractions(text: str) -> str:
    """Return `text` with contractions written out and all apostrophes removed.

    Vocabularies were built with TorchServe's rule that the first letter stays as it was written, so
    "ain't" gives "as not" here as well: another spelling would be another token.
    """
    return _PATTERN.sub(_expand, text).replace("'", "")


def _expand(match: re.Match[str]) -> str:
    found = match.group()
    return found[0] + CONTRACTION_MAP[found.lower()][1:]
