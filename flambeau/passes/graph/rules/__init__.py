"""The rules that `simplify` applies."""
