"""One adapter folder: what is accepted, what is only shown, what is refused, and in which words."""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_files import (
    CONFIG,
    PREFIX,
    Q_PROJ,
    SITES,
    V_PROJ,
    WEIGHTS,
    config_of,
    entry,
    factors,
    header_bytes,
    write_adapter,
    write_config,
)
from safetensors.torch import save_file

from explorer.adapters.adapter import Adapter, AdapterNotes, Status, Verdict
from explorer.adapters.module_patterns import read_patterns
from explorer.adapters.peft_format import read_adapter
from explorer.adapters.safetensors_header import read_header
from explorer.adapters.wording import clean_line, clean_text, shown
from explorer.errors import AdapterFormatError


def accepted(folder: Path, **options: Any) -> Adapter:
    adapter = read_adapter(folder, "one", **options)
    assert isinstance(adapter, Adapter), adapter
    assert adapter.verdict.status is Status.ACCEPTED, adapter.verdict
    return adapter


def map_only(folder: Path, **options: Any) -> str:
    adapter = read_adapter(folder, "one", **options)
    assert isinstance(adapter, Adapter), adapter
    assert adapter.verdict.status is Status.MAP_ONLY
    return adapter.verdict.reason


def refused(folder: Path, **options: Any) -> str:
    verdict = read_adapter(folder, "one", **options)
    assert isinstance(verdict, Verdict), verdict
    assert verdict.status is Status.REFUSED
    assert verdict.reason == " ".join(verdict.reason.split())
    return verdict.reason


# --- what a good adapter becomes


def test_a_plain_adapter(tmp_path: Path) -> None:
    tensors = factors()
    adapter = accepted(write_adapter(tmp_path / "a", alpha=8), notes=AdapterNotes(task="t"))
    assert tuple(adapter.updates) == (Q_PROJ, V_PROJ)
    assert (adapter.base_model, adapter.alpha, adapter.ranks, adapter.notes.task) == ("tiny/model", 8.0, (4,), "t")
    update = adapter.updates[V_PROJ]
    assert update.shape == (8, 16)
    assert update.scale == 2.0
    assert torch.equal(update.a, tensors[f"{PREFIX}{V_PROJ}.lora_A.weight"])
    assert torch.equal(update.b, tensors[f"{PREFIX}{V_PROJ}.lora_B.weight"])
    assert adapter.size_bytes == (tmp_path / "a" / WEIGHTS).stat().st_size
    assert adapter.verdict == Verdict("one", Status.ACCEPTED)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_factors_keep_their_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    assert accepted(write_adapter(tmp_path, dtype=dtype)).updates[Q_PROJ].a.dtype is dtype


def test_rslora_and_mixed_ranks(tmp_path: Path) -> None:
    sites = {Q_PROJ: (4, 16, 16), V_PROJ: (9, 16, 8)}
    extra = {"use_rslora": True, "rank_pattern": {"v_proj": 9}, "alpha_pattern": {"v_proj": 30}}
    adapter = accepted(write_adapter(tmp_path, sites, alpha=8, config_extra=extra))
    assert adapter.updates[Q_PROJ].scale == pytest.approx(8 / math.sqrt(4))
    assert adapter.updates[V_PROJ].scale == pytest.approx(30 / math.sqrt(9))
    assert adapter.ranks == (4, 9)
    assert adapter.verdict.warnings == ()


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize("suffix", ["", ".default", ".my adapter"])
def test_prefix_and_adapter_name_in_the_keys_do_not_matter(tmp_path: Path, prefix: str, suffix: str) -> None:
    write_config(tmp_path, config_of())
    tensors = {
        name.replace(PREFIX, prefix).replace(".weight", f"{suffix}.weight"): tensor
        for name, tensor in factors().items()
    }
    save_file(tensors, tmp_path / WEIGHTS)
    assert tuple(accepted(tmp_path).updates) == (Q_PROJ, V_PROJ)


@pytest.mark.parametrize("targets", [None, "all-linear", ".*_proj", ["q_proj,", "v_proj, "], 7, [], {"a": [1]}])
def test_target_modules_do_not_matter(tmp_path: Path, targets: Any) -> None:
    extra = {"target_modules": targets, "fan_in_fan_out": None, "a_field_of_tomorrow": {"x": 1}}
    assert len(accepted(write_adapter(tmp_path, config_extra=extra)).updates) == 2


