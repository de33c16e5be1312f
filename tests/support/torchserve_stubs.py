"""A client of TorchServe's gRPC services that owes nothing to ours.

Its messages are made from the names, numbers and types that TorchServe 0.12 compiled into its jar
(`torchserve_protos.json`), so it stands for any client generated from TorchServe's own .proto files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, empty_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import status_pb2

FACTS: dict[str, Any] = json.loads(Path(__file__).with_name("torchserve_protos.json").read_text())
INFERENCE, MANAGEMENT = FACTS

_TYPES = descriptor_pb2.FieldDescriptorProto
_NEEDED = ("google/protobuf/any.proto", "google/protobuf/empty.proto", "google/rpc/status.proto")


def messages(package: str, pool: DescriptorPool | None = None) -> dict[str, Any]:
    """Return the message classes of a package by name, made in `pool` (a new one by default)."""
    own = pool is None
    pool = DescriptorPool() if pool is None else pool
    if own:
        (any_proto,) = status_pb2.DESCRIPTOR.dependencies
        for file in (any_proto, empty_pb2.DESCRIPTOR, status_pb2.DESCRIPTOR):
            pool.AddSerializedFile(file.serialized_pb)
    file = pool.AddSerializedFile(_file(package).SerializeToString())
    return {
        name: message_factory.GetMessageClass(message) for name, message in file.message_types_by_name.items()
    }


class Stub:
    """The methods of a package's service, as a generated stub has them."""

    def __init__(self, channel: grpc.Channel, package: str, made: dict[str, Any] | None = None) -> None:
        self.types = made or messages(package)
        known = {**{f"{package}.{name}": kind for name, kind in self.types.items()}}
        known["google.protobuf.Empty"] = empty_pb2.Empty
        for full_name, (takes, many_in, gives, many_out) in FACTS[package]["methods"].items():
            service, name = full_name.split(".")
            kind = f"{'stream' if many_in else 'unary'}_{'stream' if many_out else 'unary'}"
            call = getattr(channel, kind)(
                f"/{package}.{service}/{name}",
                request_serializer=known[takes].SerializeToString,
                response_deserializer=known[gives].FromString,
            )
            setattr(self, name, call)


def _file(package: str) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    file.dependency.extend(_NEEDED)
    made = {name: file.message_type.add(name=name) for name in FACTS[package]["messages"]}
    for full_name, (number, label, type_name) in FACTS[package]["fields"].items():
        owner, name = full_name.split(".")
        _add_field(made[owner], f".{package}.{owner}", name, number, label, type_name)
    return file


def _add_field(message: Any, scope: str, name: str, number: int, label: str, type_name: str) -> None:
    field = message.field.add(name=name, number=number, label=_TYPES.LABEL_OPTIONAL)
    if type_name.startswith("map"):
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=_TYPES.TYPE_STRING, label=_TYPES.LABEL_OPTIONAL)
        entry.field.add(name="value", number=2, type=_TYPES.TYPE_BYTES, label=_TYPES.LABEL_OPTIONAL)
        field.label, field.type = _TYPES.LABEL_REPEATED, _TYPES.TYPE_MESSAGE
        field.type_name = f"{scope}.{entry.name}"
    elif "." in type_name:
        field.type, field.type_name = _TYPES.TYPE_MESSAGE, f".{type_name}"
    else:
        field.type = getattr(_TYPES, f"TYPE_{type_name.upper()}")
    if label == "optional":
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")
