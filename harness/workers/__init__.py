"""Where trainings run: worker processes, their supervisor, and how many there may be."""
