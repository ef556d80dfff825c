"""`utils.model_zoo`: see `fb.hub`."""
from flambeau.hub import load_state_dict_from_url as load_url

__all__ = ["load_url"]
