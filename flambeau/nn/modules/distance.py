"""Distances of vectors."""
from flambeau.frontend.nn.margin_losses import CosineSimilarity as CosineSimilarity
from flambeau.frontend.nn.margin_losses import PairwiseDistance as PairwiseDistance
