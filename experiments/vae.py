"""A network with a loss of its own: a convolutional variational autoencoder (VAE) on the mel pictures.

    harness sweep --model experiments/vae.py:MelVAE --set crop=frame --epochs 12 --trials 10
    .venv/bin/python experiments/vae.py --study gtzan-MelVAE --out vae

The search looks for the evidence lower bound (ELBO) of the validation part. The script draws reconstructions of
validation pictures and samples, from the prior and from a Gaussian that is fitted to the latent means of the
train part, and adds them to the run of the best trial in MLflow. With `--sound` it turns samples of the Gaussian
to sound. With `--table` it exports the encoder and writes a data folder, whose columns are the features and the
latent means of every track, and the lists of the study's split. So one can be held against the other:

    harness sweep --model fcnn --data vae/table --split vae/lists --study features --without 'latent_*'
    harness sweep --model fcnn --data vae/table --split vae/lists --study latents \
        --without '[!l]*' --without length
    harness compare --study features --study latents

Sources: Kingma and Welling (2014), Auto-encoding variational Bayes; Higgins et al. (2017), beta-VAE; Rybkin,
Daniilidis and Levine (2021), Simple and effective VAE training with calibrated decoders (the noise); Ghosh
et al. (2020), From variational to deterministic autoencoders (a density fitted to the latent means).
"""

from __future__ import annotations

import argparse
import math
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import Hyperparameter

STAGES = 4  # each halves height and width
ENCODED = 64  # pictures in one batch
SHOWN = 8  # pictures a row
SOUNDS = 4


