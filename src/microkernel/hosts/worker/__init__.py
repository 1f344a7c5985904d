"""Shared by all levels above ``thread``: a zygote, its workers, their channels and their output."""
