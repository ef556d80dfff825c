"""Programs on GPUs.

    api.py          the driver's functions, NVIDIA's or the `simulated` ones
    streams.py      streams and events
    allocator.py    memory of a device, kept when it is freed; pinned.py: the same for memory of the host that devices reach
    device.py       a device, and what each thread works with
    memory.py       its memory as Buffers, copies
    exchange.py     streams of other libraries
    layout.py       where the parameters of a program's kernels come from; instance.py: one set of them
    graphs.py       launches in a row as one graph of the driver's
    executable.py   programs on memory of the device; copying.py: on memory of the host
"""
