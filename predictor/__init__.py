"""The PyTorch predictor for KServe: TorchServe's archives and clients, KServe's protocols, one port."""

__version__ = "0.1.0"
