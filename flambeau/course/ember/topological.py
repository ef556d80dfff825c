"""An order to walk back in."""


def topological_sort(last):
    """All values that `last` was made of and itself, `last` first, each before all of the operands of its record, and each
    once. What requires no derivative is left out. Programs make chains of thousands: no recursion."""
    # <solution>
    order, seen, stack = [], set(), [(last, False)]
    while stack:
        value, done = stack.pop()
        if done:
            order.append(value)
        elif value.requires_grad and id(value) not in seen:
            seen.add(id(value))
            stack.append((value, True))         # comes again when all below it is in order
            if value.record is not None:
                stack += [(operand, False) for operand in value.record.operands]
    return order[::-1]
    # </solution>
