"""The commands `nic encode`, `decode`, `info` and `export`.

Each imports what is heavy only when it runs, so that `nic info` and every refusal answer at once.
"""
