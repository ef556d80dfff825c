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
    ("3.1", "first = i // inner * n * inner + i % inner", "first = i * n", "at i % inner in it"),
    ("3.1", "for i in range(begin, end):\n            out[i] = f(x[i])", "for i in range(len(out)):\n            out[i] = f(x[i])",
     "other threads do the other places"),
    ("3.2", "cuts = [n * worker // workers for worker in range(workers + 1)] if workers else []",
     "cuts = [n // workers * worker for worker in range(workers + 1)] if workers else []", "does the last share go to the end"),
    ("3.2", "    for one in waiting:\n        one.result()\n", "    POOL.submit(int).result()\n", "until somebody asks for the result"),
    ("3.2", "waiting = [POOL.submit(kernel, *arguments, begin, end) for begin, end in shares(n, workers)]",
     "waiting = []\n    for begin, end in shares(n, workers):\n        POOL.submit(kernel, *arguments, begin, end).result()",
     "submit all shares first"),
    ("3.3", """        for p in range(k):
            scale = x[i * k + p]
            for j in range(n):
                out[i * n + j] += scale * y[p * n + j]
""", """        for j in range(n):
            for p in range(k):
                out[i * n + j] += x[i * k + p] * y[p * n + j]
""", "j must run innermost"),
    ("3.3", "for j in range(n):\n            out[i * n + j] = 0.0\n        ", "", "set its rows to 0"),
    ("3.5", "    if i < len(out):\n        out[i] =", "    out[i] =", "threads beyond the end"),
    ("3.5", "            shared[t] += shared[t + half]\n        cuda.syncthreads()\n",
     "            shared[t] += shared[t + half]\n            cuda.syncthreads()\n", "no barrier inside an if"),
    ("3.5", "            total += lhs[row, p] * rhs[p, column]\n        cuda.syncthreads()\n",
     "            total += lhs[row, p] * rhs[p, column]\n", "Who stores over what others read"),
    ("4.1", "(*x.strides, *x.strides[2:])", "(*x.strides, x.strides[3], x.strides[3])", "the same strides twice"),
    ("4.1", "out[:, :, a:a + rows, b:b + columns] += d", "out[:, :, a:a + rows, b:b + columns] = d", "all four windows"),
    ("4.2", "chosen / chosen.sum(dim, keepdims=True) * d", "chosen * d", "together they get what came in"),
    ("4.2", ".permute(0, 1, 2, 4, 3, 5)", "", "bring the inner two to the end"),
    ("4.3", "powers = (x - largest(x, dim)).exp()", "powers = x.exp()", "subtract the largest score"),
    ("4.3", "moved = x - largest(x, dim)\n    return moved - moved.exp().sum(dim).log()", "return softmax(x, dim).log()",
     "x - log(sum(e**x))"),
    ("4.4", "constant(kept / (1.0 - rate))", "constant(kept)", "divided by 1 - rate"),
    ("4.5", "np.add.at(out, numbers, d.to_numpy())", "out[numbers] += d.to_numpy()", "adds once for each place"),
    ("4.5", "(numbers < 0) | (numbers >= table.shape[0])", "numbers >= table.shape[0]", "should raise IndexError"),
    ("5.1", "if any(shape != shapes[0] for shape in shapes)", "if len(set(map(len, shapes))) > 1", "nothing is broadcast here"),
    ("5.2", "place[node] = change(new, node, tuple(place[operand] for operand in node.operands))",
     "place[node] = change(new, node, node.operands)", "is not of graph"),
    ("5.2", "for operand in node.operands:\n                users", "for operand in set(node.operands):\n                users", "mul"),
    ("5.3", 'raise TraceError("a branch or a loop asks for the value of a traced array, which is known only when the program runs")',
     "return True", "one way would be taken silently"),
    ("5.3", "(as_shape(b, node, shape) for node in nodes)", "nodes", "operands of shapes"),
    ("5.4", "(value_of[node],) = interpret(node.region, operands)", "value_of[node] = interpret(node.region, operands)", "is [[-9"),
    ("5.5", 'return "array", argument.shape', 'return "array", argument.tobytes()', "other values, same program"),
    ("5.5", " and not isinstance(argument, bool)", "", "True == 1"),
    ("6.1", "','.join(map(str, shape))", "str(shape)[1:-1]", "a tuple of one prints with a comma"),
    ("6.2", 'raise ParseError(f"line {line_number}: %{found[1]} is defined twice")', "pass", "should begin with 'line 5: '"),
    ("6.3", "verify(node.region)\n", "pass\n", "hold in regions too"),
    ("6.4", "repr(value)", "value if value else 0", "0.0 and -0.0 are equal"),
    ("6.4", 'digest("input", number, node.shape)', 'digest("input", node.attributes["name"], node.shape)', "let a node's key"),
    ("7.1", "kept = tuple(at for at, dim in enumerate(dims) if dim not in grown)\n    return (b.broadcast(total, shape=x.shape, dims=kept),)",
     "return (total,)", "brought back as 1"),
    ("7.2", "part if seen is None else b.add(seen, part)", "part", "what they send adds up"),
    ("7.2", "        if any(operand in needed for operand in node.operands):\n            needed.add(node)\n", "        needed.add(node)\n",
     "send nothing on"),
    ("7.3", "if node in live or node.op == \"input\"", "if node in live", "inputs stay"),
    ("7.4", "key = node.op, operands, repr", "key = node.op, node.operands, repr", "the operands that took the old ones' place"),
    ("7.4", "repr(sorted(node.attributes.items()))", "tuple(sorted(node.attributes.items()))", "repr tells 0.0 from -0.0"),
    ("7.5", "    x, y = operands\n    return x if", "    x, y = operands\n    if 0.0 in (constant_value(x), constant_value(y)):\n"
     "        return x if constant_value(x) == 0.0 else y\n    return x if", "x * 0 is NaN at NaN"),
    ("7.5", 'tuple(x.attributes["dims"][d] for d in dims)', 'tuple(dims[d] for d in x.attributes["dims"])', "simplify changes output 0"),
    ("8.1", "b.broadcast(y, shape=shape, dims=(1, 2))", "b.broadcast(y, shape=shape, dims=(0, 1))", "broadcast"),
    ("8.2", " and len(roots) == 1 and not repeats", " and len(roots) == 1", "once for each of three repetitions"),
    ("8.2", "and node not in outputs and len(roots)", "and len(roots)", "outputs are roots"),
    ("8.3", "            needs[root].update(operand for operand in node.operands if operand.op in VIEWS and operand not in roots)\n", "",
     "a view has no root"),
    ("8.3", "if operand not in inside and operand not in members[node]:", "if operand not in members[node]:", "is one input"),
    ("8.4", "return 8 * math.prod(shape)", "return 8 * (math.prod(shape) if shape else 0)", "a single number has 8"),
    ("9.1", "extents, n_reduced = tuple(body.shape[d] for d in order)", "extents, n_reduced = body.shape",
                   "dim 1 of x stays and is the outer loop"),
    ("9.1", "            if value.op in (\"broadcast\", \"permute\"):\n                ((operand, at),) = operand_indices(value, index)\n",
     "            if value.op in (\"broadcast\", \"permute\"):\n                operand, at = value.operands[0], asked[value.operands[0]][0]\n",
     "steps are by value and index"),
    ("9.2", "index.add_incoming(b.add(index, ir.Constant(I64, 1)), b.block)", "index.add_incoming(b.add(index, ir.Constant(I64, 1)), inside)",
     "the body may have ended in another one"),
    ("9.2", "b.select(b.fcmp_ordered(\">\", x, zero), x, zero)", "b.select(b.fcmp_unordered(\">\", x, zero), x, zero)",
                   "relu gives 0 for NaN"),
    ("9.3", "lives[other][0] <= last and first <= lives[other][1]", "lives[other][0] < last and first < lives[other][1]",
     "both ends of a life count"),
    ("9.3", "offsets[number] = offset\n", "offsets[number] = offset = sum(sizes[o] for o in placed)\n", "two are alive at any time"),
    ("9.4", "if node in self.offset_of:\n                begin = self.offset_of[node]", "if node in self.offset_of:\n                begin = 0",
     "an output of"),
    ("10.1", "b.neg(b.mul(g, b.mul(b.scalar(2.0, x), b.mul(x, y))))", "b.neg(b.mul(b.scalar(2.0, x), b.mul(x, y)))",
     "g is what comes in"),
    ("10.1", 'e("exp", e("neg", e("mul", x, x)))', 'e("exp", e("mul", x, x))', "two descriptions of one function"),
    ("10.2", " and value not in r.roots", "", "one of the two is an output"),
    ("10.3", "RUNS[kernel.name] += 1", "RUNS[kernel.name] = 1", "runs of x + 1, called three times"),
]
