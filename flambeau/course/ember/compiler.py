"""All of it, in order: a graph becomes machine code that runs."""
import ctypes
import math

import numpy as np
from ember.cse import cse
from ember.decompose import decompose
from ember.emit import emit
from ember.fuse import fuse
from ember.jit import Jitted
from ember.lower import lower
from ember.plan import lives_of, plan
from ember.simplify import simplify
from llvmlite import binding as llvm
from llvmlite import ir


def passes(graph):
    """[(name, the graph after it), ...], the last of which is fused: simplify, cse, decompose, simplify again for what became
    possible, and fuse."""
    # <solution>
    done = []
    for each in (simplify, cse, decompose, simplify, fuse):
        graph = each(graph)
        done.append((each.__name__, graph))
    return done
    # </solution>


def machine_code(module):
    """LLVM's engine with the module in it, optimized for this processor."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    parsed = llvm.parse_assembly(str(module))
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    llvm.create_pass_builder(machine, options).getModulePassManager().run(parsed, llvm.create_pass_builder(machine, options))
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine


class Program:
    """A compiled graph. loops: one for each kernel; llvm: the text of its code; arena_bytes: memory between kernels."""

    def __init__(self, graph):
        self.passes = passes(graph)
        self.graph = self.passes[-1][1]
        self.kernels = [node for node in self.graph.nodes if node.op == "fusion"]
        module = ir.Module(graph.name)
        # <solution>
        self.loops = [lower(node) for node in self.kernels]
        for number, loop in enumerate(self.loops):
            emit(loop, module, f"k{number}")
        # </solution>
        self.llvm = str(module)
        self.engine = machine_code(module)
        self.functions = [ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(loop.params))(self.engine.get_function_address(f"k{n}"))
                          for n, loop in enumerate(self.loops)]
        lives = lives_of(self.graph)
        offsets, self.arena_bytes = plan([8 * math.prod(node.shape) for node in lives], list(lives.values()))
        self.offset_of = dict(zip(lives, offsets, strict=True))

    def __call__(self, arrays):
        """The outputs, new arrays, given an array for each input. Raises ValueError for another shape."""
        arena = np.empty(self.arena_bytes, np.uint8)
        memory = {}         # node -> an array
        for node, array in zip(self.graph.inputs, arrays, strict=True):
            memory[node] = np.ascontiguousarray(array, np.float64).reshape(np.shape(array))
            if memory[node].shape != node.shape:
                raise ValueError(f"input {node.attributes['name']} has shape {node.shape}, not {memory[node].shape}")
        # <solution>
        for node, function in zip(self.kernels, self.functions, strict=True):
            if node in self.offset_of:
                begin = self.offset_of[node]
                memory[node] = arena[begin:begin + 8 * math.prod(node.shape)].view(np.float64)
            else:
                memory[node] = np.empty(node.shape)
            function(*(memory[operand].ctypes.data for operand in node.operands), memory[node].ctypes.data)
        return [memory[output] for output in self.graph.outputs]
        # </solution>


def compile(f):
    """f, traced at its first call for each signature, and run as machine code."""
    return Jitted(f, Program)
