"""A network with a loss of its own, as a user writes it: an autoencoder of feature rows."""

SOURCE = """
import torch
from torch import nn

import harness


class Autoencoder(nn.Module):
    representation = "features"
    hyperparameters = {"hidden": harness.Hyperparameter(int, 4, at_least=1)}
    search = {"lr": {"low": 1e-3, "high": 1e-2, "log": True}, "hidden": [2, 8]}
    metrics = {"largest": "minimise", "closeness": "maximise"}

    def __init__(self, inputs, classes, hidden=4):
        super().__init__()
        self.there, self.back = nn.Linear(inputs, hidden), nn.Linear(hidden, inputs)

    def forward(self, x):
        return self.there(x)

    def loss(self, batch):
        error = (self.back(torch.relu(self.there(batch.inputs))) - batch.inputs).square()
        return {
            "loss": error.mean(),
            "largest": error.amax(1).mean(),
            "closeness": torch.exp(-error).mean(),
        }


class Undefined(Autoencoder):
    # Its metric is undefined in the first steps of a training, as a correlation of constants is.
    objective = "val_largest"
    first = 5

    def __init__(self, inputs, classes, hidden=4):
        super().__init__(inputs, classes, hidden)
        self.register_buffer("steps", torch.zeros(()))

    def loss(self, batch):
        self.steps += self.training
        found = super().loss(batch)
        return {**found, "largest": found["largest"] * (float("nan") if self.steps <= self.first else 1.0)}


class Never(Undefined):
    first = 10**6


class Closest(Autoencoder):
    objective = "val_closeness"
"""
