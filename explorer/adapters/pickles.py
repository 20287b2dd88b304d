"""Pickled weights: named in the report with the reason and the way out, never opened.

A pickle can run any code while it is read. Before safetensors, PEFT saved `adapter_model.bin`; the paper's own code
saves one `<expert>.ckpt` and one `<expert>.meta` for each adapter.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from explorer.adapters.adapter import Status, Verdict
from explorer.adapters.wording import clean_line, shown
from explorer.errors import AdapterFormatError

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".meta")
PAPER_CODE = (".ckpt", ".meta")
PLAIN_STEMS = ("adapter_model", "pytorch_model", "model", "consolidated")


def is_pickle(name: str) -> bool:
    """Whether a file's name says that it is a pickle."""
    return name.lower().endswith(PICKLES)


def pickle_error(name: str) -> AdapterFormatError:
    """Why the file called `name` is not opened, and how to convert it."""
    if name.lower().endswith(PAPER_CODE):
        way = "Where you trust it, load it with the code that wrote it and save its A and B as a PEFT adapter."
    else:
        way = "Where you trust it, load it with PEFT and save it with safe_serialization=True."
    return AdapterFormatError(
        shown(name), "is a pickle, which can run code when it is opened, and is never read", fix=way
    )


def pickle_warnings(names: Iterable[str]) -> tuple[str, ...]:
    """What to say of pickles that lie beside an adapter read from safetensors."""
    found = sorted(names)
    if not found:
        return ()
    first = shown(found[0], 60)
    if len(found) == 1:
        return (f"{first} beside it was not opened: it is a pickle.",)
    return (f"{first} and {len(found) - 1} more beside it were not opened: they are pickles.",)


def pickle_verdicts(paths: Iterable[PurePosixPath]) -> list[Verdict]:
    """One refusal for each adapter that the pickles at `paths` (below the library's root) stand for."""
    first: dict[tuple[PurePosixPath, str], PurePosixPath] = {}
    for path in sorted(paths):
        stem = path.stem.split("-0")[0]  # shards: pytorch_model-00001-of-00002
        own_folder = stem.lower() in PLAIN_STEMS and path.parent.name
        first.setdefault((path.parent, path.parent.name if own_folder else stem), path)
    return [
        Verdict(clean_line(name, 200), Status.REFUSED, pickle_error(path.name).sentence)
        for (_, name), path in first.items()
    ]
