"""Example plug-ins for palate."""
