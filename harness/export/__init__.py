"""Export the best checkpoint as files for other programs, with a model card, and predict with these files."""

from harness.core.calling import make_callable

make_callable(__name__)
