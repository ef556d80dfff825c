"""Modules: a tree with parameters at its leaves. What is assigned to an attribute is sorted by what it is."""


class Parameter:
    """A place for a value that training changes."""

    def __init__(self, value, name=""):
        self.value, self.name = value, name

    def update(self, value):
        self.value = value

    def __repr__(self):
        return f"Parameter({self.value!r})"


class Module:
    """Subclasses set their parameters and other modules as attributes, and define forward."""

    def __init__(self):
        # Not self._children = ...: __setattr__ below is ours.
        self.__dict__.update(_children={}, _parameters={}, training=True)

    def __setattr__(self, name, value):
        """Parameters go to self._parameters, modules to self._children, the rest to self.__dict__. A name stands in one of
        them at a time: what is assigned last counts."""
        # <solution>
        for table in (self._children, self._parameters, self.__dict__):
            table.pop(name, None)
        match value:
            case Parameter():
                self._parameters[name] = value
            case Module():
                self._children[name] = value
            case _:
                self.__dict__[name] = value
        # </solution>

    def __getattr__(self, name):
        """Python asks this for names that are not in __dict__. Raises AttributeError, with the name, for what is nowhere."""
        # <solution>
        for table in (self.__dict__.get("_parameters", {}), self.__dict__.get("_children", {})):
            if name in table:
                return table[name]
        raise AttributeError(f"{type(self).__name__} has no {name!r}")
        # </solution>

    def children(self):
        return list(self._children.values())

    def named_parameters(self):
        """[("layer.weight", parameter), ...]: its own in the order they were set, then those of each child, with the
        child's name and a dot before theirs."""
        # <solution>
        found = list(self._parameters.items())
        for name, child in self._children.items():
            found += [(f"{name}.{inner}", parameter) for inner, parameter in child.named_parameters()]
        return found
        # </solution>

    def parameters(self):
        """The parameters, each once, even where two modules share one."""
        # <solution>
        return list({id(parameter): parameter for _, parameter in self.named_parameters()}.values())
        # </solution>

    def train(self):
        """Set `training` to True here and in all modules below."""
        # <solution>
        self._set_training(True)
        # </solution>

    def eval(self):
        """Set `training` to False here and in all modules below."""
        # <solution>
        self._set_training(False)

    def _set_training(self, on):
        self.training = on
        for child in self._children.values():
            child._set_training(on)
        # </solution>

    def __call__(self, *args):
        return self.forward(*args)

    def forward(self, *args):
        raise NotImplementedError
