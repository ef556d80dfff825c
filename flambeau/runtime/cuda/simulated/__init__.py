"""A CUDA driver whose devices are not there: the functions of `cuda.bindings.driver` that we call, with their arguments and
answers. Work waits in the queues of streams and runs only when somebody waits for it, so that memory freed too early and a
wait that was forgotten show as wrong bytes or an error."""
from flambeau.runtime.cuda.simulated.driver import SimulatedDriver
from flambeau.runtime.cuda.simulated.memory import TAG, Kernel

__all__ = ["TAG", "Kernel", "SimulatedDriver"]
