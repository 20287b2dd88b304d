"""What is evaluated: a router on a library, or a choice that knows each task's own adapter (the oracle)."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from explorer.adapters.library import Library
from explorer.errors import EvaluationError, SettingsError
from explorer.evaluation.record import ORACLE_TITLE, MethodNote
from explorer.learning.learned import Learned
from explorer.models.routed_model import RoutedModel
from explorer.routing.registry import ROUTERS, make_router
from explorer.routing.router import FixedRouter, MergeRouter, Router
from explorer.routing.setting import settings_of
from explorer.routing.single import Single

ORACLE, BEST = "oracle", "best"
BASE_KEY = "base"


class Method(ABC):
    """One row of the table.

    Attributes:
        note: how the record names it.
        identity: everything that decides what it finds, besides base model, rows and settings.
    """

    note: MethodNote
    identity: str

    @abstractmethod
    def router(self, task: str, prompt: str) -> Router | None:
        """The router for a prompt of a task; None where the method has none for this task."""

    @property
    def routes(self) -> bool:
        """Whether its weights depend on the input, so that the right adapter's share is worth knowing."""
        return False


class RouterMethod(Method):
    """The same router for every prompt."""

    def __init__(self, router: Router, library: Library) -> None:
        self._router = router
        alone = router.key == BASE_KEY
        title, content = ("", "") if alone else (library.title, library.content_hash)
        self.identity = f"{content} {router_identity(router)}"
        self.note = MethodNote(
            key=BASE_KEY if alone else f"{title}: {router.label}",
            title=router.label,
            library=title,
            library_hash=content,
            adapters=0 if alone else len(library.routable),
            identity=short_hash(self.identity),
        )

    def router(self, task: str, prompt: str) -> Router:
        """The one there is."""
        return self._router

    @property
    def routes(self) -> bool:
        """As its kind says."""
        return not isinstance(self._router, FixedRouter | MergeRouter)


class NamedMethod(Method):
    """For each task one adapter alone.

    Args:
        library: the adapters.
        chosen: adapter by task.
        title, uses: how the record names it, and what it has to know.
    """

    def __init__(self, library: Library, chosen: Mapping[str, str], *, title: str, uses: str) -> None:
        self._chosen = dict(chosen)
        key, count = f"{library.title}: {title}", len(library.routable)
        alike = short_hash(library.content_hash, title)  # an adapter for one task more makes no other method
        self.note = MethodNote(key, title, library.title, library.content_hash, uses, count, alike)
        self.identity = f"{library.content_hash} {title} {sorted(self._chosen.items())}"

    def router(self, task: str, prompt: str) -> Router | None:
        """The task's adapter alone, None where it has none."""
        return Single(self._chosen[task]) if task in self._chosen else None


class LearnedMethod(Method):
    """What one kind of router learned from examples: once for every prompt, or for each of some tasks.

    Args:
        learned: of one kind, for different tasks.
        routed: the library on the base model that they were learned on.
        library: the same.

    Raises:
        LearningError: they were learned on others.
        EvaluationError: two are for the same task.
    """

    def __init__(self, learned: Sequence[Learned], routed: RoutedModel, library: Library) -> None:
        self._by_target = {each.facts.target: each for each in learned}
        self._routed = routed
        self._known: dict[tuple[str, str], Router] = {}
        kind = learned[0]
        if len(self._by_target) < len(learned):
            raise EvaluationError(kind.title, "was learned twice for the same task", fix="Give one of them.")
        for each in learned:
            each.check(routed)
        key, count = f"{library.title}: {kind.title}", len(library.routable)
        content = " ".join(learned_identity(each) for _, each in sorted(self._by_target.items()))
        self.identity = f"{library.content_hash} {content}"
        for_all = [learned_identity(each) for target, each in self._by_target.items() if not target]
        alike = short_hash(library.content_hash, kind.key, *for_all)  # what serves one task may be learned one by one
        self.note = MethodNote(key, kind.title, library.title, library.content_hash, kind.needs, count, alike)

    def router(self, task: str, prompt: str) -> Router | None:
        """The router for this prompt; None where nothing was learned for the task."""
        learned = self._by_target.get(task) or self._by_target.get("")
        if learned is None:
            return None
        key = (learned.facts.target, prompt if learned.per_prompt else "")
        if key not in self._known:
            self._known[key] = learned.router_for(prompt, self._routed)
        return self._known[key]

    @property
    def routes(self) -> bool:
        """Whether it decides by the input."""
        return "" in self._by_target


