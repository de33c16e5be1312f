"""Our messages against what TorchServe 0.12 compiled into its jar."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from support.torchserve_stubs import FACTS, INFERENCE, MANAGEMENT, messages

from predictor.protocols.grpc.services import inference_services
from predictor.serving.registry import Registry
from predictor.torchserve.protos import inference_pb2, management_pb2

OURS = {INFERENCE: inference_pb2, MANAGEMENT: management_pb2}


@pytest.mark.parametrize("package", FACTS)
def test_fields_and_methods_are_torchserves(package):
    ours = FileDescriptorProto.FromString(OURS[package].DESCRIPTOR.serialized_pb)
    theirs = messages(package)
    for name, kind in theirs.items():
        expected = {
            (field.name, field.number, field.type, field.has_presence) for field in kind.DESCRIPTOR.fields
        }
        mine = getattr(OURS[package], name).DESCRIPTOR
        found = {(field.name, field.number, field.type, field.has_presence) for field in mine.fields}
        assert found == expected, name
    methods = {
        f"{service.name}.{method.name}": [
            method.input_type.removeprefix("."),
            method.client_streaming,
            method.output_type.removeprefix("."),
            method.server_streaming,
        ]
        for service in ours.service
        for method in service.method
    }
    assert methods == FACTS[package]["methods"]


@pytest.mark.parametrize("package", FACTS)
def test_a_message_of_theirs_is_one_of_ours(package):
    for name, kind in messages(package).items():
        message = kind()
        for field in kind.DESCRIPTOR.fields:
            if field.type == field.TYPE_STRING:
                setattr(message, field.name, f"text of {field.name}")
            elif field.type == field.TYPE_INT32:
                setattr(message, field.name, field.number)
        mine = getattr(OURS[package], name).FromString(message.SerializeToString())
        assert str(mine) == str(message)


def test_nothing_of_ours_is_in_the_pool_that_clients_share():
    pool = descriptor_pool.Default()
    for package in FACTS:
        with pytest.raises(KeyError):
            pool.FindFileByName(OURS[package].DESCRIPTOR.name)


def test_v2_has_torchserves_name_beside_its_own():
    standard, other, _ = inference_services(Registry())
    assert standard.name == "inference.GRPCInferenceService"
    assert other.name == "org.pytorch.serve.grpc.openinference.GRPCInferenceService"
    message = other.file.message_types_by_name["ModelInferRequest"]
    assert message.fields_by_name["inputs"].message_type.full_name.startswith(other.file.package + ".")
    assert [field.number for field in message.fields] == [
        field.number for field in standard.file.message_types_by_name["ModelInferRequest"].fields
    ]
