"""What a gRPC server can answer: services with their handlers, and their descriptors for reflection."""

from __future__ import annotations

import dataclasses
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from predictor.oip import inference_pb2 as oip_pb2
from predictor.protocols.grpc import inference, torchserve, torchserve_management
from predictor.protocols.managing import ModelManagement
from predictor.serving.manager import ModelManager
from predictor.serving.registry import Registry
from predictor.torchserve.protos import inference_pb2, management_pb2

# TorchServe had V2 under a name of its own, with the messages of the standard.
_TORCHSERVES_V2 = "org.pytorch.serve.grpc.openinference"


@dataclasses.dataclass(frozen=True)
class Service:
    """One gRPC service.

    Attributes:
        name: its full name.
        handler: what a grpc.aio server is given.
        file: descriptor of the file that declares it.
    """

    name: str
    handler: Any
    file: Any


def inference_services(registry: Registry, manager: ModelManager | None = None) -> tuple[Service, ...]:
    """Return V2 under both of its names, and TorchServe's inference service.

    Clients may load and unload models where there is a `manager`.
    """
    v2 = inference.InferenceService(registry, manager)
    file = _renamed(oip_pb2.DESCRIPTOR, _TORCHSERVES_V2)
    other = file.services_by_name["GRPCInferenceService"].full_name
    return (
        Service(inference.SERVICE, v2.handler(), oip_pb2.DESCRIPTOR),
        Service(other, v2.handler(other), file),
        Service(
            torchserve.SERVICE, torchserve.TorchServeInference(registry).handler(), inference_pb2.DESCRIPTOR
        ),
    )


def management_service(management: ModelManagement) -> Service:
    """Return TorchServe's management service."""
    handler = torchserve_management.ManagementService(management).handler()
    return Service(torchserve_management.SERVICE, handler, management_pb2.DESCRIPTOR)


def _renamed(file: Any, package: str) -> Any:
    """Return the descriptor of a file without imports under another package."""
    proto = FileDescriptorProto.FromString(file.serialized_pb)
    old, new = f".{proto.package}.", f".{package}."
    proto.name, proto.package = f"{package}.proto", package

    def rename(message: Any) -> None:
        for field in (field for field in message.field if field.type_name):
            field.type_name = field.type_name.replace(old, new, 1)
        for nested in message.nested_type:
            rename(nested)

    for message in proto.message_type:
        rename(message)
    for service in proto.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old, new, 1)
            method.output_type = method.output_type.replace(old, new, 1)
    return DescriptorPool().AddSerializedFile(proto.SerializeToString())
