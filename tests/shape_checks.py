"""The type checker that jaxtyping calls while tests run: an int may stand for a float, as PEP 484 has it."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
