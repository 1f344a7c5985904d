"""The trusted core: which plugins exist, what each may do, and the passing of messages. Holds no plugin object."""
