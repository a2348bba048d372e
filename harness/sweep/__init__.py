"""A sweep, from its settings to its summary: plan, driver, worker, upload of journals, recovery, doctor."""

from harness.core.calling import make_callable

make_callable(__name__)
