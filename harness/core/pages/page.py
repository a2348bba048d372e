"""The templates of HTML pages, and pictures as a page holds them: inside the one file."""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from harness.core.pages.canvas import DARK, Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture inside the page: data URLs for a light and a dark background."""

    title: str
    alt: str
    light: str
    dark: str
    is_wide: bool = False


def environment(package: str) -> Environment:
    """Return the templates of a package and the shared ones of this package, with everything escaped."""
    loaders = [PackageLoader(name, ".") for name in (package, "harness.core.pages")]
    return Environment(loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def embedded(picture: Picture, light: Path | None = None) -> Shown:
    """Return a picture for a page. `light`: its file for a light background, if there is one already."""
    with tempfile.TemporaryDirectory() as name:
        if light is None:
            light = Path(name) / "light.png"
            picture.save(light)
        dark = Path(name) / "dark.png"
        picture.save(dark, DARK)
        urls = [data_url(path.read_bytes()) for path in (light, dark)]
    return Shown(title=picture.title, alt=picture.alt, light=urls[0], dark=urls[1], is_wide=picture.is_wide)


def data_url(png: bytes) -> str:
    """Return the bytes of a PNG file as a URL that holds them."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
