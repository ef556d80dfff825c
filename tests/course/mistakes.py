"""Mistakes that people make, for test_course: the exercise, what stands in its solution, what they write in its place, and words
of the answer that they get."""

MISTAKES = [
    ("0.1", "if x >= 0:\n        return 1.0 / (1.0 + math.exp(-x))", "return 1.0 / (1.0 + math.exp(-x))", "whose power is small"),
    ("0.1", "return 1.0 if x < y else 0.0", "return x < y", "a bool"),
    ("0.1", "if x != x or y != y:\n        return math.nan\n    ", "", "only NaN differs from itself"),
    ("0.1", "return -d / (x * x)", "return -1 / (x * x)", "the d that comes in scales that"),
    ("0.2", "zip(xs, ys, strict=True)", "zip(xs, ys)", "strict=True"),
    ("0.2", "result = start\n        for x in xs:", "result = xs[0]\n        for x in xs[1:]:", "IndexError"),
    ("0.3", 'raise AttributeError(f"{type(self).__name__} has no {name!r}")', "return None", "should raise AttributeError"),
    ("0.3", "child._set_training(on)", "child.training = on", "those theirs"),
    ("1.1", "(at(eps / 2) - at(-eps / 2)) / eps", "(at(eps) - at(0)) / eps", "half an eps to either side"),
    ("1.2", "return (-d,)", "return -d", "a tuple, with one operand too"),
    ("1.2", "return d * y, d * x", "return d * x, d * y", "beside its own operand"),
    ("1.2", "if not any(operand.requires_grad for operand in operands):\n            return Scalar(data, requires_grad=False)\n        ",
     "", "requires grad"),
    ("1.3", """    order, seen, stack = [], set(), [(last, False)]
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
""", """    order = []

    def visit(value):
        if value.requires_grad and value not in order:
            for operand in value.record.operands if value.record else ():
                visit(operand)
            order.append(value)

    visit(last)
    return order[::-1]
""", "with a list of your own"),
    ("1.3", "stack.append((value, True)) ", "order.append(value) ", "List it when all below it is listed"),
    ("1.4", "part if seen is None else seen + part", "part", "added up before it goes on"),
    ("1.5", "value.data - self.lr", "value.data + self.lr", "uphill"),
    ("1.5", "list(parameters)", "parameters", "make a list of it"),
    ("2.1", "for extent in reversed(shape):\n        strides.append(step)", "for extent in shape:\n        strides.append(step)",
     "the product of their extents"),
    ("2.2", "n if m == 1 else m", "max(m, n)", "may be 0"),
    ("2.3", "[self.strides[d] for d in order]", "self.strides", "its extent, and its stride"),
    ("2.3", "View(self.contiguous().numbers, shape)", "View(self.numbers, shape)", "a permuted view is copied"),
    ("2.4", "result = start\n        for i in range(x.shape[dim])", "result = 0.0\n        for i in range(x.shape[dim])", "begin with"),
    ("2.5", "d.permute(*(order.index(dim) for dim in range(len(order))))", "d.permute(*order)", "gradient by operand"),
    ("2.5", "summed_to(d * constant(y), x.shape), summed_to(d * constant(x), y.shape)", "d * constant(y), d * constant(x)",
     "what was repeated is summed"),
]
