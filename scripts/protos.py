"""Make the Python messages of predictor's .proto files (needs grpcio-tools; its output is committed).

The messages go into descriptor pools of their own: kserve, tritonclient and TorchServe's clients define
the same names in protobuf's default pool, and a handler may import any of them beside ours.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PROTOS = (
    "predictor/oip/inference.proto",
    "predictor/torchserve/protos/inference.proto",
    "predictor/torchserve/protos/management.proto",
)
_IMPORT = re.compile(r"^from google\.\w+ import \w+_pb2 as (\w+)$", re.MULTILINE)
_DEFAULT_POOL = "_descriptor_pool.Default()"


def main() -> None:
    """Write `*_pb2.py` and `*_pb2.pyi` beside each .proto file."""
    for proto in _PROTOS:
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"-I{sysconfig.get_path('purelib')}"]
        subprocess.run([*command, "--python_out=.", "--pyi_out=.", proto], cwd=_ROOT, check=True)
        generated = (_ROOT / proto).with_name(Path(proto).stem + "_pb2.py")
        text = generated.read_text(encoding="utf-8")
        generated.write_text(_with_own_pool(text), encoding="utf-8")


def _with_own_pool(text: str) -> str:
    """Let a generated module use a pool of its own, which holds the files that it imports."""
    imported = _IMPORT.findall(text)
    if not imported:
        return text.replace(_DEFAULT_POOL, "_descriptor_pool.DescriptorPool()")
    text = text.replace(_DEFAULT_POOL, f"_pool({', '.join(imported)})")
    last = list(_IMPORT.finditer(text))[-1].end()
    return f"{text[:last]}\nfrom predictor.torchserve.protos.pool import pool as _pool{text[last:]}"


if __name__ == "__main__":
    main()
