"""Hardware and networks explored together: which design is the best for a device and a goal."""
