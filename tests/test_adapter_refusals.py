"""Adapters that are refused: missing and hostile configurations and weights, and whatever the bytes, a verdict."""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_files import (
    CONFIG,
    PREFIX,
    Q_PROJ,
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

from explorer.adapters.adapter import Adapter, Status, Verdict
from explorer.adapters.peft_format import read_adapter
from explorer.adapters.safetensors_header import read_header


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
