"""harness: experiment-tracked sweeps and comparisons of genre classifiers."""

from harness.core.space import Hyperparameter

__version__ = "0.1.0"
__all__ = ["Hyperparameter", "__version__"]
