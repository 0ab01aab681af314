"""Which weight of the base a module is, with its rows in which order, and the way back."""
