"""`build TASKS --output DIR`: private adapters, clusters of tasks, a shared adapter; resumable after a kill."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing, nullcontext, redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from explorer.commands.command import SEED, Command, Options, Parser, number, path, text, whole
from explorer.commands.names import listed
from explorer.commands.terminal import printable, report, say, say_json
from explorer.training.presets import PRESETS, Preset
from explorer.training.recipe import Recipe

if TYPE_CHECKING:
    from explorer.training.build import AdapterReady, Advanced, BuildEvent, StageStarted
    from explorer.training.engine import Engine
    from explorer.training.plan import BuildPlan

RECIPE_OPTIONS = {  # field of the recipe -> (type, help)
    "rank": (int, "rank of the adapters"),
    "alpha": (float, "scale of the update is alpha / rank"),
    "dropout": (float, "of the adapters' inputs"),
    "batch_size": (int, "rows a step"),
    "learning_rate": (float, "of AdamW, at its peak"),
    "warmup_fraction": (float, "share of the steps over which the learning rate rises"),
    "gradient_clip": (float, "largest norm of a step's gradient"),
    "max_tokens": (int, "longest row, prompt and answer; longer ones are left out"),
    "seed": (int, "of the initial A, the same for all adapters, of the order of rows, and of random clusters"),
}
STEPS_BETWEEN_LINES = 10


def add_options(parser: Parser) -> None:
    """Add this command's options."""
    parser.add_argument(
        "tasks", metavar="TASKS", type=path, help="folder of .jsonl files: task, family, split, prompt, target"
    )
    parser.add_argument("--output", metavar="DIR", type=path, required=True, help="folder that takes the libraries")
    parser.add_argument(
        "--base", metavar="MODEL", type=text, default="HuggingFaceTB/SmolLM2-135M-Instruct", help="base model"
    )
    parser.add_argument("--only", metavar="TASK,TASK", default="", help="use these tasks only")
    parser.add_argument(
        "--stages", metavar="STAGE,STAGE", default="", help="some of private, mbc, given, random, shared (all)"
    )
    parser.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default="paper",
        help="the paper's schedule, or the sample libraries' (paper)",
    )
    _add_clusters(parser)
    _add_recipe(parser)
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="this machine, or a Ray cluster (local)"
    )
    parser.add_argument("--workers", metavar="N", type=whole(1, 1024), help="adapters trained at once (1)")
    parser.add_argument(
        "--checkpoint-seconds", metavar="S", type=number(0.0, 86_400.0), default=60.0, help="between checkpoints (60)"
    )
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON at the end")


def _add_clusters(parser: Parser) -> None:
    parser.add_argument("--clusters", metavar="K", type=whole(1, 100_000), help="number of clusters (best silhouette)")
    parser.add_argument("--cluster-file", metavar="F.json", type=path, help="these clusters in place of MBC's")
    parser.add_argument(
        "--measure",
        choices=("update", "parameters"),
        default="update",
        help="compare the private adapters' updates, or their raw factors as the paper's code does",
    )
    parser.add_argument(
        "--sparsity", metavar="S", type=number(0.0, 1.0), default=0.5, help="parameters: share of entries zeroed (0.5)"
    )
    parser.add_argument("--cluster-seed", metavar="N", type=SEED, default=42, help="of KMeans (42)")


def _add_recipe(parser: Parser) -> None:
    parser.add_argument("--private-epochs", metavar="N", type=int, help="passes over the rows of a private adapter")
    parser.add_argument("--cluster-epochs", metavar="N", type=int, help="passes for clusters and the shared adapter")
    parser.add_argument("--max-rows", metavar="N", type=int, help="training rows used of each task")
    parser.add_argument(
        "--cluster-max-rows", metavar="N", type=int, help="the same for clusters and the shared adapter"
    )
    for field, (kind, what) in RECIPE_OPTIONS.items():
        parser.add_argument(f"--{field.replace('_', '-')}", metavar="N", type=kind, help=what)
    parser.add_argument("--target-modules", metavar="NAME,NAME", default="", help="modules adapted (q k v o of Llama)")
    parser.add_argument("--plain", action="store_true", help="no chat template: the prompts as they stand")
    parser.add_argument(
        "--mixed-precision",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="bfloat16 arithmetic, float32 weights",
    )


def run(options: Options) -> None:
    """Build what is not there yet; progress on stderr, one line per finished adapter on stdout."""
    recipes = recipes_from(options)
    from explorer.tasks.folder import read_tasks

    tasks = read_tasks(options.tasks, listed(options.only))
    from explorer.training.build import build

    plan = _plan(options, recipes)
    # Ray tells of lost workers on stdout, where with --json only the document may stand
    aside = redirect_stdout(sys.stderr) if options.json else nullcontext()
    with aside, closing(_engine(plan, options)) as engine, closing(build(tasks, plan, engine)) as events:
        for event in events:
            _tell(event, options)
    if options.json:
        from explorer.training.manifest import read_manifest

        say_json(read_manifest(plan.output))


