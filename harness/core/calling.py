"""Packages that can be called: `harness.sweep` is a package, and the function that sweeps."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A package that is also the function of the same name in `harness`.

    Python puts an imported package in the place of a function that the parent package defines under its name.
    """

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Call the function."""
        return self._function(*arguments, **settings)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    @property
    def _function(self) -> Any:
        return sys.modules["harness"].FUNCTIONS[self.__name__.rpartition(".")[2]]


def make_callable(package: str) -> None:
    """Make the package of that name callable."""
    sys.modules[package].__class__ = CallableModule
