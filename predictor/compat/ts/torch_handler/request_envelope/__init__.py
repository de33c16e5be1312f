"""Envelopes: other servers' request formats around a handler."""
