"""What runs in a worker process: the loop, the rows, the handler's call."""
