"""LoraHub: a weight for each adapter, found without gradients on a few examples of one task (arXiv 2307.13269).

The search is nevergrad's NGOpt, as in the paper. One difference: the paper's code mixes the factors,
(sum w B)(sum w A); here the updates are mixed, sum w B A, as everywhere in this program.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explorer.errors import LearningError, SettingsError
from explorer.learning.examples import few_shot
from explorer.learning.learned import facts_of
from explorer.learning.mixing import Delta, mean_loss, mixture
from explorer.learning.progress import SILENT, Watch
from explorer.learning.weights import LearnedWeights
from explorer.models.routed_model import RoutedModel
from explorer.routing.bank import Bank
from explorer.routing.per_site import PerSite
from explorer.tasks.task import Task

BOUND = 1.5
L1 = 0.05


@dataclass(frozen=True, eq=False)
class LoraHub(LearnedWeights):
    """One weight for each adapter, the same at every site."""

    key: ClassVar[str] = "lorahub"
    title: ClassVar[str] = "LoraHub"
    paper: ClassVar[str] = "https://arxiv.org/abs/2307.13269"
    needs: ClassVar[str] = "a few examples of the target task"


def learn_lorahub(
    routed: RoutedModel,
    target: Task,
    *,
    examples: int = 16,
    evaluations: int = 40,
    batch_size: int = 8,
    max_tokens: int = 512,
    chat: bool = True,
    seed: int = 0,
    watch: Watch = SILENT,
) -> LoraHub:
    """Search the weights in [-1.5, 1.5], from 0, that minimise loss + 0.05 mean |w| on a few examples of `target`.

    The best weights that were evaluated are kept. All adapters of the library take part.

    Args:
        routed: a base model with a library.
        target: the task; its validation rows, else its training rows, give the examples.
        examples: how many.
        evaluations: of the loss.
        batch_size: rows in one pass.
        max_tokens: longer rows are left out.
        chat: put the prompts into the chat template.
        seed: of the search and of the choice of examples.
        watch: progress and stop.

    Raises:
        LearningError: the task has no such rows, or nevergrad is not installed.
        LearningStopped: `watch` said so.
        SettingsError: a number is out of its bounds.
    """
    for name, value in (("examples", examples), ("evaluations", evaluations), ("batch_size", batch_size)):
        if value < 1:
            raise SettingsError(name, expected="at least 1", found=str(value))
    nevergrad = _nevergrad()
    rows = few_shot(routed.base, target, examples, chat=chat, seed=seed, longest=max_tokens)

    def loss_of(weights: NDArray[np.float64]) -> float:
        return mean_loss(routed, rows, everywhere(torch.tensor(weights).float().to(routed.base.device)), batch_size)

    weights, losses = _searched(nevergrad, loss_of, len(routed.names), evaluations, seed, watch)
    settings = {
        "examples": examples, "evaluations": evaluations, "batch_size": batch_size, "max_tokens": max_tokens,
        "chat": chat, "seed": seed,
    }  # fmt: skip
    facts = facts_of(
        routed, routed.names, [target], settings, target=target.name, results=losses, packages=["nevergrad"]
    )
    row = torch.tensor(weights).float()
    return LoraHub(facts, PerSite(routed.names, {site: row for site in routed.sites}))


def everywhere(weights: Tensor) -> Delta:
    """The same weights (adapters,) at every site."""

    def delta(bank: Bank, index: int, hidden: Tensor) -> Tensor:
        return mixture(bank, index, hidden, weights)

    return delta


def _searched(
    nevergrad: ModuleType,
    loss_of: Callable[[NDArray[np.float64]], float],
    count: int,
    evaluations: int,
    seed: int,
    watch: Watch,
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """The best weights, and the loss at 0 (the base model) and at these weights, without the penalty."""
    best = np.zeros(count)
    before = loss = least = loss_of(best)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the search tells its own settings
        space = nevergrad.p.Array(init=np.zeros(count)).set_bounds(-BOUND, BOUND)
        space.random_state.seed(seed)
        search = nevergrad.optimizers.NGOpt(parametrization=space, budget=evaluations)
        for done in range(evaluations):
            watch.step(done, evaluations, f"loss {loss:.4f}")
            asked = search.ask()
            weights = np.asarray(asked.value, dtype=np.float64)
            found = loss_of(weights)
            objective = found + L1 * float(np.abs(weights).mean())
            search.tell(asked, objective)
            if objective < least:
                best, loss, least = weights.copy(), found, objective
    return best, {"loss_before": before, "loss_after": loss}


def _nevergrad() -> ModuleType:
    try:
        import nevergrad  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise LearningError(
            "LoraHub", "needs the package nevergrad", fix="Install it with: pip install -e '.[learn]'"
        ) from None
    return nevergrad
