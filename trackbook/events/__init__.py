"""Facts as they are stored: the events of each aggregate and the commit that carries them."""
