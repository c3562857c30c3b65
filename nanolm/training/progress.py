"""How far a run has come: all that its loop remembers from step to step. In and out: plain numbers."""

from dataclasses import dataclass


@dataclass
class Progress:
    """How far a run has come: all that its loop remembers from step to step."""

    step: int = 0
    tokens: int = 0  # targets trained on
    seconds: float = 0.0  # since the start, evaluations included, pauses not
    training: float = 0.0  # seconds of the steps alone
    nats: float = 0.0  # of the tokens since the last row of metrics.csv
    nats_tokens: int = 0
    norm: float = 0.0  # of the last gradient
    logged: int = 0  # the step of that row
    best: dict[str, float] | None = None  # the row of the best evaluation
    waited: int = 0  # evaluations since
    metrics: int = 0  # bytes of metrics.csv
