"""The pictures of a clip: wave, spectrograms, chroma and MFCCs, each with a text alternative."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from harness.core.pages.canvas import BLUE, GREY, ORANGE, Picture, panels_of
from harness.data.audio.panels import ClipPanels

PITCHES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")
MEL_TICKS = (128, 512, 1024, 2048, 4096, 8192)  # hertz
SPREAD = 3.0  # standard deviations of a coefficient that the colours of the MFCCs reach to


def sound_pictures(panels: ClipPanels) -> list[Picture]:
    """Return the pictures of a clip."""
    return [_waves(panels), *_spectrograms(panels), _chroma(panels), _coefficients(panels)]


def _waves(panels: ClipPanels) -> Picture:
    rows = (
        ("whole", panels.wave, BLUE),
        ("harmonic", panels.harmonic, "#009E73"),
        ("percussive", panels.percussive, ORANGE),
    )

    def draw() -> Figure:
        figure, axes_list = panels_of(10.5, 4.6, rows=3)
        limit = max(float(np.abs(wave).max()) for _, wave, _ in rows) or 1.0
        for axes, (name, wave, colour) in zip(axes_list, rows, strict=True):
            times = np.linspace(0, panels.seconds, wave.shape[1])
            axes.fill_between(times, wave[0], wave[1], color=colour, linewidth=0.3)
            axes.set(xlim=(0, panels.seconds), ylim=(-1.05 * limit, 1.05 * limit))
            axes.set_ylabel(name)
            axes.tick_params(labelbottom=axes is axes_list[-1])
        axes_list[-1].set_xlabel("seconds")
        return figure

    loud = [float(np.abs(wave).max()) for _, wave, _ in rows]
    return Picture(
        name="waves",
        title="Waveform, harmonic and percussive part",
        alt=f"The wave over {panels.seconds:.1f} s. Largest sample {loud[0]:.2f}; of the harmonic part "
        f"{loud[1]:.2f}, of the percussive part {loud[2]:.2f}.",
        draw=draw,
    )


def _spectrograms(panels: ClipPanels) -> list[Picture]:
    def stft(axes: Axes) -> AxesImage:
        axes.set_ylabel("hertz")
        return _show(axes, panels.stft, (0, panels.seconds, 0, panels.highest_hertz), "magma")

    def mel(axes: Axes) -> AxesImage:
        places = np.interp(MEL_TICKS, panels.mel_hertz, np.arange(len(panels.mel_hertz)))
        axes.set_yticks(places, map(str, MEL_TICKS))
        axes.set_ylabel("hertz (mel scale)")
        return _show(axes, panels.mel, (0, panels.seconds, -0.5, len(panels.mel) - 0.5), "magma")

    loudest = panels.highest_hertz * (0.5 + panels.stft.mean(axis=1).argmax()) / len(panels.stft)
    band = panels.mel_hertz[int(panels.mel.mean(axis=1).argmax())]
    unit = "decibels below the loudest"
    return [
        _raster(
            "stft",
            "Short-time Fourier transform",
            f"Level by time and frequency, up to {panels.highest_hertz:.0f} hertz; on average loudest near "
            f"{loudest:.0f} hertz.",
            unit,
            stft,
        ),
        _raster(
            "mel",
            "Mel spectrogram",
            f"The same in {len(panels.mel)} mel bands; on average loudest in the band at {band:.0f} hertz.",
            unit,
            mel,
        ),
    ]


def _chroma(panels: ClipPanels) -> Picture:
    def chroma(axes: Axes) -> AxesImage:
        axes.set_yticks(range(len(PITCHES)), PITCHES, fontsize=8)
        axes.set_ylabel("pitch class")
        return _show(axes, panels.chroma, (0, panels.seconds, -0.5, len(PITCHES) - 0.5), "viridis", (0, 1))

    order = np.argsort(-panels.chroma.mean(axis=1))[:3]
    said = ", ".join(PITCHES[index] for index in order)
    return _raster("chroma", "Chroma", f"Pitch classes by time; on average strongest: {said}.", "strength", chroma)


def _coefficients(panels: ClipPanels) -> Picture:
    means, spreads = panels.mfcc.mean(axis=1, keepdims=True), panels.mfcc.std(axis=1, keepdims=True)
    scaled = (panels.mfcc - means) / np.where(spreads > 0, spreads, 1)

    def mfcc(axes: Axes) -> AxesImage:
        axes.set_ylabel("coefficient")
        axes.set_yticks((1, 5, 10, 15, 20))
        return _show(axes, scaled, (0, panels.seconds, 0.5, len(scaled) + 0.5), "RdBu_r", (-SPREAD, SPREAD))

    said = ", ".join(f"{number}: {value:.0f}" for number, value in enumerate(means[:3, 0], start=1))
    return _raster(
        "mfcc",
        "MFCC",
        f"{len(scaled)} coefficients by time, each in its own standard deviations from its mean in this clip "
        f"(means {said}).",
        "standard deviations",
        mfcc,
    )


def _show(
    axes: Axes,
    values: np.ndarray,
    extent: tuple[float, float, float, float],
    colours: str,
    limits: tuple[float | None, float | None] = (None, None),
) -> AxesImage:
    return axes.imshow(
        values,
        extent=extent,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )


def _raster(name: str, title: str, alt: str, unit: str, fill: Callable[[Axes], AxesImage]) -> Picture:
    def draw() -> Figure:
        figure, (axes,) = panels_of(10.5, 3.0)
        image = fill(axes)
        axes.set_xlabel("seconds")
        bar = figure.colorbar(image, ax=axes, aspect=15, pad=0.01)
        bar.set_label(unit, fontsize=8)
        bar.outline.set_edgecolor(GREY)
        return figure

    return Picture(name=name, title=title, alt=alt, draw=draw)