def test_missing_fields_take_pefts_defaults(tmp_path: Path) -> None:
    write_adapter(tmp_path, {Q_PROJ: (8, 16, 16)})
    write_config(tmp_path, {"peft_type": "LORA"})
    adapter = accepted(tmp_path)
    assert adapter.updates[Q_PROJ].scale == 1.0
    assert adapter.base_model == ""


def test_the_hash_follows_weights_and_configuration(tmp_path: Path) -> None:
    first, same = (accepted(write_adapter(tmp_path / name)).content_hash for name in ("a", "b"))
    other = accepted(write_adapter(tmp_path / "c", seed=1)).content_hash
    scaled = accepted(write_adapter(tmp_path / "d", alpha=9)).content_hash
    assert first == same
    assert len({first, other, scaled}) == 3


# --- against PEFT itself


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.v_proj = torch.nn.Linear(6, 6), torch.nn.Linear(6, 4)


class Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(Block() for _ in range(12))


PATTERNS: list[dict[str, float]] = [
    {},
    {"q_proj": 3},
    {"layers.1.q_proj": 3, "q_proj": 5},
    {"q_proj": 5, "layers.1.q_proj": 3},
    {"^layers.1.q_proj": 3, "^q_proj": 7},
    {"layers.1.q_proj$": 3, r"layers\.2\.v_proj": 9},
    {"proj": 3, "1.q_proj": 4, "layers": 2},
    {r"layers\.[0-4]\.(q|v)_proj": 3, "v_proj": 6},
    {r".*\.1.*": 3, "q_proj": 4},
    {r"layers\.\d+\.q_proj": 2},
    {"q_proj|layers.3.v_proj": 2},
    {r"^layers\.1.\..*$": 2},
    {r"(?:[a-z]+\.)?1[01]?\.v_proj": 2},
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning:peft")
def test_scales_and_updates_are_those_of_peft(tmp_path: Path, pattern: dict[str, float], rslora: bool) -> None:
    import peft

    config = peft.LoraConfig(
        r=4,
        lora_alpha=10,
        target_modules=["q_proj", "v_proj"],
        alpha_pattern=pattern,
        rank_pattern={key: 3 for key in list(pattern)[:1]},
        use_rslora=rslora,
        init_lora_weights=False,
    )
    peft.get_peft_model(Tiny(), config).save_pretrained(tmp_path)
    # saving sorts the patterns, so another one may come first than in training: the folder as PEFT loads it counts
    model = peft.PeftModel.from_pretrained(Tiny(), tmp_path)
    adapter = accepted(tmp_path)
    assert len(adapter.updates) == 24
    for site, update in adapter.updates.items():
        layer = model.base_model.model.get_submodule(site)
        assert update.scale == pytest.approx(layer.scaling["default"]), site
        torch.testing.assert_close(update.dense(), layer.get_delta_weight("default"), rtol=1e-5, atol=1e-6)


def test_the_first_pattern_counts_even_after_the_same_name_was_dropped() -> None:
    patterns = read_patterns("here", {"q_proj": 1.0, "q_proj$": 2.0, r"v.*": 3.0, "v_proj": 4.0})
    assert patterns.values(["a.q_proj", "a.v_proj", "a.o_proj"], 9.0) == {"a.q_proj": 1, "a.v_proj": 3, "a.o_proj": 9}


def test_an_expression_that_would_run_for_ever_is_refused_in_about_a_second(tmp_path: Path) -> None:
    extra = {"alpha_pattern": {"(a|a)" * 58 + "$": 3}}
    start = time.monotonic()
    assert refused(write_adapter(tmp_path, {"a" * 200 + "x": (2, 4, 4)}, config_extra=extra)) == (
        "adapter_config.json, field alpha_pattern: has an expression that takes too long to match. "
        "Write the modules' names out."
    )
    assert time.monotonic() - start < 15


BEYOND = ["a{999}", "((a{9}){9}){9}", "(?R)", "(?i)q", "(", "a**", "x" * 301 + "*", "q p", "é*", ""]


@pytest.mark.parametrize("pattern", BEYOND)
def test_patterns_beyond_what_is_needed_are_refused(tmp_path: Path, pattern: str) -> None:
    reason = refused(write_adapter(tmp_path, config_extra={"alpha_pattern": {pattern: 3}}))
    assert reason.startswith("adapter_config.json, field alpha_pattern: has a pattern that is not")


# --- shown on the map only


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"use_dora": True}, "it uses DoRA, whose magnitude is not a low-rank update"),
        ({"lora_bias": True}, "it trains a bias beside B"),
        ({"bias": "all"}, "it trains biases of the base model"),
        ({"bias": "lora_only"}, "it trains biases of the base model"),
        ({"modules_to_save": ["lm_head"]}, "it replaces whole modules of the base model"),
        ({"trainable_token_indices": [0]}, "it changes token embeddings"),
        ({"target_parameters": ["experts.w"]}, "it adapts bare parameters instead of linear modules"),
        ({"layer_replication": [[0, 2]]}, "it repeats layers of the base model"),
        ({"alora_invocation_tokens": [5]}, "it is an activated LoRA, which starts at an invocation token"),
        ({"use_qalora": True}, "it uses QALoRA, which pools the input before A"),
        ({"kasa_config": {"beta": 1}}, "it uses KaSA, which cuts down the base model's weights"),
    ],
)
def test_configurations_that_cannot_be_routed(tmp_path: Path, extra: dict[str, Any], reason: str) -> None:
    assert map_only(write_adapter(tmp_path, config_extra=extra)) == f"It cannot be routed: {reason}."


