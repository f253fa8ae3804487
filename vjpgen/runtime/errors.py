"""What the runtime raises and warns of."""

from __future__ import annotations


class TangentError(ValueError):
    """The tangents that a backward rule returned do not fit its primal."""


class DroppedTangentWarning(UserWarning):
    """A value is differentiated that the rule has no slot for; its gradient is zero."""


class InterfaceError(ImportError):
    """A generated module was built for another interface of the runtime."""
