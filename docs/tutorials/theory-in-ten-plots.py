# %% [markdown]
# # Theory in ten plots
#
# Much of what a loop will do is known before it is run. Here are ten of the results that selfloop has as functions, each a few lines
# and a picture; the derivations are in [Theory](../theory.md) and [Theory of regimes](../regimes-theory.md). Nothing is trained: the
# loops that are simulated are those of a normal distribution, fitted to *n* rows again and again.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np

from selfloop.theory import alpha, gaussian_loop, log_variance_walk, mixed_errors

t = np.arange(61)


def plot(title, x, y):
    axes = plt.subplots(figsize=(5.2, 3.1))[1]
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def loop(n, lam, generations=60, replicas=400, d=1):
    fits = gaussian_loop(np.zeros(d), np.eye(d), n=n, generations=generations, replicas=replicas, lam=lam)
    return list(fits)


# %% [markdown]
# ## 1. On its own samples alone, a model collapses
#
# The logarithm of the variance is a random walk that drifts downwards: 40 loops of *n* = 20 rows, and where they are expected.

# %% Forty random walks of the log variance, which drift down within their band of two deviations
axes = plot("1. Fully synthetic: ln σ² walks away", "retrainings", "ln σ²")
paths = np.log([fit.covariance[:, 0, 0] for fit in loop(n=20, lam=math.inf)])
axes.plot(t, paths[:, :40], color="#4477aa", linewidth=0.5, alpha=0.5)
walks = [log_variance_walk(20, k) for k in t]
mean, std = np.array([w.mean for w in walks]), np.sqrt([w.variance for w in walks])
axes.plot(t, mean, "k", label="expected")
axes.fill_between(t, mean - 2 * std, mean + 2 * std, color="k", alpha=0.1, label="± 2 deviations")
axes.legend(frameon=False)

# %% [markdown]
# After 60 retrainings the expected logarithm is −3.2: a variance of 4 % of what it was, and for one loop in forty less than
# 0.03 %.
#
# ## 2. Half of the variance is gone after (n − 4/3) ln 2 retrainings
#
# More rows slow it down, and stop nothing. Maximum likelihood, which divides by *n* and not by *n* − 1, is twice as fast.

# %% Half-lives against the number of rows, two straight lines on logarithmic axes
from selfloop.theory.replace import half_life

axes = plot("2. Half-life of the variance", "rows n", "retrainings")
n = np.array([5, 10, 20, 50, 100, 200, 500, 1000])
axes.loglog(n, [half_life(k) for k in n], "o-", label="unbiased")
axes.loglog(n, [half_life(k, unbiased=False) for k in n], "s--", label="maximum likelihood")
axes.legend(frameon=False)

# %% [markdown]
# ## 3. Proposition 1 of the paper
#
# The expected root of the covariance shrinks by α(*n*) a retraining, exactly in one dimension, and faster in more.

# %% Expected roots of covariances on a logarithmic scale, in one dimension along the dotted line and in five below it
axes = plot("3. Proposition 1: α(n)ᵗ", "retrainings", "tr √Σ of the first")
for d, colour in ((1, "#4477aa"), (5, "#cc6677")):
    fits = loop(n=10, lam=math.inf, d=d)
    roots = np.array([np.linalg.svd(fit.factor, compute_uv=False).sum(1).mean() for fit in fits]) / d
    axes.semilogy(t, roots / roots[0], color=colour, label=f"simulated, d = {d}")
axes.semilogy(t, alpha(10).value ** t, "k:", label="α(10)ᵗ")
axes.legend(frameon=False)

# %% [markdown]
# α(10) is 0.973, which is 0.19 after 60 retrainings. That the simulated line leaves the dotted one at the end is chance: few of 400
# loops carry the mean.
#
# ## 4. Real rows hold it
#
# With *n* = 50 real rows in every retraining the error of the mean settles: at 0.0067 for λ = 1, which is a third of the 1/*n* that the
# real rows themselves are off.

# %% Errors of the mean against retrainings, dots on the exact curves, which level off
axes = plot("4. Real rows hold the mean", "retrainings", "E(μ − m)² / s²")
for lam, colour in ((0.5, "#332288"), (1, "#117733"), (4, "#cc6677")):
    fits, expected = loop(n=50, lam=lam, generations=20, replicas=4000), mixed_errors(50, lam, 20)
    means, spreads = np.array([f.mean[:, 0] for f in fits]), fits[0].covariance[:, 0, 0]
    axes.plot(((means - means[0]) ** 2 / spreads).mean(1), ".", color=colour)
    axes.plot(expected.mean_square, color=colour, label=f"λ = {lam}")
axes.legend(frameon=False)

# %% [markdown]
# ## 5. Stable for every finite λ
#
# ρ is by what a small error shrinks in a retraining: λμ/(1 + λμ), μ = 1 where the model can be right. Theorem 1 of the paper promises
# stability up to some λ; for likelihoods [it holds beyond](../theory.md#local-stability-of-likelihood-retraining). Here one μ is 1.3.

# %% The rate against λ, below 1 everywhere, and the bound of Theorem 1, which crosses 1 early
from selfloop.theory.contraction import Contraction

axes = plot("5. ρ(λ), and the paper's bound", "λ", "rate ρ")
lam = np.linspace(0, 3, 200)
found = Contraction.of_hessians(-np.diag([1.0, 1.0]), -np.diag([1.0, 1.3]))
axes.plot(lam, [found.rate(x) for x in lam], label="ρ, below 1 for every λ")
axes.plot(lam, np.minimum([found.bound(x) for x in lam], 1.5), "--", label="bound of Theorem 1")
axes.axvline(found.critical_lam, color="gray", linestyle=":", label="its largest λ")
axes.axhline(1, color="k", linewidth=0.6)
axes.set_ylim(0, 1.3)
axes.legend(frameon=False)

