"""What `vjpgen inspect` and verification need of a rule: its example, and a function of arrays.

Importing this package imports neither jax nor flax; its modules do.
"""
