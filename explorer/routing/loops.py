"""Where the compiled loops take the place of tensor operations: on the CPU, in float32, for little work at a time.

They know no gradients, so they are used only where torch records none.

Everywhere else, and where numba does not work, the same is done with torch.
"""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType

import numpy as np
from torch import Tensor, float32, is_grad_enabled

LOG = logging.getLogger(__name__)
#: Numbers that one core goes through faster than torch calls its operations.
LITTLE = 1 << 16
#: For a loop's optional argument.
NOTHING = np.empty(0, np.float32)


@cache
def compiled() -> ModuleType | None:
    """The compiled loops, None where they cannot be had. Half a second to import, on first use."""
    try:
        from explorer.routing import compiled as loops  # noqa: PLC0415 - numba is slow to import
    except Exception as error:  # a numba that does not fit its LLVM, or none at all: torch does the work
        LOG.info("routing without compiled loops: %s", error)
        return None
    return loops


def loops_for(tensor: Tensor, numbers: int) -> ModuleType | None:
    """The compiled loops if they suit a tensor and so many numbers to go through."""
    if numbers > LITTLE or tensor.dtype is not float32 or tensor.device.type != "cpu" or is_grad_enabled():
        return None
    return compiled()
