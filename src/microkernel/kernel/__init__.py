"""The trusted core: knows the plugins and their permissions, and passes messages. Holds no plugin object."""
