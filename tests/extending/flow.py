"""A normalising flow of affine couplings, RealNVP (Dinh et al. 2017, arXiv:1605.08803), in plain PyTorch."""

from __future__ import annotations

import math
import tempfile

import torch
from torch import Tensor, nn


class RealNVP(nn.Module):
    """Rows of ``dim`` columns; every coupling moves half of them, by what the other half says."""

    def __init__(self, dim: int = 2, couplings: int = 8, width: int = 64, steps: int = 300) -> None:
        super().__init__()
        self.dim, self.steps = dim, steps
        nets = (nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, 2 * dim)) for _ in range(couplings))
        self.nets = nn.ModuleList(nets)
        self.register_buffer("given", torch.arange(dim) % 2 == torch.arange(couplings).unsqueeze(1) % 2)

    def coupling(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log scale and the shift of rows (N, dim); zero where a column is given."""
        scale, shift = self.nets[i](x * self.given[i]).chunk(2, 1)
        return scale.tanh() * ~self.given[i], shift * ~self.given[i]

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density of rows (N, dim), (N,)."""
        total = torch.zeros(len(x))
        for i in range(len(self.nets)):
            scale, shift = self.coupling(i, x)
            x, total = x * scale.exp() + shift, total + scale.sum(1)
        return total - (x.square() + math.log(2 * math.pi)).sum(1) / 2

    def fit(self, x: Tensor) -> None:
        """Maximise the likelihood of rows (N, dim)."""
        optimizer = torch.optim.Adam(self.parameters(), 2e-3)
        for rows in torch.randint(len(x), (self.steps, 128)):
            loss = -self.log_prob(x[rows]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def sample(self, n: int) -> Tensor:
        """Draw (n, dim) rows: the inverse of the normalising direction."""
        x = torch.randn(n, self.dim)
        for i in reversed(range(len(self.nets))):
            scale, shift = self.coupling(i, x)
            x = (x - shift) * (-scale).exp()
        return x


if __name__ == "__main__":
    from selfloop import Experiment, run
    from selfloop.data.toy import TwoMoons
    from selfloop.generators import Estimator

    plan = Experiment(name="flow", data=TwoMoons(), generator=Estimator.of(RealNVP), generations=3, metrics=["nll"])
    with tempfile.TemporaryDirectory() as out:
        print(*[generation.records[0]["metrics"] for generation in run(plan, out)], sep="\n")
