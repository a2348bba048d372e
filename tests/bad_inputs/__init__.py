"""Hundreds of bad inputs, each given to the real command line: `python -m tests.bad_inputs`.

Each input must end in a right result or in one clear error, within a limit of time and memory, with nothing
half-written left behind and with no code run that the user has not named.

`case.py` says what a case is and what its outcome may be, `processes.py` runs it in a forked process, `base.py`
makes the material once, and each of the other modules has the cases of some kinds.
"""
