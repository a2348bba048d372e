"""Which families of feature columns decide the class: alone, without, and by their fair share."""
