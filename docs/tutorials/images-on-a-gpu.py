# %% [markdown]
# # Images on a GPU
#
# The paper's own experiments are on images: a network of millions of parameters, a loop of days. The same loop at every size is one experiment with other settings.
# This page runs the smallest, a diffusion model on 200 handwritten digits, on a processor; **no GPU was there when it ran**. The commands for one are below, and what
# one has measured is [on its page](../results/gpu/index.md).

# %% [markdown]
# ## Small, on a processor
#
# EDM with a small U-Net, judged by the features of a classifier of digits.

# %%
from selfloop import Experiment, Run, run

experiment = Experiment.load("digits-edm-small").override(
    "data.n=200", "generations=2", "pretrain.epochs=50", "budget.epochs=8"
)
for generation in run(experiment, "runs/digits"):
    print(generation.t, end=" ")
digits = Run.open("runs/digits")

# %% Tiles of 64 digits: real ones, and samples after two retrainings with half real digits and without
digits.samples_plot(2)

# %% [markdown]
# After half a minute of training digits are noisy, and few can be read. The numbers tell the two panels on the right apart: a Fréchet distance of 32 with half real
# digits and of 50 without, by the features of a classifier.

# %%
digits

# %% The Fréchet distance to held-out digits against retrainings: with half real digits it ends below where it began, without them it rises
digits.plot("frechet_held_out")

# %% [markdown]
# One seed and two retrainings are too little for a verdict, which says so. With three seeds and eight retrainings (`selfloop run digits-edm`, half an hour on two cores) it is
# [another matter](../results/index.md#image-models-on-the-digits).
#
# The loss of every step is kept, too:

# %%
digits.losses_frame().groupby(["mixing.lam", "generation"]).loss.mean().unstack().round(3)

# %% [markdown]
# ## The same on a GPU
#
# One option says where networks run. All else stays; results differ by rounding, and records name the device.
#
# ```sh
# selfloop run digits-edm --device cuda
# selfloop run cifar10-edm --device cuda --set data.path=cifar-10-python.tar.gz --plan   # what it would take, a step timed on the card
# selfloop run cifar10-edm --device cuda --set data.path=cifar-10-python.tar.gz \
#   --set 'features={name: efficientnet, device: cuda}'
# ```
#
# From Python the device is that of a `Team`: `run(experiment, out, team=Team.start("cuda", 1))`, with `Team` of `selfloop.engines.team`.
#
# On one H200 EDM's network for CIFAR-10 trained on 1,722 images a second in bfloat16, 6.96 times what plain modules do in float32, and drew 89 a second in 18 steps of Heun's
# method. So the 50,000 samples of a generation of the paper take some nine minutes to draw.
#
# | to save | set | |
# |---|---|---|
# | memory | `generator.accumulate=2` | half of the batch at a time, the same gradient |
# | memory | `generator.sample_batch=64` | fewer pictures drawn at once |
# | time | `generator.precision=bfloat16` | what the numbers above are of |
# | a cut-off machine | `--save-every 1` | a fit under way is kept every minute, and the same command goes on |
#
# Several GPUs: `--devices 4`, or torchrun over machines; see [one large arm](../machines.md#one-large-arm).
#
# ## What to change next
#
# - `data={name: image_files, path: FOLDER}`: pictures of your own, of one size: [Images](../data.md#images).
# - `generator: ddpm_images` or `otcfm_images`, a pretrained checkpoint, classes: [Generators](../generators.md#images).
# - [The paper's recipes](../recipes.md#how-long), and what of them was run: [Results](../results/index.md).
# - What the metrics look at: [features](../metrics.md#what-metrics-look-at). In the API: [Metrics and features](../api/metrics.md).
