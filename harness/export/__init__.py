"""Export the best checkpoint as files for other programs, with a model card, and predict with these files."""
