"""`nic batch`: whole folders, to .nic and back, in as many processes or machines as there are.

command -> plan -> run -> engine (processes or ray_engine) -> work; the manifest remembers.
"""
