"""The store's schema as numbered SQL files, applied in order; the number of the last one is the file's user_version."""
