"""What `sample_facts.json` says about the sample's rows, so that no tokenizer is needed to make them again.

Rows of more than 200 tokens in SmolLM2's tokenizer, prompt and answer together, were left out (215 in ropes_question,
230 in wikilingua_en), and the articles of xsum and wikilingua_en were cut after 130 tokens. The file keeps the outcome:

- `too_long`: for each file of BIG-bench the rows left out, as steps from one to the next, from row 0.
- `cut`: for each file with articles the number of characters kept of each.
- `data_sha256`: for each task the :attr:`Task.data_hash` of the rows that the shipped adapters were trained on and are
  tested on (without validation rows), so that other rows are never taken for them.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class SampleFacts:
    """Left-out rows and kept characters by BIG-bench path, data hashes by task."""

    too_long: dict[str, frozenset[int]]
    cut: dict[str, tuple[int, ...]]
    data_sha256: dict[str, str]

    def keeps(self, path: str, row: int) -> bool:
        """Whether the row was short enough."""
        return row not in self.too_long.get(path, frozenset())

    def shortened(self, path: str, row: int, text: str) -> str:
        """An article as it stands in the prompt; other texts are whole."""
        return text[: self.cut[path][row]] if path in self.cut else text


def sample_facts() -> SampleFacts:
    """Read them from the package."""
    raw = json.loads(resources.files("explorer.tasks").joinpath("sample_facts.json").read_text(encoding="utf-8"))
    return SampleFacts(
        {path: frozenset(itertools.accumulate(_numbers(steps))) for path, steps in raw["too_long"].items()},
        {path: tuple(_numbers(lengths)) for path, lengths in raw["cut"].items()},
        dict(raw["data_sha256"]),
    )


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]
