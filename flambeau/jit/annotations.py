"""Types where PyTorch's older programs import them from: `from flambeau.jit.annotations import List`."""
from typing import Any, Final, Optional, Union

Dict, List, Tuple = dict, list, tuple

__all__ = ["Any", "Dict", "Final", "List", "Optional", "Tuple", "Union"]
