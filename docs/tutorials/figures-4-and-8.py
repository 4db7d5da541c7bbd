# %% [markdown]
# # Figures 4 and 8, and changing everything about them
#
# Two figures of [the paper](https://arxiv.org/abs/2310.00429), cut down to seconds; then one thing after the other is changed: data, model, regime. The
# figures at full length are [among the results](../results/index.md), by `selfloop run fig4` and `selfloop run fig8`.

# %% [markdown]
# ## Figure 4
#
# A recipe is a YAML file that ships with the package, and `Experiment.load` reads it by its name. This one has twelve retrainings in place of fifty.

# %%
from selfloop import Experiment, Run, run


def finished(experiment, out):
    for _ in run(experiment, out):
        pass
    return Run.open(out)


figure_4 = finished(Experiment.load("fig4-small"), "runs/fig4")
figure_4

# %% Densities after twelve retrainings: the fully synthetic moons have run into one another, with half real rows they are apart
figure_4.samples_plot(12)

# %% [markdown]
# On its own samples the model forgets where one moon ends. With one real row for each synthetic one it goes on learning: W₂ falls from 0.62 to 0.46.

# %% W2 to held-out rows against retrainings: the fully synthetic curve rises, the one of half and half falls
figure_4.plot("w2_held_out")

# %% [markdown]
# ## Figure 8
#
# The same setting for four λ, with seeds, so that there are bands. `override` takes `key.path=value`, as `--set` does on the command line: here fewer
# generations, shorter ones, and fewer rows.

# %%
figure_8 = Experiment.load("fig8-small").override("generations=8", "budget.epochs=30", "data.n=500")
eighth = finished(figure_8, "runs/fig8")

# %% W1, W2 and the ratio of variances against retrainings, four lines each with bands over three seeds
import matplotlib.pyplot as plt

figure, panels = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for axes, metric in zip(panels, eighth.recorded, strict=True):
    eighth.plot(metric, axes)
panels[0].get_legend().remove()
panels[1].get_legend().remove()

# %% [markdown]
# The paper's finding in small: every finite λ stays with the control, and λ = ∞ leaves it. `plot` draws into axes that it is given, so a figure of your own is
# a few lines of matplotlib.
#
# ## Other data
#
# A setting that names something takes a name, or a name with settings. Eight narrow modes in place of two moons:

# %% Densities on eight modes after eight retrainings: a ring with real rows, a cloud without
eight = figure_8.override("name=eight", "data={name: eight_gaussians, n: 500}")
ring = finished(eight, "runs/eight")
ring.samples_plot(8)

# %% [markdown]
# Data in memory are taken as they are, here a spiral from NumPy: `data=` may be an array, a tensor, a data frame, or a function of a seed.

# %% Densities on a spiral: real rows, and samples of four λ after eight retrainings
import numpy as np

rng = np.random.default_rng(0)
angle = 3 * np.pi * np.sqrt(rng.uniform(0.05, 1, 700))
spiral = np.stack([angle * np.cos(angle), angle * np.sin(angle)], 1) + rng.normal(0, 0.2, (700, 2))
mine = Experiment.build(figure_8.model_dump() | {"data": spiral, "name": "spiral", "seeds": 1})
finished(mine, "runs/spiral").samples_plot(8)

# %% [markdown]
# ## Other models
#
# Anything may be on the grid: here three generators that need no training, each with half and half and on its own samples. A Gaussian cannot show moons, a mixture of eight
# can, and a kernel density blurs a little more in every generation.

# %% Densities of a Gaussian, a mixture and a kernel density after eight retrainings, with half real rows and without
generators = "[gaussian, {name: mixture, components: 8}, kernel_density]"
many = figure_8.override("name=models", "seeds=1", f"grid={{generator: {generators}, mixing.lam: [1, inf]}}")
models = finished(many, "runs/models")
models.samples_plot(8)

# %%
models

# %% [markdown]
# ## Side by side
#
# `compare` says what differs between runs, and what of them is not comparable.

# %%
from selfloop import compare

compare([eighth, ring])

# %% [markdown]
# ## What to change next
#
# - The regime: `"grid={mixing: [accumulate, {name: fresh, k: 1}]}"`, as in [Regimes side by side](regimes-side-by-side.md).
# - Where retraining begins: `"retrain=scratch"`. The sampler: `"generator.solver=euler"`, `"generator.solver_steps=10"`.
# - What is measured: `"metrics=[sliced_w2_held_out, recall_held_out]"`, out of [Metrics](../metrics.md).
# - Which recipe makes which figure: [Recipes](../recipes.md), and all figures so far: [the gallery](../gallery.md). In the API:
#   [`Experiment`](../api/loop.md) and [`compare`](../api/results.md#runs-beside-each-other).
