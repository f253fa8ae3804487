"""vjpgen."""
