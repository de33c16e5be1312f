"""Give .venv what a make target needs, show how far it is, then become the target's command.

    python3 scripts/bootstrap.py PROFILE [COMMAND ARGUMENT...]

PROFILE is a key of `PROFILES`. COMMAND is a program of .venv/bin; without one the script only sets up.

    stamp fits? -- yes ------------------------------------------------> exec COMMAND   (a few ms)
        | no
    interpreter -> .venv -> PyTorch (CPU or CUDA) -> everything else -> stamp -> exec COMMAND

Only the standard library, and only syntax that Python 3.6 can read: whatever `python3` is, it must get
far enough to find a fitting interpreter or to say which one is missing.

Environment: PYTHON (interpreter for .venv), TORCH (auto, cpu, cuda), TORCH_INDEX (where PyTorch's wheels
come from), and everything pip itself reads (PIP_INDEX_URL, PIP_FIND_LINKS, PIP_PROXY, ...).
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NoReturn, Optional, Sequence, Tuple

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "setup.json"
LOG = VENV / "setup.log"
DOWNLOADS = VENV / "tmp"
# Extras of pyproject.toml. What is installed is never taken away: `serve` after `test` changes nothing.
PROFILES: Dict[str, List[str]] = {"serve": [], "train": ["samples"], "test": ["test"], "check": ["dev"]}
OLDEST, NEWEST = (3, 10), (3, 13)
LINUX = sys.platform.startswith("linux")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_SIZE = "about 2.7 GB to download, 7 GB on disk"
RECIPE = 1  # raise it when this script comes to install something differently


class SetupError(Exception):
    """Setting up failed; the message says what to do and is all that is shown."""


def main(arguments: List[str]) -> int:
    """Set up for the profile in `arguments[0]`, then replace this process by the command that follows."""
    if not arguments or arguments[0] not in PROFILES:
        print(f"usage: bootstrap.py {{{'|'.join(PROFILES)}}} [COMMAND ARGUMENT...]", file=sys.stderr)
        return 2
    extras, command = PROFILES[arguments[0]], arguments[1:]
    os.chdir(ROOT)
    try:
        if not is_current(extras):
            set_up_alone(extras)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    if command:
        become(command)
    return 0


def become(command: List[str]) -> NoReturn:
    """Replace this process by a program of .venv/bin, so that signals and exit status are the program's."""
    program = str(VENV / "bin" / command[0])
    sys.stdout.flush()
    try:
        os.execv(program, [program, *command[1:]])
    except OSError as error:
        sys.exit(f"{program} cannot be started: {error}. `make clean` and the same command start over.")


# ------------------------------------------------------------------------------ is there anything to do


