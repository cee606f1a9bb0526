"""The small commands of `nic`, a module each, and what all commands share.

Each imports what is heavy only when it runs, so that `nic info` and every refusal answer at once.
"""
