"""Element counts of recorded tensors."""

import math

import numpy as np
from numpy.typing import NDArray

from ..trace.schema import DTYPES
from ..trace.trace import Rows, Trace
from .series import Floats

WHOLE = tuple(DTYPES.index(name) for name in ("int64", "int32", "int16", "int8", "uint8", "bool"))  # ids, masks

LARGEST = 2**62  # no tensor holds more; a note that says so is not believed


def elements(trace: Trace, shapes: NDArray[np.integer]) -> Floats:
    """How many elements the tensor of each row has; 0 where unknown."""
    unique, places = np.unique(shapes, return_inverse=True)
    counts = [min(math.prod(trace.shapes.get(int(shape), (0,))), LARGEST) for shape in unique]
    return np.array(counts, np.float64)[places]


def root_mean_square(trace: Trace, rows: Rows) -> Floats:
    """Root mean square of each row's tensor; its norm where its size is unknown."""
    with np.errstate(all="ignore"):
        return np.asarray(rows["norm"] / np.sqrt(np.maximum(elements(trace, rows["shape"]), 1)), np.float64)
