"""Names for the arrays that go through the whole program, by what one of their numbers is.

Shapes stand in the docstring of each function: `(bins, tracks)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
"""What models compute with: latents, logits, signals."""
Doubles = NDArray[np.float64]
"""What statistics are computed in: sums over many bins lose too much in float32."""
Reals = NDArray[np.floating[Any]]
"""Either of the two."""
Ints = NDArray[np.int64]
"""Positions on a contig, indices, counts."""
Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
"""Base codes, letters of a sequence, packed bits."""
Int8s = NDArray[np.int8]
"""Dosages: copies of an allele that a person has, 0 to 2, and -1 where the call is missing."""
