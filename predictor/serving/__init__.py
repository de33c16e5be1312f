"""Which models there are, the queues before them, and the processes that run them."""
