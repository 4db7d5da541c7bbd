"""A normalising flow of affine couplings, RealNVP (Dinh et al. 2017, arXiv:1605.08803), in plain PyTorch."""

from __future__ import annotations

import math
import tempfile

import torch
from torch import Tensor, nn


def net(inputs: int, outputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )


class RealNVP(nn.Module):
    """Rows of ``dim`` columns; every coupling moves half of them, by what the other half says."""

    def __init__(self, dim: int = 2, couplings: int = 6, width: int = 64, steps: int = 300) -> None:
        super().__init__()
        self.dim, self.steps = dim, steps
        self.nets = nn.ModuleList(net(dim, 2 * dim, width) for _ in range(couplings))
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
        return total - x.square().sum(1) / 2 - self.dim / 2 * math.log(2 * math.pi)

    def fit(self, x: Tensor) -> None:
        """Maximise the likelihood of rows (N, dim)."""
        optimizer = torch.optim.Adam(self.parameters(), 2e-3)
        for _ in range(self.steps):
            loss = -self.log_prob(x[torch.randint(len(x), (128,))]).mean()
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

    model = Estimator.of(RealNVP)
    experiment = Experiment(name="flow", data=TwoMoons(n=500), generator=model, generations=3, metrics=["nll"])
    with tempfile.TemporaryDirectory() as out:
        for generation in run(experiment, out):
            print(generation.t, generation.records[0]["metrics"])
