"""Code that all packages share: errors, records, search space, files, journals, statistics.

This package imports no other package of the harness.
"""