@pytest.mark.parametrize(
    "extra",
    [{"modules_to_save": []}, {"bias": None}, {"layer_replication": None}, {"use_dora": False}, {"kasa_config": None}],
)
def test_fields_that_are_empty_change_nothing(tmp_path: Path, extra: dict[str, Any]) -> None:
    accepted(write_adapter(tmp_path, config_extra=extra))


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        (f"{Q_PROJ}.lora_magnitude_vector", (16,), "it uses DoRA, whose magnitude is not a low-rank update"),
        ("model.embed_tokens.lora_embedding_A", (4, 9), "it adapts an embedding"),
        (f"{Q_PROJ}.lora_B.bias", (16,), "it trains a bias beside B"),
        ("conv.lora_A.weight", (4, 3, 2, 2), "it adapts convolutions"),
        ("conv.lora_A.weight", (4, 3, 2), "it adapts convolutions"),
        (
            f"{Q_PROJ}.lora_diag.weight",
            (4,),
            "it holds a LoRA tensor of an unknown kind (base_model.model.model.layers.0.self_attn.q_proj.lora_dia...)",
        ),
        ("lm_head.weight", (9, 16), "it replaces a tensor of the base model (base_model.model.lm_head.weight)"),
    ],
)
def test_tensors_that_cannot_be_routed(tmp_path: Path, name: str, shape: tuple[int, ...], reason: str) -> None:
    folder = write_adapter(tmp_path, tensors_extra={PREFIX + name: torch.ones(shape)})
    assert map_only(folder) == f"It cannot be routed: {reason}."


def test_one_cause_is_named_once(tmp_path: Path) -> None:
    extra = {f"{PREFIX}{Q_PROJ}.lora_magnitude_vector": torch.ones(16), f"{PREFIX}lm_head.weight": torch.ones(3)}
    folder = write_adapter(tmp_path, config_extra={"use_dora": True, "modules_to_save": ["x"]}, tensors_extra=extra)
    assert map_only(folder) == (
        "It cannot be routed: it uses DoRA, whose magnitude is not a low-rank update; "
        "it replaces whole modules of the base model."
    )


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga"])
def test_an_altered_base_is_a_warning(tmp_path: Path, start: str) -> None:
    adapter = accepted(write_adapter(tmp_path, config_extra={"init_lora_weights": start}))
    assert adapter.verdict.warnings == (
        f"It was initialised with {start}: its update is relative to an altered base model.",
    )


def test_a_rank_that_the_configuration_does_not_know_is_a_warning(tmp_path: Path) -> None:
    adapter = accepted(write_adapter(tmp_path, config_extra={"r": 7}))
    assert adapter.verdict.warnings == (
        "Its factors have rank 4, which its configuration does not mention; the factors count.",
    )
    assert adapter.updates[Q_PROJ].scale == 2.0


