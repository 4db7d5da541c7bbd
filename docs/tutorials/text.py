# %% [markdown]
# # Text
#
# A loop of language models in seconds: trigrams of letters are fitted to a thousand names, write names, and are refitted to these. What goes first, the
# words or their variety?
#
# ## A text
#
# Names by a rule, some stems far more often than others, a line each. (`selfloop run names-ngram` is the same on [surnames of the
# census](../recipes.md#text).)

# %%
import numpy as np

rng = np.random.default_rng(0)
onsets, vowels = ["b", "br", "d", "f", "g", "h", "k", "l", "m", "n", "s", "st", "t", "w"], list("aeiou")
ends, suffixes = ["", "n", "r", "l", "s", "ck"], ["son", "er", "man", "ton", "ley", "berg", "ford", ""]
stems = ["".join(rng.choice(part) for part in (onsets, vowels, ends)) for _ in range(300)]
often = 1 / np.arange(1, 301)
made = [rng.choice(stems, p=often / often.sum()) + rng.choice(suffixes) for _ in range(4000)]
names = sorted({name.title() for name in made if len(name) > 2})
with open("names.txt", "w") as file:
    file.write("\n".join(names))
print(len(names), "names:", ", ".join(names[::140]))

# %% [markdown]
# ## The loop
#
# Four regimes: samples in place of the real names; as many samples beside them (λ = 1); all that was ever written beside them; and samples at a
# temperature below 1 in their place, as people publish what a model is sure of.

# %%
from selfloop import Experiment, Run, run

infinite = float("inf")
experiment = Experiment(
    name="names",
    data={"name": "text", "path": "names.txt", "unit": "line", "block": 12, "n": 500, "held_out": 200},
    generator={"name": "ngram", "order": 3},
    generations=8,
    seeds=5,
    grid={
        "mixing": [
            "replace",
            {"name": "augment", "lam": 1},
            "accumulate",
            {"name": "biased", "temperature": 0.9, "lam": infinite},
        ]
    },
    metrics=["perplexity_held_out", "distinct_3", "copied_texts"],
)
for generation in run(experiment, "runs/names"):
    print(generation.t, end=" ")
found = Run.open("runs/names")

# %% Names that were held to train on, and eight names of each regime after eight retrainings
found.samples_plot(8)

# %% [markdown]
# Most would pass for names. In the second panel some would not, as *BTgoeckterg*; in the last one all would, and many are alike. The numbers see more.

# %% Held-out perplexity against retrainings, a line for each regime: it rises where real names are gone
found.plot("perplexity_held_out")

# %% [markdown]
# Held-out perplexity is between how many letters the model is in doubt, on names that it never saw. With real names in every retraining it stays at 3.7 or 3.8, near
# the dotted line; without them it rises to 5.9, and at a temperature of 0.9 to 8.0.

# %% The share of different trigrams against retrainings, a line for each regime
found.plot("distinct_3")

# %% [markdown]
# *Distinct-3* is the share of trigrams that differ, and here the two loops without real names part. At a temperature of 0.9 something is taken off every doubt,
# generation after generation, and half of the variety goes: 0.22 to 0.11. At temperature 1 what is written is *more* mixed than names are, 0.29: errors in letters
# add up. Both are worse, in opposite ways, and no single number says so.

# %%
found

# %%
frame = found.to_frame()
ends = frame[frame.generation.isin([0, 8])]
ends.pivot_table("value", index="regime", columns=["metric", "generation"]).round(2)

# %% [markdown]
# `copied_texts` is the share of names that stand among the real ones letter by letter: fewest where errors add up.
#
# ## A language model in its place
#
# ```python
# experiment.override("generator={name: gpt}", "budget={epochs: 5}")  # a small transformer, warm-started
# ```
#
# and with `pip install 'selfloop[lm]'` a pretrained one with adapters, on a GPU: `selfloop run smollm2-lora`. [Text, in loops](../results/text/index.md)
# has what these do at length.
#
# ## What to change next
#
# - `path`: any text file, folder, JSON Lines or column of a table; `unit="document"`, and `tokenizer="bpe"` for words' parts: [Text](../text.md).
# - The temperature: 0.7 and 1.1. The order of the n-grams: 2 and 4.
# - Text that another program wrote: `selfloop judge names.txt 'gen_{t}.txt'`, as in [A loop that ran elsewhere](judge-elsewhere.md).
# - What each number means: [Metrics](../metrics.md).
