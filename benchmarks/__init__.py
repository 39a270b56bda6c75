"""Measurements: seconds, memory, work. Results are kept under results/, with what they were measured on."""