def test_pickles_beside_good_weights_are_named_and_left_alone(tmp_path: Path) -> None:
    write_adapter(tmp_path)
    (tmp_path / "training_args.bin").write_bytes(b"x")
    assert accepted(tmp_path).verdict.warnings == ("training_args.bin beside it was not opened: it is a pickle.",)


# --- against the base model


SHAPES = {Q_PROJ: (16, 16), V_PROJ: (8, 16)}


def test_fitting_shapes_are_accepted_and_asked_for_by_the_base_models_name(tmp_path: Path) -> None:
    asked = []

    def shapes_of(base: str) -> dict[str, tuple[int, int]]:
        asked.append(base)
        return SHAPES

    accepted(write_adapter(tmp_path), shapes_of=shapes_of)
    assert asked == ["tiny/model"]


def test_another_shape_than_the_base_models_is_refused(tmp_path: Path) -> None:
    assert refused(write_adapter(tmp_path), shapes_of=lambda _: {**SHAPES, V_PROJ: (9, 16)}) == (
        "module model.layers.0.self_attn.v_proj: does not fit the base model, expected (9, 16), found (8, 16)."
    )


def test_a_module_that_the_base_model_lacks_keeps_it_off_the_routers(tmp_path: Path) -> None:
    assert map_only(write_adapter(tmp_path), shapes_of=lambda _: {Q_PROJ: (16, 16)}) == (
        "It cannot be routed: the base model has no linear module model.layers.0.self_attn.v_proj."
    )


# --- refused: no weights, pickles


def test_pickles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    write_config(tmp_path, config_of())
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    assert refused(tmp_path) == (
        "adapter_model.bin: is a pickle, which can run code when it is opened, and is never read. "
        "Where you trust it, load it with PEFT and save it with safe_serialization=True."
    )


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "adapter_model.safetensors: is missing. Save the adapter with PEFT's save_pretrained."),
        (
            ["adapter_model-00001-of-00002.safetensors", "adapter_model-00002-of-00002.safetensors"],
            "adapter_model.safetensors: is split into several files. Save the adapter again as this one file.",
        ),
        (
            ["adapter_model.safetensors.index.json"],
            "adapter_model.safetensors: is split into several files. Save the adapter again as this one file.",
        ),
        (
            ["pytorch_lora_weights.safetensors"],
            "adapter_model.safetensors: is missing, found pytorch_lora_weights.safetensors. "
            "Rename it to adapter_model.safetensors.",
        ),
    ],
)
def test_weights_that_are_not_there(tmp_path: Path, files: list[str], reason: str) -> None:
    write_config(tmp_path, config_of())
    for file in files:
        (tmp_path / file).write_bytes(b"")
    assert refused(tmp_path) == reason


def test_links_pipes_and_folders_in_place_of_files(tmp_path: Path) -> None:
    import os

    good = write_adapter(tmp_path / "good")
    for name in (CONFIG, WEIGHTS):
        folder = tmp_path / f"link-{name}"
        shutil.copytree(good, folder)
        (folder / name).unlink()
        (folder / name).symlink_to(good / name)
        assert refused(folder) == f"{name}: is a link, not a file. Copy the file itself."
        (folder / name).unlink()
        os.mkfifo(folder / name)
        assert refused(folder).startswith(f"{name}: is missing")
        (folder / name).unlink()
        (folder / name).mkdir()
        assert refused(folder).startswith(f"{name}: is missing")


# --- refused: hostile configurations


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "adapter_config.json: is not JSON."),
        ("{", "adapter_config.json: is not JSON."),
        (b"\xff\xfe\x00", "adapter_config.json: is not JSON."),
        ("[1]", "adapter_config.json: is not a JSON object."),
        ("[" * 100_000, "adapter_config.json: is not JSON."),
        ('{"r": ' + "9" * 5000 + "}", "adapter_config.json: is not JSON."),
        ('{"a":' * 200 + "1" + "}" * 200, "adapter_config.json: is nested too deeply, expected at most 32 levels."),
        ('{"peft_type": "ADALORA"}', "adapter_config.json: is not LoRA, expected peft_type LORA, found ADALORA."),
        ('{"peft_type": null}', "adapter_config.json: is not LoRA, expected peft_type LORA, found None."),
        ('{"peft_type": ["LORA"]}', "adapter_config.json: is not LoRA, expected peft_type LORA, found ['LORA']."),
    ],
)
def test_configurations_that_are_none(tmp_path: Path, raw: Any, reason: str) -> None:
    write_config(write_adapter(tmp_path), raw)
    assert refused(tmp_path) == reason


