"""Measuring nic: metrics, BD-rate, other codecs, plots, benchmark and demonstration."""
