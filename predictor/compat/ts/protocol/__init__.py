"""What used to be TorchServe's worker protocol."""
