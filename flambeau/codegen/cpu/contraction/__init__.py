"""Machine code of contractions."""
