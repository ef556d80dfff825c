"""The explorer: what became of a function as one HTML file, which needs neither a server nor a network."""
from flambeau.frontend.report.page import page

__all__ = ["page"]
