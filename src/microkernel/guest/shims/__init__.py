"""Replacements for standard modules whose C part a guest does not have.

The folder is first on the guest's ``sys.path``, so that a standard module that is imported again is the same one.
"""
