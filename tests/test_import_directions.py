"""Which part may import which: read from the sources, and tried in fresh interpreters."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import predictor

_ROOT = Path(predictor.__file__).parent

# Part -> parts of predictor that it must not import, not even inside a function.
_FORBIDDEN = {
    "ipc": {"archives", "handlers", "http", "protocols", "runtime", "serving", "settings", "server"},
    "serving": {"http", "protocols", "runtime", "handlers", "explain", "server", "model", "cli"},
    "http": {"protocols", "serving", "runtime", "handlers", "ipc", "server", "model", "settings", "cli"},
    "protocols": {"runtime", "handlers", "explain", "server", "model", "cli"},
    "runtime": {"protocols", "serving", "http", "server", "model", "cli", "settings"},
    "handlers": {"protocols", "serving", "http", "runtime", "server", "model", "cli", "settings"},
    "explain": {"protocols", "serving", "http", "runtime", "server", "model", "cli", "settings"},
    "archives": {"protocols", "serving", "http", "runtime", "handlers", "ipc", "server", "model", "settings"},
    "telemetry": {"protocols", "serving", "runtime", "handlers", "server", "model", "cli"},
    "trust": {"protocols", "serving", "http", "runtime", "handlers", "ipc", "server", "model", "settings"},
    "top": {
        "archives",
        "compat",
        "deploy",
        "explain",
        "handlers",
        "http",
        "ipc",
        "metrics",
        "model",
        "oip",
        "protocols",
        "runtime",
        "server",
        "serving",
        "settings",
        "web",
    },
    "errors": {"protocols", "serving", "http", "runtime", "handlers", "ipc", "archives", "server", "model"},
    # The client side of Kubernetes is a program of its own: it knows the package's version, and no more.
    "deploy": {
        *("protocols", "serving", "http", "runtime", "handlers", "explain", "ipc", "archives", "telemetry"),
        *("server", "model", "cli", "settings", "configuration", "torchserve", "compat"),
    },
    # Static files and examples, which `protocols/pages.py` serves.
    "web": {
        *("protocols", "serving", "http", "runtime", "handlers", "explain", "ipc", "archives", "telemetry"),
        *("server", "model", "cli", "settings", "configuration", "torchserve", "compat"),
    },
    # What both sides know of the protocol depends on neither.
    "oip": {
        *("protocols", "serving", "http", "runtime", "handlers", "explain", "ipc", "archives", "telemetry"),
        *("server", "model", "cli", "settings", "configuration", "torchserve", "compat", "errors"),
    },
    "settings": {"protocols", "serving", "http", "runtime", "handlers", "ipc", "archives", "server", "model"},
}
# The worker's side may use torch; nothing else may, nor its companions.
_WORKER_SIDE = {"runtime", "handlers", "explain", "compat"}
_HEAVY = {"torch", "torchvision", "captum", "numpy", "PIL", "ts"}
# `predictor check` is a command of its own, never loaded by the server; it draws an example picture.
_EXCEPTIONS = {("check", "PIL")}
_FRONT_END_ONLY = {"kserve", "fastapi", "starlette", "uvicorn", "uvloop", "pydantic_settings"}
# KServe's own types stay where its server and its model class are wrapped.
_MAY_IMPORT_KSERVE = {"server", "model", "deploy"}


def _modules() -> Iterator[tuple[str, Path]]:
    """Yield every source file with the part it belongs to: its folder, or its own name."""
    for path in sorted(_ROOT.rglob("*.py")):
        relative = path.relative_to(_ROOT)
        yield (relative.parts[0] if len(relative.parts) > 1 else path.stem), path


def _imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, `from a import b` as `a.b`; type checking excepted."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for child in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


_FILES = [pytest.param(part, path, id=str(path.relative_to(_ROOT))) for part, path in _modules()]


@pytest.mark.parametrize(("part", "path"), _FILES)
def test_imports_go_downwards_only(part, path):
    wrong = []
    for name in _imports(path):
        package, _, rest = name.partition(".")
        imported = rest.partition(".")[0]
        if package == "predictor" and imported in _FORBIDDEN.get(part, set()):
            wrong.append(name)
        if package in _HEAVY and part not in _WORKER_SIDE and (part, package) not in _EXCEPTIONS:
            wrong.append(name)
        if package in _FRONT_END_ONLY and part in _WORKER_SIDE:
            wrong.append(name)
        if package in ("kserve", "fastapi") and part not in _MAY_IMPORT_KSERVE:
            wrong.append(name)
    assert not wrong, f"{path.relative_to(_ROOT)} must not import {', '.join(wrong)}"


def test_protocols_share_helpers_but_do_not_import_each_other():
    formats = {"torchserve", "token", "v1", "v2", "named", "health", "pages", "management"}
    for path in sorted((_ROOT / "protocols").glob("*.py")):
        if path.stem not in formats:
            continue
        others = {name.split(".")[2] for name in _imports(path) if name.startswith("predictor.protocols.")}
        assert not others & (formats - {path.stem}), path.name


def _loaded_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after `statement`."""
    show = "print(*{name.partition('.')[0] for name in sys.modules})"
    script = f"import sys; sys.argv = ['x']\n{statement}\n{show}"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_the_front_end_really_runs_without_torch():
    loaded = _loaded_after("import predictor.server, predictor.cli, predictor.model")
    assert "kserve" in loaded
    assert not loaded & {"torch", "torchvision", "captum", "PIL"}


def test_a_worker_really_runs_without_kserve():
    loaded = _loaded_after("import predictor.runtime.worker")
    assert "torch" in loaded
    assert not loaded & {"kserve", "fastapi", "uvicorn", "starlette", "pydantic"}


def test_the_command_line_answers_help_without_loading_the_server():
    loaded = _loaded_after("import predictor.cli")
    assert not loaded & {"kserve", "fastapi", "uvicorn", "torch", "numpy", "kubernetes", "rich"}


def test_the_cluster_commands_load_nothing_of_the_server():
    loaded = _loaded_after("import predictor.deploy.deploying, predictor.deploy.report, predictor.cli")
    assert "kubernetes" in loaded
    assert not loaded & {"kserve", "fastapi", "uvicorn", "torch", "numpy"}
    # KServe's SDK comes with its server, when the models of its API are needed; torch never does.
    build = "from predictor.deploy.manifest import *; inference_service(Deployment('a', 'b', '/m'))"
    loaded = _loaded_after(build)
    assert "kserve" in loaded
    assert not loaded & {"torch", "captum"}


def test_nothing_else_loads_the_cluster_commands():
    for part, path in _modules():
        if part not in ("deploy", "cli"):
            assert not [name for name in _imports(path) if name.startswith("predictor.deploy")], path


def test_reading_archives_needs_neither_side():
    loaded = _loaded_after("import predictor.archives.archive")
    assert not loaded & {"kserve", "fastapi", "uvicorn", "torch", "numpy", "msgspec"}


def test_test_modules_have_names_of_their_own():
    """Pytest knows a module without a package by its name alone, and stops collecting at the second one."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
