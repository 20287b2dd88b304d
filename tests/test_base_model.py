"""The base model: whole or refused, and chat templates that fail are told in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CONFIGS, make_tiny, tiny_tokenizer

from explorer.errors import BaseModelError, PromptError
from explorer.models.base import BaseModel, is_folder, load_base_model, local_content
from explorer.models.chat import encode_answer, encode_prompt
from explorer.models.tokens import read_prompt

WEIGHTS = "model.safetensors"


def saved(folder: Path, architecture: str = "llama") -> Path:
    made = make_tiny(architecture)
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(BaseModelError) as raised:
        load_base_model(folder, device="cpu")
    return raised.value.sentence


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_whole_model_is_loaded_as_it_was_saved(
    tmp_path: Path, tiny: Callable[[str], BaseModel], architecture: str
) -> None:
    loaded = load_base_model(saved(tmp_path, architecture), device="cpu")
    expected = tiny(architecture).model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.model.state_dict().items())


def test_a_model_without_some_of_its_weights_is_refused(tmp_path: Path) -> None:
    weights = load_file(saved(tmp_path) / WEIGHTS)
    for name in ("model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.weight"):
        del weights[name]
    save_file(weights, tmp_path / WEIGHTS, metadata={"format": "pt"})
    assert refused(tmp_path) == (
        f"{tmp_path}: lacks the weights model.layers.0.self_attn.q_proj.weight and 1 more. Check the model's files."
    )


def test_a_model_with_fewer_layers_than_it_says_is_refused(tmp_path: Path) -> None:
    config = json.loads((saved(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3, "layer_types": None}))
    assert refused(tmp_path) == (
        f"{tmp_path}: lacks the weights model.layers.2.input_layernorm.weight and 8 more. Check the model's files."
    )


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    config = json.loads((saved(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 50}))
    assert refused(tmp_path) == (
        f"{tmp_path}, model.layers.0.mlp.down_proj.weight: does not fit config.json, expected (32, 50), found (32, 48)."
    )


def test_a_local_model_is_known_by_what_its_files_hold(tmp_path: Path, tiny: Callable[[str], BaseModel]) -> None:
    folder = saved(tmp_path / "one")
    before = load_base_model(folder, device="cpu").content_id
    shutil.copytree(folder, tmp_path / "two")
    (tmp_path / "two" / "notes.md").write_text("no part of the model")
    assert before == local_content(str(folder)) == local_content(str(tmp_path / "two"))
    seen = {before}
    for name in (WEIGHTS, "config.json", "tokenizer.json"):
        with (folder / name).open("ab") as file:
            file.write(b" ")
        seen.add(local_content(str(folder)))
    assert len(seen) == 4
    assert [local_content("HuggingFaceTB/SmolLM2-135M-Instruct"), tiny("llama").content_id] == ["", ""]


def test_any_text_may_be_asked_whether_it_is_a_folder(tmp_path: Path) -> None:
    assert is_folder(str(tmp_path))
    assert [is_folder(name) for name in ("", "x" * 300, "a\0b", str(tmp_path / "none"))] == [False] * 4


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{{ messages[5]['content'] }}", "list object has no element 5"),
        ("{{ messages[0]['content'] + 1 }}", 'can only concatenate str (not "int") to str'),
        ("{% for %}", "Expected an expression, got 'end of statement block'"),
    ],
)
def test_a_chat_template_that_fails_is_told_and_plain_text_still_works(template: str, reason: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    for call in (encode_prompt, lambda *a, **k: read_prompt(*a, max_tokens=99, **k)):
        with pytest.raises(PromptError) as raised:
            call(tokenizer, "the fox", chat=True)
        assert raised.value.sentence.startswith(f"The model's chat template: cannot be used ({reason}")
        assert raised.value.sentence.endswith("). Choose plain text (--plain).")
    assert encode_prompt(tokenizer, "the fox", chat=False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "Prompt: expected text, found NoneType."),
        (["a"], "Prompt: expected text, found list."),
        ("\ud800", "Prompt: is not valid text. Type it again."),
        (" ", "Prompt: is empty. Type a prompt first."),
    ],
)
def test_prompts_that_are_no_text(text: object, sentence: str) -> None:
    with pytest.raises(PromptError) as raised:
        encode_prompt(tiny_tokenizer(), text, chat=True)  # type: ignore[arg-type]
    assert raised.value.sentence == sentence


def test_a_reference_answer_that_is_no_text() -> None:
    with pytest.raises(PromptError, match=r"^Reference answer: expected text, found NoneType\.$"):
        encode_answer(tiny_tokenizer(), None, chat=True)  # type: ignore[arg-type]
