"""The sensors on the gateway's own board: read, filtered and reported as a board does.

sensors.py  the drivers: a value or a fault, never an exception
worker.py   a thread a sensor, so that one that hangs stops nobody
model.py    threshold models: verified, on trial, in force
stage.py    rounds of readings through filters into records
"""
