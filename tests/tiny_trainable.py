"""A tiny Llama with a tokenizer of its own, saved as a transformers folder, and two small tasks to train it on."""

from __future__ import annotations

import json
import random
from pathlib import Path

import tokenizers
import torch
import transformers

LETTERS = "abcdefghij"


def save_tiny_llama(folder: Path) -> Path:
    """Write model and tokenizer; characters are tokens, which keeps every length easy to count."""
    characters = ["<pad>", "<s>", "</s>", "\n", " ", "?", ":", *LETTERS]
    vocabulary = {character: index for index, character in enumerate(characters)}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="?"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    raw.decoder = tokenizers.decoders.Fuse()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="?"
    )
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.3,  # strong enough for four attention adapters to turn the answer
    )
    torch.manual_seed(1)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_tasks(folder: Path, rows: int = 40) -> Path:
    """Two tasks, `copy` and `next`: repeat a letter three times; say the letter after it three times."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, shift in (("copy", 0), ("next", 1)):
        choose = random.Random(task)
        lines = []
        for index in range(rows + 8):
            place = choose.randrange(len(LETTERS))
            row = {
                "task": task,
                "family": "letters",
                "split": "train" if index < rows else "test",
                "prompt": f"{task[0]} {LETTERS[place]}{'?' * (index % 3)}",
                "target": LETTERS[(place + shift) % len(LETTERS)] * 3,
            }
            lines.append(json.dumps(row))
        (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
