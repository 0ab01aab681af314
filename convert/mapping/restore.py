"""From the base's weights back to transformers' modules."""

import numpy as np

from ...errors import ConversionError
from ...text import complaint
from ..base.gguf_base import Base
from ..update import EMBEDDING, EXPERTS, LINEAR, ROWS, Placed, Update
from .architectures import family_of
from .names import modules_of
from .shares import Share, shares
from .stack import rows_of, stack, taken


def restore(placed: list[Placed], base: Base) -> list[Update]:
    """The updates of transformers 5's modules that `place` makes `placed` of, in the model's order.

    Where a weight is several modules, each gets the weight's whole rank. Raises ConversionError if a
    weight is no module's.
    """
    family = family_of(base)
    lookups = {update.weight: update for update in placed if update.role == ROWS}
    products = {update.weight: update for update in placed if update.role != ROWS}
    updates: list[Update] = []
    restored: set[tuple[str, int]] = set()  # (weight, first row), as some have modules of two names
    for module, layer, kind in modules_of(base, family):
        of = lookups if kind == "token_embd" else products
        where = shares(base, family, layer, kind)
        if any(share.weight in of and (share.weight, share.start) not in restored for share in where):
            updates.append(_restored(module, where, of))
            restored.update((share.weight, share.start) for share in where)
    for update in placed:
        if all(weight != update.weight for weight, _ in restored):
            raise ConversionError(
                complaint(
                    update.a.file,
                    f"tensor {update.weight}",
                    f"a weight of {base.architecture} models",
                    "another",
                    "use the base that the adapter was made for",
                )
            )
    return updates


def _restored(module: str, where: list[Share], of: dict[str, Placed]) -> Update:
    parts, start = [], 0
    for share in where:
        if share.weight in of:
            parts.append(rows_of(of[share.weight], np.arange(share.start, share.stop), start))
        start += len(share.rows)
    update = next(of[share.weight] for share in where if share.weight in of)
    if update.role == ROWS:
        return Update(module, EMBEDDING, update.a.transpose(), update.b, update.scaling, magnitude=update.magnitude)
    try:
        whole = stack(parts, start)
    except ValueError:
        raise ConversionError(
            complaint(update.a.file, f"module {module}", "DoRA on all of its rows", "on some", "it has no counterpart in PEFT")
        ) from None
    back = np.argsort(np.concatenate([share.rows for share in where]))
    return Update(
        module,
        EXPERTS if update.role == EXPERTS else LINEAR,
        whole.a,
        taken(whole.b, back, -2),
        whole.scaling,
        taken(whole.bias, back, 0),
        taken(whole.magnitude, back, 0),
    )
