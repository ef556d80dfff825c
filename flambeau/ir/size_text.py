"""The text of sizes: `2*B*T+((T+1)/2)+1`, as `str` of a `Dim` spells it."""
from __future__ import annotations

import re

from flambeau.ir.dims import Dim, Size, quotient

__all__ = ["parse_size"]


def parse_size(text: str) -> Size:
    """Inverse of str() for sizes: ints of at least 0 and Dims. Raises ValueError for anything else."""
    reader = _Reader(text)
    total = reader.sum()
    if reader.at < len(reader.words):
        raise ValueError(f"{text.strip()[:40]!r} is no size: unexpected {reader.words[reader.at]!r}")
    if isinstance(total, int) and not 0 <= total < 1 << 63:
        raise ValueError(f"{text.strip()[:40]!r} is no size: sizes lie between 0 and 2**63")
    return total


class _Reader:
    def __init__(self, text: str):
        self.words = re.findall(r"[+*()/]|[^+*()/\s]+(?:\s+[^+*()/\s]+)*", text)
        self.at = self.depth = 0

    def accept(self, word: str) -> bool:
        found = self.at < len(self.words) and self.words[self.at] == word
        self.at += found
        return found

    def sum(self) -> Size:
        total = self.product()
        while self.accept("+"):
            total = total + self.product()
        return total

    def product(self) -> Size:
        product = self.factor()
        while self.accept("*"):
            product = product * self.factor()
        return product

    def factor(self) -> Size:
        if self.accept("("):
            self.depth += 1
            if self.depth > 20:
                raise ValueError("a size with more than 20 parentheses around one another")
            found = self.sum()
            if self.accept("/"):
                divisor = self.factor()
                if isinstance(divisor, int) and divisor < 1:
                    raise ValueError(f"a size is divided by {divisor}")
                found = quotient(found, divisor)
            if not self.accept(")"):
                raise ValueError("a size with a parenthesis that is not closed")
            self.depth -= 1
            return found
        word = self.words[self.at] if self.at < len(self.words) else ""
        self.at += 1
        return int(word) if word.lstrip("-").isdecimal() else Dim(word)
