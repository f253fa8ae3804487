"""Names that fill lines, and names that begin as the generated ones do."""


def a_backward_rule_with_a_rather_long_name_that_needs_space(vjp_fn, y_t):
    return vjp_fn(y_t)


_vjp_mine = 1


class AClassWithAFairlyLongNameAroundIt:
    class Another:
        def method(self, x):
            # custom-vjp: bwd=a_backward_rule_with_a_rather_long_name_that_needs_space
            def function_with_parameters(
                first_parameter, second_parameter, third_parameter, *rest, option
            ):
                return first_parameter

            return function_with_parameters(x, 1, 2, option=3)

        # custom-vjp: bwd=a_backward_rule_with_a_rather_long_name_that_needs_space
        def __private(self, __x, /, *, __y=1):
            return __x

        # custom-vjp: bwd=a_backward_rule_with_a_rather_long_name_that_needs_space
        @staticmethod
        def nothing():
            return _vjp_mine
