"""`make bench`: figures of the whole path, measured on this machine.

Not collected by pytest, and nothing here asserts a time.
"""
