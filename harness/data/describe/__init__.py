"""Describes a data set in figures and on an HTML page, without its test part."""

from harness.data.describe.description import Description, describe_data
from harness.data.describe.page import check_page, write_page

__all__ = ["Description", "check_page", "describe_data", "write_page"]
