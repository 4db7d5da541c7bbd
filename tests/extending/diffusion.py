"""Denoising diffusion (Ho et al. 2020, arXiv:2006.11239) in plain PyTorch."""

from __future__ import annotations

import tempfile

import torch
from torch import Tensor, nn


class Diffusion(nn.Module):
    """Rows of ``dim`` columns; β_t rises linearly to ``beta`` in ``times`` steps."""

    def __init__(
        self, dim: int = 2, width: int = 64, times: int = 40, steps: int = 800, beta: float = 0.2, rate: float = 2e-3
    ) -> None:
        super().__init__()
        self.dim, self.times, self.steps, self.rate = dim, times, steps, rate
        self.net = nn.Sequential(
            nn.Linear(dim + 4, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, dim)
        )
        self.register_buffer("beta", torch.linspace(1e-3, beta, times))

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the noise that the network sees in rows x (N, dim) at times t (N,)."""
        angle = torch.pi * t.unsqueeze(1) / self.times
        return self.net(torch.cat([x, angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos()], 1))

    def fit(self, x: Tensor) -> None:
        """Take gradient steps on rows (N, dim)."""
        optimizer = torch.optim.Adam(self.parameters(), self.rate)
        kept = (1 - self.beta).cumprod(0)
        for _ in range(self.steps):
            rows, t = x[torch.randint(len(x), (128,))], torch.randint(self.times, (128,))
            a, noise = kept[t].unsqueeze(1), torch.randn(128, self.dim)
            loss = (self.noise(a.sqrt() * rows + (1 - a).sqrt() * noise, t) - noise).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def sample(self, n: int) -> Tensor:
        """Draw (n, dim) rows by the ancestral sampler."""
        x, kept = torch.randn(n, self.dim), (1 - self.beta).cumprod(0)
        for t in range(self.times - 1, -1, -1):
            x = x - self.beta[t] / (1 - kept[t]).sqrt() * self.noise(x, torch.full((n,), t))
            x = x / (1 - self.beta[t]).sqrt() + (t > 0) * self.beta[t].sqrt() * torch.randn_like(x)
        return x


if __name__ == "__main__":
    from selfloop import Experiment, run
    from selfloop.data.toy import TwoMoons
    from selfloop.generators import Estimator

    experiment = Experiment(name="diffusion", data=TwoMoons(n=500), generator=Estimator.of(Diffusion), generations=3)
    with tempfile.TemporaryDirectory() as out:
        for generation in run(experiment, out):
            print(generation.t, generation.records[0]["metrics"])
