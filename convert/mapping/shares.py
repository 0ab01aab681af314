"""Which rows of which weights of the base a module's rows are.

A module may be several weights (gate and up in one in transformers only) or a part of one (q, k
and v in one in GGUF only).
"""

from dataclasses import dataclass

import numpy as np

from ..base.gguf_base import Base
from .architectures import FUSED, STORED, Family
from .names import fused_kind, weight_name

# A model without experts: what it calls its shared expert is the whole MLP.
WITHOUT_EXPERTS = {"ffn_gate_up_shexp": "ffn_gate_up", "ffn_down_shexp": "ffn_down"}


@dataclass(frozen=True)
class Share:
    """Rows start to start + len(rows) of a weight; each is row rows[i] of the module."""

    weight: str
    start: int
    rows: np.ndarray

    @property
    def stop(self) -> int:
        return self.start + len(self.rows)


def shares(base: Base, family: Family, layer: int | None, kind: str) -> list[Share]:
    """The shares of a module of `kind`, in the module's order of parts. Empty if the base has no such weight.

    Raises ValueError, ZeroDivisionError or IndexError if a weight's rows do not divide into the model's heads.
    """
    kinds = FUSED.get(kind, (kind,))
    parts = [whole for part in kinds if (whole := _weight_of(base, family, layer, part)) is not None]
    if len(parts) < len(kinds):
        return shares(base, family, layer, WITHOUT_EXPERTS[kind]) if kind in WITHOUT_EXPERTS else []
    rows = _rows(base, family, layer, kind, sum(n for _, _, n in parts))
    if kind not in FUSED:
        [(weight, start, _)] = parts
        return [Share(weight, start, rows)]
    found, taken = [], 0
    for part, (weight, start, n) in zip(kinds, parts):
        found.append(Share(weight, start, rows[taken : taken + n][_rows(base, family, layer, part, n)]))
        taken += n
    return found


def tensor_of(base: Base, weight: str) -> str:
    """The base's tensor that `weight` is: a tied output head is the token embeddings."""
    return weight if weight in base.shapes else "token_embd.weight"


def _rows(base: Base, family: Family, layer: int | None, kind: str, n_rows: int) -> np.ndarray:
    order = family.orders.get(kind)
    return np.arange(n_rows) if order is None or layer is None else order(base, layer, n_rows)


def _weight_of(base: Base, family: Family, layer: int | None, kind: str) -> tuple[str, int, int] | None:
    """(weight, first row, number of rows) of a kind that is not fused, or None."""
    name = weight_name(layer, kind)
    fused = fused_kind(kind)
    if fused and layer is not None and _is_fused(base, family, layer, fused):
        whole = weight_name(layer, STORED.get(fused, fused))
        sizes = _part_sizes(base, layer, fused, base.shapes[whole][1])
        at = FUSED[fused].index(kind)
        return whole, sum(sizes[:at]), sizes[at]
    if name in base.shapes or name == "output.weight":
        return name, 0, base.shapes[tensor_of(base, name)][1]
    return None


def _is_fused(base: Base, family: Family, layer: int, fused: str) -> bool:
    stored = STORED.get(fused, fused)
    if weight_name(layer, stored) not in base.shapes:
        return False
    # ffn_up is gate and up where transformers has them in one too, and there is no ffn_gate
    return stored == fused or fused in family.modules.values() and weight_name(layer, FUSED[fused][0]) not in base.shapes


def _part_sizes(base: Base, layer: int, fused: str, n_rows: int) -> list[int]:
    if fused != "attn_qkv":
        return [n_rows // 2] * 2
    n_head, n_head_kv = base.n_head[layer], base.n_head_kv[layer]
    n_per_head, rest = divmod(n_rows, n_head + 2 * n_head_kv)
    if rest:
        raise ValueError(f"{n_rows} rows for {n_head} + 2 * {n_head_kv} heads")
    return [n * n_per_head for n in (n_head, n_head_kv, n_head_kv)]
