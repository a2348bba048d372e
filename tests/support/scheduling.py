"""Which process of pytest-xdist runs a test: those that share a slow fixture run in one, which makes it once."""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

# A pattern of the tests' names and the name of what they share; groups of the pattern complete that name. (With
# `--dist loadgroup`, pytest-xdist 3.8 adds a group to a name that pytest 9.2 does not read.)
SHARED = (
    (r"tests/compare/test_(?:compare|plan|warnings|kills)\.py", "two studies"),
    # Besides a fixture these share the first import of what exports a network, 15 s where nothing is compiled yet.
    (r"tests/export/test_(?:bundle|predict)\.py", "exports"),
    (r"tests/(?:export/test_exported|export/test_untrusted|tracking/test_registry)\.py.*\[demo-fcnn", "exports"),
    (
        r"tests/(?:export/test_exported|export/test_untrusted|tracking/test_registry)\.py.*\[(\w+-f?cnn)",
        "exported",
    ),
    (r"tests/export/test_untrusted\.py", "exports"),
    (r"tests/export/test_formats\.py::test_every_format_cuts_the_frame", "cropped files"),
    (r"tests/export/test_formats\.py.*\[.*(features|pictures)", "files"),
    (r"tests/sweep/test_crop\.py", "crop"),
    (r"tests/training/test_folds\.py", "folds"),
)


class SharedFixtures(LoadScopeScheduling):  # type: ignore[misc]
    """Give tests to processes one by one, and those that share a fixture together; the largest groups begin."""

    def _split_scope(self, nodeid: str) -> str:
        for pattern, name in SHARED:
            if found := re.match(pattern, nodeid):
                return " ".join([name, *found.groups()])
        return nodeid
