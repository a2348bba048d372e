"""The colours of the candidates of a comparison."""

from __future__ import annotations

from harness.compare.result import Comparison
from harness.core.pages.canvas import COLOURS, GREY


def colour_of(comparison: Comparison, name: str) -> str:
    """Return the colour of a study, for its single network and its ensemble; that of all others is grey."""
    studies = [candidate.study for candidate in comparison.studied]
    found = next((c for c in comparison.candidates if c.name == name and c.is_contender), None)
    return GREY if found is None else COLOURS[studies.index(found.study) % len(COLOURS)]
