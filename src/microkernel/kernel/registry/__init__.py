"""The record of a plugin, its states, and its instances."""
