"""A folder of work in progress on two machines: what has changed in one is written to the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness.core.files import new_folder, replacing


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed in a folder: the names of all its files, and the content of those that are new or other.

    Names are relative, with `/`. The files are in the order in which they were written, so that a file that names
    another one comes after it.
    """

    names: frozenset[str] = frozenset()
    files: Mapping[str, bytes] = field(default_factory=dict)


class Watched:
    """The side on which a folder is worked in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sent: dict[str, tuple[int, int]] = {}

    def changes(self) -> Changes:
        """Return what has changed since the last call, or since the object was made."""
        found = {name: (path, path.stat()) for name, path in _files_of(self._folder)}
        stamps = {name: (stat.st_mtime_ns, stat.st_size) for name, (_, stat) in found.items()}
        other = [name for name in found if self._sent.get(name) != stamps[name]]
        files = {name: found[name][0].read_bytes() for name in sorted(other, key=stamps.__getitem__)}
        self._sent = stamps
        return Changes(frozenset(found), files)


def content_of(folder: Path) -> Changes:
    """Return the whole content of a folder; nothing, if there is none."""
    return Watched(folder).changes()


def write_changes(folder: Path, changes: Changes) -> None:
    """Write the changes of the other side to this folder.

    Each file is replaced in one step. A new subfolder appears with all its files, or not at all, because a folder
    that is there says that its content is whole. Files that the other side has not are removed last.

    Raises ValueError for a name that leads out of the folder.
    """
    groups: dict[PurePosixPath, dict[str, bytes]] = {}
    for name, content in changes.files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{name!r} leads out of its folder")
        groups.setdefault(path.parent, {})[path.name] = content
    for parent, files in groups.items():
        target = folder / parent
        is_new = bool(parent.parts) and not target.exists()
        if is_new:
            target.parent.mkdir(parents=True, exist_ok=True)
        place = new_folder(target) if is_new else target
        for name, content in files.items():
            with replacing(place / name) as temporary:
                temporary.write_bytes(content)
        if is_new:
            place.rename(target)
    for name, file in _files_of(folder):
        if name not in changes.names:
            file.unlink()


def _files_of(folder: Path) -> list[tuple[str, Path]]:
    if not folder.is_dir():
        return []
    return [(path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*")) if path.is_file()]
