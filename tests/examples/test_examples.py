"""The examples run as they stand, reach what they state, and learn by the rule that they show."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import pop

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NAMES = ("feedback_alignment", "straight_through", "implicit_fixed_point", "sign_gradient")


def run(name, *arguments):
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment
    )


def accuracies(output):
    return [
        float(percent) for percent in re.findall(r"^test accuracy, .+: ([\d.]+)%$", output, re.M)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_reaches_its_stated_accuracy_and_saves_its_plot(name, tmp_path):
    done = run(name, "--output", tmp_path / "plots")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^ *\d+/30 .* loss .* test .* loss .* test ", done.stdout, re.M)) == 30
    stated = float(re.search(r"^reached the stated (\d+)%$", done.stdout, re.M)[1])
    rule, plain = accuracies(done.stdout)
    assert rule >= stated
    assert plain > 50
    assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "Warning" not in done.stderr


def test_a_short_run_that_misses_the_accuracy_says_so_in_its_exit_status(tmp_path):
    done = run("feedback_alignment", "--epochs", 1, "--seed", 3, "--output", tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "misses the stated" in done.stderr
    assert len(accuracies(done.stdout)) == 2
    assert (tmp_path / "feedback_alignment.png").exists()


def test_no_epochs_are_wrong_usage():
    assert run("sign_gradient", "--epochs", 0).returncode == 2


def test_the_generated_modules_are_fresh():
    done = subprocess.run(
        [sys.executable, "-m", "vjpgen", "build", "--check", "examples"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_states_what_the_program_states(name):
    stated = re.search(r"^STATED = 0\.(\d\d)", (EXAMPLES / f"{name}.py").read_text(), re.M)[1]
    row = re.search(rf"^\| \[`{name}`\].*$", (EXAMPLES / "README.md").read_text(), re.M)[0]
    assert f"| {stated} % |" in row


# What each rule does to the gradient.


@pytest.fixture
def modules(monkeypatch):
    def load(name):
        def load_one(stem):
            spec = importlib.util.spec_from_file_location(
                f"example_{stem}", EXAMPLES / "models" / f"{stem}.py"
            )
            module = importlib.util.module_from_spec(spec)
            monkeypatch.setitem(sys.modules, spec.name, module)
            spec.loader.exec_module(module)
            return module

        return load_one(name), load_one(f"{name}_vjp")

    return load


IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(5, 64)), jnp.float32)


def gradients(source, generated):
    """Return the model's variables and its gradients by both modules, which start alike."""
    plain, ruled = source.Classifier(), generated.Classifier()
    variables = plain.init(jax.random.key(0), IMAGES)
    jax.tree.map(np.testing.assert_array_equal, variables, ruled.init(jax.random.key(0), IMAGES))
    np.testing.assert_array_equal(plain.apply(variables, IMAGES), ruled.apply(variables, IMAGES))
    state, params = pop(variables, "params")

    def gradient(model):
        def loss(params):
            return jnp.sin(model.apply({"params": params, **state}, IMAGES)).sum()

        return jax.jit(jax.grad(loss))(params)

    return variables, gradient(plain), gradient(ruled)


def assert_close(actual, desired, rtol=1e-5):
    def compare(a, b):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5)

    jax.tree.map(compare, actual, desired)


def test_feedback_alignment_replaces_the_way_back_by_the_feedback_matrix(modules):
    source, generated = modules("feedback_alignment")
    variables, plain, ruled = gradients(source, generated)
    params, feedback = variables["params"], variables["feedback"]
    first, second, last = "FeedbackDense_0", "FeedbackDense_1", "FeedbackDense_2"

    def dense(layer, x):
        return x @ params[layer]["Dense_0"]["kernel"] + params[layer]["Dense_0"]["bias"]

    hidden_1 = jnp.tanh(dense(first, IMAGES))
    hidden_2 = jnp.tanh(dense(second, hidden_1))
    error_3 = jnp.cos(dense(last, hidden_2))
    error_2 = (error_3 @ feedback[last]["kernel"]) * (1 - hidden_2**2)
    error_1 = (error_2 @ feedback[second]["kernel"]) * (1 - hidden_1**2)

    def layer_gradient(x, error):
        return {"Dense_0": {"kernel": x.T @ error, "bias": error.sum(0)}}

    assert_close(ruled[last], layer_gradient(hidden_2, error_3))
    assert_close(ruled[second], layer_gradient(hidden_1, error_2))
    assert_close(ruled[first], layer_gradient(IMAGES, error_1))
    assert_close(plain[last], ruled[last])
    assert not np.allclose(plain[second]["Dense_0"]["kernel"], ruled[second]["Dense_0"]["kernel"])


def test_straight_through_reaches_what_autodiff_does_not(modules):
    source, generated = modules("straight_through")
    _, plain, ruled = gradients(source, generated)
    assert_close(plain["Dense_0"], ruled["Dense_0"])
    for layer in ("QuantisedDense_0", "QuantisedDense_1"):
        assert not plain[layer]["kernel"].any()
        assert ruled[layer]["kernel"].any()
    x = jnp.array([-1.5, -0.7, 0.2, 0.9, 1.1])
    gradient = jax.grad(lambda x: (generated.quantise(x, 2) * jnp.arange(1.0, 6.0)).sum())(x)
    np.testing.assert_array_equal(gradient, [0.0, 2.0, 3.0, 4.0, 0.0])


def test_the_implicit_gradient_is_the_gradient(modules):
    _, plain, ruled = gradients(*modules("implicit_fixed_point"))
    assert_close(plain, ruled, rtol=1e-4)


def test_the_sign_gradient_is_of_signs(modules):
    source, generated = modules("sign_gradient")
    _, plain, ruled = gradients(source, generated)
    assert_close(ruled["SignDense_2"], jax.tree.map(jnp.sign, plain["SignDense_2"]))
    assert_close(ruled, jax.tree.map(jnp.sign, plain))