def recipes_from(options: Options) -> Preset:
    """The preset with what was given on the command line in place of its values.

    Raises:
        SettingsError: a number is out of its bounds.
    """
    preset = PRESETS[options.preset]
    given: dict[str, Any] = {f: getattr(options, f) for f in RECIPE_OPTIONS if getattr(options, f) is not None}
    if options.target_modules:
        given["target_modules"] = listed(options.target_modules)
    if options.mixed_precision is not None:
        given["mixed_precision"] = options.mixed_precision
    if options.plain:
        given["chat"] = False
    private = _changed(preset.private, given, options.private_epochs, options.max_rows)
    together = _changed(preset.together, given, options.cluster_epochs, options.cluster_max_rows)
    if options.cluster_max_rows is None:
        together = replace(together, max_rows=min(together.max_rows, private.max_rows))
    return Preset(private, together)


def _changed(recipe: Recipe, given: dict[str, Any], epochs: int | None, max_rows: int | None) -> Recipe:
    own: dict[str, Any] = {"epochs": epochs, "max_rows": max_rows}
    return replace(recipe, **given, **{name: value for name, value in own.items() if value is not None})


def _plan(options: Options, recipes: Preset) -> BuildPlan:
    from explorer.training.plan import BuildPlan

    return BuildPlan(
        output=options.output,
        base_model=options.base,
        private=recipes.private,
        together=recipes.together,
        stages=listed(options.stages),
        n_clusters=options.clusters,
        cluster_file=options.cluster_file,
        measure=options.measure,
        sparsity=options.sparsity,
        cluster_seed=options.cluster_seed,
        checkpoint_seconds=options.checkpoint_seconds,
    )


def _engine(plan: BuildPlan, options: Options) -> Engine:
    """The engine that was asked for, once it is certain that there is a base model that suits."""
    from explorer.models.base import load_base_model
    from explorer.training.fresh_adapter import check_base

    check_base(plan.base_model, plan.private, report)
    if options.engine == "ray":
        from explorer.training.ray_engine import RayEngine

        return RayEngine(plan.base_model, options.workers)
    if (options.workers or 1) > 1:
        from explorer.training.workers_engine import WorkersEngine

        return WorkersEngine(plan.base_model, options.workers)
    from explorer.training.local_engine import LocalEngine

    return LocalEngine(lambda: load_base_model(plan.base_model, report=report))


def _tell(event: BuildEvent, options: Options) -> None:
    from explorer.training.build import AdapterReady, Advanced, StageDone, StageStarted, TaskLeftOut

    match event:
        case Advanced():
            if event.step.step % STEPS_BETWEEN_LINES == 0 or event.step.step == event.step.steps:
                print(printable(_progress(event)), file=sys.stderr, flush=True)
        case TaskLeftOut(name):
            _say(options, f"{name}: has no training rows and is left out")
        case StageStarted():
            _say(options, _opening(event))
        case AdapterReady():
            _say(options, _result(event))
        case StageDone(stage, folder):
            _say(options, f"{stage}: complete in {folder}")


def _progress(event: Advanced) -> str:
    step = event.step
    left = "" if event.seconds_left is None else f", {_span(event.seconds_left)} left"
    where = f"{event.stage}/{step.name}: step {step.step}/{step.steps}, loss {step.loss:.3f}"
    return f"{where}; {event.done} of {event.total} steps of the build{left}"


def _span(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _opening(event: StageStarted) -> str:
    count = f"{event.adapters} adapter{'s' * (event.adapters != 1)}, {event.complete} complete"
    if event.partition is None:
        return f"{event.stage}: {count}"
    asked, found = event.partition.facts.get("asked_for"), event.partition.facts["n_clusters"]
    clamped = f"; {asked} clusters were asked for, {found} can be told apart" if asked not in (None, found) else ""
    lines = [f"  {name}: {', '.join(members)}" for name, members in event.partition.members.items()]
    return "\n".join([f"{event.stage}: {count}{clamped}", *lines])


def _result(event: AdapterReady) -> str:
    many = f" ({len(event.tasks)} tasks)" if len(event.tasks) > 1 else ""
    before = " (is there already)" if event.adopted else ""
    losses = f"loss {event.card['loss_before']:.3f} -> {event.card['loss_after']:.3f}"
    return f"{event.stage}/{event.name}{many}: {losses}{before}"


def _say(options: Options, lines: str) -> None:
    if not options.json:
        for line in lines.splitlines():
            say(line)
        sys.stdout.flush()


COMMAND = Command("build", "build private, clustered and shared libraries", add_options, run)
