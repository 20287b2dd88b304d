"""Task predictor: which adapter's task is this prompt of? Its answer weighs the adapters, the same at every site.

The prompt is seen through the base model's own eyes (the mean of its last hidden states), so that no embedding model
has to be fetched. The classifier is multinomial logistic regression on standardised features; what is kept of it is
four arrays, never the object.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.adapters.library import Library
from explorer.errors import LearningError
from explorer.learning.examples import encoded_prompts, tasks_by_adapter
from explorer.learning.inputs import mean_state
from explorer.learning.learned import Facts, Learned, facts_of, prompt_ids, same_names
from explorer.learning.progress import SILENT, Watch
from explorer.models.routed_model import RoutedModel
from explorer.routing.prompt_weights import PromptWeights
from explorer.routing.router import Router
from explorer.tasks.task import Task

MOST_ITERATIONS = 2000


@dataclass(frozen=True, eq=False)
class TaskPredictor(Learned):
    """softmax(W (x - mean) / scale + b) for the mean state x of a prompt; rows of W and b stand for adapters."""

    key: ClassVar[str] = "predictor"
    title: ClassVar[str] = "Task predictor"
    paper: ClassVar[str] = "https://arxiv.org/abs/2405.11157"
    needs: ClassVar[str] = "prompts of each adapter's own task"
    per_prompt: ClassVar[bool] = True

    mean: Float[Tensor, " width"]
    scale: Float[Tensor, " width"]
    coefficients: Float[Tensor, "adapters width"]
    intercepts: Float[Tensor, " adapters"]

    def tensors(self) -> Mapping[str, Tensor]:
        """The four arrays."""
        return {
            "mean": self.mean,
            "scale": self.scale,
            "coefficients": self.coefficients,
            "intercepts": self.intercepts,
        }

    @classmethod
    def of_tensors(cls, facts: Facts, tensors: Mapping[str, Tensor], library: Library) -> Self:
        """The way back."""
        width = tuple(tensors["mean"].shape) if "mean" in tensors else (0,)
        count = len(facts.names)
        same_names(
            tensors,
            {"mean": width, "scale": width, "coefficients": (count, *width), "intercepts": (count,)},
        )
        if len(width) != 1 or not bool((tensors["scale"] > 0).all()):
            raise ValueError("has a mean or a scale that no classifier has")
        return cls(facts, **tensors)

    def probabilities(self, state: Float[Tensor, " width"]) -> Float[Tensor, " adapters"]:
        """Of each adapter in `facts.names`."""
        features = (state.double() - self.mean.double()) / self.scale.double()
        return torch.softmax(self.coefficients.double() @ features + self.intercepts.double(), dim=0).float()

    def router_for(self, prompt: str | Sequence[int], routed: RoutedModel) -> Router:
        """The probabilities for this prompt as weights at every token and site."""
        self.check(routed)
        state = mean_state(routed.base, prompt_ids(prompt, routed, self.facts))
        if state.shape != self.mean.shape:
            expected, found = f"{len(self.mean)} numbers a token", str(len(state))
            raise LearningError(self.label, "does not fit the base model", expected=expected, found=found)
        weights = tuple(self.probabilities(state).tolist())
        return PromptWeights(names=self.facts.names, weights=weights, named=self.label)


def learn_predictor(
    routed: RoutedModel,
    tasks: Sequence[Task],
    *,
    examples: int = 50,
    strength: float = 1.0,
    chat: bool = True,
    seed: int = 0,
    watch: Watch = SILENT,
) -> TaskPredictor:
    """Fit the classifier on `examples` training prompts of each adapter's own tasks (several tasks take turns).

    An adapter without examples is left out: it is never predicted.

    Args:
        routed: a base model with a library.
        tasks: those at hand.
        examples: of each adapter.
        strength: scikit-learn's C, the inverse of the penalty on large coefficients.
        chat: put the prompts into the chat template.
        seed: of the choice of examples.
        watch: progress and stop.

    Raises:
        LearningError: fewer than two adapters have examples.
        LearningStopped: `watch` said so.
    """
    own = tasks_by_adapter(routed, tasks, least=2)
    prompts = {name: encoded_prompts(routed.base, its, examples, chat=chat, seed=seed) for name, its in own.items()}
    total = sum(map(len, prompts.values()))
    states: list[Tensor] = []
    labels: list[str] = []
    for name, its_prompts in prompts.items():
        for ids in its_prompts:
            watch.step(len(states), total, name)
            states.append(mean_state(routed.base, ids))
            labels.append(name)
    arrays, hits = _fitted(torch.stack(states), labels, tuple(own), strength)
    used = [task for task in tasks if any(task in its for its in own.values())]
    settings = {"examples": examples, "strength": strength, "chat": chat, "seed": seed}
    facts = facts_of(
        routed, tuple(own), used, settings, results={"accuracy_on_examples": hits}, packages=["scikit-learn"]
    )
    return TaskPredictor(facts, **arrays)


def _fitted(
    states: Float[Tensor, "prompts width"], labels: Sequence[str], names: tuple[str, ...], strength: float
) -> tuple[dict[str, Tensor], float]:
    """The four arrays, and the share of the examples that are predicted right."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to import
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    scaler = StandardScaler().fit(states.double().numpy())
    features = scaler.transform(states.double().numpy())
    model = LogisticRegression(C=strength, max_iter=MOST_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that is not quite at its end is good enough to route by
        model.fit(features, labels)
    order = [list(model.classes_).index(name) for name in names]
    coefficients, intercepts = _by_class(model)
    arrays = {
        "mean": scaler.mean_,
        "scale": scaler.scale_,
        "coefficients": coefficients[order],
        "intercepts": intercepts[order],
    }
    tensors = {name: torch.as_tensor(array.copy()).float() for name, array in arrays.items()}
    return tensors, float(model.score(features, labels))


def _by_class(model: Any) -> tuple[Any, Any]:
    """One row a class also where there are two: scikit-learn keeps the difference of their scores then."""
    import numpy as np  # noqa: PLC0415 - beside scikit-learn

    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    return np.vstack([np.zeros_like(model.coef_), model.coef_]), np.append(0.0, model.intercept_)
