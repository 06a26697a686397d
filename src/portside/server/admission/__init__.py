"""Admission: built-in plugins in upstream's order, one file each. ``chain.admit`` runs those that a kind's table names."""