def fingerprint() -> str:
    """Return a hash of everything that decides what belongs into .venv."""
    digest = hashlib.sha256(f"{RECIPE} {ROOT}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def read_stamp() -> Dict[str, Any]:
    """Return what the last set-up wrote down, or nothing."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(facts: Dict[str, Any]) -> None:
    """Write the stamp in one move, so that it is whole or absent."""
    temporary = STAMP.with_suffix(".new")
    temporary.write_text(json.dumps(facts, indent=1))
    temporary.replace(STAMP)


def is_current(extras: List[str]) -> bool:
    """Tell whether .venv already holds these extras, the PyTorch build and the Python asked for."""
    stamp = read_stamp()
    return (
        stamp.get("fingerprint") == fingerprint()
        and set(extras) <= set(stamp["extras"])
        and asked_torch() in ("auto", stamp["torch"])
        and os.access(VENV / "bin" / "python", os.X_OK)
        and not other_python_asked()
    )


def asked_torch() -> str:
    """Return TORCH: `auto`, `cpu` or `cuda`."""
    asked = os.environ.get("TORCH") or "auto"
    if asked not in ("auto", "cpu", "cuda"):
        raise SetupError(f"TORCH={asked} is none of auto, cpu, cuda.")
    return asked if LINUX else "auto"  # elsewhere there is one build only


def other_python_asked() -> bool:
    """Tell whether PYTHON names another version of Python than .venv has."""
    asked = os.environ.get("PYTHON")
    return bool(asked) and probe(asked or "").get("version") != venv_version()


def venv_version() -> str:
    """Return the version .venv was made with, such as `3.11.7`; empty where there is no .venv."""
    try:
        match = re.search(r"^version\s*=\s*([\d.]+)", (VENV / "pyvenv.cfg").read_text(), re.MULTILINE)
    except OSError:
        return ""
    return match.group(1) if match else ""


# ------------------------------------------------------------------------------------------- the steps


def set_up_alone(extras: List[str]) -> None:
    """Set up unless another make in this folder just did; two at once would spoil each other's work."""
    folder = os.open(ROOT, os.O_RDONLY)  # the lock ends with this process, however that ends
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("Another make is setting up .venv; waiting for it.", flush=True)
        fcntl.flock(folder, fcntl.LOCK_EX)
    if not is_current(extras):
        before = signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
        set_up(extras)
        signal.signal(signal.SIGTERM, before)
    os.close(folder)


def set_up(extras: List[str]) -> None:
    """Bring .venv to the state of pyproject.toml and constraints.txt, and write the stamp."""
    stamp, start = read_stamp(), time.monotonic()
    make_venv(moved=stamp.get("root", str(ROOT)) != str(ROOT))
    build = choose_build(stamp.get("torch"))
    wanted = sorted({*extras, *stamp.get("extras", [])} - {"gpu"} | ({"gpu"} if build == "cuda" else set()))
    facts = {"fingerprint": "unfinished", "extras": wanted, "torch": build, "root": str(ROOT)}
    write_stamp(facts)  # what was asked for outlives an interruption
    LOG.write_text("")
    remove_torn_packages()
    install("build tools", ["setuptools"])
    install_torch(build)
    project = f".[{','.join(wanted)}]" if wanted else "."
    # With the build tools above, which are the tested ones; an isolated build would fetch the newest.
    install("predictor and its packages", ["--no-build-isolation", "-e", project])
    compile_what_starts()
    shutil.rmtree(DOWNLOADS, ignore_errors=True)
    write_stamp({**facts, "fingerprint": fingerprint()})
    print(f"Ready in {clock(start)}: .venv holds {len(installed())} packages.\n", flush=True)


def make_venv(moved: bool) -> None:
    """Create .venv; or anew when it is broken, came from another folder, or PYTHON asks for another."""
    problem = "the folder has moved" if moved else venv_problem()
    if problem is None:
        return
    python, version = choose_python()
    if VENV.exists():
        print(f"Replacing .venv: {problem}.", flush=True)
        shutil.rmtree(VENV)
    step = Step(f"environment .venv with Python {version}")
    status, output = step.run([python, "-m", "venv", str(VENV)])
    if status != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(f"{python} -m venv failed:\n{indent(output)}\n{venv_advice(version)}")
    step.done()


def venv_problem() -> Optional[str]:
    """Return why .venv cannot be used, or None when it can."""
    facts = probe(str(VENV / "bin" / "python"))
    if not facts.get("pip"):
        return "it is not complete"
    if other_python_asked():
        return f"it has Python {facts['version']}, not PYTHON={os.environ['PYTHON']}"
    return unfit(facts)


def choose_build(before: Optional[str]) -> str:
    """Return `cpu` or `cuda`: what was asked for, else what is there, else what suits the machine."""
    asked = asked_torch()
    if asked == "auto":
        return before or ("cuda" if LINUX and has_nvidia_gpu() else "cpu")
    return asked


def has_nvidia_gpu() -> bool:
    """Tell whether this machine shows an NVIDIA GPU to this user."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    tool = shutil.which("nvidia-smi") or "/usr/lib/wsl/lib/nvidia-smi"
    try:
        return "GPU " in output_of([tool, "-L"], timeout=20)
    except subprocess.TimeoutExpired:
        return False


def install_torch(build: str) -> None:
    """Install the pinned PyTorch in this build, unless .venv has it.

    On Linux the package index's own build brings CUDA, so the CPU build is asked for by its full version,
    `X+cpu`: from the indexes and folders pip is set to where they have it, else from PyTorch's own index.
    """
    version = pinned("torch")
    exact = f"{version}+cpu" if LINUX and build == "cpu" else version
    present = installed().get("torch", "")
    if present == exact or (build == "cuda" and re.match(rf"{re.escape(version)}\+cu\d", present)):
        return
    index = os.environ.get("TORCH_INDEX")
    if build == "cuda":
        print(f"PyTorch with CUDA: {CUDA_SIZE}. (TORCH=cpu takes the small build.)", flush=True)
        # `==` alone would also accept a +cpu file lying in one of pip's folders.
        options = (
            ["--index-url", index, f"torch=={version},!={exact}+cpu"] if index else [f"torch==={version}"]
        )
        install(f"PyTorch {version} with CUDA", options)
        return
    if LINUX and not index and exact not in offered("torch"):
        index = CPU_INDEX
    # What it depends on comes with the next step, from the usual index.
    options = ["--index-url", index] if index else []
    install(f"PyTorch {exact}", [*options, "--no-deps", f"torch=={exact}"], constraints=[])


def offered(package: str) -> List[str]:
    """Return the versions in the indexes and folders pip is set to; downloads none of them."""
    listing = output_of(pip("index", "versions", "--retries", "1", package), env=pip_environment())
    match = re.search(r"^Available versions: (.*)$", listing, re.MULTILINE)
    return match.group(1).split(", ") if match else []


def pinned(package: str) -> str:
    """Return the version constraints.txt names for a package that has one line there."""
    match = re.search(rf"^{package}==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    if match is None:
        raise SetupError(f"constraints.txt does not pin {package}.")
    return match.group(1)


# ------------------------------------------------------------------------------- finding an interpreter

PROBE = """
import importlib.util, json, platform, struct, sys, sysconfig
ordinary = platform.python_implementation() == "CPython" and struct.calcsize("P") == 8
print(json.dumps({
    "version": "%d.%d.%d" % sys.version_info[:3],
    "ordinary": ordinary and not sysconfig.get_config_var("Py_GIL_DISABLED"),
    "venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
    "pip": importlib.util.find_spec("pip") is not None,
}))
"""


def probe(python: str) -> Dict[str, Any]:
    """Ask an interpreter what it is; an empty answer means that it does not run."""
    try:
        facts = json.loads(output_of([python, "-c", PROBE]))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def unfit(facts: Dict[str, Any]) -> Optional[str]:
    """Return why an interpreter will not do, or None when it will."""
    if not facts:
        return "does not start"
    version = tuple(int(part) for part in facts["version"].split(".")[:2])
    if not OLDEST <= version <= NEWEST:
        return f"is Python {facts['version']}"
    if not facts["ordinary"]:
        return "is not an ordinary 64-bit CPython, which PyTorch is built for"
    return None if facts["venv"] else f"is Python {facts['version']} without the venv module"


def choose_python() -> Tuple[str, str]:
    """Return an interpreter for .venv, and its version: PYTHON, else the first candidate that will do."""
    asked = os.environ.get("PYTHON")
    found: Dict[str, str] = {}
    for python in [asked] if asked else candidates():
        facts = probe(python)
        reason = unfit(facts)
        if reason is None:
            return python, facts["version"]
        found[python] = reason
    lines = ["Python {}.{} to {}.{} is needed.".format(*OLDEST, *NEWEST)]
    lines += [f"  {python} {reason}" for python, reason in found.items()]
    bare = [reason.split()[2] for reason in found.values() if "venv" in reason]
    lines.append(
        venv_advice(bare[0]) if bare else "Install one (apt install python3 python3-venv on a recent"
    )
    if not bare:
        lines[-1] += " Debian or Ubuntu, brew install python@3.12 on\nmacOS, pyenv install 3.12 anywhere),"
        lines[-1] += " or name one: make serve PYTHON=/path/to/python3.12"
    raise SetupError("\n".join(lines))


def candidates() -> Iterator[str]:
    """Yield the interpreters worth asking: the one that runs this, those on PATH, pyenv's."""
    names = ("python3.12", "python3.11", "python3.13", "python3.10", "python3", "python")
    for path in (sys.executable, *map(shutil.which, names)):
        if path and VENV not in Path(path).parents:
            yield path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob("versions/3.1[0-3]*/bin/python"), reverse=True))


