"""All parameters as one vector, and back."""
from flambeau.frontend.nn.utils.vectors import parameters_to_vector as parameters_to_vector
from flambeau.frontend.nn.utils.vectors import vector_to_parameters as vector_to_parameters
