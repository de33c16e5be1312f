"""gRPC: the server, and KServe's inference service on it."""
