"""What users write: tensors, modules, optimizers, and `@compile`."""