@pytest.mark.parametrize("value", [None, 0, 0.0, math.nan, math.inf, -math.inf, 1e30, True, "16", [16], {}, 10**4000])
def test_an_alpha_that_is_none(tmp_path: Path, value: Any) -> None:
    reason = refused(write_adapter(tmp_path, config_extra={"lora_alpha": value}))
    assert reason.startswith("adapter_config.json, field lora_alpha: expected a number that is not 0, found ")


@pytest.mark.parametrize("value", [None, 0, -4, 4.5, math.nan, math.inf, True, "4", [4], 10**4000])
def test_a_rank_that_is_none(tmp_path: Path, value: Any) -> None:
    reason = refused(write_adapter(tmp_path, config_extra={"r": value}))
    assert reason.startswith("adapter_config.json, field r: expected a whole number from 1, found ")


@pytest.mark.parametrize("value", [[], "q_proj", 3, {"q_proj": "x"}, {"q_proj": math.nan}, {"q_proj": None}])
def test_an_alpha_pattern_that_is_none(tmp_path: Path, value: Any) -> None:
    assert refused(write_adapter(tmp_path, config_extra={"alpha_pattern": value})).startswith(
        "adapter_config.json, field "
    )


def test_a_huge_configuration(tmp_path: Path) -> None:
    write_config(write_adapter(tmp_path), json.dumps(config_of(x="y" * (5 << 20))))
    assert refused(tmp_path) == "adapter_config.json: is too large, expected at most 4 MB."


@pytest.mark.parametrize("value", ["\ud800/x\u202e\x00", 7, ["a"], "  a\n b  ", "x" * 9000])
def test_odd_base_model_names_are_kept_fit_to_be_shown(tmp_path: Path, value: Any) -> None:
    name = accepted(write_adapter(tmp_path, base_model=value)).base_model
    assert len(name) <= 500
    assert name == " ".join(name.split())
    name.encode("utf-8")


def test_deep_junk_in_fields_that_are_not_read_is_harmless(tmp_path: Path) -> None:
    junk: Any = 1
    for _ in range(25):
        junk = {"a": [junk]} if isinstance(junk, int) else [junk]
    accepted(write_adapter(tmp_path, config_extra={"target_modules": junk}))


# --- refused: hostile weights


def refused_bytes(folder: Path, raw: bytes) -> str:
    write_config(folder, config_of())
    (folder / WEIGHTS).write_bytes(raw)
    return refused(folder)


