"""What the runtime raises and warns of."""

from __future__ import annotations


class TangentError(ValueError):
    """The tangents that a backward rule returned do not fit its primal."""


class DroppedTangentWarning(UserWarning):
    """A value is differentiated that the rule has no slot for; its gradient is zero."""


class NeededError(Exception):
    """A call of a rule needs more than it was given; it is made again, never seen by users."""


class AmbientNeededError(NeededError):
    """A rule makes modules in the module around it, which is none of its arguments."""


class FlagsNeededError(NeededError):
    """Rules inside may drop what this one differentiates: JAX has to tell what anybody does."""


class InterfaceError(ImportError):
    """A generated module was built for another interface of the runtime."""
