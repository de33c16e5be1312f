"""`config.properties`: the text format, its `$$NAME$$` references, and overrides from the environment.

The format is the one of `java.util.Properties`. One thing is read more kindly than there: the file is
UTF-8 where it can be, and ISO-8859-1 only where it cannot, because Java's reading of UTF-8 paths as
ISO-8859-1 helped nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from predictor.settings import SettingsError

MAX_FILE_BYTES = 16 << 20
"""Real files have tens of lines; a snapshot of thousands of models stays under a few megabytes."""

_BLANKS = " \t\f"
_LINE_END = re.compile(r"\r\n|\r|\n")
_PAIR = re.compile(r"((?:[^\\=: \t\f]|\\.)*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_REFERENCE = re.compile(r"\$\$([^$]{2,})\$\$")


class PropertiesError(SettingsError):
    """The file cannot be used; the text begins with its name and, where there is one, the line."""


@dataclass(frozen=True)
class Property:
    """One setting as it was written: its value, and where (`file:line`, or the environment variable)."""

    key: str
    value: str
    origin: str


def parse_properties(text: str, source: str) -> dict[str, Property]:
    """Read the text of a properties file; of a key given twice the last one counts.

    `source` is what errors and origins call the text, a path as a rule.

    Raises:
        PropertiesError: an escape is malformed; the text names file and line.
    """
    properties: dict[str, Property] = {}
    for line, logical in _logical_lines(text):
        origin = f"{source}:{line}"
        match = _PAIR.fullmatch(logical)
        raw_key, raw_value = match.groups() if match else (logical, "")
        key = _unescape(raw_key, origin)
        properties.pop(key, None)  # so that the order is that of the lines that count
        properties[key] = Property(key, _unescape(raw_value, origin), origin)
    return properties


def read_properties(path: Path) -> dict[str, Property]:
    """Read the properties file `path`.

    Raises:
        PropertiesError: it cannot be read, is too large, or has a malformed escape.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PropertiesError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise PropertiesError(f"{path}: is larger than {MAX_FILE_BYTES} bytes, so hardly a configuration")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("iso-8859-1")
    return parse_properties(text, str(path))


def replace_references(properties: Mapping[str, Property], environ: Mapping[str, str]) -> dict[str, Property]:
    """Put the environment's values in place of `$$NAME$$`.

    Raises:
        PropertiesError: a variable is not set; the text names it, the file and the line.
    """
    return {key: replace(found, value=_expand(found, environ)) for key, found in properties.items()}


def override_from_environment(
    properties: Mapping[str, Property], environ: Mapping[str, str], variables: Mapping[str, str]
) -> dict[str, Property]:
    """Let environment variables win over the file; `variables` says which one stands for which key."""
    result = dict(properties)
    for variable, key in variables.items():
        if variable in environ:
            result[key] = Property(key, environ[variable], variable)
    return result


def find_config_file(
    flag: Path | None, environ: Mapping[str, str], directory: Path, snapshot: Path | None = None
) -> Path | None:
    """Say which file configures the server: TS_CONFIG_FILE, the flag, the snapshot, `config.properties`.

    The last one is looked for in `directory`, and counts only if it exists; of the others nobody checks
    here whether they do.
    """
    if environ.get("TS_CONFIG_FILE"):
        return directory / environ["TS_CONFIG_FILE"]
    if flag is not None:
        return directory / flag
    if snapshot is not None:
        return snapshot
    usual = directory / "config.properties"
    return usual if usual.is_file() else None


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each setting's line number and text, joined over its continuation lines."""
    logical, first = "", 0
    for number, natural in enumerate(_LINE_END.split(text), start=1):
        line = natural.lstrip(_BLANKS)
        if not logical:
            if not line or line[0] in "#!":
                continue
            first = number
        backslashes = len(line) - len(line.rstrip("\\"))
        continued = backslashes % 2 == 1
        logical += line[:-1] if continued else line
        if not continued:
            if logical:
                yield first, logical
            logical = ""
    if logical:
        yield first, logical


def _expand(found: Property, environ: Mapping[str, str]) -> str:
    def value_of(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise PropertiesError(f"{found.origin}: {found.key}: environment variable {match[1]} is not set")
        return environ[match[1]]

    return _REFERENCE.sub(value_of, found.value)


def _unescape(text: str, origin: str) -> str:
    if "\\" not in text:
        return text

    def character(match: re.Match[str]) -> str:
        digits, other = match.groups()
        if digits:
            return chr(int(digits, 16))
        if other == "u":
            raise PropertiesError(f"{origin}: \\u must be followed by four hexadecimal digits")
        return _ESCAPED.get(other, other)

    unescaped = _ESCAPE.sub(character, text)
    try:
        # Characters beyond U+FFFF are written as two escapes, the halves of a UTF-16 pair.
        return unescaped.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise PropertiesError(
            f"{origin}: a \\u escape is half of a character; the other half is missing"
        ) from error
