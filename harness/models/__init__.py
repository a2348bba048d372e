"""The networks, the normalisers of their input, and the registry of models."""
