# %% [markdown]
# # A thousand arms
#
# A curve against λ takes many loops: twenty values of λ and fifty seeds are a thousand *arms*. Small ones train together as one tensor program, and large ones
# are spread over processes or, by Ray, over machines, to the same bits. Here is a thousand on one core, and the command for a cluster.

# %% [markdown]
# ## Say what to run
#
# A normal distribution refitted to 50 rows, thirty times.

# %%
import numpy as np

from selfloop import Experiment, Run, run
from selfloop.arms import arms, stacks

lams = [0, *np.geomspace(0.1, 30, 18).round(2).tolist(), float("inf")]
experiment = Experiment(
    name="thousand",
    data={"name": "gaussian", "dim": 1, "n": 50, "held_out": 200},
    generator="gaussian",
    generations=30,
    seeds=50,
    grid={"mixing.lam": lams},
    metrics=["mean_error", "variance_ratio"],
)
members = arms(experiment)
print(len(members), "arms in stacks of", [len(stack) for stack in stacks(members)])

# %% [markdown]
# Arms that draw equally many rows are a stack, and a stack is what one process, or one task of a cluster, trains: there are 13. What all would take is said
# before anything is run by `selfloop run thousand.yaml --plan`.
#
# ## Run it

# %%
import time

begun = time.process_time()
for generation in run(experiment, "runs/thousand"):
    pass
print(f"30 retrainings of {len(members)} arms: {time.process_time() - begun:.0f} s of one core")

# %% [markdown]
# `run(experiment, out, workers=2)` spreads the stacks over two processes.
#
# ## Read it
#
# `to_frame()` has a row for each arm, generation and metric, and λ as a number: a thousand loops are a `groupby`. The error of the mean, over generations 20 to 30
# and fifty seeds:

# %%
frame = Run.open("runs/thousand").to_frame()
late = frame.query("metric == 'mean_error' and generation >= 20")
seeds = late.groupby(["ratio", "seed"]).value.mean()
found = seeds.groupby("ratio").agg(["mean", "sem"])
found.iloc[[0, 5, 10, 15, 18, 19]].round(3)

# %% [markdown]
# Theory knows the curve: the expected square of the error is that of `mixed_errors`, and 1/50 more for the fifty samples by which it is seen.

# %% The error of the mean against λ: fifty loops a point with error bars, the theory's curve through them, and the fully synthetic loop far above
import matplotlib.pyplot as plt

from selfloop.theory import mean_drift, mixed_errors

finite = found[np.isfinite(found.index) & (found.index > 0)]
figure, axes = plt.subplots(figsize=(6, 3.8))
axes.errorbar(
    finite.index,
    finite["mean"],
    2 * finite["sem"],
    fmt="o",
    color="#4477aa",
    markersize=4,
    label="50 loops each, ± 2 errors",
)
expected = [np.sqrt(2 / np.pi * (mixed_errors(50, lam, 30).mean_square[20:] + 1 / 50)).mean() for lam in finite.index]
axes.plot(finite.index, expected, color="#111111", label="theory")
axes.axhline(found["mean"][0.0], color="#117733", linestyle="--", label="λ = 0")
axes.axhline(found["mean"][np.inf], color="#cc3311", linestyle="--", label="λ = ∞")
axes.set(xscale="log", xlabel="λ, synthetic rows per real one", ylabel="error of the mean", ylim=(0, None))
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)

# %% [markdown]
# The points lie on the curve or a little below it: all λ share their fifty data sets. Thirty synthetic rows for each real one cost no more than two do, 0.126 and
# 0.127, and no finite λ comes near the loop on samples alone, 0.561. That error is still
# [on its way](theory-in-ten-plots.md#1-on-its-own-samples-alone-a-model-collapses): it grows without end.

# %%
print(
    f"λ = ∞, root mean square after 30: {np.sqrt(mean_drift(50, 30)):.2f} expected, and {np.sqrt(mean_drift(50, 3000)):.1f} after 3,000"
)

# %% [markdown]
# ## On a cluster
#
# Ray was not there when this page ran; the commands are those of [Many machines](../machines.md), where what they do is told. How far it goes is measured: [ten
# thousand arms](../scale.md#ten-thousand-arms) of a Gaussian are a millisecond an arm and generation, and 646 MB.
#
# ```sh
# pip install 'selfloop[ray]'
# selfloop run thousand.yaml --engine ray                  # a cluster of this machine alone
# selfloop run thousand.yaml --engine ray --address auto   # the one that is running
# ```
#
# From Python it is `run(experiment, out, engine=Ray(address="auto"))`, with `Ray` of `selfloop.engines.ray`. Each stack is a chain of
# tasks, nodes share no file system, and one that dies costs the tasks it was at. Without Ray, under any scheduler: `--shard 3/13` runs a thirteenth of the stacks, and
# `selfloop merge` joins them.
#
# ## What to change next
#
# - `selfloop run thousand.yaml --set generations=60`: the run grows by thirty generations.
# - Another generator: `mixture`, or `otcfm`, whose arms of one stack train in one network each, side by side.
# - What a machine does in a second: [Speed](../speed.md). Where the limit of λ lies: [Advice](../advise.md).
