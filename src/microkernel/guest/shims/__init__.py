"""Modules that stand in for standard ones whose C part a guest does not have. The folder is first on its ``sys.path``,
so that a standard module that is imported again is the same one."""
