"""Messages as length-prefixed frames: four bytes, little endian, then MessagePack."""

from __future__ import annotations

import struct
from typing import Generic, TypeVar

import msgspec

_PREFIX = struct.Struct("<I")
_ENCODER = msgspec.msgpack.Encoder()

Message = TypeVar("Message")


class FrameError(Exception):
    """The peer sent something that is not a frame; the connection cannot go on."""


def encode_frame(message: msgspec.Struct) -> bytearray:
    """Serialise one message, prefix included.

    Raises:
        FrameError: the message is 4 GiB or larger, or holds something that MessagePack cannot carry.
    """
    frame = bytearray(_PREFIX.size)
    try:
        _ENCODER.encode_into(message, frame, _PREFIX.size)
    except (OverflowError, UnicodeEncodeError, TypeError, msgspec.MsgspecError) as error:
        raise FrameError(f"cannot be sent: {error}") from error
    length = len(frame) - _PREFIX.size
    if length > 0xFFFFFFFF:
        raise FrameError(f"a message of {length} bytes does not fit a frame")
    _PREFIX.pack_into(frame, 0, length)
    return frame


class FrameDecoder(Generic[Message]):
    """Cuts a byte stream into messages of one union type, whatever pieces it comes in."""

    def __init__(self, message_type: object) -> None:
        """Decode to `message_type`, a union of tagged structs."""
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(message_type)
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> list[Message]:
        """Return every message that `data` completes.

        Raises:
            FrameError: a frame does not hold a message of the expected type.
        """
        # Most of what comes is whole frames, which need not be kept.
        if self._buffer:
            self._buffer += data
            data = self._buffer
        messages: list[Message] = []
        start = 0
        with memoryview(data) as view:
            while len(view) - start >= _PREFIX.size:
                (length,) = _PREFIX.unpack_from(view, start)
                end = start + _PREFIX.size + length
                if end > len(view):
                    break
                with view[start + _PREFIX.size : end] as body:
                    messages.append(self._decode(body))
                start = end
        if data is self._buffer:
            del self._buffer[:start]
        elif start < len(data):
            self._buffer += memoryview(data)[start:]
        return messages

    def _decode(self, body: memoryview) -> Message:
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise FrameError(f"not a message of this protocol: {error}") from error
