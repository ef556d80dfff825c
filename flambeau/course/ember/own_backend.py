"""A backend of your own in Flambeau. This one runs kernels by their meaning, in NumPy, and keeps account of each: how often it
ran, and how many bytes it was given and stored."""
from collections import Counter

from flambeau.backends import Backend, whole_kernel
from flambeau.compiler import register_backend
from flambeau.runtime.interpreted import InterpretedExecutable

RUNS = Counter()        # kernel's name -> how often it ran
BYTES = Counter()       # kernel's name -> bytes of all the arrays it was given, over all runs


class Accountant(InterpretedExecutable):
    def run_kernel(self, kernel, arrays, sizes):
        """Run it as the class above does, and write it into the books under kernel.name."""
        # <solution>
        super().run_kernel(kernel, arrays, sizes)
        RUNS[kernel.name] += 1
        BYTES[kernel.name] += sum(array.nbytes for array in arrays)
        # </solution>


class Accounting(Backend):
    def build(self, kernels, target):
        """An artifact for each kernel: whole_kernel(kernel) is one launch without scratch memory."""
        # <solution>
        return [whole_kernel(kernel) for kernel in kernels]
        # </solution>

    def executable(self, program, built):
        """What runs the program: an Accountant of it and of the kernel of each launch, which is built[i].kernel."""
        # <solution>
        return Accountant(program, [b.kernel for b in built])
        # </solution>


register_backend("accountant", Accounting())
