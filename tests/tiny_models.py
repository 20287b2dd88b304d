"""Tiny random causal language models of six architectures, each with a byte-level tokenizer made in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tokenizers
import torch
import transformers

from explorer.models.base import BaseModel

MAX_TOKENS = 128
CORPUS = ["the quick brown fox jumps over the lazy dog", "what is the sum of one and two", "a story about the sea"]
CHAT_TEMPLATE = (
    "{{ '<|start|>system\nYou are the assistant.<|end|>\n' }}"
    "{% for message in messages %}{{ '<|start|>' + message['role'] + '\n' + message['content'] | trim"
    " + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["</s>", "<|start|>", "<|end|>"]


def tiny_tokenizer(chat: bool = True) -> Any:
    """Byte-level BPE: every text can be encoded, and some characters take several tokens."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIAL,
        show_progress=False,
    )
    model.train_from_iterator(CORPUS, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, eos_token="</s>", additional_special_tokens=SPECIAL[1:]
    )
    tokenizer.chat_template = CHAT_TEMPLATE if chat else None
    return tokenizer


def _llama() -> Any:
    return transformers.LlamaConfig(intermediate_size=48, num_key_value_heads=2, **_common())


def _qwen2() -> Any:
    return transformers.Qwen2Config(intermediate_size=48, num_key_value_heads=2, **_common())


def _gemma() -> Any:
    return transformers.GemmaConfig(intermediate_size=48, num_key_value_heads=1, head_dim=16, **_common())


def _phi() -> Any:
    return transformers.PhiConfig(intermediate_size=48, **_common())


def _gpt_neox() -> Any:
    return transformers.GPTNeoXConfig(intermediate_size=48, **_common())


def _gpt2() -> Any:
    return transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=MAX_TOKENS, vocab_size=304, bos_token_id=0, eos_token_id=0
    )


def _common() -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TOKENS,
        "vocab_size": 304,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": None,
    }


CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": _llama,
    "gpt2": _gpt2,
    "phi": _phi,
    "gpt_neox": _gpt_neox,
    "qwen2": _qwen2,
    "gemma": _gemma,
}
# linear modules to adapt, by the ends of their names; the first two of each differ in shape where they can
TARGETS = {
    "llama": ["q_proj", "v_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj"],
    "phi": ["q_proj", "fc1", "dense"],
    "gpt_neox": ["query_key_value", "dense_4h_to_h"],
    "qwen2": ["q_proj", "k_proj", "gate_proj"],
    "gemma": ["q_proj", "o_proj", "up_proj"],
}


def make_tiny(architecture: str, *, chat: bool = True) -> BaseModel:
    """A random model of this architecture; the weights are drawn wide, so that its logits are not all alike."""
    with torch.random.fork_rng():
        torch.manual_seed(17)
        model = transformers.AutoModelForCausalLM.from_config(CONFIGS[architecture]())
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.5 if "embed" in name or "wte" in name else 0.15)
    model.name_or_path = f"tiny/{architecture}"
    return BaseModel(model.name_or_path, model.eval().requires_grad_(False), tiny_tokenizer(chat))
