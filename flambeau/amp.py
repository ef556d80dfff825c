"""Automatic mixed precision: `with fb.amp.autocast("cpu"):`, and `fb.amp.GradScaler` for float16."""
from flambeau.frontend.amp import *  # noqa: F403
from flambeau.frontend.amp import __all__ as __all__
