"""Streaming the text of a whole batch out of a Hugging Face `generate` call. Needs transformers."""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer  # type: ignore[import-not-found, unused-ignore]
from transformers.generation.streamers import (  # type: ignore[import-not-found, unused-ignore]
    BaseStreamer,
    TextIteratorStreamer,
)


class TextIteratorStreamerBatch(BaseStreamer):  # type: ignore[misc, unused-ignore]
    """Iterates over lists of `{"text": ...}`, one entry per sequence, until the first sequence ends."""

    def __init__(
        self,
        tokenizer: AutoTokenizer,
        batch_size: int,
        skip_prompt: bool = False,
        timeout: float | None = None,
        **decode_kwargs: Any,
    ) -> None:
        """Make a `TextIteratorStreamer` for each of the `batch_size` sequences; `timeout` in seconds."""
        self.batch_size = batch_size
        self.streamers = [
            TextIteratorStreamer(tokenizer, skip_prompt, timeout, **decode_kwargs) for _ in range(batch_size)
        ]
        self.streamer_iterators = [iter(streamer) for streamer in self.streamers]

    def put(self, value: Any) -> None:
        """Take the newest token ids, a tensor of first dimension `batch_size`; ValueError for another."""
        if value.shape[0] != self.batch_size:
            raise ValueError(
                f"expected token ids of {self.batch_size} sequences, got shape {tuple(value.shape)}"
            )
        for streamer, row in zip(self.streamers, value.split(1), strict=False):
            streamer.put(row)

    def end(self) -> None:
        """End every sequence."""
        for streamer in self.streamers:
            streamer.end()

    def __iter__(self) -> TextIteratorStreamerBatch:
        """Return itself."""
        return self

    def __next__(self) -> list[dict[str, str]]:
        """Return the next piece of text of every sequence."""
        pieces = [next(iterator, None) for iterator in self.streamer_iterators]
        texts = [piece for piece in pieces if piece is not None]
        if len(texts) < len(pieces):
            raise StopIteration
        return [{"text": text} for text in texts]
