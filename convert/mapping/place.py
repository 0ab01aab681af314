"""From transformers' modules to the base's weights."""

import itertools
from dataclasses import replace

from ...errors import ConversionError
from ...text import complaint
from ..base.gguf_base import Base
from ..lazy import stacked
from ..update import EMBEDDING, EXPERTS, MATRIX, ROWS, Placed, Update
from .architectures import FUSED, Family, family_of
from .names import kind_of, weight_name, without_expert
from .shares import Share, shares, tensor_of
from .stack import Rows, at_rows, common_scaling, ratio, rows_of, stack
from .unadapted import unadapted

OTHER_BASE = "name the base that the adapter was trained on with --base"


def place(updates: list[Update], base: Base) -> list[Placed]:
    """The updates by the base's weights.

    Raises ConversionError if an update has no weight in the base or not its shape, if llama.cpp
    multiplies that weight where no adapter can reach it, or if two updates have the same rows.
    """
    family = family_of(base)
    placed: list[Placed] = []
    rows: dict[str, list[tuple[Rows, Update]]] = {}
    for update in _with_experts_stacked(updates, base, family):
        where = _shares_of(update, base, family)
        update = _as_stored(update, where, base)
        _check_shape(update, where, base)
        if update.kind == EMBEDDING:
            if placed:
                raise _refusal(update, f"{where[0].weight} once", "it for another module too", "save the adapter again")
            placed.append(Placed(where[0].weight, ROWS, update.a.transpose(), update.b, update.scaling, magnitude=update.magnitude))
            continue
        for share in where:
            rows.setdefault(share.weight, []).append((rows_of(update, share.rows, share.start), update))
    return placed + [_placed(weight, found, base) for weight, found in rows.items()]


def _placed(weight: str, found: list[tuple[Rows, Update]], base: Base) -> Placed:
    found = sorted(found, key=lambda item: item[0].start)
    for (before, first), (after, second) in itertools.pairwise(found):
        if before.stop > after.start:
            raise _refusal(second, f"{weight} once", f"it for {first.module} too", "save the adapter again")
    try:
        whole = stack([rows for rows, _ in found], base.shapes[tensor_of(base, weight)][1])
    except ValueError:
        raise _refusal(found[0][1], f"DoRA on all rows of {weight}", "on some", "convert it for a base whose weights are not fused") from None
    role = EXPERTS if len(whole.a.shape) == 3 else MATRIX
    return Placed(weight, role, whole.a, whole.b, whole.scaling, whole.bias, whole.magnitude)


def _shares_of(update: Update, base: Base, family: Family) -> list[Share]:
    found = kind_of(base, family, update.module)
    if found is None:
        raise _refusal(
            update,
            f"one of {', '.join([*family.modules, family.head])} in layers 0 to {base.n_layer - 1}",
            "another",
            f"no adapter of it can be used on {base.architecture} models",
        )
    layer, kind = found
    for part in FUSED.get(kind, (kind,)):
        if part in unadapted(base.architecture):
            raise _refusal(
                update,
                "a weight that llama.cpp multiplies where adapters apply",
                f"{part}, which it multiplies elsewhere",
                f"no adapter of it can be used on {base.architecture} models",
            )
    try:
        where = shares(base, family, layer, kind)
    except (IndexError, ValueError, ZeroDivisionError):
        raise ConversionError(
            complaint(
                base.path,
                f"tensor {weight_name(layer, kind)}",
                "rows that divide into the model's heads",
                "others",
                "the base is damaged, get it again",
            )
        ) from None
    if not where:
        raise _refusal(update, f"{weight_name(layer, kind)} in the base {base.path}", "no such tensor", OTHER_BASE)
    return where


def _as_stored(update: Update, where: list[Share], base: Base) -> Update:
    """Older versions of PEFT took the rows of experts in one parameter for their columns: what it trained is (B A)^T."""
    n_in, n_out = base.shapes[tensor_of(base, where[0].weight)][0], sum(len(share.rows) for share in where)
    if update.kind != EXPERTS or n_in == n_out or (update.a.shape[2], update.b.shape[1]) != (n_out, n_in):
        return update
    return replace(update, a=update.b.transpose(0, 2, 1), b=update.a.transpose(0, 2, 1))


def _check_shape(update: Update, where: list[Share], base: Base) -> None:
    n_in, _, n_expert = (*base.shapes[tensor_of(base, where[0].weight)], 1)[:3]
    n_out = sum(len(share.rows) for share in where)
    a, b = update.a.shape, update.b.shape
    if update.kind == EMBEDDING:
        expected, fits = f"lora_embedding_A [r, {n_out}] and lora_embedding_B [{n_in}, r]", a[1:] == (n_out,) and b[:1] == (n_in,)
    elif n_expert > 1:
        expected, fits = f"[{n_expert}, r, {n_in}] and [{n_expert}, {n_out}, r]", a[::2] == (n_expert, n_in) and b[:-1] == (n_expert, n_out)
    else:
        expected, fits = f"lora_A [r, {n_in}] and lora_B [{n_out}, r]", a[1:] == (n_in,) and b[:-1] == (n_out,)
    if not fits or (update.kind == EMBEDDING) != (where[0].weight == "token_embd.weight"):
        raise _refusal(update, f"{expected} for {where[0].weight} of {base.path}", f"{list(a)} and {list(b)}", OTHER_BASE)
    if update.base_layer is not None and update.base_layer.shape != (n_out, n_in):
        raise update.base_layer.complaint(
            f"shape {[n_out, n_in]}, a copy of the base's weight",
            list(update.base_layer.shape),
            "adapters of a resized vocabulary cannot be converted",
        )


def _with_experts_stacked(updates: list[Update], base: Base, family: Family) -> list[Update]:
    """The updates, those of single experts' modules made one a layer and kind."""
    others: list[Update] = []
    experts: dict[str, dict[int, Update]] = {}
    for update in updates:
        module, expert = without_expert(update.module)
        if expert is None:
            others.append(update)
        else:
            experts.setdefault(module, {})[expert] = update
    return others + [_stack_experts(module, found, base, family) for module, found in experts.items()]


def _stack_experts(module: str, found: dict[int, Update], base: Base, family: Family) -> Update:
    first = next(iter(found.values()))
    where = _shares_of(replace(first, module=module), base, family)
    n_expert = (*base.shapes[where[0].weight], 1)[2]
    if max(found) >= n_expert:
        raise _refusal(first, f"experts 0 to {n_expert - 1}", f"expert {max(found)}", OTHER_BASE)
    if any(update.bias or update.magnitude for update in found.values()):
        raise _refusal(first, "lora_A and lora_B", "a bias or a magnitude too", "adapters of experts have none in GGUF")
    shapes = {(update.a.shape[1], update.b.shape[0]) for update in found.values()}
    if len(shapes) > 1:
        raise _refusal(first, "experts of one shape", sorted(shapes), "save the adapter again")
    rank = max(update.rank for update in found.values())
    scaling = common_scaling(update.scaling for update in found.values())
    none = replace(first, a=first.a.slice(0, 0), b=first.b.slice(0, 0, axis=1))  # of an expert without an adapter
    experts = [found.get(i, none) for i in range(n_expert)]
    return Update(
        module,
        EXPERTS,
        stacked([at_rows([(update.a, 0)], rank, 0) for update in experts]),
        stacked([at_rows([(update.b.times(ratio(update.scaling, scaling)), 0)], rank, 1) for update in experts]),
        scaling,
    )


def _refusal(update: Update, expected: str, got: object, action: str) -> ConversionError:
    return ConversionError(complaint(update.a.file, f"module {update.module}", expected, got, action))
