"""Programs on a GPU: what is asked of a driver, the one there is, and calls."""
