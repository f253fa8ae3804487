"""Verification of every rule of a project, in a process of its own.

    targets -> Verifier -> child process: import, example, `vjpgen.testing.verifying.verify`
            <- reports  <-

The parent reads sources and draws up what is to be verified; it imports neither jax nor the user's
code. A child does both, one rule after the other, and is replaced where it hangs or dies. The
command line and the pytest plugin are two fronts of the same `Verifier`.
"""
