"""The worker process: the far side of a channel. Imports wire, sdk, errors and the standard library, never the
kernel."""
