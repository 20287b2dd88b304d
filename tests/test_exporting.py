"""Exported adapters: PEFT alone gives the logits of our router; what cannot be exported is told in one sentence."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adapter_files import factors, write_adapter
from routed_samples import llama_shapes, make_adapter, make_update, peft_model, random_adapter, save_peft, tiny_library
from safetensors.torch import load_file
from tiny_models import TARGETS

from explorer.adapters.adapter import Status
from explorer.adapters.library import Library
from explorer.adapters.low_rank import LowRank
from explorer.adapters.sources import open_library
from explorer.errors import LibraryError, SettingsError
from explorer.exporting.cut import cut
from explorer.exporting.merged import export_adapter, export_clusters
from explorer.exporting.peft_config import peft_config
from explorer.exporting.whole_folder import check_folder, folder_names, whole_folder
from explorer.models.base import BaseModel
from explorer.models.routed_model import RoutedModel
from explorer.routers import Arrow, Base, LinearMerge, Single, Ties, Uniform, Weighted
from explorer.routing.router import Router

TEXT = "the lazy fox jumps over two dogs"
Tiny = Callable[[str], BaseModel]
WEIGHTS = {"adapter-0": 0.7, "adapter-1": -0.4, "adapter-4": 1.5}
ROUTERS: dict[str, Router] = {
    "single": Single("adapter-1"),
    "single with a part of the modules": Single("adapter-4"),
    "uniform": Uniform(),
    "weighted": Weighted(WEIGHTS),
    "linear": LinearMerge(),
    "linear with weights, cut": LinearMerge(weights=WEIGHTS, rank=2),
    "ties": Ties(density=0.3),
}


def peft_logits(base: BaseModel, folder: Path) -> torch.Tensor:
    """The logits of the folder loaded by PEFT, which must find a place for every tensor."""
    model = peft.PeftModel.from_pretrained(copy.deepcopy(base.model), folder).eval()
    adapted = {name for name, module in model.base_model.model.named_modules() if hasattr(module, "lora_A")}
    config = json.loads((folder / "adapter_config.json").read_text())
    assert adapted == set(config["target_modules"])
    assert {module.scaling["default"] for module in model.modules() if hasattr(module, "lora_A")} == {1.0}
    with torch.no_grad():
        return model(input_ids=torch.tensor([base.tokenizer(TEXT)["input_ids"]])).logits


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


# -- the same logits as our router


@pytest.mark.parametrize("name", ROUTERS)
def test_peft_gives_the_logits_of_the_router(name: str, tiny: Tiny, tmp_path: Path) -> None:
    base, library = tiny("llama"), tiny_library(5)
    written = export_adapter(library, ROUTERS[name], tmp_path / "out")
    expected = RoutedModel(base, library).logits(TEXT, ROUTERS[name])
    same(peft_logits(base, tmp_path / "out"), expected)
    assert (expected - RoutedModel(base, library).logits(TEXT, Base())).abs().max() > 0.05
    again = open_library(tmp_path / "out")
    (one,) = again.routable
    same(RoutedModel(base, again).logits(TEXT, Single(one.name)), expected)
    assert written.weights.keys() == set(written.weights)


@pytest.mark.parametrize("router", [Uniform(), LinearMerge(rank=3), Ties()], ids=lambda router: router.key)
@pytest.mark.parametrize("architecture", TARGETS)
def test_every_architecture(architecture: str, router: Router, tiny: Tiny, tmp_path: Path) -> None:
    base = tiny(architecture)
    for seed, rank in enumerate((4, 2, 4)):
        config: dict[str, Any] = {
            "r": rank,
            "rank_pattern": {TARGETS[architecture][1]: 3},
            "lora_alpha": 12,
            "target_modules": TARGETS[architecture],
        }
        model = peft_model(base, seed, **config, fan_in_fan_out=architecture == "gpt2")
        save_peft(model, tmp_path / "library" / f"task-{seed}")
    library = open_library(tmp_path / "library")
    export_adapter(library, router, tmp_path / "out")
    expected = RoutedModel(base, library).logits(TEXT, router)
    same(peft_logits(base, tmp_path / "out"), expected)
    same(RoutedModel(base, open_library(tmp_path / "out")).logits(TEXT, Single("out")), expected)


def test_average_factors_is_exported_as_it_is_routed(tiny: Tiny, tmp_path: Path) -> None:
    base = tiny("llama")
    library = Library([random_adapter(f"a{seed}", llama_shapes(), seed=seed) for seed in range(3)])
    router = Uniform(average_factors=True)
    written = export_adapter(library, router, tmp_path / "out")
    assert written.rank_text == "3"
    same(peft_logits(base, tmp_path / "out"), RoutedModel(base, library).logits(TEXT, router))


@pytest.mark.parametrize(("dtype", "close"), [("float16", 2e-2), ("bfloat16", 0.15)])
def test_half_precision(dtype: str, close: float, tiny: Tiny, tmp_path: Path) -> None:
    base, library = tiny("llama"), tiny_library(5)
    export_adapter(library, Uniform(), tmp_path / "out", dtype=dtype)
    assert {str(one.dtype) for one in load_file(tmp_path / "out" / "adapter_model.safetensors").values()} == {
        f"torch.{dtype}"
    }
    expected = RoutedModel(base, library).logits(TEXT, Uniform())
    torch.testing.assert_close(peft_logits(base, tmp_path / "out"), expected, atol=close, rtol=0)


def test_a_number_too_large_for_half_precision_is_told(tmp_path: Path) -> None:
    library = Library([make_adapter("large", {"q": make_update(8, 8, 2, seed=0, size=1e12)})])
    with pytest.raises(SettingsError, match=r"^q: holds numbers too large for float16\. Choose bfloat16 or float32\.$"):
        export_adapter(library, Single("large"), tmp_path / "out", dtype="float16")
    assert not list(tmp_path.iterdir())


def test_each_clusters_mean_is_an_adapter_and_all_are_a_library(tiny: Tiny, tmp_path: Path) -> None:
    base, library = tiny("llama"), tiny_library(5)
    clusters = {"cluster_0": ("adapter-0", "adapter-4"), "cluster_1": ("adapter-1", "adapter-2", "adapter-3")}
    written = export_clusters(library, clusters, tmp_path / "out")
    assert [one.folder for one in written] == [tmp_path / "out" / name for name in clusters]
    again = open_library(tmp_path / "out")
    assert again.names == tuple(clusters)
    assert again.title == f"{library.title}: means of 2 clusters"
    routed, means = RoutedModel(base, library), RoutedModel(base, again)
    for cluster, names in clusters.items():
        expected = routed.logits(TEXT, Weighted(dict.fromkeys(names, 1 / len(names))))
        same(means.logits(TEXT, Single(cluster)), expected)
        same(peft_logits(base, tmp_path / "out" / cluster), expected)


def test_a_clusters_mean_is_over_those_that_can_be_routed(tmp_path: Path) -> None:
    one, two = random_adapter("one", llama_shapes(), seed=1), random_adapter("two", llama_shapes(), seed=2)
    shown = make_adapter("shown", two.updates, Status.MAP_ONLY)
    library = Library([one, two, shown])
    (written,) = export_clusters(library, {"a": ["one", "shown"], "b": ["shown"]}, tmp_path / "out")
    assert written.weights == {"one": 1.0}
    with pytest.raises(LibraryError, match="b: holds no adapter that can be routed, so there is nothing to export"):
        export_clusters(library, {"b": ["shown"]}, tmp_path / "none")


# -- ranks and energy


def dense(one: Any) -> torch.Tensor:
    return one.b.double() @ one.a.double()


@pytest.mark.parametrize("shape", [(12, 9), (9, 12)])
@pytest.mark.parametrize("as_matrix", [False, True])
def test_a_cut_is_the_nearest_update_of_its_rank(shape: tuple[int, int], as_matrix: bool) -> None:
    update = make_update(*shape, rank=6, seed=1, size=-0.7)
    whole = update.dense()
    u, s, vh = torch.linalg.svd(whole.double())
    found = cut(whole if as_matrix else update, 4)
    assert found is not None
    torch.testing.assert_close(dense(found), (u[:, :4] * s[:4]) @ vh[:4], atol=1e-6, rtol=0)
    assert found.energy == pytest.approx(float(s[:4].square().sum()), rel=1e-5)
    assert found.full_energy == pytest.approx(float(s.square().sum()), rel=1e-5)
    uncut = cut(whole if as_matrix else update)
    assert uncut is not None
    assert uncut.a.shape[0] == 6
    torch.testing.assert_close(dense(uncut).float(), whole, atol=1e-6, rtol=0)


def test_a_rank_above_the_smaller_side_comes_down_to_it_without_loss(tmp_path: Path) -> None:
    names = [f"a{seed}" for seed in range(6)]
    library = Library([make_adapter(name, {"m.q": make_update(5, 16, 4, seed)}) for seed, name in enumerate(names)])
    written = export_adapter(library, Uniform(), tmp_path / "out")
    assert (written.ranks, written.kept, written.kept_text) == ({"m.q": 5}, 1.0, "the whole update")
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    found = tensors["base_model.model.m.q.lora_B.weight"] @ tensors["base_model.model.m.q.lora_A.weight"]
    expected = sum(one.updates["m.q"].dense() for one in library) / 6
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_the_energy_is_that_of_all_modules_and_of_the_worst(tmp_path: Path) -> None:
    def diagonal(*values: float) -> LowRank:
        return LowRank(torch.eye(len(values), 4), torch.eye(4, len(values)) @ torch.diag(torch.tensor(values)), 1.0)

    library = Library([make_adapter("one", {"m.q": diagonal(3.0, 1.0), "m.v": diagonal(2.0, 2.0)})])
    written = export_adapter(library, Single("one"), tmp_path / "out", rank=1)
    assert written.kept == pytest.approx((9 + 4) / (10 + 8))
    assert (written.worst_module, written.worst_kept) == ("m.v", pytest.approx(0.5))
    assert written.kept_text == "72.22% of the update's energy, 50.00% in m.v, the worst module"
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| kept | 72.22% of the update's energy, 50.00% in m.v, the worst module |" in text


def test_the_rank_of_a_linear_merge_and_that_of_the_export_are_one(tmp_path: Path) -> None:
    library = tiny_library(3)
    for name, router, rank in (("a", LinearMerge(rank=2), 0), ("b", LinearMerge(), 2), ("c", LinearMerge(rank=5), 2)):
        written = export_adapter(library, router, tmp_path / name, rank=rank)
        assert (set(written.ranks.values()), written.label) == ({2}, "Linear merge: the mean")
    one, two, three = (load_file(tmp_path / name / "adapter_model.safetensors") for name in "abc")
    for key, tensor in one.items():
        torch.testing.assert_close(two[key], tensor)
        torch.testing.assert_close(three[key], tensor)


def test_modules_whose_update_is_zero_are_left_out(tmp_path: Path) -> None:
    update = make_update(8, 6, 3, seed=1)
    twin = LowRank(3 * update.a, update.b / 3, update.scale)
    library = Library(
        [
            make_adapter("one", {"m.q": update, "m.v": update}),
            make_adapter("two", {"m.q": twin, "m.v": make_update(8, 6, 3, seed=2)}),
        ]
    )
    written = export_adapter(library, Weighted({"one": 1.0, "two": -1.0}), tmp_path / "out")
    assert (set(written.ranks), written.left_out) == ({"m.v"}, ("m.q",))
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["target_modules"] == ["m.v"]
    only = Library([make_adapter("one", {"m.q": update}), make_adapter("two", {"m.q": twin})])
    with pytest.raises(SettingsError, match="adds up to no update at all, so there is nothing to export"):
        export_adapter(only, Weighted({"one": 1.0, "two": -1.0}), tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_adapters_without_weight_are_not_read(tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        write_adapter(tmp_path / "library" / name, seed=seed)
    library = open_library(tmp_path / "library")
    (tmp_path / "library" / "two" / "adapter_model.safetensors").unlink()
    export_adapter(library, LinearMerge(weights={"one": 0.5}), tmp_path / "out")
    with pytest.raises(LibraryError, match="is no longer there"):
        export_adapter(library, Uniform(), tmp_path / "none")
    assert not (tmp_path / "none").exists()


# -- the folder


def test_modules_whose_names_end_alike_keep_their_own_rank(tmp_path: Path) -> None:
    class Inner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = torch.nn.Linear(6, 6)
            self.wrapped = torch.nn.ModuleDict({"proj": torch.nn.Linear(6, 6)})

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.wrapped["proj"](self.proj(hidden))

    ranks = {"proj": 1, "wrapped.proj": 3}
    library = Library([make_adapter("one", {site: make_update(6, 6, rank, 4) for site, rank in ranks.items()})])
    export_adapter(library, Single("one"), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    config.pop("task_type")
    (tmp_path / "out" / "adapter_config.json").write_text(json.dumps(config))
    bare = Inner()
    model = peft.PeftModel.from_pretrained(copy.deepcopy(bare), tmp_path / "out")
    hidden = torch.randn(3, 6)
    first, second = (library["one"].updates[site].dense() for site in ranks)
    middle = bare.proj(hidden) + hidden @ first.T
    torch.testing.assert_close(model(hidden), bare.wrapped["proj"](middle) + middle @ second.T, atol=1e-5, rtol=1e-5)
    assert open_library(tmp_path / "out").adapters[0].ranks == (1, 3)


def test_the_most_common_rank_is_the_one_of_the_configuration() -> None:
    config = peft_config("base", {"a.q": (4, 4), "b.q": (4, 4), "b.v": (2, 2)}, fan_in_fan_out=True)
    assert (config["r"], config["lora_alpha"], config["fan_in_fan_out"]) == (4, 4, True)
    assert config["rank_pattern"] == config["alpha_pattern"] == {"b.v": 2}


def test_the_card_says_what_it_was_made_of_and_names_stay_text(tmp_path: Path) -> None:
    library = Library(
        [random_adapter("a|b`c\n# *d*", llama_shapes()), random_adapter("<b>e</b>", llama_shapes(), seed=1)],
        title="Mine: [x](y)",
        license_name="Apache-2.0",
    )
    export_adapter(library, Weighted({"a|b`c\n# *d*": 0.25, "<b>e</b>": -2.0}), tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| a\\|b\\`c \\# \\*d\\* | 0.25 |" in text
    assert "| \\<b\\>e\\</b\\> | -2 |" in text
    assert "made from | 2 of 2 adapters of Mine: \\[x\\](y) |" in text
    assert text.startswith('---\nbase_model: "tiny/model"\nlicense: "apache-2.0"\n')
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["adapters"] == {"a|b`c\n# *d*": 0.25, "<b>e</b>": -2.0}
    assert card["library_hash"] == library.content_hash
    assert open_library(tmp_path / "out").adapters[0].notes.task.startswith("Weighted: ")


def test_progress_counts_the_modules(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    export_adapter(tiny_library(2), Uniform(), tmp_path / "a", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(7)]
    seen.clear()
    clusters = {"x": ["adapter-0"], "y": ["adapter-1"]}
    export_clusters(tiny_library(2), clusters, tmp_path / "b", progress=lambda *counts: seen.append(counts))
    assert (seen[0], seen[-1]) == ((0, 9), (9, 9))


# -- what cannot be exported


@pytest.mark.parametrize(
    ("router", "problem"),
    [
        (Arrow(), "^Arrow: decides anew for each token, so that no one adapter can do the same"),
        (Base(), "^Base model: leaves the base model as it is, so there is nothing to export"),
        (Weighted({"adapter-0": 0.0}), "there is nothing to export"),
        (Single("nobody"), "Choose from: adapter-0, adapter-1"),
    ],
)
def test_a_router_that_is_no_adapter(router: Router, problem: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=problem):
        export_adapter(tiny_library(2), router, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("settings", [{"rank": -1}, {"rank": 5000}, {"rank": 2.0}, {"dtype": "int8"}])
def test_settings_out_of_bounds(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        export_adapter(tiny_library(2), Uniform(), tmp_path / "out", **settings)
    assert not list(tmp_path.iterdir())


def test_a_rank_that_could_not_be_read_again(tmp_path: Path) -> None:
    wide = LowRank(torch.ones(1, 4097), torch.ones(4097, 1), 1.0)
    with pytest.raises(SettingsError, match=r"expected a rank up to 4096, found 4097 in m\.q\. Choose a smaller rank"):
        export_adapter(Library([make_adapter("one", {"m.q": wide})]), Ties(), tmp_path / "out")


def test_a_folder_that_is_taken_and_one_that_is_empty(tmp_path: Path) -> None:
    taken, empty = tmp_path / "taken", tmp_path / "empty"
    for folder in (taken, empty):
        folder.mkdir()
    (taken / "mine.txt").write_text("mine")
    with pytest.raises(SettingsError, match="is there and is not an empty folder"):
        export_adapter(tiny_library(2), Uniform(), taken)
    with pytest.raises(SettingsError, match="which is not a folder"):
        export_adapter(tiny_library(2), Uniform(), tmp_path / "no" / "place")
    export_adapter(tiny_library(2), Uniform(), empty)
    assert (empty / "adapter_config.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "taken"]


def test_a_full_disk_is_seen_before_the_work_begins(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"expected [0-9,.]+ GB, found [0-9,.]+ [MG]B free\. Choose a smaller rank"):
        check_folder(tmp_path / "out", 1 << 60)


def test_nothing_is_left_where_writing_failed(tmp_path: Path) -> None:
    with (
        pytest.raises(SettingsError, match=r"cannot be written \(No space left on device\)"),
        whole_folder(tmp_path / "out") as scratch,
    ):
        (scratch / "half").write_text("half")
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_names_of_folders_are_portable_and_differ() -> None:
    names = ["task", "Task", "../up", "a/b", "a b", ".hidden", "\u202e", "x" * 300]
    found = folder_names(names)
    assert list(found.values()) == ["task", "Task_2", "up", "a_b", "a_b_2", "hidden", "adapter", "x" * 80]


def test_peft_leaves_nothing_to_be_desired(tmp_path: Path) -> None:
    """Same tensors as `save_pretrained` would read back: names, shapes and dtype of a plain adapter."""
    write_adapter(tmp_path / "library" / "one")
    export_adapter(open_library(tmp_path / "library"), Single("one"), tmp_path / "out")
    tensors, own = load_file(tmp_path / "out" / "adapter_model.safetensors"), factors()
    assert {name: one.shape for name, one in tensors.items()} == {name: one.shape for name, one in own.items()}


@pytest.mark.slow
@pytest.mark.parametrize("router", [Single("add3"), LinearMerge(), Ties()], ids=lambda router: router.key)
def test_the_sample_on_its_base_model(router: Router, real_base: BaseModel, tmp_path: Path) -> None:
    with open_library("sample") as library:
        export_adapter(library, router, tmp_path / "out")
        expected = RoutedModel(real_base, library).logits(TEXT, router)
    same(peft_logits(real_base, tmp_path / "out"), expected)
    same(RoutedModel(real_base, open_library(tmp_path / "out")).logits(TEXT, Single("out")), expected)
