"""One adapter folder: what is accepted, what is only shown, what is refused, and in which words."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_files import (
    PREFIX,
    Q_PROJ,
    SITES,
    V_PROJ,
    WEIGHTS,
    config_of,
    factors,
    write_adapter,
    write_config,
)
from safetensors.torch import save_file

from explorer.adapters.adapter import Adapter, AdapterNotes, Status, Verdict
from explorer.adapters.module_patterns import read_patterns
from explorer.adapters.peft_format import read_adapter
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


def test_a_plain_name_before_an_expression_counts_first() -> None:
    assert read_patterns("here", {"v_proj": 4.0, r"v.*": 3.0}).values(["a.v_proj"], 9.0) == {"a.v_proj": 4}
    assert read_patterns("here", {r"v.*": 3.0, "v_proj": 4.0}).values(["a.v_proj"], 9.0) == {"a.v_proj": 3}


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
