"""The best checkpoint as files that others can use: bundle, formats, model card, prediction."""
