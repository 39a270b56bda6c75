"""The steps, numbered; each is applied once and never changed afterwards."""
