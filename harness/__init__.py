"""harness: experiment-tracked sweeps and comparisons of genre classifiers."""

__version__ = "0.1.0"
