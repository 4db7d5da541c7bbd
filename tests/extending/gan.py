"""A GAN with the non-saturating loss (Goodfellow et al. 2014, arXiv:1406.2661) and R1 penalty, in plain PyTorch."""

from __future__ import annotations

import tempfile

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


def mlp(inputs: int, outputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs)
    )


class GAN(nn.Module):
    """Rows of ``dim`` columns, made of normal latents of ``latent`` columns."""

    def __init__(self, dim: int = 2, latent: int = 4, width: int = 64, steps: int = 300, penalty: float = 0.1) -> None:
        super().__init__()
        self.latent, self.steps, self.penalty = latent, steps, penalty
        self.maker, self.critic = mlp(latent, dim, width), mlp(dim, 1, width)

    def fit(self, x: Tensor) -> None:
        """Play the game for some steps on rows (N, dim)."""
        players = [torch.optim.Adam(net.parameters(), 2e-3, betas=(0.0, 0.99)) for net in (self.critic, self.maker)]
        for step in range(2 * self.steps):
            real = x[torch.randint(len(x), (128,))].requires_grad_()
            made, score = self.maker(torch.randn(128, self.latent)), self.critic(real)
            if step % 2:
                loss = softplus(-self.critic(made)).mean()
            else:
                (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
                loss = (softplus(-score) + softplus(self.critic(made.detach()))).mean()
                loss = loss + self.penalty / 2 * slope.square().sum(1).mean()
            players[step % 2].zero_grad()
            loss.backward()
            players[step % 2].step()

    def sample(self, n: int) -> Tensor:
        """Draw (n, dim) rows."""
        return self.maker(torch.randn(n, self.latent))


if __name__ == "__main__":
    from selfloop import Experiment, run
    from selfloop.data.toy import TwoMoons
    from selfloop.generators import Estimator

    experiment = Experiment(
        name="gan", data=TwoMoons(n=500), generator=Estimator.of(GAN), generations=3, metrics=["w2_held_out"]
    )
    with tempfile.TemporaryDirectory() as out:
        for generation in run(experiment, out):
            print(generation.t, generation.records[0]["metrics"])
