"""Worker processes: the fork server, the supervisor, the task pool, the number of workers; Ray's actors."""
