# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour: which representation of handwritten digits is better?
#
# The 1797 digits of scikit-learn are both a table of 64 columns and pictures of 8 x 8 pixels. Two networks are
# tuned, one on each, and compared on the same splits. Nothing is downloaded. `tour.py` is this notebook as text.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from torch import nn

import harness

found = load_digits(as_frame=True)
data = harness.Dataset(
    features=found.data,
    pictures=np.rint(found.images * 255 / 16).astype(np.uint8),
    labels=[str(label) for label in found.target],
    name="digits",
    class_word="digit",
    item_word="scan",
)

figure, panels = plt.subplots(1, 10, figsize=(9, 1.3))
for axes, picture, label in zip(panels, found.images, found.target, strict=False):
    axes.imshow(picture, cmap="gray_r")
    axes.set_title(str(label))
    axes.set_axis_off()
plt.show()

# %% [markdown]
# ## Two studies
#
# Learning rate and batch size are searched; every trial is recorded in MLflow under `mlruns/`. The same call again
# continues a study, and trains nothing if it has all its trials.

# %%
tables = harness.sweep("fcnn", data=data, trials=6, epochs=8)
pictures = harness.sweep("cnn", data=data, trials=6, epochs=8)

# %%
tables.trials()[["lr", "batch_size", "state", "val_accuracy", "best_epoch"]]

# %%
history = {"table (fcnn)": tables, "pictures (cnn)": pictures}
for name, study in history.items():
    plt.plot(study.trials().val_accuracy.cummax(), drawstyle="steps-post", label=name)
plt.xlabel("trial")
plt.ylabel("best validation accuracy so far")
plt.legend()
plt.show()

# %% [markdown]
# ## The comparison
#
# Both best settings are trained anew on five folds and tested once on each. The sentence says what that shows.

# %%
comparison = harness.compare([tables, pictures], repeats=5, baselines=False, untuned=False)
print(comparison.verdict)

# %% [markdown]
# ## A network of one's own
#
# A class of the notebook is enough; its source is on record with the study.


# %%
class Small(nn.Module):
    representation = "features"
    hyperparameters = {"width": harness.Hyperparameter(int, 16, at_least=1)}

    def __init__(self, inputs, classes, width=16):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x):
        return self.layers(x)


small = harness.sweep(Small, data=data, trials=4, epochs=8, study="small", search={"width": [8, 64]})
small.trials()[["width", "lr", "val_accuracy"]]

# %% [markdown]
# ## The network
#
# It takes raw rows and gives a probability for each class.

# %%
guessed = tables.predict(found.data.head(200))
print(pd.crosstab(guessed.prediction, found.target.head(200).rename("digit")))
assert (guessed.prediction == found.target.head(200).astype(str)).mean() > 0.8, "far below what it should be"
