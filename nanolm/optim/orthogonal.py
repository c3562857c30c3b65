"""Newton-Schulz: what makes matrices nearly orthogonal with nothing but products, for Muon; and NorMuon's even rows.

In: a stack of matrices of one shape. Out: the same singular vectors, all singular values near 1. Importing is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

PIECE = 2**21  # entries of the matrices that are worked on at a time
MARGIN = 1.01  # keeps singular values inside the interval under rounding
# the quintics of Polar Express, https://arxiv.org/abs/2505.16932: five bring 0.003..1 to 1 within 0.15 or so
POLAR = tuple(
    (a / MARGIN, b / MARGIN**3, c / MARGIN**5)
    for a, b, c in (
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    )
)


def orthogonalise(x: Tensor) -> Tensor:
    """(n, rows, cols) with rows <= cols -> about U V' of each, in x's dtype, by Newton-Schulz.

    On a CPU a few of them at a time, whose products stay in the cache.
    """
    import torch

    size = max(1, PIECE // x[0].numel()) if x.device.type == "cpu" else len(x)
    if len(x) > size:
        return torch.cat([orthogonalise(part) for part in x.split(size)])
    x = x / (x.norm(2, dim=(1, 2), keepdim=True) * MARGIN + 1e-7)
    if x.shape[2] >= 2 * x.shape[1] and x.itemsize >= 4:
        return _polynomial(x @ x.mT) @ x
    gram, spare = x.new_empty(*x.shape[:2], x.shape[1]), torch.empty_like(x)
    for quintic in POLAR:
        torch.bmm(x, x.mT, out=gram)
        x, spare = torch.bmm(_factor(gram, *quintic), x, out=spare), x
    return x


def _polynomial(gram: Tensor) -> Tensor:
    """What all steps together multiply x with, from x x' alone: for a wide x in 60 to 70% of the time.

    Not in 16 bits, where the squares of small singular values would drown.
    """
    whole = step = _factor(gram, *POLAR[0])
    for quintic in POLAR[1:]:
        gram = step @ gram @ step
        step = _factor(gram, *quintic)
        whole = step @ whole
    return whole


def _factor(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """a I + b gram + c gram^2."""
    factor = gram.baddbmm(gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor


def even_rows(change: Tensor, squares: Tensor, share: Any) -> Tensor:
    """(rows, 1), by which the rows of `change` (rows, cols) are multiplied: one over the root of each row's mean square
    over the steps so far, scaled so that the whole stays as large as before.

    squares (rows, 1): these means, moved by `share` (a number, or a tensor where the device knows it) to this step's.
    """
    norms = change.norm(dim=1, keepdim=True)
    squares.lerp_(norms.square() / change.shape[1], share)
    factors = 1 / (squares.sqrt() + 1e-8)
    return factors * (norms.norm() / ((norms * factors).norm() + 1e-8))
