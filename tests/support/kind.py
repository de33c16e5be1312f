"""Stand-ins for the programs that scripts/kind/kind.sh calls."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from support.manifests import ROOT

SCRIPT = ROOT / "scripts" / "kind" / "kind.sh"
# What the script needs of a machine besides.
_REAL = ("bash", "dirname", "readlink", "sed", "grep", "base64", "tr", "cut", "tail", "cat", "env")


class StandIns:
    """A folder of programs that note how they are called, and answer as they are told to."""

    def __init__(self, folder: Path, *real: str) -> None:
        """Make the folder; `real` names further programs that are the machine's own."""
        self._bin = folder / "bin"
        self._log = folder / "calls"
        self._bin.mkdir()
        for name in (*_REAL, *real):
            found = shutil.which(name)
            assert found, f"no {name} on this machine"
            (self._bin / name).symlink_to(found)
        for name in ("docker", "kind", "kubectl", "helm", "curl"):
            if name not in real:
                self.say(name, "kind v0.31.0 go1.25 linux/amd64" if name == "kind" else "")

    def say(self, name: str, answer: str) -> None:
        """Let a program print `answer` and succeed."""
        self._write(name, f"cat <<'TEXT'\n{answer}\nTEXT" if answer else ":")

    def fail(self, name: str, when: str = "") -> None:
        """Let a program fail, always or when its arguments contain `when`."""
        self._write(name, f'case "$*" in *"{when}"*) exit 1 ;; esac')

    def remove(self, *names: str) -> None:
        """Take programs away."""
        for name in names:
            (self._bin / name).unlink()

    def _write(self, name: str, body: str) -> None:
        file = self._bin / name
        file.write_text(f"#!{shutil.which('bash')}\necho \"{name} $*\" >>'{self._log}'\n{body}\n")
        file.chmod(0o755)

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the script with nothing but these programs on PATH."""
        return subprocess.run(
            [str(SCRIPT), *words],
            env={"PATH": str(self._bin), "HOME": os.environ.get("HOME", "/"), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def calls(self) -> list[str]:
        """Return the calls so far: name and arguments."""
        return self._log.read_text().splitlines() if self._log.exists() else []
