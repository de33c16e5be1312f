"""A descriptor pool of its own for messages that use Google's."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pool import DescriptorPool


def pool(*imported: Any) -> DescriptorPool:
    """Return a pool that holds the files of the `imported` modules and those that they need in turn."""
    return pool_of_files([module.DESCRIPTOR for module in imported])


def pool_of_files(files: list[Any]) -> DescriptorPool:
    """Return a pool that holds files, whatever pools they come from, and those that they need in turn."""
    own = DescriptorPool()
    added: set[str] = set()

    def add(file: Any) -> None:
        if file.name not in added:
            added.add(file.name)
            for needed in file.dependencies:
                add(needed)
            own.AddSerializedFile(file.serialized_pb)

    for file in files:
        add(file)
    return own
