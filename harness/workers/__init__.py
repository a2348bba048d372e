"""Worker processes: the fork server they come from, their supervisor, and how many of them a machine runs."""
