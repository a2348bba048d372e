"""What every package shares: errors, records, search space, files, journals, statistics.

Imports no other package of the harness.
"""
