"""A folder that runs a library in PEFT's own Arrow: the adapters, and a short script that needs PEFT only.

The weights files are copied as they are wherever PEFT reads them as this explorer does. The configurations are written
anew, with the whole names of the modules and the scales in use, so that nothing is left to be interpreted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from explorer.adapters.adapter import Adapter
from explorer.adapters.factors import PREFIX, WEIGHTS
from explorer.adapters.library import Library
from explorer.adapters.peft_format import read_adapter
from explorer.adapters.safetensors_header import read_header
from explorer.adapters.scan import LIBRARY_FILE
from explorer.errors import LibraryError
from explorer.exporting import card
from explorer.exporting.arrow_fit import check_arrow, common_ranks
from explorer.exporting.merged import Progress
from explorer.exporting.peft_config import for_conv1d, peft_config, write_config
from explorer.exporting.tensor_stream import TensorStream
from explorer.exporting.whole_folder import folder_names, whole_folder
from explorer.models.shapes import known_shapes
from explorer.routing.arrow import Arrow

SCRIPT = Path(__file__).with_name("run_arrow.py")
SETTINGS, ADAPTERS = "arrow.json", "adapters"
TEXTS = (card.README, card.CARD)
MAX_TEXT = 1 << 20
BYTES_A_NUMBER = 4


def _silent(_: int, __: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class ExportedArrow:
    """What was written.

    Attributes:
        folder: with the script and the adapters.
        adapters: name -> its folder's name.
        filled_up: adapters that got rows of zeros, so that all have one rank.
        checked: whether the base model's modules were known, and could be compared.
    """

    folder: Path
    adapters: Mapping[str, str]
    filled_up: tuple[str, ...]
    checked: bool


def export_arrow(
    library: Library,
    folder: str | Path,
    arrow: Arrow | None = None,
    *,
    allow_local: bool = True,
    progress: Progress = _silent,
) -> ExportedArrow:
    """Write the library's adapters that can be routed, and the script `run_arrow.py`.

    Args:
        library: its adapters need the same modules; ranks may differ.
        folder: is made; it may be there if it is empty.
        arrow: top k and temperature that the script begins with.
        allow_local: whether the base model may be a folder of this machine, to compare its modules.
        progress: called with the number of adapters done so far, and of all.

    Raises:
        LibraryError: PEFT's Arrow cannot run these adapters, or a file has changed.
        SettingsError: a setting that PEFT's Arrow lacks, or the folder cannot be written.
    """
    arrow, adapters = arrow or Arrow(), library.routable
    check_arrow(arrow)
    if not adapters:
        raise LibraryError(library.title, "holds no adapter that can be routed, so there is nothing to export")
    shapes = known_shapes(library.base_model, allow_local=allow_local) if library.base_model else None
    ranks = common_ranks(adapters, shapes)
    places = folder_names(adapter.name for adapter in adapters)
    filled = tuple(one.name for one in adapters if any(form.rank < ranks[site] for site, form in one.forms.items()))
    with whole_folder(Path(folder), _needed(adapters, ranks)) as scratch:
        for done, adapter in enumerate(adapters):
            progress(done, len(adapters))
            _write_adapter(adapter, scratch / ADAPTERS / places[adapter.name], ranks)
        written = ExportedArrow(Path(folder), places, filled, shapes is not None)
        _write_notes(library, scratch, arrow, written)
    progress(len(adapters), len(adapters))
    return written


def _needed(adapters: tuple[Adapter, ...], ranks: Mapping[str, int]) -> int:
    """At most so many bytes."""
    filled = sum(sum(form.shape) * ranks[site] for one in adapters for site, form in one.forms.items())
    return max(BYTES_A_NUMBER * filled, sum(adapter.size_bytes for adapter in adapters))


def _write_adapter(adapter: Adapter, folder: Path, ranks: Mapping[str, int]) -> None:
    folder.mkdir(parents=True)
    if _reads_as_it_is(adapter, ranks):
        assert adapter.path is not None
        shutil.copyfile(adapter.path / WEIGHTS, folder / WEIGHTS)
        adapter.updates[next(iter(ranks))]  # says so if the file is another one by now
    else:
        _write_factors(adapter, folder / WEIGHTS, ranks)
    alphas = {site: (ranks[site], form.scale * ranks[site]) for site, form in adapter.forms.items()}
    write_config(folder, peft_config(adapter.base_model, alphas, fan_in_fan_out=for_conv1d([adapter])))
    for text in (adapter.path / name for name in TEXTS if adapter.path is not None):
        if text.is_file() and not text.is_symlink() and text.stat().st_size <= MAX_TEXT:
            shutil.copyfile(text, folder / text.name)
    again = read_adapter(folder, adapter.name)
    if not isinstance(again, Adapter) or not again.can_be_routed or again.forms.keys() != adapter.forms.keys():
        raise LibraryError(f"Adapter {adapter.name!r}", "could not be written so that it can be read again")


def _reads_as_it_is(adapter: Adapter, ranks: Mapping[str, int]) -> bool:
    """Whether the file has the names that PEFT looks for, and the ranks that are needed."""
    if adapter.path is None or any(form.rank != ranks[site] for site, form in adapter.forms.items()):
        return False
    return set(read_header(adapter.path / WEIGHTS)) == set(_tensor_names(adapter))


def _tensor_names(adapter: Adapter) -> list[str]:
    return [f"{PREFIX}{site}.lora_{factor}.weight" for site in adapter.forms for factor in "AB"]


def _write_factors(adapter: Adapter, path: Path, ranks: Mapping[str, int]) -> None:
    """The factors in their own dtype, under PEFT's names, filled up with zeros to the common rank."""
    with TensorStream(path, _tensor_names(adapter)) as stream:
        for site, form in adapter.forms.items():
            update, more = adapter.updates[site], ranks[site] - form.rank
            stream.add(f"{PREFIX}{site}.lora_A.weight", _filled_up(update.a, more))
            stream.add(f"{PREFIX}{site}.lora_B.weight", _filled_up(update.b.T, more).T)


