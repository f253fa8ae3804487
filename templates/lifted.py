"""The shape of generated code: what vjpgen writes below an annotated function.

The compiler takes the two statements after `function`, puts in the annotated function's names, and
leaves out the arguments of `lift` that the annotation does not give. What it replaces:

    function                       the annotated function's name
    parameters                     its parameters in the order of its signature, each by position
    _vjp                           the prefix, another one where the source uses it
    _vjp_run.fwd                   `_vjp_run.vjp` where the annotation gives no `fwd`
    captured={}                    the values captured from enclosing functions by name; left out,
                                   as in the comment above it, where there are none
    *_vjp_run.nondiff              left out where no argument is nondiff
                                   (in a class, the lifted function is a static method)
    the values of lift's keywords  what the annotation says
"""

from vjpgen.runtime import interface_1 as _vjpgen


def forward(parameters):
    return parameters, ()


def backward(nondiff, residuals, tangents):
    return (tangents,)


def arguments():
    return (1.0,)


def function(parameters):
    return parameters


def _vjp_lifted_function(_vjp, parameters):
    # Split: everything traced becomes an explicit operand, captured values too.
    _vjp_split = _vjp.split(parameters, captured={})

    def _vjp_primal(*_vjp_operands):
        with _vjp_split.primal(_vjp_operands) as _vjp_run:
            (parameters,) = _vjp_run.arguments
            _vjp_output = _vjp_run.call(parameters)
            return _vjp_run.outputs(_vjp_output)

    def _vjp_forward(*_vjp_operands):
        with _vjp_split.forward(_vjp_operands) as _vjp_run:
            (parameters,) = _vjp_run.arguments
            _vjp_output, _vjp_residuals = _vjp_run.fwd(parameters)
            _vjp_residuals = _vjp_run.residuals(_vjp_residuals)
            return _vjp_run.outputs(_vjp_output), _vjp_residuals

    def _vjp_backward(_vjp_saved, _vjp_cotangents):
        with _vjp_split.backward(_vjp_saved, _vjp_cotangents) as _vjp_run:
            _vjp_tangents = _vjp_run.bwd(
                *_vjp_run.nondiff,
                _vjp_run.residuals,
                _vjp_run.tangents,
            )
            return _vjp_run.tangent_operands(_vjp_tangents)

    _vjp_function = _vjp_split.custom_vjp(_vjp_primal)
    _vjp_function.defvjp(_vjp_forward, _vjp_backward)
    _vjp_outputs = _vjp_function(*_vjp_split.operands)
    # Merge the output, publish the updated state.
    _vjp_output, _vjp_state = _vjp_split.merge(_vjp_outputs)
    _vjp_split.publish(_vjp_state)
    return _vjp_output


function = _vjpgen.lift(
    function,
    _vjp_lifted_function,
    name="function",
    at="source.py:1",
    target="function",
    fwd=lambda: forward,
    bwd=lambda: backward,
    grad_vars="params",
    nondiff_argnums=(),
    nondiff_argnames=(),
    missing="error",
    exact=True,
    surrogate=(),
    zero=(),
    state=(),
    example=lambda: arguments,
    symbolic_zeros=False,
    optimize_remat=False,
)
