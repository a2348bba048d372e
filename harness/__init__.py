"""harness: experiment-tracked sweeps and comparisons of genre classifiers."""

from harness.core.space import Hyperparameter

__version__ = "0.2.0.dev0"
__all__ = ["Hyperparameter", "__version__"]