class MelVAE(nn.Module):
    """Pictures to latent means; `decode` goes the other way.

    Takes float [n, 3, *size] in [0, 1], gives the means of the latent variables, [n, latent]. `beta` weighs the
    divergence from the prior in the loss. All figures are in nats for each value of a picture, the share of a
    colour in a pixel.
    """

    representation = "pictures"
    threads = 2
    hyperparameters: ClassVar[dict[str, Hyperparameter]] = {
        "latent": Hyperparameter(int, 32, at_least=2, at_most=1024),
        "beta": Hyperparameter(float, 1.0, above=0, log=True),
        "channels": Hyperparameter(int, 16, at_least=4, at_most=128),
    }
    search: ClassVar[dict[str, object]] = {
        "lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "batch_size": [16, 32, 64],
        "latent": [8, 16, 32, 64],
        "beta": {"low": 0.1, "high": 10.0, "log": True},
    }
    # The loss depends on beta, so that losses of two trials say nothing of which is better. The bound does not.
    metrics: ClassVar[dict[str, str]] = {
        "elbo": "maximise",
        "reconstruction": "minimise",
        "divergence": "minimise",
    }
    objective = "val_elbo"

    def __init__(
        self,
        inputs: int = 0,
        classes: int = 0,
        *,
        latent: int = 32,
        beta: float = 1.0,
        channels: int = 16,
        size: tuple[int, int] = (216, 144),
    ) -> None:
        super().__init__()
        self.beta = beta
        # Height and width at each stage of the decoder, the smallest first.
        self.sizes = [(math.ceil(size[0] / 2**k), math.ceil(size[1] / 2**k)) for k in range(STAGES, -1, -1)]
        widths = [3, *(min(channels * 2**k, 4 * channels) for k in range(STAGES))]
        self.encoder = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU())
                for a, b in pairwise(widths)
            )
        )
        self.deepest = (widths[-1], *self.sizes[0])
        flat = math.prod(self.deepest)
        self.means, self.log_variances = nn.Linear(flat, latent), nn.Linear(flat, latent)
        self.first = nn.Linear(latent, flat)
        back = [*widths[:0:-1], widths[1]]
        self.decoder = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in pairwise(back)
        )
        self.last = nn.Conv2d(widths[1], 3, 3, padding=1)
        self.noise: Tensor
        self.register_buffer("noise", torch.ones(()))  # variance of the noise of a value: that of the last batches

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means and the logarithms of the variances of the latent variables, each [n, latent]."""
        hidden = self.encoder(x).flatten(1)
        return self.means(hidden), self.log_variances(hidden).clamp(-12, 12)

    def decode(self, latent: Tensor) -> Tensor:
        """Return pictures, float [n, 3, *size] in [0, 1], of latent variables [n, latent]."""
        hidden = F.relu(self.first(latent)).view(-1, *self.deepest)
        for stage, size in zip(self.decoder, self.sizes[1:], strict=True):
            hidden = stage(F.interpolate(hidden, size))
        return torch.sigmoid(self.last(hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Return the latent means."""
        return self.encode(x)[0]

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Return the loss of a batch, with the bound and its two terms. Evaluation takes the latent means."""
        x = batch.inputs
        means, log_variances = self.encode(x)
        latent = means
        if self.training:
            latent = means + torch.exp(log_variances / 2) * torch.randn_like(means)
        error = F.mse_loss(self.decode(latent).float(), x)
        # The likeliest variance of the noise is the mean squared error. Evaluation takes that of the training.
        noise = error.clamp(min=1e-6)
        if self.training:
            self.noise.lerp_(noise.detach(), 0.1)
        else:
            noise = self.noise
        reconstruction = (error / noise + torch.log(2 * math.pi * noise)) / 2
        divergence = (means.square() + log_variances.exp() - 1 - log_variances).sum(1).mean() / 2 / x[0].numel()
        return {
            "loss": reconstruction + self.beta * divergence,
            "elbo": -reconstruction - divergence,
            "reconstruction": reconstruction,
            "divergence": divergence,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="gtzan-MelVAE", help="a study of MelVAE")
    parser.add_argument("--out", type=Path, required=True, help="new folder of pictures, sound and table")
    parser.add_argument("--sound", action="store_true", help="also samples as sound; needs the extra [audio]")
    parser.add_argument(
        "--table", action="store_true", help="also the latent means of all tracks as a data folder"
    )
    wanted = parser.parse_args()

    import harness
    from harness.core.names import derive_seed
    from harness.tracking import Tracker

    study = harness.load(wanted.study, trust_code=True)
    network: Any = study.network()
    wanted.out.mkdir(parents=True)
    torch.manual_seed(derive_seed(study.spec.seed, "samples"))
    with torch.inference_mode():
        data = pictures_of(study)
        originals = network.normalise(data.valid.tensor[:SHOWN])
        found = network.network.decode(network.network(originals))
        means = torch.cat([network.network(network.normalise(some)) for some in data.train.tensor.split(ENCODED)])
        from_prior = network.network.decode(torch.randn(SHOWN, means.shape[1]))
        fitted = torch.distributions.MultivariateNormal(means.mean(0), covariance_of(means))
        samples = network.network.decode(fitted.sample((SHOWN,)))
    draw(wanted.out / "reconstructions.png", {"validation tracks": originals, "reconstructed": found})
    draw(wanted.out / "samples.png", {"from the prior": from_prior, "from a Gaussian of train": samples})
    if wanted.sound:
        for number, picture in enumerate(samples[:SOUNDS]):
            write_sound(wanted.out / f"sample-{number}.wav", picture)
    tracker = Tracker(study.stores.tracking_uri, create=False)
    for path in sorted(wanted.out.iterdir()):
        tracker.client.log_artifact(study.network_run_id, str(path))
        print(path)
    if wanted.table:
        print(write_table(study, wanted.out))


def covariance_of(means: Tensor) -> Tensor:
    """Return the covariance of latent means, [latent, latent], with a thousandth of its mean variance added."""
    found = torch.cov(means.T)
    return found + 1e-3 * found.diagonal().mean() * torch.eye(len(found))


def pictures_of(study: Any) -> Any:
    """Return train and validation pictures of a study as its network takes them: uint8 [n, height, width, 3]."""
    from harness.data import View, with_crop
    from harness.data.open import load_recorded_data
    from harness.tracking import Tracker

    tracker = Tracker(study.stores.tracking_uri, create=False)
    split, context = tracker.studies.split(study.run_id), tracker.studies.context(study.run_id)
    crop = str({**study.spec.fixed, **study.best.params}.get("crop", "none"))
    tracks = with_crop(load_recorded_data(context, study.spec.data_digest, None), [split], [crop])
    return View(tracks, "pictures", (), crop).training(split)


def draw(path: Path, rows: dict[str, Tensor]) -> None:
    """Draw rows of pictures, each [n, 3, height, width] in [0, 1]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.3 * SHOWN, 2.2 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    for line, (title, pictures) in enumerate(rows.items()):
        for column, picture in enumerate(pictures):
            axes = figure.add_subplot(len(rows), SHOWN, line * SHOWN + column + 1)
            axes.imshow(picture.permute(1, 2, 0).clamp(0, 1).numpy(), aspect="auto")
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0:
                axes.set_ylabel(title)
    figure.savefig(path, dpi=110)


