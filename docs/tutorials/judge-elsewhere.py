# %% [markdown]
# # A loop that ran elsewhere
#
# Most loops do not run inside selfloop. A pipeline leaves generation 0, 1, 2, … and the question is whether it is collapsing. Here the
# pipeline is scikit-learn's mixture of Gaussians, fitted to measurements of tumours and then to its own samples; nothing of selfloop is in
# it.

# %%
from sklearn.datasets import load_breast_cancer
from sklearn.mixture import GaussianMixture

columns = ["mean radius", "mean texture", "mean smoothness", "mean symmetry"]
table = load_breast_cancer(as_frame=True).frame[columns].sample(frac=1, random_state=0)
real, held_out = table[:400], table[400:]


def generation(rows, seed):
    model = GaussianMixture(5, reg_covar=1e-6, random_state=seed).fit(rows)
    model.random_state = seed + 1
    return type(table)(model.sample(400)[0], columns=columns)


def loop(seed, generations=10):
    made, rows = [], real
    for t in range(generations):
        rows = generation(rows, 1000 * seed + 10 * t)
        made.append(rows)
    return made


ours = loop(seed=1)

# %% [markdown]
# ## One sequence
#
# `judge` takes the real rows, some that no model saw, and the generations: frames as here, arrays, tensors, or files by a pattern such as
# `"gen_{t}.csv"`. A notebook renders what it returns.

# %%
from selfloop import judge

names = ["sliced_w2_held_out", "coverage_held_out", "variance_ratio"]
first = judge(real, ours, held_out=held_out, metrics=names)
first

# %% [markdown]
# Read it from the end. **The loop is worse**: at the end the distance to held-out rows is 1.37 times that of generation 0, and the 95 % interval,
# 1.11 to 1.69, lies above the 1.1 that is tolerated. Above that are the forecast, the alarms and the [profile](../profile.md): nine things
# that are called collapse, with a *yes*, a *no*, or what would tell.
#
# What was measured is a run like any other, with the same curves:

# %% The distance of one sequence against generations: it rises to the sixth and falls a little
first.run.plot("sliced_w2_held_out")


# %% [markdown]
# It starts on the dotted floor, the distance of real rows to held-out ones, and leaves it. One sequence is one draw, though: is it the loop or bad luck?
#
# ## With repetitions and a control
#
# A control is what the same pipeline makes without its own samples: here it is fitted to real rows, drawn with replacement. Five seeds of both:


# %%
def control(seed, generations=10):
    rows = [real.sample(400, replace=True, random_state=1000 * seed + t) for t in range(generations)]
    return [generation(each, 1000 * seed + 10 * t) for t, each in enumerate(rows)]


seeds = range(1, 6)
found = judge(real, [loop(s) for s in seeds], held_out=held_out, control=[control(s) for s in seeds], metrics=names)
print(found.sentence)
print(found.forecast)

# %% The distances of loop and control with bands over five seeds: the control stays where it was, the loop leaves it
found.run.plot("sliced_w2_held_out")

# %% [markdown]
# Seeds are paired, so that what all of them share drops out. Two of the five collapsed by themselves, more than twice as far off as they had been, and so
# did none of the control.

# %%
found.profile

# %% [markdown]
# The variance, on average, did not collapse: 1.05 of the control's, 0.86 to 1.29. It is the tails and the shape that go. As a data frame, a row for each
# repetition, generation and metric:

# %%
means = found.to_frame().groupby(["mixing.sequence", "generation", "metric"]).value.mean().unstack().round(3)
means.query("generation in [0, 3, 6, 9]")

# %% [markdown]
# ## In a pipeline
#
# The command line does the same and ends with an exit code on which a pipeline can stop:
#
# ```sh
# selfloop judge real.csv 'gen_{t}.csv' --held-out held_out.csv
# selfloop watch 'gen_{t}.csv' --real real.csv --once   # as each generation arrives
# ```

# %%
print(f"exit code {found.code}: 0 stable so far, 3 worse, 4 collapsed, 5 cannot tell yet")

# %% [markdown]
# ## What to change next
#
# - Give `out="judged"` and call again with one more generation: only that one is measured.
# - Name a column to predict, `target="…"`: what a model learns of each generation is measured too.
# - Half real rows in `loop`, `rows = pandas.concat([real, rows])`: does the verdict change?
# - All that can be given, and exit codes: [Judging other loops](../judge.md). How the verdict comes about: [The verdict](../verdict.md). In the API:
#   [`judge`](../api/results.md#the-verdict-on-a-loop).
