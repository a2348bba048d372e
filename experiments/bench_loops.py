"""The loops that `bench.py` measures against, each in a process of its own; prints one JSON object.

- `bare`: what a careful engineer would write by hand. Data in memory, fused Adam, the best thread count, the
  report's networks, validation after each epoch; no logging, no search, nothing saved.
- `report`: the report's script. PIL in `__getitem__`, a DataLoader, NCHW, ReLU before pooling, default Adam.
- `tutorial`: the bare loop in the way of MLflow's Optuna tutorial: nested runs, log_metric, log_model.
- `harness`: the package's own loop, `fit`, and nothing around it.
- `gemm`: the float32 matrix product rate of this machine.
- `memory`: peak memory of training beyond Python with torch and the data.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from harness.core.records import TrialConfig
from harness.data import TrainingData, View, stratified_split
from harness.data.images import find_pictures
from harness.data.open import load_data
from harness.models.cnn import GenreClassifierCNN
from harness.models.fcnn import GenreClassifierFCNN
from harness.models.normalise import StandardizeFeatures
from harness.models.registry import model_spec
from harness.training.loop import fit, start_training

Config = dict[str, Any]


def load(data: str, model: str) -> TrainingData:
    tracks = load_data(data)
    split = stratified_split(tracks, seed=0)
    if model == "cnn":
        return View(tracks, "pictures").training(split)
    return View(tracks, "features", tracks.columns).training(split)


class PublishedCNN(GenreClassifierCNN):
    """The report's forward pass, letter by letter."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        x = torch.relu(self.fc1(x))
        logits: Tensor = self.fc2(x)
        return logits


