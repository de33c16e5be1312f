"""One module for each wire format; no model code."""