def write_sound(path: Path, picture: Tensor) -> None:
    """Turn a picture [3, height, width] into sound, approximately, by Griffin and Lim's algorithm (1984).

    Three things are assumed: the colours are those of the magma map over 80 dB, the lines are 128 mel bands, the
    columns are 30 s. The phase, which a picture does not have, is estimated.
    """
    import librosa
    import matplotlib
    import numpy as np
    import soundfile

    from harness.data.audio.compiled import prepare_audio
    from harness.data.audio.recipe import COLOURS, DECIBELS, MELS, RATE

    prepare_audio()
    frames = 30 * RATE // 512
    resized = F.interpolate(picture[None], (MELS, frames), mode="bilinear")[0].permute(1, 2, 0)
    colours = torch.tensor(matplotlib.colormaps[COLOURS](np.arange(256))[:, :3], dtype=torch.float32)
    places = torch.cdist(resized.reshape(-1, 3), colours).argmin(1).reshape(MELS, frames)
    levels = (places.flip(0).numpy() / 255 - 1) * DECIBELS  # the lowest band is the last line
    sound = librosa.feature.inverse.mel_to_audio(librosa.db_to_power(levels), sr=RATE)
    soundfile.write(path, sound / max(1e-9, abs(sound).max()), RATE)


def write_table(study: Any, out: Path) -> Path:
    """Export the encoder, and write a data folder with the features and the latent means of every track.

    The encoder was trained on the study's train part. On another split some of its train tracks are test tracks:
    `lists` beside the folder has the split of the encoder's study.
    """
    import numpy as np
    import pandas as pd

    import harness
    from harness.data.images import raw_pictures
    from harness.data.open import load_recorded_data
    from harness.data.source import read_source
    from harness.tracking import Tracker

    tracker = Tracker(study.stores.tracking_uri, create=False)
    context = tracker.studies.context(study.run_id)
    tracks = load_recorded_data(context, study.spec.data_digest, None)
    files = read_source(tracks.folder, dict(context.dataset.options)).files
    assert tracks.features is not None
    assert files is not None
    harness.export(study, out / "encoder")
    encoder = harness.load_bundle(out / "encoder", trust_code=True)
    pictures = (raw_pictures([files[track][1]]) for track in tracks.ids)
    latents = np.concatenate([encoder.probabilities(picture).numpy() for picture in pictures])
    table = pd.DataFrame(tracks.features, index=list(tracks.ids), columns=list(tracks.columns))
    for column in range(latents.shape[1]):
        table[f"latent_{column:03d}"] = latents[:, column]
    labels = [tracks.genres[label] for label in tracks.labels]
    words = tracks.words
    data = harness.Dataset(
        features=table,
        labels=labels,
        class_word=words.class_,
        item_word=words.item,
        synthetic=tracks.synthetic,
    )
    lists = out / "lists"
    lists.mkdir()
    split = tracker.studies.split(study.run_id)
    for part in ("train", "valid", "test"):
        (lists / f"{part}.txt").write_text("\n".join(getattr(split, part)) + "\n", encoding="utf-8")
    return data.save(out / "table")


if __name__ == "__main__":
    main()
