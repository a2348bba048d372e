"""Families of feature columns: what each is called, which columns it has, and how families are merged."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import SettingsError
from harness.core.files import regular
from harness.data.features import FAMILIES, matches

MAX_FAMILIES = 12  # 4096 subsets; each further family doubles them
DEFAULT_MERGED: Mapping[str, tuple[str, ...]] = {"MFCC": ("MFCC means", "MFCC variances")}
NAME = re.compile(r"[\w.:/()\[\]%+,&# -]{1,60}")
NAMES = "1 to 60 letters, digits, spaces, and _ . : / ( ) [ ] % + , & # -"
FORM = '[families] with name = ["column", "prefix*"], and if wanted [merged] with name = ["family", "family"]'


@dataclass(frozen=True, slots=True)
class Family:
    """Some feature columns that are taken away together."""

    name: str
    columns: tuple[str, ...]


def metric_name(name: str) -> str:
    """Return a name as MLflow takes it in that of a metric: ASCII letters and digits, `_`, `.`, `:` and `-`."""
    return re.sub(r"[^A-Za-z0-9_.:-]", "_", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Families:
    """The families of a study's columns, a coarser grouping of them, and the columns that are in none.

    `merged` maps the names of merged families to the names of their parts; a family that is in none stays alone.
    """

    families: tuple[Family, ...]
    merged: Mapping[str, tuple[str, ...]]
    apart: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of the families, in their order."""
        return tuple(column for family in self.families for column in family.columns)

    @property
    def coarse(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The coarser grouping: names with the indices of their families; () if nothing is merged."""
        if not self.merged:
            return ()
        index_of = {family.name: index for index, family in enumerate(self.families)}
        inside = {name for parts in self.merged.values() for name in parts}
        groups = [(name, tuple(index_of[part] for part in parts)) for name, parts in self.merged.items()]
        groups += [(name, (index,)) for name, index in index_of.items() if name not in inside]
        return tuple(sorted(groups, key=lambda group: group[1]))


def families_of(columns: Sequence[str], path: Path | None = None) -> Families:
    """Return the families of these columns: those of a TOML file, else Kaggle's, else each column by itself.

    A family of Kaggle's loses the columns that are not there, and is left out where none is. Columns of another
    table are families of their own while they are few enough. A file must name columns that are there.

    Raises SettingsError if the file cannot be read or does not fit the columns, if a column is in two families,
    and if there are fewer than two families or more than MAX_FAMILIES.
    """
    wanted, merged = _default(columns) if path is None else _read(path)
    where = "the default families" if path is None else str(path)
    found = []
    for name, patterns in wanted.items():
        unknown = [pattern for pattern in patterns if not any(matches(column, pattern) for column in columns)]
        if unknown and path is not None:
            raise SettingsError(
                f"{where}: family {name!r} names {unknown[0]!r}, which the study has not",
                expected=", ".join(columns),
            )
        own = tuple(c for c in columns if any(matches(c, pattern) for pattern in patterns))
        if own:
            found.append(Family(name, own))
    counts = Counter(column for family in found for column in family.columns)
    twice = sorted(column for column, count in counts.items() if count > 1)
    if twice:
        raise SettingsError(f"{where}: column {twice[0]!r} is in two families", expected="each column in one")
    if not 2 <= len(found) <= MAX_FAMILIES:
        what = "1 family" if len(found) == 1 else f"{len(found)} families"
        raise SettingsError(
            f"{where}: {what} of the study's {len(columns)} columns",
            expected=f"2 to {MAX_FAMILIES}: every subset of them is trained, and each family doubles the subsets",
            hint="merge families, in a file for --families"
            if len(found) > MAX_FAMILIES and path is not None
            else f"--families FILE.toml, which has {FORM}",
        )
    names = [family.name for family in found]
    known = {name: tuple(p for p in parts if p in names) for name, parts in merged.items()}
    return Families(
        families=tuple(found),
        merged={name: parts for name, parts in known.items() if len(parts) > 1},
        apart=tuple(column for column in columns if column not in counts),
    )


def _default(
    columns: Sequence[str],
) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    """Return Kaggle's families and what is merged of them, or each column of a table that has none of theirs."""
    known = any(matches(c, pattern) for c in columns for parts in FAMILIES.values() for pattern in parts)
    if known or not all(NAME.fullmatch(column) for column in columns) or _like_one_another(columns):
        return FAMILIES, DEFAULT_MERGED
    return {column: (column,) for column in columns}, {}


def _like_one_another(names: Iterable[str]) -> list[str]:
    """Return two names that would be one metric in MLflow; [] if there are none."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(metric_name(name).lower(), []).append(name)
    return next((group for group in groups.values() if len(group) > 1), [])


def _read(path: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    try:
        table = tomllib.loads(regular(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path} cannot be read as TOML: {error}", expected=FORM) from error
    families, merged = (_lists(path, table.pop(key, {}), key) for key in ("families", "merged"))
    if table:
        raise SettingsError(f"{path}: there is no table {next(iter(table))!r}", expected=FORM)
    parts = [part for names in merged.values() for part in names]
    odd = [part for part in parts if part not in families or parts.count(part) > 1]
    if odd:
        raise SettingsError(f"{path}: [merged] names {odd[0]!r}, no family or twice", expected=", ".join(families))
    alike = _like_one_another(families)
    if alike:
        raise SettingsError(
            f"{path}: the families {alike[0]!r} and {alike[1]!r} would be one metric in MLflow",
            expected="names that differ in more than case, spaces and signs",
        )
    clash = [name for name in merged if name in families]
    if clash:
        raise SettingsError(f"{path}: {clash[0]!r} is both a family and a merged one", expected="different names")
    return families, merged


def _lists(path: Path, table: object, key: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: {key} is {table!r}", expected=FORM)
    for name, value in table.items():
        if not isinstance(value, list) or not value or not all(isinstance(entry, str) for entry in value):
            raise SettingsError(f"{path}: {key} {name!r} is {value!r}", expected=FORM)
        if not NAME.fullmatch(name):
            raise SettingsError(f"{path}: {key} has the name {name!r}", expected=NAMES)
        found[name] = tuple(value)
    return found
