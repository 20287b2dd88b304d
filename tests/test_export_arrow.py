"""The folder for PEFT's own Arrow: its script runs by itself, and libraries that PEFT cannot run are told why."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_files import write_adapter
from routed_samples import llama_shapes, make_adapter, make_update, random_adapter
from safetensors.torch import load_file, save_file
from tiny_models import make_tiny

import explorer
from explorer.adapters.library import Library
from explorer.adapters.low_rank import LowRank
from explorer.adapters.sources import open_library
from explorer.errors import LibraryError, SettingsError
from explorer.exporting.arrow_folder import export_arrow
from explorer.models.base import BaseModel, find_base_model, load_base_model
from explorer.models.events import Finished
from explorer.models.routed_model import RoutedModel
from explorer.routers import Arrow

PROMPT = "the lazy fox"
Tiny = Callable[[str], BaseModel]


def saved_base(folder: Path, architecture: str = "llama") -> BaseModel:
    """A tiny base model on disk, and the same loaded as a user would load it."""
    base = make_tiny(architecture)
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return load_base_model(folder, device="cpu")


def library_for(base: str, shapes: dict[str, tuple[int, int]], ranks: tuple[int, ...]) -> Library:
    made = [random_adapter(f"task/{number}", shapes, rank=rank, seed=number) for number, rank in enumerate(ranks)]
    return Library([replace(adapter, base_model=base) for adapter in made], title="Tiny")


def script_of(folder: Path) -> Any:
    """The exported script as a module."""
    spec = importlib.util.spec_from_file_location("run_arrow", folder / "run_arrow.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_script(folder: Path, *words: str) -> str:
    """What the script prints, run as by somebody who has PEFT only."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "run_arrow.py", *words]
    result = subprocess.run(
        command, cwd=folder, env={**environment, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.removesuffix("\n")


def answer_of(routed: RoutedModel, prompt: str, router: Arrow, tokens: int) -> str:
    events = routed.generate(prompt, router, max_new_tokens=tokens)
    return next(event.text for event in events if isinstance(event, Finished))


# PEFT's own router adapter does not say that GPT-2's modules are Conv1D
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")
@pytest.mark.parametrize("ranks", [(3, 3, 3, 3), (2, 4, 3, 2)], ids=["one rank", "ranks filled up"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_script_gives_the_logits_of_our_arrow(architecture: str, ranks: tuple[int, ...], tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", architecture)
    shapes = llama_shapes() if architecture == "llama" else {f"transformer.h.{n}.attn.c_attn": (96, 32) for n in (0, 1)}
    library, arrow = library_for(str(tmp_path / "base"), shapes, ranks), Arrow(top_k=3, temperature=0.5)
    written = export_arrow(library, tmp_path / "out", arrow)
    assert (written.checked, len(written.filled_up)) == (True, sum(rank < max(ranks) for rank in ranks))
    script = script_of(tmp_path / "out")
    model = script.load(str(tmp_path / "base"), list(written.adapters.values()), 3, 0.5)
    script.use_exact_prototypes(model)
    ids = torch.tensor([base.tokenizer(PROMPT)["input_ids"]])
    with torch.no_grad():
        found = model(input_ids=ids).logits
    torch.testing.assert_close(found, RoutedModel(base, library).logits(PROMPT, arrow), atol=1e-3, rtol=0)


def test_the_script_runs_by_itself(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base")
    library = library_for(str(tmp_path / "base"), llama_shapes(), (3, 3, 3))
    export_arrow(library, tmp_path / "out", Arrow(top_k=2))
    expected = answer_of(RoutedModel(base, library), PROMPT, Arrow(top_k=2), 12)
    assert run_script(tmp_path / "out", PROMPT, "--exact", "--max-new-tokens", "12") == expected.rstrip("\n")
    moved = tmp_path / "elsewhere"
    (tmp_path / "base").rename(moved)
    assert run_script(tmp_path / "out", PROMPT, "--base", str(moved), "--top-k", "9", "--plain")


def test_the_folder_is_a_library_with_the_same_updates(tmp_path: Path) -> None:
    library = library_for("tiny/model", llama_shapes(), (2, 4, 3))
    written = export_arrow(library, tmp_path / "out")
    again = open_library(tmp_path / "out")
    assert list(written.adapters.values()) == ["task_0", "task_1", "task_2"] == list(again.names)
    assert (again.title, again.base_model, written.checked) == ("Tiny", "tiny/model", False)
    assert "PEFT stops with a KeyError" in (tmp_path / "out" / "README.md").read_text()
    for one, two in zip(library, again, strict=True):
        assert two.ranks == (4,)
        for site, update in one.updates.items():
            torch.testing.assert_close(two.updates[site].dense(), update.dense())


def test_weights_are_copied_byte_by_byte_where_peft_reads_them_so(tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        folder = write_adapter(tmp_path / "library" / name, seed=seed, dtype=torch.float16)
        (folder / "card.json").write_text('{"task": "mine"}')
        (folder / "training_args.bin").write_bytes(b"\x80")
    odd = tmp_path / "library" / "two" / "adapter_model.safetensors"
    save_file({key.removeprefix("base_model.model."): value for key, value in load_file(odd).items()}, odd)
    library = open_library(tmp_path / "library")
    export_arrow(library, tmp_path / "out")
    one, two = (tmp_path / "out" / "adapters" / name for name in ("one", "two"))
    assert sorted(path.name for path in one.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "card.json",
    ]
    source = tmp_path / "library" / "one" / "adapter_model.safetensors"
    assert (one / "adapter_model.safetensors").read_bytes() == source.read_bytes()
    rewritten = load_file(two / "adapter_model.safetensors")
    assert all(key.startswith("base_model.model.") for key in rewritten)
    assert {tensor.dtype for tensor in rewritten.values()} == {torch.float16}
    assert json.loads((one / "adapter_config.json").read_text())["lora_alpha"] == 8.0


# -- what PEFT's Arrow cannot run


def test_adapters_with_different_modules(tmp_path: Path) -> None:
    shapes = llama_shapes()
    library = Library([random_adapter("all", shapes), random_adapter("some", llama_shapes((1,)))])
    problem = (
        "PEFT's Arrow: needs every adapter at the same modules, found model.layers.0.self_attn.q_proj in all, "
        "but not in some. Route this library here, or export a merge of it."
    )
    with pytest.raises(LibraryError) as caught:
        export_arrow(library, tmp_path / "out")
    assert caught.value.sentence == problem
    assert not list(tmp_path.iterdir())


def test_modules_that_share_a_name_but_are_not_adapted(tmp_path: Path) -> None:
    saved_base(tmp_path / "base", "gpt2")
    shapes = {f"transformer.h.{layer}.attn.c_proj": (32, 32) for layer in (0, 1)}
    with pytest.raises(LibraryError, match=r"routes every module called c_proj, .* but not transformer\.h\.0\.mlp"):
        export_arrow(library_for(str(tmp_path / "base"), shapes, (2, 2)), tmp_path / "out")


@pytest.mark.parametrize("setting", ["unit_norm", "per_prompt", "average_factors"])
def test_settings_that_peft_does_not_have(setting: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^PEFT's Arrow: "):
        export_arrow(library_for("tiny/model", llama_shapes(), (2, 2)), tmp_path / "out", Arrow(**{setting: True}))


def test_half_an_adapter_is_never_copied(tmp_path: Path) -> None:
    write_adapter(tmp_path / "library" / "one")
    library = open_library(tmp_path / "library")
    write_adapter(tmp_path / "library" / "one", seed=7)
    with pytest.raises(LibraryError, match="has changed since the library was opened"):
        export_arrow(library, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_in_memory_is_written_in_its_own_dtype(tmp_path: Path) -> None:
    half = make_update(8, 6, 2, seed=0)
    half = LowRank(half.a.bfloat16(), half.b.bfloat16(), -0.3)
    export_arrow(Library([make_adapter("one", {"m.q": half})]), tmp_path / "out")
    found = open_library(tmp_path / "out").adapters[0].updates["m.q"]
    assert found.a.dtype is torch.bfloat16
    torch.testing.assert_close(found.dense(), half.dense())


@pytest.mark.slow
def test_the_sample_in_pefts_arrow_answers_as_ours(real_base: BaseModel, tmp_path: Path) -> None:
    prompt = "Put into the past tense: She writes a letter."
    with explorer.open_library("sample") as library:
        written = export_arrow(library, tmp_path / "out")
        assert written.checked
        expected = answer_of(RoutedModel(real_base, library), prompt, Arrow(), 24)
    folder = find_base_model(real_base.name)
    found = run_script(tmp_path / "out", prompt, "--exact", "--max-new-tokens", "24", "--base", str(folder))
    assert found == expected.rstrip("\n")
