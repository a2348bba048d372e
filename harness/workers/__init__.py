"""Worker processes: the fork server, the supervisor, the task pool, the default number of workers."""
