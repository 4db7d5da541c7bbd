# %% [markdown]
# # Regimes side by side
#
# "Trained on its own samples" can mean many things: samples beside the real rows or in their place, the last model's or all that were ever drawn, all of them or those
# that somebody chose. What a generation trains on is its [regime](../loop.md#regimes), and it decides.

# %% [markdown]
# ## Twelve regimes
#
# A recipe has twelve on its grid: a Gaussian in two dimensions is refitted to 100 rows, here twenty times with twenty seeds. These are of the literature; each has
# its source in [the table](../loop.md#regimes).

# %%
from selfloop import Experiment, Run, run

experiment = Experiment.load("regimes").override("generations=20", "seeds=20")
for regime in experiment.grid["mixing"]:
    print(regime)

# %%
for generation in run(experiment, "runs/regimes"):
    print(generation.t, end=" ")
regimes = Run.open("runs/regimes")
regimes

# %% [markdown]
# ## Read it
#
# The distance to held-out rows says who drifts away:

# %% W2 to held-out rows against retrainings, a line for each of twelve regimes: replacement and one correction rise, most stay
regimes.plot("w2_held_out")

# %% [markdown]
# And who loses what is in the mean of the variance, 1 being right, *and* in its spread over the seeds. As a data frame, the farthest first:

# %%
frame = regimes.to_frame()
last = frame.query("generation == 20 and metric != 'mean_error'")
table = last.groupby(["regime", "metric"]).value.agg(["mean", "std"]).unstack()
table.sort_values(("mean", "w2_held_out"), ascending=False).round(2)

# %% [markdown]
# Three things to read off.
#
# - **Replacement walks.** On average its variance is hardly off, 0.93, and over seeds it is anything: ± 0.52. So says [theory](theory-in-ten-plots.md): the expectation is
#   kept, and every single loop drifts to 0 or far away. More rows each generation (`n = (power = 1.5)`), or a window of three, slow it down.
# - **Real rows hold.** With λ = 1, `accumulate`, `fresh` or `contaminated` distance and spread are near those of real rows alone.
# - **Selection is not neutral.** `curated` chooses of two samples the one nearer to the centre, and `corrected` moves samples to the centres of the real rows: with all good
#   intentions, variance goes to 0.76 and to 0.35.

# %% Densities of samples of twelve regimes after twenty retrainings, a seed of each, beside the real rows
regimes.samples_plot(20)

# %% [markdown]
# ## One of your own
#
# `compose` is a regime by its parts: here a fifth of the real rows in every training set, and as many samples of the last model as there are real rows.

# %%
mine = experiment.override(
    "name=mine",
    "grid={}",
    "mixing={name: compose, parts: [{from: real, rows: 0.2}, {from: newest, rows: 1}]}",
)
for generation in run(mine, "runs/mine"):
    print(generation.t, end=" ")
mine = Run.open("runs/mine")
mine

# %% [markdown]
# Twenty real rows are enough to hold it near: W₂ is 0.58, where 0.52 is that of real rows alone, but twenty rows are not a hundred, and the verdict stays open. Side by
# side, on one metric:

# %%
from selfloop import compare

found = compare([regimes, mine]).to_frame()
found[found.metric == "w2_held_out"][["setting", "mean", "std", "verdict"]].round(2)

# %% [markdown]
# ## What to change next
#
# - The generator: `"generator={name: kernel_density}"` never loses its variance and blurs instead.
# - `"data.n=1000"`: ten times the rows, a tenth of the speed.
# - A judge that keeps, chooses or corrects rows, real rows that are new each time, weights: [Parts](../loop.md#parts).
# - A regime in Python, of ten lines: [Extending](../extending.md). What each is known to do: [Theory in ten plots](theory-in-ten-plots.md). In the API:
#   [Regimes](../api/regimes.md).
