"""Tensors of any datatype and shape, and how to tell whether two are the same to the last bit."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from predictor.handlers.tensors import Tensor
from predictor.oip.datatypes import DATATYPES

NUMPY = {datatype: dtype for dtype, datatype in DATATYPES.items() if datatype not in ("BF16", "BYTES")}
JSON_NUMBERS = [datatype for datatype in NUMPY if datatype != "FP16"]
ALL = [*NUMPY, "BF16", "BYTES"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def tensors(draw, datatypes=tuple(ALL), *, finite=False, text=False):
    """Any tensor; `finite` numbers and `text` are what JSON can hold."""
    datatype = draw(st.sampled_from(datatypes))
    shape = draw(SHAPES)
    name = draw(st.text(max_size=5))
    if datatype == "BYTES":
        element = st.text(max_size=8).map(str.encode) if text else st.binary(max_size=8)
        size = int(np.prod(shape))
        array = np.empty(size, dtype=object)
        array[:] = draw(st.lists(element, min_size=size, max_size=size))
        return Tensor(name, datatype, array.reshape(shape))
    dtype = np.dtype("<u2" if datatype == "BF16" else NUMPY[datatype])
    elements = None
    if finite and dtype.kind == "f":
        elements = st.floats(width=8 * dtype.itemsize, allow_nan=False, allow_infinity=False)
    return Tensor(name, datatype, draw(hnp.arrays(dtype, shape, elements=elements)))


def same(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors are the same but for the name, NaN payloads and signs of zero included."""
    if (left.datatype, left.array.shape) != (right.datatype, right.array.shape):
        return False
    if left.datatype == "BYTES":
        return _bytes(left) == _bytes(right)
    return left.array.dtype == right.array.dtype and left.array.tobytes() == right.array.tobytes()


def _bytes(tensor: Tensor) -> list[bytes]:
    return [item.encode() if isinstance(item, str) else item for item in tensor.array.reshape(-1).tolist()]
