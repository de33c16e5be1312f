"""Write constraints.txt anew: the newest versions that fit pyproject.toml, for every Python we support.

    make constraints            # then run the tests, and commit both or neither

One resolution covers Python 3.10 to 3.13 and all extras; lines that hold for some Pythons or platforms
only carry a marker. Nothing but metadata is downloaded. The resolver, uv, lives in a throw-away environment.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
# Held on purpose, each with its reason.
HELD = {
    "torch": "2.13.0",  # moves by hand, after the archives and benchmarks have been run with the new one
}
HEADER = """\
# The set of versions the tests pass with; `make constraints` writes this file (scripts/constraints.py).
# The nvidia-* and cuda-* lines are what PyTorch's CUDA build asks for; the CPU build installs none of them.
"""


def main() -> int:
    """Resolve and write; return the exit status of the resolver."""
    with tempfile.TemporaryDirectory() as folder:
        builder = venv.EnvBuilder(with_pip=True)
        builder.create(folder)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
        held = Path(folder) / "held.txt"
        held.write_text("".join(f"{name}=={version}\n" for name, version in HELD.items()))
        command = [python, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
        command += ["--universal", "--python-version", "3.10", "--all-extras", "-c", str(held)]
        resolved = subprocess.run(
            [*command, str(ROOT / "pyproject.toml")], stdout=subprocess.PIPE, text=True, check=False
        )
    if resolved.returncode == 0:
        CONSTRAINTS.write_text(HEADER + resolved.stdout)
        print(f"{CONSTRAINTS.name}: {len(resolved.stdout.splitlines())} lines. Now: make test && make check")
    return resolved.returncode


if __name__ == "__main__":
    sys.exit(main())
