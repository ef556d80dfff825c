"""Reverse mode: one walk back gives the derivatives by everything."""
from ember.topological import topological_sort


def backward(last, d=1.0):
    """Add to the grad of each leaf behind `last` its derivative of d * last, as leaf.add_grad(...) does.

    A value that is used twice sends back the sum of what both uses send it: so it waits until all have. Values between have
    no grad; only leaves keep one."""
    # <solution>
    cotangents = {id(last): d}
    for value in topological_sort(last):
        if id(value) not in cotangents:
            continue
        cotangent = cotangents.pop(id(value))
        if value.record is None:
            value.add_grad(cotangent)
            continue
        record = value.record
        for operand, part in zip(record.operands, record.function.backward(record.context, cotangent), strict=True):
            if operand.requires_grad:
                seen = cotangents.get(id(operand))
                cotangents[id(operand)] = part if seen is None else seen + part
    # </solution>
