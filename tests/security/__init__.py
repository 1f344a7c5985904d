"""Tests that attack: hostile files, frames, plugins, floods, and the cost of each input."""