def venv_advice(version: str) -> str:
    """Say how to get the venv module, which Debian ships apart from Python."""
    short = ".".join(version.split(".")[:2])
    return f"On Debian and Ubuntu the venv module is a package of its own: apt install python{short}-venv"


# --------------------------------------------------------------------------------------- pip and .venv


def pip(*arguments: str) -> List[str]:
    """Return the command line for .venv's pip."""
    return [str(VENV / "bin" / "python"), "-m", "pip", *arguments]


def pip_environment() -> Dict[str, str]:
    """Return this environment, with a download folder we can watch and without what misdirects pip."""
    settings = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_USER": "0"}
    return {**os.environ, **settings, "TMPDIR": str(DOWNLOADS), "PYTHONUNBUFFERED": "1"}


CONSTRAINTS = ("-c", "constraints.txt")


def install(shown: str, arguments: List[str], constraints: Sequence[str] = CONSTRAINTS) -> None:
    """Install with pip; `shown` names the step."""
    shutil.rmtree(DOWNLOADS, ignore_errors=True)
    DOWNLOADS.mkdir()
    step = Step(shown)
    command = pip("install", "--progress-bar", "off", "--no-compile", *constraints, *arguments)
    status, output = step.run(command, pip_environment())
    if status != 0:
        raise SetupError(f"Installing {shown} failed; pip said:\n{indent(output)}\n{advice(output)}")
    step.done()


