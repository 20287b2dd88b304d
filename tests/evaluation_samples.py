"""A made-up evaluation for the tests of the Evaluate tab: plain numbers that nobody measured."""

from __future__ import annotations

import numpy as np

from explorer.evaluation.record import Cell, EvaluationRecord, Measure, MethodNote, TaskNote, Transfer

FAMILIES = ("arithmetic", "grammar", "nli", "qa", "sentiment")
#: Title, what it needs, share of the gap between base and oracle that it saves.
PRIVATE = (
    ("Uniform", "", 0.72),
    ("Arrow, top 4, T 1", "", 0.83),
    ("Calibrated Arrow, top 4, T 0.25", "", 0.91),
    ("Random, top 4, T 1", "", 0.7),
    ("Oracle: the task's own", "the task's name", 1.0),
)
MBC = (("Uniform", "", 0.8), ("Arrow, top 4, T 1", "", 0.88), ("Oracle: the task's own", "the task's name", 0.97))
NO_ORACLE = 2.0


def make_evaluation(
    *, per_family: int = 3, content_hash: str = "ab" * 32, layers: int = 30, transfer: bool = True
) -> EvaluationRecord:
    """Base, a private library and an MBC library; the last task of each family is held out."""
    rng = np.random.default_rng(11)
    tasks = tuple(
        TaskNote(f"{family}_task_{index}", family, index == per_family - 1, 32, "cd" * 32)
        for family in FAMILIES
        for index in range(per_family)
    )
    methods = [(MethodNote("base", "Base model", ""), NO_ORACLE * 0)]
    for library, hash_, count, rows in (
        ("Private adapters", content_hash, len(tasks), PRIVATE),
        ("MBC, 10 clusters", "ef" * 32, 5, MBC),
    ):
        methods += [(MethodNote(f"{library}: {t}", t, library, hash_, u, count), gap) for t, u, gap in rows]
    cells = tuple(
        _cell(method, task, gap, rng, layers)
        for task in tasks
        for method, gap in methods
        if not (task.held_out and method.title.startswith("Oracle"))
    )
    trained = [task for task in tasks if not task.held_out]
    return EvaluationRecord(
        base_model="HuggingFaceTB/SmolLM2-135M-Instruct",
        methods=tuple(method for method, _ in methods),
        tasks=tasks,
        cells=cells,
        settings={"rows": 32, "max_new_tokens": 32, "answers": True, "chat": True},
        versions={"torch": "2.13.0", "transformers": "5.23.0"},
        remarks=("qa_task_0: 2 rows were left out, because they do not fit the model.",),
        transfer=_transfer(tasks, trained, rng) if transfer else None,
    )


def _cell(method: MethodNote, task: TaskNote, gap: float, rng: np.random.Generator, layers: int) -> Cell:
    spread = 0.6 if task.held_out else 1.0
    loss = 4.2 - 3.3 * spread * gap + rng.normal() * 0.15
    share = {}
    if method.adapters and not task.held_out and not method.title.startswith(("Uniform", "Oracle")):
        best = 1.2 / method.adapters + gap / 8
        share = {
            f"layer {layer}": float(best + 0.05 * np.sin(layer / 4) + rng.normal() * 0.01) for layer in range(layers)
        }
    hits = min(max(0.8 * gap * spread + rng.normal() * 0.05, 0.0), 1.0)
    return Cell(
        method.key,
        task.name,
        {
            "loss": Measure(round(loss, 4), 0.05, 32),
            "exact_match": Measure(round(hits, 4), 0.07, 32),
            "rouge_l": Measure(round(min(hits + 0.1, 1.0), 4), 0.06, 32),
        },
        share,
    )


def _transfer(tasks: tuple[TaskNote, ...], trained: list[TaskNote], rng: np.random.Generator) -> Transfer:
    loss = [
        [3.9 - (2.4 if one.family == other.family else 0.7) - (one == other) + rng.normal() * 0.3 for other in trained]
        for one in tasks
    ]
    return Transfer(
        tasks=tuple(task.name for task in tasks),
        adapters=tuple(task.name for task in trained),
        loss=tuple(tuple(round(float(value), 4) for value in row) for row in loss),
        base_loss=(4.2,) * len(tasks),
        rows=(8,) * len(tasks),
        own=tuple(trained.index(task) if task in trained else None for task in tasks),
        clusters=tuple(FAMILIES.index(task.family) for task in trained),
        measure="update",
        rank_correlation=0.64,
        p_value=0.001,
    )
