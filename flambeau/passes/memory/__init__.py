"""Where values lie, and in which order calls run."""