def learned_methods(learned: Sequence[Learned], routed: RoutedModel, library: Library) -> tuple[LearnedMethod, ...]:
    """One method for each kind among them, in the order given."""
    kinds = dict.fromkeys(each.key for each in learned)
    return tuple(LearnedMethod([each for each in learned if each.key == key], routed, library) for key in kinds)


def learned_identity(learned: Learned) -> str:
    """SHA-256 over what was learned: its numbers and the names they belong to."""
    digest = hashlib.sha256(repr((learned.key, learned.facts.names, learned.facts.target)).encode())
    for name, tensor in sorted(learned.tensors().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def oracle(library: Library) -> NamedMethod:
    """Each task's own adapter (or that of its cluster) alone; held-out tasks have none.

    In a library that was fine-tuned on a few examples of each task it is no upper bound, and is named for what it is.
    """
    own = own_adapters(library)
    starts = {library[name].notes.start for name in own.values()}
    if not starts or "" in starts:
        return NamedMethod(library, own, title=ORACLE_TITLE, uses="the task's name")
    title = f"Fine-tuned from {' or '.join(sorted(starts))}"
    return NamedMethod(library, own, title=title, uses="a few examples of the target task")


def best_single(library: Library, chosen: Mapping[str, str], rows: int) -> NamedMethod:
    """For each task the adapter that was best on so many other rows of it (see `transfer.best_adapters`)."""
    title = f"Best single on {rows} rows"
    return NamedMethod(library, chosen, title=title, uses="validation rows of the task")


def own_adapters(library: Library) -> dict[str, str]:
    """The adapter that was trained on each task, by the library's notes or by its name.

    A task that several adapters claim goes to the one called like it, else to the first.
    """
    found: dict[str, str] = {}
    for adapter in library.routable:
        for task in adapter.notes.tasks or (adapter.notes.task or adapter.name,):
            if task == adapter.name or task not in found:
                found[task] = adapter.name
    return found


def methods_of(library: Library, routers: Sequence[Router]) -> tuple[Method, ...]:
    """One method for each router."""
    return tuple(RouterMethod(router, library) for router in routers)


def router_identity(router: Any) -> str:
    """The router's key with every setting, or what stands for what it learned; equal for equal routers only.

    Args:
        router: any router (each is a dataclass, which its abstract class does not say).
    """
    known = fields(router)
    return " ".join([router.key, *(f"{entry.name}={_settled(getattr(router, entry.name))}" for entry in known)])


def _settled(value: Any) -> str:
    return repr(sorted(value.items())) if isinstance(value, Mapping) else repr(value)


SPEC = re.compile(r"(?P<key>[a-z_-]+)(?::(?P<settings>.+))?\Z", re.DOTALL)


def router_from_spec(spec: str) -> Router:
    """A router from `key` or `key:setting=value,setting=value`, for example `arrow:top_k=1,temperature=0.5`.

    Raises:
        SettingsError: it is not of that form, or the router does not take it.
    """
    found = SPEC.match(spec)
    if found is None:
        raise SettingsError(f"Router {spec[:60]!r}", expected="NAME or NAME:SETTING=VALUE,SETTING=VALUE")
    key, given = found["key"], found["settings"]
    kinds = {entry.name: entry.kind for entry in settings_of(ROUTERS[key])} if key in ROUTERS else {}
    settings = {}
    for part in given.split(",") if given else ():
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or not value:
            raise SettingsError(f"Router {spec[:60]!r}", expected="settings as NAME=VALUE", found=repr(part[:40]))
        settings[name] = _value(kinds.get(name, ""), name, value)
    return make_router(key, **settings)


def _value(kind: str, name: str, text: str) -> Any:
    flags = {"true": True, "false": False}
    try:
        if kind == "flag":
            return flags[text.lower()]
        if kind == "weights":
            raise SettingsError(name, "cannot be given here", fix="Use --learned, or export the mix first.")
        return {"integer": int, "number": float}.get(kind, str)(text)
    except (KeyError, ValueError):
        expected = {"flag": "true or false", "integer": "a whole number"}.get(kind, "a number")
        raise SettingsError(name, expected=expected, found=repr(text[:40])) from None


def short_hash(*parts: str) -> str:
    """The beginning of :func:`hash_of`, enough to tell methods apart."""
    return hash_of(*parts)[:16]


def hash_of(*parts: str) -> str:
    """SHA-256 over texts."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()
