"""LoopKernel of one stage without inner dims -> text whose threads take several neighbouring points each: what lies side by
side in memory is loaded and stored at once, 16 bytes of it at best."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from flambeau.codegen.cuda import expressions as ex
from flambeau.codegen.cuda.code import Code, stored_type
from flambeau.codegen.cuda.text import KernelText, Writer
from flambeau.ir.kernel import Address, BlockSchedule, Instr, LoopKernel, Stage

__all__ = ["WideCode", "emit_wide"]


def emit_wide(kernel: LoopKernel, name: str) -> KernelText:
    """The text of a kernel whose `BlockSchedule` has a width."""
    return _Wide(kernel, name).text()


class WideCode(Code):
    """Code at `width` neighbouring points of dim `last`, from a multiple of that number on, by one thread."""

    last: int
    width: int

    def side_by_side(self, stage: Stage, body: Sequence[Instr] | None = None, before: Callable[[], None] = lambda: None,
                     after: Callable[[], None] = lambda: None) -> None:
        """A stage at all of them. What lies side by side is moved at once, the rest point by point; `x` is the number of a
        point. body: what is left of the stage's. before, after: write what else happens at a point, before the body and
        between it and the stores."""
        w, kernel, width = self.w, self.kernel, self.width
        body = stage.body if body is None else body
        self.checked = None
        if width == 1:
            before()
            self.instrs(body)
            after()
            self.stores(stage.stores)
            return
        for instr in body:
            if instr.op == "load" and self.is_wide(instr.attr):
                self.fetch(instr)
        wide = [(n, s.address) for n, s in enumerate(stage.stores) if s.combine == "set" and self.is_wide(s.address)]
        for number, address in wide:
            w.line(f"to{number} = {self.array_of(address)}")
        w.line(f"first = i{self.last}")
        with w.block(f"for x in range({width}):"):
            w.line(f"i{self.last} = {self.cast('first + x')}")
            before()
            self.instrs(body)
            after()
            self.stores([s for n, s in enumerate(stage.stores) if n not in dict(wide)])
            for number, address in wide:
                dtype = kernel.params[address.buffer].dtype
                w.line(f"to{number}[x] = {ex.stored(f'v{stage.stores[number].value}', dtype)}")
        w.line(f"i{self.last} = first")
        for number, address in wide:
            w.line(f"store{width}(b{address.buffer}, {self.place_of(address)}, to{number})")

    def is_wide(self, address: object) -> bool:
        """Whether neighbouring points lie side by side there, from a multiple of the width on, 16 bytes of them at most."""
        assert isinstance(address, Address)
        others = [stride for dim, stride in address.strides if dim != self.last]
        return (address.stride_of(self.last) == 1 and not address.dynamic and address.guard is None
                and self.width * self.kernel.params[address.buffer].dtype.itemsize <= 16
                and all(number % self.width == 0 for number in (address.offset, *others)))

    def array_of(self, address: Address) -> str:
        kind = stored_type(self.kernel.params[address.buffer].dtype)
        return f"cuda.local.array({self.width}, {kind})"

    def fetch(self, instr: Instr) -> None:
        address = instr.attr
        assert isinstance(address, Address)
        self.w.line(f"of{instr.id} = {self.array_of(address)}")
        self.w.line(f"load{self.width}(b{address.buffer}, {self.place_of(address)}, of{instr.id})")

    def load(self, name: str, instr: Instr) -> None:
        if self.width > 1 and self.is_wide(instr.attr):
            self.w.line(f"{name} = {ex.loaded(f'of{instr.id}[x]', instr.dtype)}")
        else:
            super().load(name, instr)


class _Wide(WideCode):
    def __init__(self, kernel: LoopKernel, name: str):
        super().__init__(kernel, Writer())
        assert isinstance(kernel.schedule, BlockSchedule), f"kernel {kernel.name} has no blocks"
        (self.stage,) = kernel.stages
        self.name, self.schedule, self.last = name, kernel.schedule, kernel.n_parallel - 1
        self.width = self.schedule.width

    def text(self) -> KernelText:
        w, width, threads = self.w, self.width, self.schedule.points
        extents = self.kernel.extents[:self.last + 1]
        block = self.cast("cuda.blockIdx.x")
        with self.head(self.name):
            w.line(f"point = {self.cast(f'({block} * {threads} + cuda.threadIdx.x) * {width}')}")
            if isinstance(extents[self.last] if extents else 1, int):
                with w.block(f"if point < {self.product(extents)}:"):
                    self.split("point", list(range(self.last + 1)))
                    self.side_by_side(self.stage)
            else:
                self.with_rest()
        return self.finished(self.name, extents, threads * width, threads)

    def with_rest(self) -> None:
        """Of a size known at run time, whose last few points are taken one by one."""
        w, width, count = self.w, self.width, self.product(self.kernel.extents[:1])
        w.line(f"i{self.last} = point")
        with w.block(f"if point + {width} <= {count}:"):
            self.side_by_side(self.stage)
        with w.block(f"if point + {width} > {count}:"), w.block(f"for rest in range(point, {count}):"):
            w.line(f"i{self.last} = {self.cast('rest')}")
            self.width = 1
            self.side_by_side(self.stage)
            self.width = width
