"""Passes that rewrite graphs, and derivatives."""
