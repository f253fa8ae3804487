"""The compiler's own digest, by the name that those who import the compiler anyway look for."""

from vjpgen.fingerprint import fingerprint

__all__ = ["fingerprint"]