# %% [markdown]
# ## 6. And cheap
#
# Errors of single retrainings add up, but each is the smaller the larger λ is. What is left of both is at most √1.5 = 1.22 times the error of
# real rows alone: 1.15 at λ = 1. At λ = ∞ there is no such number.

# %% The total error against λ, rising from 1 to the dotted line at 1.22
from selfloop.theory.bounds import total_error

axes = plot("6. What synthetic rows cost", "λ", "error × that of real rows alone")
ratios = np.geomspace(0.01, 100, 200)
axes.semilogx(ratios, [total_error(x) for x in ratios])
axes.axhline(math.sqrt(1.5), color="gray", linestyle=":")

# %% [markdown]
# ## 7. What is trained on decides
#
# The expected variance of five regimes, all of *n* = 20 rows a set. Samples that replace the real rows lose it; samples that
# [accumulate](../regimes-theory.md#pools-any-mixture-of-sets) beside them keep 92 % for ever.

# %% Expected variances of five regimes against retrainings: two fall, three stay
from selfloop.theory.pooled import accumulate, accumulate_subsample, pooled, window_shares

axes = plot("7. What is trained on decides", "retrainings", "E σ²")
axes.plot(t, (1 - 1 / 20) ** (t + 1.0), label="replace")
axes.plot(t, pooled(window_shares(60, 3, real=False), 20).variance, label="window of 3")
axes.plot(t, accumulate_subsample(20, 60).variance, label="accumulate, subsample")
axes.plot(t, accumulate(20, 60).variance, label="accumulate")
axes.plot(t, pooled(window_shares(60, 1, real=True), 20).variance, label="augment, λ = 1")
axes.legend(frameon=False, fontsize=8)

# %% [markdown]
# ## 8. Fresh rows, and the golden ratio
#
# Where every generation sees new real rows, samples of the last model help, if they are weighted well: with as many of them (*k* = 1) the best
# weight of the real ones is 0.618, and so is the error that is left.

# %% Errors against the weight of the real rows, a valley for each k with its lowest point marked
from selfloop.theory.fresh import fresh_limit, golden_weight

axes = plot("8. Fresh rows: the golden weight", "weight of the real rows", "error × n")
weight = np.linspace(0.05, 1, 100)
for k in (0.5, 1, 4):
    (line,) = axes.plot(weight, [fresh_limit(k, weight=w) for w in weight], label=f"k = {k}")
    best = golden_weight(k)
    axes.plot(best, fresh_limit(k, weight=best), "o", color=line.get_color())
axes.set_ylim(0.2, 1.6)
axes.legend(frameon=False)

# %% [markdown]
# ## 9. A sampler that is a little off
#
# Samples at a temperature τ have τ times the model's variance. At λ = 4 the loop bears up to τ = 1 + 1/λ = 1.25; at 1.2 the variance ends at
# five times the truth, and beyond 1.25 it grows for ever. Below 1 it settles too low: at 0.56 for τ = 0.8.

# %% Variances against retrainings for five temperatures, on a logarithmic scale; two of them grow
from selfloop.theory.biased import tempered_variance

axes = plot("9. Sampling at a temperature, λ = 4", "retrainings", "σ²")
for tau in (0.5, 0.8, 1.0, 1.2, 1.3):
    axes.semilogy([tempered_variance(4, tau, k) for k in range(31)], label=f"τ = {tau}")
axes.legend(frameon=False, fontsize=8)

# %% [markdown]
# ## 10. Even a perfect diffusion model loses or adds variance
#
# What DDPM's sampler makes of a mode's variance, with an exact denoiser and the toy's schedule. *Fixed-small* always removes some. *Fixed-large* has a
# watershed, at a standard deviation of 0.027: narrower modes contract in a loop, wider ones spread. [It explains Figure 3](../results/fig3/index.md).

# %% Variance out over variance in, a curve for each sampler; one crosses 1 at the watershed
from selfloop.learning.schedule import Schedule
from selfloop.theory.sampler_bias import ancestral_variance, fixed_points

axes = plot("10. What DDPM's sampler does to a mode", "variance of the data", "variance out / in")
v = np.geomspace(1e-5, 1, 300)
schedule = Schedule.linear(1e-3, 0.2, 100)
for kind in ("fixed-large", "fixed-small"):
    axes.loglog(v, ancestral_variance(schedule, v, kind) / v, label=kind)
(watershed, cloud) = fixed_points(lambda x: ancestral_variance(schedule, x))
axes.axvline(watershed.variance, color="gray", linestyle=":", label="watershed")
axes.axhline(1, color="k", linewidth=0.6)
axes.legend(frameon=False)

# %%
print(
    f"watershed at a standard deviation of {watershed.variance**0.5:.4f}, the cloud rests at {cloud.variance**0.5:.3f}"
)
print(
    f"half-life for n = 20: {half_life(20):.1f} retrainings; α(10) = {alpha(10).value:.4f}; ρ(1) = {found.rate(1):.3f}"
)

# %% [markdown]
# ## What to change next
#
# - `n` in plot 1 and `lam` in plot 4, and watch both move as the formulas say.
# - The same claims against loops that draw every row: `selfloop verify`, or [Predictions, checked](../verify.md).
# - Which of these a real run obeys: [`selfloop stability`](../theory.md#selfloop-stability-run) prints ρ predicted beside ρ seen, as in
#   [your first loop](first-loop.md).
# - Every function is on the [API's page of theory](../api/theory.md).
