"""Adding what an adapter mixture gives to some rows of a base output, in place."""

from __future__ import annotations

from torch import Tensor

Where = slice | Tensor | None  # tokens in a line: a run of them, chosen ones, or all


def add_product(output: Tensor, tokens: Where, left: Tensor, right: Tensor) -> None:
    """output[tokens] += left @ right."""
    if isinstance(tokens, Tensor) or left.dtype != output.dtype:
        add(output, tokens, left @ right)
    else:
        (output if tokens is None else output[tokens]).addmm_(left, right)


def add(output: Tensor, tokens: Where, added: Tensor) -> None:
    """output[tokens] += added."""
    added = added.to(output.dtype)
    if isinstance(tokens, Tensor):
        output.index_add_(0, tokens, added)
    else:
        (output if tokens is None else output[tokens]).add_(added)
