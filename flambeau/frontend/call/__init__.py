"""Compiled functions: how one is called again."""
