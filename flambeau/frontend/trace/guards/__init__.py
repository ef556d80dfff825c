"""Which Python state a trace depends on, and whether it still holds: `watch` looks on while code runs, `reads` finds the
names in it, `heap` walks to what they reach, and the nodes (`node`, `names`, `attributes`, `contents`) remember it."""
