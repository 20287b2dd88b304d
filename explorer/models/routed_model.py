"""A base model with a library attached: route a text, get logits, generate.

Attaching puts a RoutedLinear in the place of each adapted module; detaching puts the very same modules back. Used as
a context manager the library stays attached inside. Without one, each forward pass attaches and detaches by itself
under the base model's lock, so that several libraries can share one base model and take turns token by token.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explorer.adapters.library import Library, natural_key
from explorer.errors import BaseModelError, LibraryError, PromptError, SettingsError
from explorer.models.base import BaseModel
from explorer.models.chat import encode_answer, encode_prompt
from explorer.models.events import GenerationEvent
from explorer.models.generation import generate_events
from explorer.models.neutral import neutral_scores
from explorer.models.places import check_fit, places, shared_inputs
from explorer.models.sampling import Sampling
from explorer.models.tokens import PromptTokens, read_prompt
from explorer.routing.bank import build_banks
from explorer.routing.factor_mean import StoredFactors, stored_factors
from explorer.routing.routed_linear import PassSlot
from explorer.routing.router import MergeRouter, Router, ScoreRouter
from explorer.routing.routing_pass import PromptScores, RoutingPass
from explorer.routing.trace import RoutingTrace
from explorer.routing.ways import Plan

MOST_ROWS = 64
MOST_PLANS = 4


def _silent(_: str) -> None:
    """Report nothing."""


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

    Safe to use from several threads; passes over one base model take turns.

    Args:
        base: the model; it is left as it was after each use.
        library: the adapters.
        progress: called with (modules prepared, all modules).

    Raises:
        LibraryError: no adapter can be routed, or one does not fit the base model.
        BaseModelError: an adapted module is of a kind that cannot be routed.
    """

    def __init__(self, base: BaseModel, library: Library, progress: Callable[[int, int], None] | None = None) -> None:
        adapters = library.routable
        if not adapters:
            raise LibraryError(library.title, "holds no adapter that can be routed", fix="See the report for why.")
        self.base, self.library = base, library
        self.names = tuple(adapter.name for adapter in adapters)
        self.sites = tuple(sorted({site for adapter in adapters for site in adapter.updates}, key=natural_key))
        with base.lock:
            check_fit(adapters, base)
            groups = shared_inputs(base.model, self.sites)
        self.banks = build_banks(adapters, groups, base.device, base.model.dtype, progress)
        self._adapters = adapters
        self._neutral: dict[tuple[str, ...], Tensor] = {}
        self._factors: dict[tuple[str, ...], tuple[StoredFactors, ...]] = {}
        self._plans: dict[tuple[tuple[Router, ...], int], Plan] = {}
        self._slot = PassSlot()
        with base.lock:
            self._places = places(base.model, self.banks, self._slot)
        accepts = inspect.signature(base.model.forward).parameters
        # an adapted output layer has to see every token, or its routing could not be shown
        self.can_keep = "logits_to_keep" in accepts and base.model.get_output_embeddings() not in self._base_modules()

    def __enter__(self) -> RoutedModel:
        with self.base.lock:
            self._check_free()
            self.base.holders.append(self)
            self._attach()
        return self

    def __exit__(self, *_: object) -> None:
        with self.base.lock:
            self._detach()
            self.base.holders.remove(self)

    def prepare(self, routers: Sequence[Router], progress: Callable[[str], None] | None = None) -> None:
        """Do once what some routers need before the first token: neutral prompts, trained factors, merged updates.

        Every use of a router does this by itself; calling it earlier only lets a reader see what takes time.

        Args:
            routers: to be used.
            progress: called with one line of text as each step begins.

        Raises:
            SettingsError: a router does not fit this library.
        """
        report = progress or _silent
        for router in routers:
            router.check(self.names)
            if isinstance(router, ScoreRouter) and router.needs_neutral and not self._neutral:
                report("Reading neutral prompts")
                by_site = neutral_scores(self)
                self._neutral = {bank.sites: torch.stack([by_site[site] for site in bank.sites]) for bank in self.banks}
            if router.averages_factors and not self._factors:
                report("Reading the adapters' own factors")
                self._factors = {bank.sites: stored_factors(self._adapters, bank) for bank in self.banks}
            if isinstance(router, MergeRouter):
                for place, bank in enumerate(self.banks):
                    report(f"{router.title}: modules {place} of {len(self.banks)}")
                    router.merged(bank)

    def route(self, text: str, router: Router, chat: bool = True) -> RoutingTrace:
        """What `router` does on `text`, token by token; nothing is generated.

        Raises:
            PromptError: the text is empty or too long.
            SettingsError: the router names an adapter that cannot be routed here.
            BaseModelError: another library is kept attached to the base model.
        """
        router.check(self.names)
        prompt = read_prompt(self.base.tokenizer, text, chat=chat, max_tokens=self.base.max_tokens)
        _, recorded = self.forward([prompt.ids], [router], record=[0], keep=1)
        return self.trace_of(recorded, 0, router, prompt)

    def logits(self, text: str, router: Router, chat: bool = False) -> Tensor:
        """Logits at every token of `text`, (1, tokens, vocabulary); raises as `route` does."""
        router.check(self.names)
        ids = encode_prompt(self.base.tokenizer, text, chat=chat, max_tokens=self.base.max_tokens)
        output, _ = self.forward([ids], [router])
        return output.logits

    def log_likelihood(self, text: str, answer: str, router: Router, chat: bool = True) -> LikelihoodOfAnswer:
        """How likely `answer` is after `text`, teacher-forced; raises as `route` does."""
        router.check(self.names)
        prompt = encode_prompt(self.base.tokenizer, text, chat=chat, max_tokens=self.base.max_tokens)
        reference = [token for token in encode_answer(self.base.tokenizer, answer, chat=chat) if token is not None]
        if not answer.strip():
            raise PromptError("Reference answer", "is empty", fix="Type one, or leave it out.")
        if len(prompt) + len(reference) > self.base.max_tokens:
            limit = f"at most {self.base.max_tokens} tokens"
            found = str(len(prompt) + len(reference))
            raise PromptError("Prompt with its reference answer", expected=limit, found=found, fix="Shorten it.")
        whole = [*prompt, *reference]
        output, _ = self.forward([whole], [router], keep=len(reference) + 1, prompt_lengths=[len(prompt)])
        logits = output.logits[0, -len(reference) - 1 : -1].float()
        chosen = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(reference, device=logits.device)[:, None])
        return LikelihoodOfAnswer(float(chosen.sum()), len(reference))

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
        record: bool | Sequence[bool] = False,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[GenerationEvent]:
        """Answer `text` once for each router, all in one batch; events of the rows come as they happen.

        The arguments are checked at once, the work begins with the first event. An answer does not depend on the
        other rows: the same router and seed give the same one.

        Args:
            text: the prompt.
            routers: one per row.
            chat: apply the chat template.
            max_new_tokens: at most so many tokens per row.
            temperature: 0 is greedy.
            top_p: keep the smallest set of tokens that holds this probability.
            seed: of the draws of every row.
            record: attach routing traces to the events, of all rows or of those marked.
            stop: asked before each step; when it answers true the open rows finish as stopped.

        Raises:
            PromptError: the text is empty, or too long to leave room for the answer.
            SettingsError: a setting is out of bounds, or a router names an adapter that cannot be routed here.
            BaseModelError: (while generating) another library is kept attached, or the logits are not finite.
        """
        asked = (routers,) if isinstance(routers, Router) else tuple(routers)
        if not 1 <= len(asked) <= MOST_ROWS:
            raise SettingsError("routers", expected=f"1 to {MOST_ROWS} of them", found=str(len(asked)))
        for router in asked:
            router.check(self.names)
        marked = (record,) * len(asked) if isinstance(record, bool) else tuple(record)
        if len(marked) != len(asked):
            raise SettingsError("record", expected=f"one value for each of {len(asked)} rows", found=str(len(marked)))
        sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
        room = self.base.max_tokens - sampling.max_new_tokens
        if room < 1:
            expected = f"less than the {self.base.max_tokens} tokens that the model has room for"
            raise SettingsError("max_new_tokens", expected=expected, found=str(max_new_tokens))
        prompt = read_prompt(self.base.tokenizer, text, chat=chat, max_tokens=room)
        return generate_events(self, prompt, asked, sampling, record=marked, stop=stop)

    def forward(
        self,
        ids: Sequence[Sequence[int]],
        routers: Sequence[Router],
        *,
        record: Collection[int] = (),
        cache: Any = None,
        use_cache: bool = False,
        keep: int | Tensor = 0,
        prompt_lengths: Sequence[int] | None = None,
        prompts: PromptScores | None = None,
        keys: Sequence[int] | None = None,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> tuple[Any, RoutingPass]:
        """One pass through the routed model.

        Args:
            ids: one sequence per row. Shorter ones are filled up at their ends, which no earlier token of a causal
                model sees; what comes out there means nothing. With a cache all are of one length.
            routers: one per row.
            record: rows whose decisions are kept.
            cache: what an earlier pass of the same rows returned as `past_key_values`.
            use_cache: return a cache.
            keep: logits are needed only at so many last positions (0: at all), or at these columns; a model that cannot
                leave out the others returns them all (see :attr:`can_keep`), so index a number from the end.
            prompt_lengths: how many tokens of each row are its prompt (by default all), for routers that decide once
                per prompt.
            prompts: what earlier passes of the same rows found of their prompts.
            keys: how `prompts` knows each row.
            mask: (rows, tokens in cache and pass), 0 where a place must not be looked at; by default all are.
            positions: (rows, tokens), where in its text each token stands; by default its place in cache and pass.

        Returns:
            The output of transformers, and the pass with what it recorded.
        """
        self.prepare(routers)
        longest = max(len(row) for row in ids)
        current = RoutingPass(
            len(ids),
            longest,
            record,
            lengths=prompt_lengths or [len(row) for row in ids],
            neutral=self._neutral,
            factors=self._factors,
            prompts=prompts,
            keys=keys,
        )
        given = {"past_key_values": cache, "attention_mask": mask, "position_ids": positions}
        options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if self.can_keep and (isinstance(keep, Tensor) or keep):
            options["logits_to_keep"] = keep
        batch = torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids], device=self.base.device)
        with self.base.lock, torch.no_grad():
            held = self in self.base.holders
            if not held:
                self._check_free()
                self._attach()
            self._slot.begin(current, self._plan(tuple(routers), longest))
            try:
                return self.base.model(input_ids=batch, use_cache=use_cache, **options), current
            finally:
                self._slot.end()
                if not held:
                    self._detach()

    def trace_of(
        self, recorded: RoutingPass, row: int, router: Router, tokens: PromptTokens, prompt_length: int | None = None
    ) -> RoutingTrace:
        """The recorded decisions of one batch row as a trace of `tokens` (all of them prompt unless told)."""
        weights, scores = (array[:, : len(tokens.ids)] for array in recorded.recorded(row, self.sites))
        return RoutingTrace(
            sites=self.sites,
            tokens=tokens.pieces,
            token_ids=tokens.ids,
            names=self.names,
            weights=weights,
            scores=scores,
            prompt_length=len(tokens.ids) if prompt_length is None else prompt_length,
            typed=tokens.typed,
            router=router.label,
        )

    def _plan(self, routers: tuple[Router, ...], tokens: int) -> Plan:
        """The ways of a batch of this shape; those of the shapes used last are kept."""
        plan = self._plans.pop((routers, tokens), None) or Plan(routers, tokens, self.base.device)
        self._plans[routers, tokens] = plan
        if len(self._plans) > MOST_PLANS:
            del self._plans[next(iter(self._plans))]
        return plan

    def _base_modules(self) -> list[torch.nn.Module]:
        return [place.routed.base for place in self._places]

    def _check_free(self) -> None:
        if self.base.holders:
            raise BaseModelError(
                self.base.name, "has a library attached by a `with` block", fix="Leave that block first."
            )

    def _attach(self) -> None:
        for place in self._places:
            place.attach()

    def _detach(self) -> None:
        for place in self._places:
            place.detach()
