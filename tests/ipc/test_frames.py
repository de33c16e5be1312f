"""Frames: whatever pieces the stream comes in, the same messages; whatever garbage, a FrameError."""

from __future__ import annotations

import itertools
import struct
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.ipc.frames import FrameDecoder, FrameError, encode_frame
from predictor.ipc.messages import Batch, Cancel, FromWorker, InferenceResult, Loaded, Results, Stop, ToWorker

# Text that UTF-8 can hold: anything but lone surrogates.
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Integers and floats that MessagePack gives back as they are.
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


def _field(kind: object) -> st.SearchStrategy[object]:
    """Return a strategy for one field of a message."""
    if isinstance(kind, msgspec.inspect.StructType):
        return _message(kind.cls)
    if isinstance(kind, msgspec.inspect.ListType):
        return st.lists(_field(kind.item_type), max_size=3)
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return st.lists(_field(kind.item_type), max_size=3).map(tuple)
    if isinstance(kind, msgspec.inspect.TupleType):
        return st.tuples(*(_field(item) for item in kind.item_types))
    if isinstance(kind, msgspec.inspect.UnionType):
        return st.one_of(*(_field(item) for item in kind.types))
    if isinstance(kind, msgspec.inspect.DictType):
        return st.dictionaries(_TEXT, _JSON, max_size=3)
    if isinstance(kind, msgspec.inspect.EnumType):
        return st.sampled_from(kind.cls)
    plain = {
        msgspec.inspect.StrType: _TEXT,
        msgspec.inspect.BytesType: st.binary(max_size=64),
        msgspec.inspect.IntType: st.integers(-(2**63), 2**63 - 1),
        msgspec.inspect.FloatType: st.floats(allow_nan=False),
        msgspec.inspect.BoolType: st.booleans(),
        msgspec.inspect.NoneType: st.none(),
    }
    return plain[type(kind)]


def _message(cls: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
    info = msgspec.inspect.type_info(cls)
    return st.builds(cls, **{field.name: _field(field.type) for field in info.fields})


def _of(union: object) -> st.SearchStrategy[msgspec.Struct]:
    return st.one_of(*(_message(cls) for cls in get_args(union)))


@given(st.lists(_of(ToWorker), max_size=4), st.lists(st.integers(0, 400), max_size=8))
def test_any_split_of_the_stream_to_a_worker_gives_the_same_messages(messages, cuts):
    _check_splits(ToWorker, messages, cuts)


@given(st.lists(_of(FromWorker), max_size=4), st.lists(st.integers(0, 400), max_size=8))
def test_any_split_of_the_stream_from_a_worker_gives_the_same_messages(messages, cuts):
    _check_splits(FromWorker, messages, cuts)


def _check_splits(union, messages, cuts):
    stream = b"".join(encode_frame(message) for message in messages)
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    decoder = FrameDecoder(union)
    received = [message for a, b in itertools.pairwise(edges) for message in decoder.feed(stream[a:b])]
    assert received == messages
    assert [type(message) for message in received] == [type(message) for message in messages]


def test_one_byte_at_a_time():
    decoder = FrameDecoder(ToWorker)
    stream = encode_frame(Cancel(7, [1, 2])) + encode_frame(Stop())
    received = [message for byte in stream for message in decoder.feed(bytes([byte]))]
    assert received == [Cancel(7, [1, 2]), Stop()]


def test_bodies_do_not_depend_on_the_buffer_that_carried_them():
    decoder = FrameDecoder(FromWorker)
    buffer = bytearray(encode_frame(Results(1, [InferenceResult(body=b"first")])))
    (message,) = decoder.feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    decoder.feed(encode_frame(Results(2, [None])))
    assert message.results[0].body == b"first"


def test_a_length_that_is_too_short_is_an_error():
    frame = bytearray(encode_frame(Cancel(1, [2, 3])))
    frame[:4] = struct.pack("<I", len(frame) - 5)
    with pytest.raises(FrameError):
        FrameDecoder(ToWorker).feed(frame)


def test_a_length_that_reaches_into_the_next_frame_is_an_error():
    frame = bytearray(encode_frame(Stop()))
    frame[:4] = struct.pack("<I", len(frame) - 4 + 1)
    with pytest.raises(FrameError):
        FrameDecoder(ToWorker).feed(frame + encode_frame(Stop()))


def test_an_empty_frame_is_an_error():
    with pytest.raises(FrameError):
        FrameDecoder(ToWorker).feed(b"\0\0\0\0")


def test_a_length_that_is_too_long_waits_for_more():
    frame = bytearray(encode_frame(Stop()))
    frame[:4] = struct.pack("<I", 0xFFFFFFFF)
    assert FrameDecoder(ToWorker).feed(frame) == []


@given(st.binary(min_size=1, max_size=200))
def test_garbage_in_a_frame_is_an_error_or_a_message_never_anything_else(garbage):
    try:
        messages = FrameDecoder(FromWorker).feed(struct.pack("<I", len(garbage)) + garbage)
    except FrameError:
        return
    assert len(messages) == 1


def test_a_message_of_the_other_direction_is_an_error():
    with pytest.raises(FrameError):
        FrameDecoder(ToWorker).feed(encode_frame(Results(1, [])))
    with pytest.raises(FrameError):
        FrameDecoder(FromWorker).feed(encode_frame(Batch(1, [])))


@pytest.mark.parametrize("wrong", [b"\x93\xa7Results\x01\x07", b"\x93\xa7Results\xa1x\x90", b"\x90", b"\xc0"])
def test_wrong_types_in_a_message_are_an_error(wrong):
    with pytest.raises(FrameError):
        FrameDecoder(FromWorker).feed(struct.pack("<I", len(wrong)) + wrong)


def test_names_of_fields_do_not_travel():
    from predictor.ipc.messages import ModelInfo

    assert b"seconds" not in encode_frame(Loaded("cpu", 1.5, ModelInfo()))
