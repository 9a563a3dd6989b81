"""Set-up of a machine: virtual environment, broker, MicroPython, umqtt.simple. Standard library only.

    bootstrap.py -> plan.py -> system.py  packages.py  micropython.py  umqtt.py
                               \\_________ apt.py (Debian), runner.py (child programs), console.py (what one sees)

Each step answers two questions, `ready` and `install`, and knows nothing of its neighbours. A step that is ready
costs a few file reads; one that is interrupted leaves what was there before.
"""
