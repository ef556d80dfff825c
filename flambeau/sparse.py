"""`fb.sparse`: products, for tensors whose elements are all there. There are no sparse tensors."""
from flambeau.frontend.functions.products import addmm, mm
from flambeau.frontend.missing import refusing

__all__ = ["addmm", "mm"]
__getattr__ = refusing(__name__)
