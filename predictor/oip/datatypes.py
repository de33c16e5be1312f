"""V2's names of element types, and the dtypes of signatures that they stand for."""

from __future__ import annotations

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bfloat16": "BF16",
    "string": "BYTES",
}
"""V2's name by the dtype of a `TensorSpec`."""

HEADER_LENGTH = "inference-header-content-length"
"""The header that says how many bytes of a body are JSON; the rest are tensors."""

EXPLAIN = "explain"
"""The parameter of a gRPC request that asks for an explanation: true, or the wishes for it as JSON."""

GRPC_TYPE = "application/grpc"
"""Content type that the gRPC server gives to a message for a worker: its body is a ModelInferRequest."""
