"""Lazy modules, and what makes them so."""
from flambeau.frontend.nn.lazy import *  # noqa: F403
from flambeau.frontend.nn.lazy import LazyModuleMixin as LazyModuleMixin
