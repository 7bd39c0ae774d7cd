"""The demonstration of the whole circle (`circle.py`), with simulated people (`people.py`)."""
