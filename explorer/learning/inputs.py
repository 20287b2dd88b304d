"""What the base model alone, without any adapter, makes of a prompt: the inputs of the sites, and its last states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.errors import BaseModelError
from explorer.models.base import BaseModel
from explorer.models.routed_model import RoutedModel


@torch.no_grad()
def last_inputs(routed: RoutedModel, ids: Sequence[int]) -> list[Float[Tensor, " d_in"]]:
    """For each bank the input of its sites at the prompt's last token, float32.

    Raises:
        BaseModelError: a site is not reached by every token.
    """
    found: dict[int, Tensor] = {}

    def watch(place: int) -> Any:
        return lambda _, args: found.__setitem__(place, args[0].reshape(-1, args[0].shape[-1])[-1].float().cpu())

    with routed.base.lock:
        hooks = [
            routed.base.model.get_submodule(bank.sites[0]).register_forward_pre_hook(watch(place))
            for place, bank in enumerate(routed.banks)
        ]
        try:
            tokens = torch.tensor([list(ids)], device=routed.base.device)
            routed.base.model(input_ids=tokens, use_cache=False, **({"logits_to_keep": 1} if routed.can_keep else {}))
        finally:
            for hook in hooks:
                hook.remove()
    for place, bank in enumerate(routed.banks):
        if place not in found:
            raise BaseModelError(bank.sites[0], "is not used when this model reads text", fix="Leave its adapters out.")
    return [found[place] for place in range(len(routed.banks))]


@torch.no_grad()
def mean_state(base: BaseModel, ids: Sequence[int]) -> Float[Tensor, " width"]:
    """The mean over the prompt's tokens of the last hidden state (after the final norm), float32."""
    with base.lock:
        output = base.model.base_model(input_ids=torch.tensor([list(ids)], device=base.device), use_cache=False)
    return output.last_hidden_state[0].float().mean(dim=0).cpu()
