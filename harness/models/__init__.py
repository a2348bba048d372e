"""The networks, what normalises their input, and the registry that names them."""
