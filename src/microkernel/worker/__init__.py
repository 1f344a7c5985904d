"""Floor 2: the far side of a channel. Imports wire, sdk, errors and the standard library, and never the kernel."""