def compile_what_starts() -> None:
    """Import once what every process imports, so that Python keeps the compiled modules.

    Compiling whole packages takes 40 s and 300 MB, most of it never imported; leaving it to chance costs
    each worker 2 s wherever PYTHONDONTWRITEBYTECODE is set, as it is in many containers.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    step = Step("first start of PyTorch and KServe")
    status, output = step.run(
        [str(VENV / "bin" / "python"), "-c", "import torch, captum, kserve"], environment
    )
    if status != 0:
        raise SetupError(f"What was installed does not start:\n{indent(output)}\n{advice(output)}")
    step.done()


def installed() -> Dict[str, str]:
    """Return name and version of every package in .venv."""
    folders = VENV.glob("lib/python3*/site-packages/*.dist-info")
    pairs = (folder.name[: -len(".dist-info")].split("-", 1) for folder in folders)
    return {name.lower(): version for name, version in pairs}


def remove_torn_packages() -> None:
    """Make pip install again what an interruption left half written.

    pip takes whatever has a METADATA file for installed; the lines it adds to RECORD, such as the one for
    INSTALLER, are the last it writes. Folders named `~...` are old versions that it was about to delete.
    """
    for site in VENV.glob("lib/python3*/site-packages"):
        for folder in site.glob("*.dist-info"):
            record = folder / "RECORD"
            if not record.exists() or "/INSTALLER," not in record.read_text():
                shutil.rmtree(folder)
        for leftover in site.glob("~*"):
            shutil.rmtree(leftover, ignore_errors=True)


NETWORK = (
    "ConnectionError|NewConnection|Max retries|name resolution|timed out|ProxyError|No matching|conflicting"
)
HINTS = {
    "No space left": "The disk is full: about 2 GB are needed (with CUDA 10 GB).",
    "CERTIFICATE_VERIFY_FAILED|SSLError": "Behind a proxy with a certificate of its own, set PIP_CERT.",
    NETWORK: """\
Is the network there? A proxy goes into PIP_PROXY, a package mirror into PIP_INDEX_URL, a mirror of
PyTorch's wheels into TORCH_INDEX, a folder of wheels into PIP_FIND_LINKS; docs/install.md says more.""",
}


def advice(output: List[str]) -> str:
    """Return what a person can do about pip's last words."""
    text = "\n".join(output)
    hints = [hint for pattern, hint in HINTS.items() if re.search(pattern, text)]
    again = f"The same command tries again; the whole log is {LOG.relative_to(ROOT)}."
    return "\n".join([*hints[:1], again])


