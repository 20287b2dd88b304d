"""How an adapter is trained: every setting of one run, validated at birth and written into its card."""

from __future__ import annotations

from dataclasses import dataclass, fields

from explorer.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of LoRA training (defaults: those of the sample library).

    The same `seed` gives every adapter the same initial A, which is what the paper's clustering by raw parameters
    depends on (section 3.1 of arXiv 2405.11157 and its code).
    """

    rank: int = 4
    alpha: float = 16.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    learning_rate: float = 1e-3
    warmup_fraction: float = 1 / 15
    gradient_clip: float = 1.0
    batch_size: int = 8
    epochs: int = 1
    max_rows: int = 1200
    max_tokens: int = 512
    chat: bool = True
    mixed_precision: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("rank", 1, 1024),
            ("alpha", 1e-6, 1e6),
            ("dropout", 0.0, 0.99),
            ("learning_rate", 1e-9, 10.0),
            ("warmup_fraction", 0.0, 1.0),
            ("gradient_clip", 1e-6, 1e6),
            ("batch_size", 1, 4096),
            ("epochs", 1, 1000),
            ("max_rows", 1, 10_000_000),
            ("max_tokens", 8, 1_000_000),
            ("seed", 0, 2**31 - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingsError(name, expected=f"{low} to {high}", found=str(value)[:40])
        if not self.target_modules:
            raise SettingsError("target_modules", "names no module")

    def as_dict(self) -> dict[str, object]:
        """The settings as plain JSON data."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**data, "target_modules": list(self.target_modules)}
