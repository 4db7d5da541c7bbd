# %% [markdown]
# # Is my table's pipeline safe?
#
# A pipeline makes synthetic rows of a table of customers, mixes them with real ones, and the next model is trained on both. How many synthetic rows are safe?
# Here is a table with words, numbers and a column to predict; [the page of tables](../tables.md) has the same question asked of a messy CSV file.

# %%
import numpy as np
import pandas as pd

n, rng = 500, np.random.default_rng(1)
plan = rng.choice(["basic", "plus", "pro"], n, p=[0.6, 0.3, 0.1])
city = rng.choice(["Paris", "Lyon", "Nice", "Lille", "Brest"], n, p=[0.4, 0.25, 0.2, 0.1, 0.05])
age = np.clip(rng.gamma(6, 6, n), 18, 90).round().astype(int)
income = np.round(np.exp(rng.normal(10, 0.5, n)) * (1 + 0.5 * (plan == "pro")), 2)
logit = 2 * (0.04 * (age - 35) + 0.6 * (plan == "basic") - 0.8 + 0.5 * (city == "Paris"))
churn = np.where(rng.random(n) < 1 / (1 + np.exp(-2 * logit)), "yes", "no")
table = pd.DataFrame({"plan": plan, "city": city, "age": age, "income": income, "churn": churn})
table.head()

# %% [markdown]
# ## Ask
#
# `advise` runs loops with more and more seeds and answers in sentences. Without `generator=` it is a Gaussian copula that is retrained. With a `budget` it
# stops after so many seconds, here 150 on a busy machine, and says what more of them would tell; the same call goes on from there.

# %%
import selfloop

advice = selfloop.advise(table, horizon=6, budget=150)
advice

# %% [markdown]
# The first sentence is the answer: with 95 % confidence three quarters of each training set may be synthetic, three synthetic rows for each real one. A loop on samples
# alone is 13 % worse on average and *shown neither way*: no promise and no warning. As numbers, the share and the interval in which the limit lies:

# %%
advice.share, advice.interval

# %% [markdown]
# ## Look into it
#
# What does such a loop do to the table? Now with the column to predict, so that what the samples are worth is measured too: `tstr_auc` is the area under the curve of trees
# that are trained on samples and tested on held-out real rows.

# %%
from selfloop import Experiment, Run, run
from selfloop.data import array

experiment = Experiment(
    name="customers",
    data=array(table, target="churn"),
    generator="copula",
    generations=6,
    seeds=3,
    grid={"mixing.lam": [0, 1, float("inf")]},
    metrics=["shape_error_held_out", "levels_kept", "tstr_auc"],
)
for generation in run(experiment, "runs/customers"):
    print(generation.t, end=" ")
customers = Run.open("runs/customers")

# %% The five columns after six retrainings: real rows as grey bars, samples of each λ as lines and dots
customers.samples_plot(6)

# %% [markdown]
# Grey is real. On its own samples the loop (red) has piled up on a few ages and incomes: a copula draws values that it has seen, and loses some in every
# generation. Cities drift as well. With half real rows (green) columns stay.

# %% The error of the columns' shapes against retrainings, a line for each λ with a band: the fully synthetic one rises
customers.plot("shape_error_held_out")

# %% The area under the curve of trees trained on samples against retrainings: all lines stay near that of real rows
customers.plot("tstr_auc")

# %% [markdown]
# For the trees nothing is lost yet: six retrainings have not hurt what they learn from, though the columns are off. Which of the two counts is yours to say, and
# `advise(table, target="churn")` wants both.

# %%
customers

# %% [markdown]
# ## What to change next
#
# - `pd.read_csv("yours.csv")` in place of the table, and `selfloop data yours.csv` for what its columns are taken for: [Your own table](../data.md#your-own-table).
# - `generator="otcfm"` with `settings=["budget.epochs=20"]`, CTGAN, or [your own model](your-own-model.md).
# - `horizon=20`: what holds for six retrainings need not hold for twenty. `tolerance=0.05`.
# - Rows that another program made: `selfloop judge yours.csv 'gen_{t}.csv' --target churn`, as in [A loop that ran elsewhere](judge-elsewhere.md).
# - Why the interval holds: [Advice](../advise.md). What breaks first in four tables: [Results](../results/tables/index.md).
