"""Tests of the whole: the command line, plugins, examples, an embedding program."""