def _filled_up(rows: Tensor, more: int) -> Tensor:
    return torch.cat([rows, rows.new_zeros(more, rows.shape[1])]) if more else rows


def _write_notes(library: Library, folder: Path, arrow: Arrow, written: ExportedArrow) -> None:
    """The script, its settings, and what people and this explorer read of the folder."""
    shutil.copyfile(SCRIPT, folder / SCRIPT.name)
    settings = {
        "base_model": library.base_model,
        "top_k": arrow.top_k,
        "temperature": arrow.temperature,
        "adapters": list(written.adapters.values()),
    }
    notes = {
        "title": library.title,
        "description": library.description,
        "license": library.license_name,
        "adapters": {place: asdict(library[name].notes) for name, place in written.adapters.items()},
    }
    for name, data in {SETTINGS: settings, LIBRARY_FILE: notes}.items():
        (folder / name).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    (folder / card.README).write_text(_readme(library, arrow, written), encoding="utf-8")


def _readme(library: Library, arrow: Arrow, written: ExportedArrow) -> str:
    rows = {
        **card.source_rows(library, library.routable),
        "router": card.plain(arrow.label),
        "adapters filled up with zeros to one rank": ", ".join(map(card.plain, written.filled_up)) or "none",
    }
    unchecked = "" if written.checked else UNCHECKED
    return f"""{card.front_matter(library.base_model, library.license_name, ["lora", "arrow"])}
# {card.plain(library.title)}, in PEFT's Arrow

```sh
pip install "peft>=0.21" transformers torch
python {SCRIPT.name} "your prompt"
```

Each token of a prompt goes to the {arrow.top_k} adapters whose strongest direction it points along most (Arrow, arXiv
2405.11157). `--base` takes the base model by another name or from a folder; `--help` lists the rest.

PEFT finds each direction by 15 steps of power iteration from a random start. Where the two strongest directions of an
update are of nearly equal strength that is not yet the strongest one, and the routing differs from LoRA library
explorer's; `--exact` takes the exact singular vectors instead.{unchecked}

{card.table(rows)}

{card.adapters_table(library.routable)}
"""


UNCHECKED = """

The base model was not at hand when this was written: PEFT stops with a KeyError if it has further linear modules of the
adapted names."""
