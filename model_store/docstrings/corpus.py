"""The corpus: what the running Python's standard library says about itself, by topic.

Modules written in Python are read as source text and never run. The few compiled modules named here
are imported, since their docstrings exist nowhere else. What is found depends on the Python version
and a little on the platform.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

SIMILAR = 0.7
"""Two texts with this share of common words count as one."""

TOPICS: dict[str, tuple[str, ...]] = {
    "concurrency": (
        "threading", "multiprocessing", "concurrent", "queue", "sched", "subprocess", "contextvars",
        "asyncio.base_futures", "asyncio.base_tasks", "asyncio.events", "asyncio.futures", "asyncio.locks",
        "asyncio.mixins", "asyncio.queues", "asyncio.runners", "asyncio.taskgroups", "asyncio.tasks",
        "asyncio.threads", "asyncio.timeouts", "_thread", "_queue", "_asyncio",
    ),
    "files": (
        "pathlib", "shutil", "tempfile", "zipfile", "tarfile", "glob", "fnmatch", "os", "posixpath", "ntpath",
        "genericpath", "io", "_pyio", "gzip", "bz2", "lzma", "fileinput", "stat", "filecmp", "posix", "_io",
        "_bz2", "_lzma", "zlib", "mmap",
    ),
    "networking": (
        "http", "urllib", "socket", "socketserver", "ssl", "smtplib", "ftplib", "imaplib", "poplib",
        "nntplib", "telnetlib", "xmlrpc", "wsgiref", "ipaddress", "cgi", "webbrowser", "_socket", "_ssl",
    ),
    "numbers": (
        "_pydecimal", "fractions", "statistics", "random", "numbers", "datetime", "calendar", "_strptime",
        "zoneinfo", "colorsys", "math", "cmath", "_random", "time",
    ),
}  # fmt: skip
"""Topic -> the modules and packages whose docstrings stand for it; a name covers what lies below it."""

COMPILED = frozenset({
    "_thread", "_queue", "_asyncio", "posix", "_io", "_bz2", "_lzma", "zlib", "mmap", "_socket", "_ssl",
    "math", "cmath", "_random", "time",
})  # fmt: skip
"""The modules of TOPICS that are imported rather than read."""


@dataclass(frozen=True)
class Example:
    """One paragraph: its text on one line, its topic, its module, and the number of its docstring."""

    text: str
    topic: str
    module: str
    docstring: int


def build() -> list[Example]:
    """Return the corpus in a fixed order, without texts that say almost the same as an earlier one."""
    examples = []
    number = 0
    for topic, names in TOPICS.items():
        for module, docstring in _docstrings(names):
            number += 1
            examples += [Example(text, topic, module, number) for text in paragraphs(docstring)]
    return _without_repetitions(examples)


def _without_repetitions(examples: list[Example]) -> list[Example]:
    """Drop every text that shares 70 % of its words (Jaccard) with one that is kept, whatever their topics.

    The library repeats itself a lot: `_pyio` and `_io`, IPv4 and IPv6, `lchmod` after `chmod`. Left in,
    such pairs would straddle any split and flatter the held-out figure.
    """
    words_of = re.compile("[a-z]+").findall
    counter = CountVectorizer(binary=True, dtype=np.int32, analyzer=lambda text: words_of(text.lower()))
    counted = counter.fit_transform(example.text for example in examples)
    shared = (counted @ counted.T).toarray()
    words = shared.diagonal()
    kept: list[int] = []
    for row in range(len(examples)):
        common = shared[row, kept]
        if not np.any(common >= SIMILAR * (words[row] + words[kept] - common)):
            kept.append(row)
    return [examples[row] for row in kept]


def paragraphs(docstring: str) -> list[str]:
    """Return the prose of a cleaned docstring, one string a paragraph.

    Left out are doctests, indented blocks (code, tables), a compiled function's signature line, and
    paragraphs of fewer than four words.
    """
    kept = []
    for block in re.split(r"\n\s*\n", docstring):
        lines = [line for line in block.splitlines() if line.strip()]
        if lines and not lines[0].startswith((" ", ">>>", "--")):
            text = " ".join(line.strip() for line in lines)
            if len(re.findall("[A-Za-z]+", text)) >= 4 and ">>>" not in text:
                kept.append(text)
    return kept


def _docstrings(names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield (module, cleaned docstring) of every documented object of the named modules."""
    for name in names:
        if name in COMPILED:
            yield from ((name, text) for text in _compiled(name))
        else:
            for module, path in _sources(name):
                yield from ((module, text) for text in _written(path))


def _sources(name: str) -> list[tuple[str, Path]]:
    """Return (module, file) of a module, or of all modules of a package; none if this Python lacks it."""
    library = Path(sysconfig.get_path("stdlib"))
    path = library.joinpath(*name.split("."))
    files = [path.with_suffix(".py")] if path.with_suffix(".py").exists() else sorted(path.rglob("*.py"))
    return [(".".join(file.relative_to(library).with_suffix("").parts), file) for file in files]


def _written(path: Path) -> Iterator[str]:
    """Yield the docstrings in a source file, in the order in which they are written."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, kinds)]
    for node in sorted(nodes, key=lambda node: getattr(node, "lineno", 0)):
        text = ast.get_docstring(node)
        if text:
            yield text


def _compiled(name: str) -> Iterator[str]:
    """Yield the docstrings of a compiled module's functions, classes and methods, in its own order."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        return
    for value in vars(module).values():
        members = vars(value).values() if isinstance(value, type) else ()
        for documented in (value, *members):
            text = getattr(documented, "__doc__", None)
            if callable(documented) and isinstance(text, str):
                yield inspect.cleandoc(text)
