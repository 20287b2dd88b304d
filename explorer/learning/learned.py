"""What a router learned from examples: numbers, and everything that a reader needs to trust and repeat them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar, Self

from torch import Tensor

from explorer.adapters.library import Library
from explorer.errors import LearningError
from explorer.models.chat import encode_prompt
from explorer.models.routed_model import RoutedModel
from explorer.routing.router import Router
from explorer.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was learned from, and how.

    Attributes:
        names: the adapters that something was learned for; any other has weight 0.
        left_out: the library's other adapters, for which there were no examples.
        library_hash: of the adapters that can be routed (:func:`adapters_hash`).
        base_model: the name of the model they were learned on.
        target: the one task that the weights are meant for ("" where they serve every prompt).
        data_hashes: task -> SHA-256 of its rows (`Task.data_hash`).
        settings: as given to the function that learned, the chat template (`chat`) among them.
        results: what came out, for example the loss before and after, in nats per token.
        versions: of the packages that computed it.
        base_hash: the content of a base model that came from a folder ("" for one that its name pins).
    """

    names: tuple[str, ...]
    left_out: tuple[str, ...]
    library_hash: str
    base_model: str
    target: str = ""
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    base_hash: str = ""

    @property
    def chat(self) -> bool:
        """Whether the examples were put into the chat template."""
        return self.settings.get("chat") is not False


@dataclass(frozen=True, eq=False)
class Learned(ABC):
    """What one method learned. Subclasses are final.

    Attributes:
        key: the method's name on the command line.
        title: the name that people read.
        paper: where it was described.
        needs: what it learns from, in words.
        per_prompt: whether :meth:`router_for` depends on the prompt.
        facts: what it was learned from, and how.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[str]
    per_prompt: ClassVar[bool] = False

    facts: Facts

    @property
    def label(self) -> str:
        """In words, with the task it is for."""
        return self.title + (f" on {self.facts.target}" if self.facts.target else "")

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """The numbers by name, float32."""

    @classmethod
    @abstractmethod
    def of_tensors(cls, facts: Facts, tensors: Mapping[str, Tensor], library: Library) -> Self:
        """The way back.

        Raises:
            ValueError: the tensors are not those of such a result for this library; says which.
        """

    @abstractmethod
    def router_for(self, prompt: str | Sequence[int], routed: RoutedModel) -> Router:
        """The router for a prompt: text (put into the chat template if the examples were) or its token ids.

        Raises:
            LearningError: it was learned on another library or base model.
            PromptError: the text cannot be used.
        """

    def check(self, routed: RoutedModel) -> None:
        """Raise LearningError if this was learned on another library or base model."""
        if routed.base.name != self.facts.base_model:
            found = f"{self.facts.base_model}, not on {routed.base.name}"
            raise LearningError(self.label, f"was learned on {found}", fix="Use that base model, or learn anew.")
        if routed.base.content_id != self.facts.base_hash:
            raise LearningError(self.label, f"was learned when {routed.base.name} was another", fix="Learn anew.")
        check_library(self.label, self.facts, routed.library)


def check_library(where: str, facts: Facts, library: Library) -> None:
    """Raise LearningError if something was learned on adapters of other content."""
    if adapters_hash(library) != facts.library_hash:
        raise LearningError(
            where,
            f"was learned on other adapters than those of {library.title}",
            fix="Open the library it was learned on, or learn anew.",
        )


def adapters_hash(library: Library) -> str:
    """SHA-256 over names and content of the adapters that can be routed, whatever their order."""
    lines = sorted(f"{adapter.name} {adapter.content_hash}" for adapter in library.routable)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def facts_of(
    routed: RoutedModel,
    names: Sequence[str],
    tasks: Sequence[Task],
    settings: Mapping[str, Any],
    *,
    target: str = "",
    results: Mapping[str, float] | None = None,
    packages: Sequence[str] = (),
) -> Facts:
    """The facts of what was learned now; `packages` are named beside torch and transformers."""
    return Facts(
        names=tuple(names),
        left_out=tuple(name for name in routed.names if name not in set(names)),
        library_hash=adapters_hash(routed.library),
        base_model=routed.base.name,
        target=target,
        data_hashes={task.name: task.data_hash for task in tasks},
        settings=dict(settings),
        results={name: round(value, 6) for name, value in (results or {}).items()},
        versions={package: version(package) for package in ("torch", "transformers", *packages)},
        base_hash=routed.base.content_id,
    )


def prompt_ids(prompt: str | Sequence[int], routed: RoutedModel, facts: Facts) -> list[int]:
    """Token ids of a prompt that may be ids already."""
    if isinstance(prompt, str):
        return encode_prompt(routed.base.tokenizer, prompt, chat=facts.chat, max_tokens=routed.base.max_tokens)
    return list(prompt)


def routable_sites(library: Library) -> dict[str, int]:
    """The input width of every site that an adapter which can be routed has."""
    return {site: form.shape[1] for adapter in library.routable for site, form in adapter.forms.items()}


def same_names(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless exactly these tensors are there, in these shapes."""
    for name in sorted(tensors.keys() ^ expected.keys()):
        raise ValueError(f"{'lacks' if name in expected else 'has an unknown'} array {name[:80]!r}")
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"has an array {name[:80]!r} of shape {tuple(tensors[name].shape)}, not {shape}")
