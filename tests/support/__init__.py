"""What several tests need: commands, stores, processes, servers, sweeps. Fixtures are in `tests/conftest.py`."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
EXPERIMENTS = REPOSITORY / "experiments"
