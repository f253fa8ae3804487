"""The version, in a module of its own that costs nothing to import."""

__version__ = "0.1.0"
