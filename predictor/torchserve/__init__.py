"""TorchServe's configuration and command line, read on its users' behalf."""
