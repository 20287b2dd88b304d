"""A base model with a library attached: route a text, get logits, generate.

Attaching puts a RoutedLinear in the place of each adapted module; detaching puts the very same modules back. Used as
a context manager the library stays attached inside. Without one, each forward pass attaches and detaches by itself
under the base model's lock, so that several libraries can share one base model and take turns token by token.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.adapters.adapter import Adapter
from explorer.adapters.library import Library
from explorer.errors import BaseModelError, LibraryError
from explorer.models.base import BaseModel
from explorer.models.chat import encode_answer, encode_prompt
from explorer.models.events import GenerationEvent
from explorer.models.generation import generate_events
from explorer.models.sampling import Sampling
from explorer.models.shapes import linear_shapes
from explorer.models.tokens import read_prompt
from explorer.routing.bank import adapted_sites, build_bank
from explorer.routing.routed_linear import RoutedLinear, RoutedPass, stacked
from explorer.routing.router import Router
from explorer.routing.trace import RoutingTrace

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LikelihoodOfAnswer:
    """Log-likelihood of a reference answer (nats, end token included) and its length in tokens."""

    total: float
    tokens: int

    @property
    def per_token(self) -> float:
        """Mean log-likelihood of a token."""
        return self.total / self.tokens


class RoutedModel:
    """`library` (its adapters that can be routed) on `base`.

    Args:
        base: the model; it is left as it was after each use.
        library: the adapters.
        progress: called with (sites prepared, all sites).

    Raises:
        LibraryError: no adapter can be routed, or one does not fit the base model.
    """

    def __init__(self, base: BaseModel, library: Library, progress: Progress | None = None) -> None:
        adapters = library.routable
        if not adapters:
            raise LibraryError(library.title, "holds no adapter that can be routed", fix="See the report for why.")
        _check_fit(adapters, linear_shapes(base.model))
        self.base = base
        self.names = tuple(adapter.name for adapter in adapters)
        self.sites = adapted_sites(adapters)
        dtype = next(base.model.parameters()).dtype
        self._layers: dict[str, RoutedLinear] = {}
        for done, site in enumerate(self.sites, start=1):
            module = base.model.get_submodule(site)
            self._layers[site] = RoutedLinear(module, build_bank(adapters, site, base.device, dtype)).eval()
            if progress is not None:
                progress(done, len(self.sites))
        self._held = False
        self._short_logits = "logits_to_keep" in inspect.signature(base.model.forward).parameters

    def __enter__(self) -> RoutedModel:
        with self.base.lock:
            self._claim()
            self._attach()
            self.base.holders.append(self)
            self._held = True
        return self

    def __exit__(self, *_: object) -> None:
        with self.base.lock:
            self._held = False
            self.base.holders.remove(self)
            self._detach()

    def route(self, text: str, router: Router, chat: bool = True) -> RoutingTrace:
        """What `router` does on `text`, token by token; nothing is generated.

        Raises:
            PromptError: the text is empty or too long.
            SettingsError: the router names an adapter that cannot be routed here.
        """
        router.check(self.names)
        prompt = read_prompt(self.base.tokenizer, text, chat=chat, max_tokens=self.base.max_tokens)
        recorded = RoutedPass((router,), recorded=(0,))
        self.forward(torch.tensor([prompt.ids]), recorded, last_only=True)
        return self.trace_of(recorded, 0, prompt.ids, prompt.pieces, prompt.typed, len(prompt.ids))

    def logits(self, text: str, router: Router, chat: bool = False) -> Tensor:
        """Logits at every token of `text`, (1, tokens, vocabulary)."""
        router.check(self.names)
        ids = encode_prompt(self.base.tokenizer, text, chat=chat, max_tokens=self.base.max_tokens)
        return self.forward(torch.tensor([ids]), RoutedPass((router,))).logits

    def log_likelihood(self, text: str, answer: str, router: Router, chat: bool = True) -> LikelihoodOfAnswer:
        """How likely `answer` is after `text`, teacher-forced."""
        router.check(self.names)
        prompt = encode_prompt(self.base.tokenizer, text, chat=chat, max_tokens=self.base.max_tokens)
        reference = encode_answer(self.base.tokenizer, answer, chat=chat)
        ids = torch.tensor([prompt + reference])
        if ids.shape[1] > self.base.max_tokens:
            raise LibraryError("Prompt and reference answer", f"exceed {self.base.max_tokens} tokens", fix="Shorten them.")
        logits = self.forward(ids, RoutedPass((router,))).logits[0, len(prompt) - 1 : -1].float()
        scores = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(reference, device=logits.device)[:, None])
        return LikelihoodOfAnswer(float(scores.sum()), len(reference))

    def generate(
        self,
        text: str,
        routers: Sequence[Router] | Router,
        *,
        chat: bool = True,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        record: bool = False,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[GenerationEvent]:
        """Answer `text` once for each router, all in one batch; events of the rows come as they happen.

        Args:
            text: the prompt.
            routers: one per row.
            chat: apply the chat template.
            max_new_tokens, temperature, top_p, seed: see :class:`explorer.models.sampling.Sampling`.
            record: attach routing traces to the events.
            stop: asked before each step; when it answers true the open rows finish as stopped.

        Raises:
            PromptError, SettingsError: as for `route`.
        """
        asked = (routers,) if isinstance(routers, Router) else tuple(routers)
        for router in asked:
            router.check(self.names)
        sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
        room = self.base.max_tokens - max_new_tokens
        prompt = read_prompt(self.base.tokenizer, text, chat=chat, max_tokens=max(room, 1))
        return generate_events(self, prompt, asked, sampling, record=record, stop=stop)

    @torch.inference_mode()
    def forward(self, ids: Tensor, current: RoutedPass, *, cache: Any = None, use_cache: bool = False, last_only: bool = False) -> Any:
        """One pass of `ids` (rows, tokens) through the routed model; the output of transformers."""
        options: dict[str, Any] = {"past_key_values": cache} if cache is not None else {}
        if last_only and self._short_logits:
            options["logits_to_keep"] = 1
        with self._attached(current):
            return self.base.model(input_ids=ids.to(self.base.device), use_cache=use_cache, **options)

    def trace_of(
        self,
        recorded: RoutedPass,
        row: int,
        ids: tuple[int, ...],
        pieces: tuple[str, ...],
        typed: tuple[bool, ...],
        prompt_length: int,
    ) -> RoutingTrace:
        """The recorded decisions of one row as a trace."""
        weights, scores = stacked(recorded, self.sites, list(recorded.recorded).index(row))
        return RoutingTrace(
            sites=self.sites,
            tokens=pieces,
            token_ids=ids,
            names=self.names,
            weights=weights.numpy().astype(np.float32),
            scores=scores.numpy().astype(np.float32),
            prompt_length=prompt_length,
            typed=typed,
            router=recorded.routers[row].label,
        )

    @contextmanager
    def _attached(self, current: RoutedPass) -> Iterator[None]:
        if self._held:
            with self._using(current):
                yield
            return
        with self.base.lock:
            self._claim()
            self._attach()
            try:
                with self._using(current):
                    yield
            finally:
                self._detach()

    @contextmanager
    def _using(self, current: RoutedPass) -> Iterator[None]:
        for layer in self._layers.values():
            layer.current = current
        try:
            yield
        finally:
            for layer in self._layers.values():
                layer.current = None

    def _claim(self) -> None:
        if self.base.holders:
            raise BaseModelError(self.base.name, "has another library attached", fix="Leave its 'with' block first.")

    def _attach(self) -> None:
        for site, layer in self._layers.items():
            _put(self.base.model, site, layer)

    def _detach(self) -> None:
        for site, layer in self._layers.items():
            _put(self.base.model, site, layer.base)


def _put(model: Any, site: str, module: torch.nn.Module) -> None:
    parent, _, child = site.rpartition(".")
    model.get_submodule(parent).register_module(child, module)


def _check_fit(adapters: Sequence[Adapter], shapes: dict[str, tuple[int, int]]) -> None:
    for adapter in adapters:
        for site, update in adapter.updates.items():
            if site not in shapes:
                raise LibraryError(f"Adapter {adapter.name!r}", f"adapts {site}, which this base model does not have")
            if shapes[site] != update.shape:
                raise LibraryError(
                    f"Adapter {adapter.name!r}, {site}",
                    "does not fit this base model",
                    expected=str(shapes[site]),
                    found=str(update.shape),
                )
