"""Run the fast tests with the oldest versions that pyproject.toml allows.

    python3 tests/lower_bounds.py [--resolve]

Makes a virtual environment in a temporary folder, installs the package with every lower bound of its dependencies
as a constraint (the tools of the extra `dev` are today's), runs pytest there, and removes it: 15 minutes, 7 GB.
`--resolve` only asks pip whether such an installation exists.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
BOUND = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?>=([0-9.]+)")


def lower_bounds(pyproject: Path) -> list[str]:
    """Return one constraint `name==version` for each dependency of the package and of its extras but `dev`."""
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = project["optional-dependencies"]
    groups = [project["dependencies"], *(group for name, group in extras.items() if name != "dev")]
    found = []
    for requirement in (requirement for group in groups for requirement in group):
        match = BOUND.match(requirement)
        if match is None:
            raise SystemExit(f"{pyproject}: {requirement!r} has no lower bound")
        found.append(f"{match[1]}=={match[2]}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--resolve", action="store_true", help="ask pip only whether the versions go together")
    only_resolve = parser.parse_args().resolve
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        constraints = folder / "constraints.txt"
        constraints.write_text("\n".join(lower_bounds(REPOSITORY / "pyproject.toml")) + "\n")
        print(constraints.read_text())
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        python = folder / "venv" / "bin" / "python"
        install = [str(python), "-m", "pip", "install", "-q", "-c", str(constraints), "-e", f"{REPOSITORY}[dev]"]
        if only_resolve:
            subprocess.run([*install, "--dry-run"], check=True)
            return
        subprocess.run(install, check=True)
        subprocess.run([python, "-m", "pytest"], cwd=REPOSITORY, check=True)


if __name__ == "__main__":
    main()
