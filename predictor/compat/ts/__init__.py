"""TorchServe's import surface, so that handlers written for it run here unmodified.

The folder above is on `sys.path` of worker processes only, and the modules are imported as `ts...`. Names,
arguments and behaviour follow TorchServe 0.12; the code is this project's own.
"""

from ts.version import __version__

__all__ = ["__version__"]
