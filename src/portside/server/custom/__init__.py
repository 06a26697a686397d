"""Custom resources on the server: the live table of definitions, their resources, conditions, conversion and documents."""
