# Notes: café.

LIMIT = "a constant above the function"


# custom-vjp: bwd=bwd
def f(x):
    return x  # naïve


def bwd(vjp_fn, ý_t):
    return vjp_fn(ý_t)
