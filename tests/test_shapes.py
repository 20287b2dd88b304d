"""Shapes of base models from their configurations alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explorer.models.shapes import known_shapes


def test_shapes_of_a_local_models_linear_modules(tmp_path: Path) -> None:
    import transformers

    transformers.LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=32,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(tmp_path / "llama")
    shapes = known_shapes(str(tmp_path / "llama"))
    assert shapes is not None
    assert shapes["model.layers.0.self_attn.k_proj"] == (8, 16)
    assert shapes["model.layers.0.mlp.down_proj"] == (16, 24)
    assert shapes["lm_head"] == (32, 16)
    assert known_shapes(str(tmp_path / "llama"), allow_local=False) is None


def test_shapes_of_conv1d_modules_are_those_of_the_update(tmp_path: Path) -> None:
    import transformers

    transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=32).save_pretrained(tmp_path / "gpt2")
    shapes = known_shapes(str(tmp_path / "gpt2"))
    assert shapes is not None
    assert shapes["transformer.h.0.attn.c_attn"] == (48, 16)
    assert shapes["transformer.h.0.mlp.c_fc"] == (64, 16)


@pytest.mark.parametrize(
    "config", ["[", "{}", '{"model_type": "none such"}', '{"model_type": "llama", "hidden_size": "x"}']
)
def test_a_configuration_that_cannot_be_used_has_no_shapes(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    assert known_shapes(str(tmp_path)) is None


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: pass\n")
    assert known_shapes(str(tmp_path)) is None
    assert not ran.exists()


@pytest.mark.parametrize("name", ["", "no/such", "a/b--c", "x" * 600, "a\x00b", "\ud800", "../.."])
def test_names_that_lead_nowhere_have_no_shapes(name: str) -> None:
    assert known_shapes(name) is None
