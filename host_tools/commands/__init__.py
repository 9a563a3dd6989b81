"""The groups of `isotherm`, one file each. They parse options and print; the work is done by the modules they call."""
