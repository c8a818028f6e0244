"""Pure tensor functions: tensors in, tensors out, randomness given as tensors."""
