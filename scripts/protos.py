"""Make the Python messages of predictor's .proto files (needs grpcio-tools; its output is committed).

The messages go into a descriptor pool of their own: kserve and tritonclient define the same names in
protobuf's default pool, and a handler may import either beside them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PROTOS = ("predictor/oip/inference.proto",)


def main() -> None:
    """Write `*_pb2.py` and `*_pb2.pyi` beside each .proto file."""
    for proto in _PROTOS:
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--pyi_out=.", proto],
            cwd=_ROOT,
            check=True,
        )
        generated = (_ROOT / proto).with_name(Path(proto).stem + "_pb2.py")
        text = generated.read_text(encoding="utf-8")
        generated.write_text(
            text.replace("_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()"), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