def bare_epochs(
    config: Config, data: TrainingData, device: str = "cpu"
) -> Iterator[tuple[float, float, nn.Module]]:
    """Train one configuration and yield (train loss, validation accuracy, network) after each epoch."""
    pictures = config["model"] == "cnn"
    torch.manual_seed(config["seed"])
    model: nn.Module
    if pictures:
        model = GenreClassifierCNN(len(data.genres)).to(memory_format=torch.channels_last)
        train, valid = data.train.tensor, data.valid.tensor
    else:
        model = GenreClassifierFCNN(len(data.columns), len(data.genres))
        scaler = StandardizeFeatures.fit(data.train.tensor)
        train, valid = scaler(data.train.tensor), scaler(data.valid.tensor)
    model.to(device)
    train, valid = train.to(device), valid.to(device)
    train_targets, valid_targets = data.train.targets.to(device), data.valid.targets.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"], fused=True)
    size = config["batch_size"]
    for _ in range(config["epochs"]):
        order = torch.randperm(len(train)).to(device)
        inputs, targets = train[order], train_targets[order]
        model.train()
        total = torch.zeros((), device=device)
        for x, y in zip(torch.split(inputs, size), torch.split(targets, size), strict=True):
            if len(y) == 1:
                continue
            loss = F.cross_entropy(model(scaled(x) if pictures else x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach() * len(y)
        model.eval()
        with torch.inference_mode():
            logits = torch.cat([model(scaled(x) if pictures else x) for x in torch.split(valid, 64)])
        accuracy = (logits.argmax(1) == valid_targets).float().mean().item()
        yield total.item() / len(train), accuracy, model


def scaled(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2).float().div_(255)


def bare(data: TrainingData, configs: list[Config], threads: int, device: str = "cpu") -> list[float]:
    torch.set_num_threads(threads)
    seconds = []
    for config in configs:
        started = time.perf_counter()
        for _ in bare_epochs(config, data, device):
            pass
        seconds.append(time.perf_counter() - started)
    return seconds


class SpectrogramDataset(Dataset[tuple[Tensor, int]]):
    """The report's data set: a file opened, decoded and resized each time it is asked for."""

    def __init__(self, files: list[Path], labels: list[int]) -> None:
        self.files, self.labels = files, labels
        self.transform = transforms.Compose([transforms.Resize((216, 144)), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.open(self.files[index]).convert("RGB")
        return self.transform(image), self.labels[index]


def report(name: str, epochs: int) -> list[float]:
    tracks = load_data(name)
    split = stratified_split(tracks, seed=0)
    found = find_pictures(tracks.folder / "images_original")
    label_of = dict(zip(tracks.ids, tracks.labels.tolist(), strict=True))

    def loader(ids: tuple[str, ...], shuffle: bool) -> DataLoader[tuple[Tensor, int]]:
        dataset = SpectrogramDataset([found[track][1] for track in ids], [label_of[track] for track in ids])
        return DataLoader(dataset, batch_size=32, shuffle=shuffle)

    train, valid = loader(split.train, True), loader(split.valid, False)
    model = PublishedCNN(len(tracks.genres))
    optimizer, criterion = torch.optim.Adam(model.parameters(), lr=0.001), nn.CrossEntropyLoss()
    seconds = []
    for _ in range(epochs):
        started = time.perf_counter()
        model.train()
        for inputs, targets in train:
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
            loss.item()
        model.eval()
        with torch.no_grad():
            for inputs, _targets in valid:
                model(inputs).argmax(1)
        seconds.append(time.perf_counter() - started)
    return seconds


def own(data: TrainingData, configs: list[Config], threads: int) -> list[float]:
    """Seconds of each epoch of the package's own loop."""
    torch.set_num_threads(threads)
    seconds = []
    for config in configs:
        trial = TrialConfig.of({"threads": threads, "precision": "fp32", **config})
        state = start_training(trial, model_spec(trial.model), data, torch.device("cpu"))
        seconds += [metrics.seconds for metrics in fit(state, data)]
    return seconds


def tutorial(data: TrainingData, configs: list[Config], threads: int, folder: str) -> list[float]:
    import mlflow
    import optuna

    torch.set_num_threads(threads)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/tutorial.db")
    mlflow.set_experiment("tutorial")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", storage=f"sqlite:///{folder}/tutorial-optuna.db")
    for config in configs:
        study.enqueue_trial({"lr": config["lr"], "batch_size": config["batch_size"]})
    seeds = iter(configs)
    example = data.train.tensor[:2].numpy()

    def objective(trial: optuna.Trial) -> float:
        with mlflow.start_run(nested=True):
            lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
            batch_size = trial.suggest_categorical("batch_size", [16, 32, 64, 128])
            mlflow.log_params({"lr": lr, "batch_size": batch_size})
            best = 0.0
            config = {**next(seeds), "lr": lr, "batch_size": batch_size}
            model: nn.Module
            for epoch, (loss, accuracy, model) in enumerate(bare_epochs(config, data)):  # noqa: B007 - used below
                mlflow.log_metric("train_loss", loss, step=epoch)
                mlflow.log_metric("val_accuracy", accuracy, step=epoch)
                best = max(best, accuracy)
            mlflow.pytorch.log_model(model, name="model", input_example=example)
            return best

    seconds = []
    with mlflow.start_run():
        for _ in configs:
            started = time.perf_counter()
            study.optimize(objective, n_trials=1)
            seconds.append(time.perf_counter() - started)
    return seconds


def gemm(threads: int, size: int = 2048) -> list[float]:
    """GFLOP/s of float32 matrix products, several times."""
    torch.set_num_threads(threads)
    a, b = torch.rand(size, size), torch.rand(size, size)
    rates = []
    for _ in range(12):
        started = time.perf_counter()
        torch.mm(a, b)
        rates.append(2 * size**3 / (time.perf_counter() - started) / 1e9)
    return rates[2:]


def memory(data: TrainingData, configs: list[Config], threads: int) -> list[float]:
    """MB of peak memory that training adds."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own(data, configs, threads)
    return [(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loop", choices=["bare", "report", "tutorial", "harness", "gemm", "memory"])
    parser.add_argument("--data", default="demo")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--folder", default=".")
    parser.add_argument("--device", default="cpu", help="of the bare loop")
    arguments = parser.parse_args()
    if arguments.loop == "gemm":
        values = gemm(arguments.threads)
    elif arguments.loop == "report":
        values = report(arguments.data, arguments.epochs)
    else:
        configs: list[Config] = json.load(sys.stdin)
        data = load(arguments.data, configs[0]["model"])
        if arguments.loop == "tutorial":
            values = tutorial(data, configs, arguments.threads, arguments.folder)
        elif arguments.loop == "bare":
            values = bare(data, configs, arguments.threads, arguments.device)
        else:
            loop = {"harness": own, "memory": memory}[arguments.loop]
            values = loop(data, configs, arguments.threads)
    print(json.dumps(values))


if __name__ == "__main__":
    main()