# -------------------------------------------------------------------------------------------- progress


class Step:
    """One step of the display: runs a command, shows what it is doing and for how long.

    On a terminal the line changes in place; elsewhere a further line comes every `PAUSE` seconds.
    """

    PAUSE = 10.0
    count = 0

    def __init__(self, shown: str) -> None:
        Step.count += 1
        self.title = f"[{Step.count}] {shown}"
        self.start = self.said = time.monotonic()
        self.tty = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.activity = PipActivity()
        self.lines: List[str] = []
        if not self.tty:
            print(f"{self.title} ...", flush=True)

    def run(self, command: List[str], env: Optional[Dict[str, str]] = None) -> Tuple[int, List[str]]:
        """Run to the end; return the exit status and the last lines of the output."""
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
        )
        reader = threading.Thread(target=self.read, args=(process,), daemon=True)
        reader.start()
        try:
            while reader.is_alive():
                self.tick()
                reader.join(0.2)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
        return process.wait(), [line[:160] for line in self.lines if "Retrying (" not in line][-12:]

    def read(self, process: "subprocess.Popen[bytes]") -> None:
        """Follow the output: to the log, and to what the display says."""
        with (LOG if LOG.exists() else Path(os.devnull)).open("a") as log:
            for raw in process.stdout or ():
                line = raw.decode(errors="replace")
                log.write(line)
                self.lines.append(line.rstrip())
                self.activity.follow(line)

    def tick(self) -> None:
        """Show the present state, as often as the display bears."""
        text = f"{self.title}, {clock(self.start)}: {self.activity.text()}"
        if self.tty:
            width = shutil.get_terminal_size().columns - 1
            print("\r\033[K" + text[:width], end="", flush=True)
        elif time.monotonic() - self.said >= self.PAUSE:
            self.said = time.monotonic()
            print(f"    {text}", flush=True)

    def done(self) -> None:
        """End the line."""
        print(
            f"{chr(13) + chr(27) + '[K' if self.tty else ''}{self.title}: done ({clock(self.start)})",
            flush=True,
        )


class PipActivity:
    """What pip is doing, read off its output, its download folder and .venv."""

    def __init__(self) -> None:
        self.collected = 0
        self.doing = "working"
        self.file = ""
        self.size = ""
        self.before = 0
        self.total = 0

    def follow(self, line: str) -> None:
        """Take in one line of pip's output."""
        words = line.split()
        if line.startswith("Collecting"):
            self.collected += 1
            self.doing, self.file = f"looking for {words[1]}", ""
        elif line.startswith("  Downloading"):
            self.file, self.size = words[1].rsplit("/", 1)[-1], " ".join(words[2:]).strip("()")
            self.doing = f"downloading {'-'.join(self.file.split('-')[:2])}"
        elif line.startswith("Installing collected packages"):
            self.before, self.total = len(installed()), line.count(",") + 1

    def text(self) -> str:
        """Return the activity in a few words."""
        if self.total:
            return f"installing {len(installed()) - self.before} of {self.total}"
        text = self.doing
        if self.file and "kB" not in self.size:
            here = sum(file.stat().st_size for file in DOWNLOADS.glob(f"*/{self.file}"))
            text += f", {here / 1e6:.0f} of {self.size}"
        return f"{text}, {self.collected} packages so far" if self.collected > 1 else text


# --------------------------------------------------------------------------------------------- helpers


def output_of(
    command: List[str], timeout: Optional[float] = None, env: Optional[Dict[str, str]] = None
) -> str:
    """Run a command and return what it wrote to its standard output; empty when it cannot be run."""
    try:
        ended = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            env=env,
        )
    except OSError:
        return ""
    return ended.stdout.decode(errors="replace")


def clock(start: float) -> str:
    """Return the time since `start` (of the monotonic clock) for a person."""
    minutes, seconds = divmod(int(time.monotonic() - start), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def indent(lines: List[str]) -> str:
    """Return the lines set off from our own words."""
    return "\n".join(f"    {line}" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
