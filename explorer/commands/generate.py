"""`generate LIBRARY PROMPT`: the answer of one router as it comes, or the answers of several side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import explorer
from explorer.commands.command import SEED, Command, Options, Parser, number, text, whole
from explorer.commands.opening import add_library, add_prompt, base_for
from explorer.commands.routers import ROUTER_HELP, add_learned, add_router_options, learned_routers, routers_from
from explorer.commands.terminal import printable, report, say, say_json

if TYPE_CHECKING:
    from explorer.models.events import Finished, GenerationEvent
    from explorer.routing.router import Router

LAYOUT = "\n\t"  # the control characters that an answer may well hold and a terminal may well see


def add_options(parser: Parser) -> None:
    """Add this command's options."""
    add_library(parser)
    add_prompt(parser)
    parser.add_argument(
        "--router",
        metavar="NAME",
        type=text,
        action="append",
        default=[],
        help=ROUTER_HELP + "; several, or repeated, to compare",
    )
    add_learned(parser)
    add_router_options(parser)
    parser.add_argument("--max-new-tokens", metavar="N", type=whole(1, 4096), default=64, help="longest answer (64)")
    parser.add_argument(
        "--sample", metavar="T", type=number(0.0, 5.0), default=0.0, help="sampling temperature (0: greedy)"
    )
    parser.add_argument("--top-p", metavar="P", type=number(1e-6, 1.0), default=1.0, help="nucleus of sampling (1.0)")
    parser.add_argument("--seed", metavar="N", type=SEED, default=0, help="of sampling (0)")
    parser.add_argument("--json", action="store_true", help="print the answers as JSON")


def run(options: Options) -> None:
    """Generate with each router in one batch."""
    routers = routers_from(options, options.router)
    with explorer.open_library(options.library) as library:
        for router in routers:
            router.check(tuple(adapter.name for adapter in library.routable))
        base = base_for(library, options.base)
        routed = explorer.RoutedModel(base, library)
        routers += learned_routers(options, routed)
        events = routed.generate(
            options.prompt,
            routers,
            chat=not options.plain,
            max_new_tokens=options.max_new_tokens,
            temperature=options.sample,
            top_p=options.top_p,
            seed=options.seed,
        )
        streams = len(routers) == 1 and not options.json
        answers = _finished(events, streams=streams)
        if options.json:
            say_json(_facts(options, routers, answers) | {"library": library.title, "base_model": base.name})
        elif not streams:
            _print(routers, answers)


def _finished(events: Iterator[GenerationEvent], *, streams: bool) -> list[Finished]:
    """Run the generation; what each row came to, in the order of the routers."""
    from explorer.models.events import Finished, TokenEmitted

    answers: list[Finished] = []
    shown = 0
    for event in events:
        if isinstance(event, Finished):
            answers.append(event)
            if streams:  # the end of the text may have waited for the rest of a character
                _show(event.text[shown:] + "\n")
                report(f"{event.tokens} tokens in {event.seconds:.1f} s, {event.reason}")
        elif isinstance(event, TokenEmitted) and streams:
            shown += len(event.text)
            _show(event.text)
    return sorted(answers, key=lambda answer: answer.row)


def _show(text: str) -> None:
    sys.stdout.write(printable(text, keep=LAYOUT))
    sys.stdout.flush()


def _print(routers: Sequence[Router], answers: Sequence[Finished]) -> None:
    for answer in answers:
        say(f"== {routers[answer.row].label} ({answer.tokens} tokens in {answer.seconds:.1f} s, {answer.reason})")
        _show(answer.text + "\n\n")


def _facts(options: Options, routers: Sequence[Router], answers: Sequence[Finished]) -> dict[str, object]:
    return {
        "prompt": options.prompt,
        "chat": not options.plain,
        "seed": options.seed,
        "sampling_temperature": options.sample,
        "answers": [
            {
                "router": routers[answer.row].key,
                "label": routers[answer.row].label,
                "text": answer.text,
                "tokens": answer.tokens,
                "seconds": round(answer.seconds, 3),
                "finish": str(answer.reason),
            }
            for answer in answers
        ],
    }


COMMAND = Command("generate", "answer a prompt with one router or with several", add_options, run)
