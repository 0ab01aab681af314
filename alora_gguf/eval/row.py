"""What was measured of one way to ask, on one test."""

from dataclasses import dataclass, field

ALORA, PEFT = "aLoRA", "aLoRA, PEFT"


@dataclass(frozen=True)
class Row:
    """One way on one test. Shares are 0 to 1; `interval` is the 95% one of `accuracy`; auroc and ece have theirs.

    accuracy  the share of outputs that are right; of probabilities: on the right side of one half
    lead      the aLoRA's accuracy less this one's, on the same examples; `lead_interval` is its 95% one
    corrected the accuracy less what guessing gets, as a share of the rest: 0 by chance, 1 if all are right; of decisions
    brier     the mean square distance of a decision's probabilities from what is right, summed over its options
    moved     the mean change of an option's probability when the options stand in another order
    parts     accuracy by a field of the lines: {field: {value: [right, of]}}
    """

    test: str
    way: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    auroc: float | None = None
    auroc_interval: tuple[float, float] | None = None
    ece: float | None = None
    ece_interval: tuple[float, float] | None = None
    tokens: float | None = None
    ms: float | None = None
    corrected: float | None = None
    corrected_interval: tuple[float, float] | None = None
    brier: float | None = None
    moved: float | None = None
    lead: float | None = None
    lead_interval: tuple[float, float] | None = None
    parts: dict[str, dict[str, list[int]]] = field(default_factory=dict)
