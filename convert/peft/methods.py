"""What other methods put between A and B, multiplied into them."""

from ..lazy import Lazy

INNER = ("lora_latent_mapping", "lora_RA", "lora_RB")


def fold_inner(a: Lazy, b: Lazy, parts: dict[str, Lazy]) -> tuple[Lazy, Lazy] | None:
    """A and B of LoRA-XS (B R A, with R [r, r]) or NoRA (B R_B R_A A, with R_B [r, k] and R_A [k, r]).

    The parts that it uses are removed from `parts`. None if they are incomplete or do not fit.
    Sources: arXiv 2405.17604, equation 4; arXiv 2408.10280.
    """
    inner = {name: parts.pop(name) for name in INNER if name in parts}
    r = a.shape[0]
    if not inner:
        return a, b
    if inner.keys() == {"lora_latent_mapping"} and inner["lora_latent_mapping"].shape == (r, r):
        return a, b.matmul(inner["lora_latent_mapping"])
    if inner.keys() == {"lora_RA", "lora_RB"}:
        inner_a, inner_b = inner["lora_RA"], inner["lora_RB"]
        if len(inner_a.shape) == 2 and inner_a.shape[1] == r and inner_b.shape == (r, inner_a.shape[0]) and 0 not in inner_a.shape:
            return inner_a.matmul(a), b.matmul(inner_b)
    return None
