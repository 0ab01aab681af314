"""What an adapter does to one weight: in transformers' terms, and placed in the base's GGUF."""

from dataclasses import dataclass

from .lazy import Lazy

LINEAR, EMBEDDING, EXPERTS = "linear", "embedding", "experts"  # kinds of modules
MATRIX, ROWS = "matrix", "rows"  # with EXPERTS, the ways in which llama.cpp uses a weight


@dataclass(frozen=True)
class Update:
    """PEFT's adapter of one module, with every option of PEFT's resolved: W x becomes W x + scaling (B A x + bias).

    module: transformers' name, with the parameter's behind it for experts in one parameter
    (`model.layers.0.mlp.experts.gate_up_proj`).
    kind: what a and b are shaped like.
      linear     a [r, n_in], b [n_out, r]
      embedding  a [r, n_vocab], b [n_embd, r]
      experts    a [n_expert, r, n_in], b [n_expert, n_out, r]
    bias: [n_out], or None. magnitude: DoRA's m, [n_out] or None; then the whole becomes
    m / |W + scaling B A| (of each row) times W x + scaling B A x.
    base_layer: the copy of the base's own weight that PEFT saves with an adapted output head.
    """

    module: str
    kind: str
    a: Lazy
    b: Lazy
    scaling: float
    bias: Lazy | None = None
    magnitude: Lazy | None = None
    base_layer: Lazy | None = None

    @property
    def rank(self) -> int:
        return self.b.shape[-1]


@dataclass(frozen=True)
class Placed:
    """An update of `weight`, a tensor of the base's GGUF, in that tensor's order of rows and columns.

    role: how a and b are shaped.
      matrix   a [r, n_in], b [n_out, r]
      rows     a [n_vocab, r], b [n_embd, r]: the rows of the weight are looked up
      experts  a [n_expert, r, n_in], b [n_expert, n_out, r]
    scaling, bias and magnitude are as in Update. Several updates may have become one (stacked
    experts, a fused base), or one several (a fused adapter).
    """

    weight: str
    role: str
    a: Lazy
    b: Lazy
    scaling: float
    bias: Lazy | None = None
    magnitude: Lazy | None = None

    @property
    def rank(self) -> int:
        return self.b.shape[-1]
