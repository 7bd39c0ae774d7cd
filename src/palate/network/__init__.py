"""How palate's servers listen: addresses, who reaches them, and the process that serves an ASGI app."""
