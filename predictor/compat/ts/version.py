"""The TorchServe version whose handler interface this package offers; some handlers branch on it."""

__version__ = "0.12.0"
