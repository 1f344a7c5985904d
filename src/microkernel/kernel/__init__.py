"""Floor 1: who exists, who may do what, and the passing of messages. Holds no plugin object."""
