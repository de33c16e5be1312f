"""Building blocks for handlers: timing, micro-batching, streaming, image transforms."""
