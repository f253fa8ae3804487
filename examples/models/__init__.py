"""The annotated models, plain Flax each, and the modules that vjpgen generates from them."""
