"""Answer a prompt with a library of LoRA adapters, each token routed by PEFT's own Arrow (arXiv 2405.11157).

pip install "peft>=0.21" transformers torch
python run_arrow.py "What is 342 plus 515?" --exact
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import ArrowConfig, create_arrow_model
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent


def load(base: str, adapters: list[str], top_k: int, temperature: float) -> Any:
    """The base model with all adapters and PEFT's Arrow router, on a GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = "auto" if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype).to(device)
    paths = [str(HERE / "adapters" / name) for name in adapters]
    config = ArrowConfig(top_k=min(top_k, len(paths)), router_temperature=temperature, rng_seed=0)
    return create_arrow_model(model, paths, config).to(device).eval()


@torch.no_grad()
def use_exact_prototypes(model: Any) -> None:
    """Put the exact top right singular vector of each update B A in the place of PEFT's 15 power iterations."""
    for layer in model.modules():
        if "arrow_router" not in getattr(layer, "lora_arrow", ()):
            continue
        router = layer.lora_arrow["arrow_router"]
        router.build_prototypes(layer.lora_A, layer.lora_B)
        for row, name in enumerate(router.task_adapter_names):
            q, r = torch.linalg.qr(layer.lora_A[name].weight.double().T)  # B A = (B r^T) q^T
            _, _, vh = torch.linalg.svd(layer.lora_B[name].weight.double() @ r.T, full_matrices=False)
            router.prototypes[row] = q @ vh[0]


def answer(model: Any, tokenizer: Any, prompt: str, *, plain: bool, max_new_tokens: int) -> str:
    """The greedy answer; the prompt is one user message where the model has a chat template."""
    text, chat = prompt, bool(tokenizer.chat_template) and not plain
    if chat:
        message = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(text, add_special_tokens=not chat, return_tensors="pt")["input_ids"].to(model.device)
    end = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=end,
    )
    return str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))


def main() -> None:
    """Read the options, load, answer."""
    settings = json.loads((HERE / "arrow.json").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description="Answer a prompt with PEFT's Arrow over the adapters of this folder.")
    parser.add_argument("prompt")
    base = settings["base_model"]
    parser.add_argument("--base", default=base, required=not base, help="base model: a name or a folder (%(default)s)")
    parser.add_argument("--top-k", type=int, default=settings["top_k"], help="adapters per token (%(default)s)")
    parser.add_argument("--temperature", type=float, default=settings["temperature"], help="(%(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="longest answer (%(default)s)")
    parser.add_argument("--plain", action="store_true", help="no chat template")
    parser.add_argument("--exact", action="store_true", help="exact prototypes instead of PEFT's power iteration")
    options = parser.parse_args()
    model = load(options.base, settings["adapters"], options.top_k, options.temperature)
    if options.exact:
        use_exact_prototypes(model)
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    print(answer(model, tokenizer, options.prompt, plain=options.plain, max_new_tokens=options.max_new_tokens))


if __name__ == "__main__":
    main()
