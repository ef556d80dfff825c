"""Models whose forward pass or train step is timed, written once for PyTorch and for Flambeau: `models(nn, F, lib)` takes
the modules of either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["LARGE", "models"]

LARGE = ("gpt2-small", "resnet50", "bert-base", "bert-base-8", "lstm")     # of real size: seconds a step


def models(nn: Any, F: Any, lib: Any) -> dict[str, tuple[Callable[[], Any], tuple[int, ...], str]]:
    """By name: what makes the model, the shape of its input, and of what that is ("floats", "tokens")."""

    def conv(i: int, o: int, size: int, stride: int = 1, groups: int = 1) -> list[Any]:
        return [nn.Conv2d(i, o, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]

    class Residual(nn.Module):  # type: ignore[misc]
        def __init__(self, i: int, o: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Sequential(*conv(i, o, 3, stride), nn.ReLU(), *conv(o, o, 3))
            self.beside = nn.Sequential(*conv(i, o, 1, stride)) if stride != 1 or i != o else nn.Identity()

        def forward(self, x: Any) -> Any:
            return F.relu(self.first(x) + self.beside(x))

    class Bottleneck(nn.Module):  # type: ignore[misc]
        def __init__(self, i: int, o: int, stride: int) -> None:
            super().__init__()
            narrow = o // 4
            self.first = nn.Sequential(*conv(i, narrow, 1), nn.ReLU(), *conv(narrow, narrow, 3, stride), nn.ReLU(),
                                       *conv(narrow, o, 1))
            self.beside = nn.Sequential(*conv(i, o, 1, stride)) if stride != 1 or i != o else nn.Identity()

        def forward(self, x: Any) -> Any:
            return F.relu(self.first(x) + self.beside(x))

    class Inverted(nn.Module):  # type: ignore[misc]
        def __init__(self, i: int, o: int, stride: int, wider: int) -> None:
            super().__init__()
            hidden = i * wider
            widened = [*conv(i, hidden, 1), nn.ReLU6()] if wider != 1 else []
            self.parts = nn.Sequential(*widened, *conv(hidden, hidden, 3, stride, hidden), nn.ReLU6(), *conv(hidden, o, 1))
            self.adds = stride == 1 and i == o

        def forward(self, x: Any) -> Any:
            return x + self.parts(x) if self.adds else self.parts(x)

    class Pooled(nn.Module):  # type: ignore[misc]
        def __init__(self, images: Any, channels: int) -> None:
            super().__init__()
            self.images, self.out = images, nn.Linear(channels, 1000)

        def forward(self, x: Any) -> Any:
            return self.out(self.images(x).mean((2, 3)))

    def resnet18() -> Any:
        parts, i = [*conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
        for o, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            parts += [Residual(i, o, stride), Residual(o, o, 1)]
            i = o
        return Pooled(nn.Sequential(*parts), 512)

    def resnet50() -> Any:
        parts, i = [*conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
        for o, count, stride in ((256, 3, 1), (512, 4, 2), (1024, 6, 2), (2048, 3, 2)):
            for number in range(count):
                parts.append(Bottleneck(i, o, stride if number == 0 else 1))
                i = o
        return Pooled(nn.Sequential(*parts), 2048)

    def mobilenet() -> Any:
        parts, i = [*conv(3, 32, 3, 2), nn.ReLU6()], 32
        for wider, o, count, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                        (6, 160, 3, 2), (6, 320, 1, 1)):
            for number in range(count):
                parts.append(Inverted(i, o, stride if number == 0 else 1, wider))
                i = o
        return Pooled(nn.Sequential(*parts, *conv(320, 1280, 1), nn.ReLU6()), 1280)

    class Layer(nn.Module):  # type: ignore[misc]
        def __init__(self, size: int, heads: int, causal: bool) -> None:
            super().__init__()
            self.heads, self.causal = heads, causal
            self.q, self.k, self.v, self.o = (nn.Linear(size, size) for _ in range(4))
            self.wide, self.narrow = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
            self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)

        def attend(self, x: Any) -> Any:
            b, t, d = x.shape
            q, k, v = (part(x).view(b, t, self.heads, d // self.heads).transpose(1, 2) for part in (self.q, self.k, self.v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
            return self.o(y.transpose(1, 2).reshape(b, t, d))

        def forward(self, x: Any) -> Any:
            if self.causal:
                x = x + self.attend(self.norm1(x))
                return x + self.narrow(F.gelu(self.wide(self.norm2(x))))
            x = self.norm1(x + self.attend(x))
            return self.norm2(x + self.narrow(F.gelu(self.wide(x))))

    class Gpt(nn.Module):  # type: ignore[misc]
        def __init__(self, words: int, length: int, size: int, heads: int, layers: int) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(words, size), nn.Embedding(length, size)
            self.layers = nn.Sequential(*[Layer(size, heads, True) for _ in range(layers)])
            self.norm, self.out = nn.LayerNorm(size), nn.Linear(size, words)

        def forward(self, x: Any) -> Any:
            return self.out(self.norm(self.layers(self.tokens(x) + self.places(lib.arange(x.shape[1])))))

    class Recurrent(nn.Module):  # type: ignore[misc]
        def __init__(self, size: int, classes: int) -> None:
            super().__init__()
            self.layers, self.out = nn.LSTM(size, size, 2, batch_first=True), nn.Linear(size, classes)

        def forward(self, x: Any) -> Any:
            return self.out(self.layers(x)[0])

    def bert() -> Any:
        return nn.Sequential(*[Layer(768, 12, False) for _ in range(12)])

    return {"resnet18": (resnet18, (1, 3, 224, 224), "floats"), "mobilenetv2": (mobilenet, (1, 3, 224, 224), "floats"),
            "bert-layer": (lambda: Layer(768, 12, False), (1, 128, 768), "floats"),
            "gpt4": (lambda: Gpt(256, 64, 128, 4, 4), (1, 64), "tokens"),
            "gpt2-small": (lambda: Gpt(50257, 512, 768, 12, 12), (1, 512), "tokens"),
            "resnet50": (resnet50, (8, 3, 224, 224), "floats"),
            "bert-base": (bert, (1, 128, 768), "floats"), "bert-base-8": (bert, (8, 128, 768), "floats"),
            "lstm": (lambda: Recurrent(512, 256), (16, 128, 512), "floats")}