A, B = f"{PREFIX}x.lora_A.weight", f"{PREFIX}x.lora_B.weight"
GOOD = {A: entry((2, 4)), B: entry((4, 2), 32)}
DATA = bytes(64)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "is not a safetensors file, or was cut off"),
        (b"1234567", "is not a safetensors file, or was cut off"),
        (bytes(100), "is not a safetensors file, or was cut off"),
        (header_bytes(GOOD, DATA, length=10**6), "is not a safetensors file, or was cut off"),
        (header_bytes(GOOD, DATA, length=2**63), "is not a safetensors file, or was cut off"),
        (header_bytes(b" " * (17 << 20)), "has too large a header, expected at most 16777216 bytes"),
        (header_bytes(b"\xff\xff\xff"), "has a header that is not JSON"),
        (header_bytes("[" * 5000), "has a header that is not JSON"),
        (header_bytes("[]"), "has a header that is not a JSON object"),
        (header_bytes(GOOD, DATA[:-1]), "tensor base_model.model.x.lora_B.weight: lies outside the file"),
        (header_bytes(GOOD, DATA + b"x"), "has bytes that belong to no tensor, or was cut off"),
        (header_bytes({A: 7}), "tensor base_model.model.x.lora_A.weight: has no proper entry in the header"),
        (header_bytes({**GOOD, B: entry((4, 2), 0)}, DATA), "lies outside the file or over another tensor"),
        (header_bytes({**GOOD, B: entry((4, 2), 36)}, DATA), "lies outside the file or over another tensor"),
        (header_bytes({A: entry((2, 4), end=31)}, DATA), "has a size that does not fit its shape, found 31 bytes"),
        (header_bytes({A: entry((2, 4), dtype="F8_E4M3")}, DATA), "has a dtype that is not supported, found F8_E4M3"),
        (header_bytes({A: entry((2, 4), dtype="evil\n")}, DATA), "has a dtype that is not supported, found evil\\n"),
        (header_bytes({A: {**entry((2,)), "shape": [2**40, 2**40]}}), "has a shape that is not a list of sizes"),
        (header_bytes({A: {**entry((2,)), "shape": [-1]}}), "has a shape that is not a list of sizes, found [-1]"),
        (header_bytes({A: {**entry((2,)), "shape": [True]}}), "has a shape that is not a list of sizes, found [True]"),
        (header_bytes({A: {**entry((2,)), "shape": "22"}}), "has a shape that is not a list of sizes, found 22"),
        (header_bytes({A: {**entry((2,)), "shape": [2**30] * 8}}), "has a size that does not fit its shape"),
        (header_bytes({A: {**entry((2,)), "data_offsets": [8, 0]}}), "has a size that does not fit its shape"),
        (header_bytes({A: {**entry((2,)), "data_offsets": [0, 1e3]}}), "has data offsets that are not two positions"),
        (header_bytes({A: {**entry((2,)), "data_offsets": [0]}}), "has data offsets that are not two positions"),
        (header_bytes({A: {**entry((2,)), "data_offsets": None}}), "has data offsets that are not two positions"),
        (header_bytes({}), "holds no lora_A and lora_B of a linear module"),
        (header_bytes({A: entry((2, 4))}, bytes(32)), "module x: has one of lora_A and lora_B without the other"),
        (header_bytes({A: entry((0, 4)), B: entry((4, 0))}), "expected a matrix, found shape (0, 4)"),
        (header_bytes({A: entry((8,)), B: entry((4, 2), 32)}, DATA), "expected a matrix, found shape (8,)"),
        (header_bytes({A: entry((2, 4)), B: entry((2, 4), 32)}, DATA), "has factors of different rank"),
        (header_bytes({A: entry((2, 4), dtype="I32"), B: entry((4, 2), 32)}, DATA), "expected a floating-point dtype"),
        (header_bytes({**GOOD, "x.lora_A.weight": entry((2, 4), 64)}, bytes(96)), "stands there twice for one module"),
        (header_bytes({".lora_A.weight": entry((2, 4)), "..lora_A.weight": entry((1,), 32)}, bytes(36)), "no"),
        (header_bytes({"a..b.lora_A.weight": entry((2, 4))}, bytes(32)), "does not name a module"),
        (header_bytes({"\ud800.lora_A.weight": entry((2, 4))}, bytes(32)), "does not name a module"),
        (header_bytes({"x" * 999 + ".lora_A.weight": entry((2, 4))}, bytes(32)), "does not name a module"),
    ],
)
def test_weights_that_contradict_themselves(tmp_path: Path, raw: bytes, reason: str) -> None:
    found = refused_bytes(tmp_path, raw)
    assert found.startswith("adapter_model.safetensors")
    assert reason in found


def test_a_tensor_named_twice(tmp_path: Path) -> None:
    one = json.dumps(entry((2, 4)))
    reason = refused_bytes(tmp_path, header_bytes(f'{{"{A}": {one}, "{A}": {one}}}', bytes(32)))
    assert reason == "safetensors header: names a tensor twice. Save the adapter again."


