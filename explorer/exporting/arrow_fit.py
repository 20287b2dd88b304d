"""Whether PEFT's own Arrow (`peft.tuners.lora.arrow`, version 0.21) can run a library, and why not.

It stacks the factors of all adapters at every module whose last name is adapted anywhere: each adapter has to be there
in each of them, and at one rank. A smaller rank can be filled up with zeros, a missing module cannot: PEFT would give
it a share of the weights, where this explorer leaves it out of the choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from explorer.adapters.adapter import Adapter
from explorer.adapters.wording import shown
from explorer.errors import LibraryError, SettingsError
from explorer.routing.arrow import Arrow


def check_arrow(arrow: Arrow) -> None:
    """Refuse settings that PEFT's Arrow does not have.

    Raises:
        SettingsError: as said.
    """
    for name, there in {"unit norm": arrow.unit_norm, "per prompt": arrow.per_prompt}.items():
        if there:
            raise SettingsError("PEFT's Arrow", f"has no setting like {name!r}", fix="Leave it out.")
    if arrow.average_factors:
        raise SettingsError("PEFT's Arrow", "mixes outputs, not factors", fix="Leave average factors out.")


def common_ranks(adapters: Sequence[Adapter], shapes: Mapping[str, tuple[int, int]] | None) -> dict[str, int]:
    """The rank that every adapter must have at each module: the largest there is.

    Args:
        adapters: those of a library that can be routed.
        shapes: of the base model's linear modules, None where they are not known.

    Raises:
        LibraryError: PEFT's Arrow cannot run these adapters.
    """
    ranks: dict[str, int] = {}
    for adapter in adapters:
        for site, form in adapter.forms.items():
            ranks[site] = max(ranks.get(site, 0), form.rank)
    for adapter in adapters:
        lacking = next((site for site in ranks if site not in adapter.forms), None)
        if lacking is not None:
            owner = next(one.name for one in adapters if lacking in one.forms)
            found = f"{shown(lacking)} in {shown(owner, 40)}, but not in {shown(adapter.name, 40)}"
            raise _unfit("needs every adapter at the same modules", found)
    ends = {_last(site): site for site in ranks}
    left = next((site for site in shapes or () if _last(site) in ends and site not in ranks), None)
    if left is not None:
        found = f"{shown(ends[_last(left)])}, but not {shown(left)}"
        raise _unfit(f"routes every module called {shown(_last(left))}, and the adapters have only some", found)
    return ranks


def _last(site: str) -> str:
    return site.rpartition(".")[2]


def _unfit(problem: str, found: str) -> LibraryError:
    return LibraryError("PEFT's Arrow", problem, found=found, fix="Route this library here, or export a merge of it.")
