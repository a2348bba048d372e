"""Which families of feature columns, or regions of pictures, decide the class: alone, without, by fair share."""