def test_a_rank_that_would_fill_the_memory(tmp_path: Path) -> None:
    tall = {A: entry((100_000, 1)), B: entry((1, 100_000), 400_000)}
    assert refused_bytes(tmp_path, header_bytes(tall, bytes(800_000))) == (
        "adapter_model.safetensors, module x: expected a rank up to 4096, found 100000."
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "holds NaN or infinite values."),
        (math.inf, "holds NaN or infinite values."),
        (-math.inf, "holds NaN or infinite values."),
        (1e30, "holds values too large for a trained adapter, found norm 1e+30."),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_that_are_no_weights(tmp_path: Path, value: float, reason: str, dtype: torch.dtype) -> None:
    tensors = factors(dtype=dtype)
    name = f"{PREFIX}{V_PROJ}.lora_B.weight"
    tensors[name][3, 1] = value
    write_config(tmp_path, config_of())
    save_file(tensors, tmp_path / WEIGHTS)
    assert refused(tmp_path) == f"adapter_model.safetensors, tensor {name}: {reason}"


def test_a_header_alone_reads_without_the_tensors(tmp_path: Path) -> None:
    header = read_header(write_adapter(tmp_path) / WEIGHTS)
    assert header[f"{PREFIX}{Q_PROJ}.lora_A.weight"].shape == (4, 16)
    assert {tensor.dtype for tensor in header.values()} == {"F32"}


# --- whatever the bytes, there is a verdict


@pytest.mark.parametrize("seed", range(4))
def test_broken_weights_always_end_in_a_verdict(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder = write_adapter(tmp_path, {"x": (2, 3, 3), "y": (1, 3, 2)})
    good = (folder / WEIGHTS).read_bytes()
    refusals = 0
    for _ in range(250):
        raw = bytearray(good)
        for _ in range(chance.choice((1, 1, 2, 8))):
            place = chance.randrange(len(raw))
            change = chance.randrange(4)
            if change == 0:
                raw[place] = chance.randrange(256)
            elif change == 1:
                raw[place : place + 1] = b""
            elif change == 2:
                raw[place:place] = bytes([chance.choice(b'0123456789,:{}[]"-eE.')])
            else:
                del raw[place:]
            raw = raw or bytearray(b"\0")
        (folder / WEIGHTS).write_bytes(raw)
        result = read_adapter(folder, "x")
        verdict = result if isinstance(result, Verdict) else result.verdict
        refusals += verdict.status is Status.REFUSED
    assert refusals > 100


@pytest.mark.parametrize("seed", range(4))
def test_broken_configurations_always_end_in_a_verdict(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder = write_adapter(tmp_path, {"x": (2, 3, 3)})
    odd = [None, True, 0, -1, 1.5, math.nan, "", "x", [], {}, [[1]], {"a": {"b": 1}}, {"q": 1}, "\ud800", 10**400]
    fields = [*config_of(), "use_rslora", "alpha_pattern", "rank_pattern", "modules_to_save", "init_lora_weights"]
    for _ in range(250):
        config = config_of()
        for field in chance.sample(fields, 3):
            config[field] = chance.choice(odd)
        write_config(folder, config)
        result = read_adapter(folder, "x")
        verdict = result if isinstance(result, Verdict) else result.verdict
        (verdict.reason + "".join(verdict.warnings)).encode("utf-8")


# --- words


def test_text_from_outside_is_made_fit_to_be_shown() -> None:
    assert shown("a\n\x1b[31m\u202eb") == r"a\n\x1b[31m\u202eb"
    assert shown("it's <b>") == "it's <b>"
    assert len(shown("x" * 10_000)) == 80
    assert clean_line(" a\r\nb\u2028c\x00\ud800 ", 50) == "a b c\ufffd\ufffd"
    assert clean_text("one\r\ntwo\tx\u200d", 50) == "one\ntwo\tx\u200d"
    assert clean_text(["no"], 50) == ""
    assert clean_line("x" * 99, 7) == "x" * 7


def test_errors_are_one_sentence_whatever_the_names(tmp_path: Path) -> None:
    with pytest.raises(AdapterFormatError) as caught:
        read_patterns("field", {"\n\n(" + "é" * 500: 1.0})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_sites_are_in_natural_order(tmp_path: Path) -> None:
    sites = {f"layers.{index}.q": (1, 3, 3) for index in (10, 2, 1)}
    assert list(accepted(write_adapter(tmp_path, sites)).updates) == ["layers.1.q", "layers.2.q", "layers.10.q"]
    assert set(SITES) == {Q_PROJ, V_PROJ}
