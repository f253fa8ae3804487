"""The checks, each a function of a trial that records what it finds.

A check that says nothing about a rule raises `NotApplicableError`.
"""
