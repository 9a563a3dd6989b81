"""Devices that publish JSON or plain values of their own: Tasmota, ESPHome, Zigbee2MQTT, anything with a pattern.

pattern.py   topic patterns with named placeholders
pointer.py   JSON pointers (RFC 6901)
reading.py   what a payload says, as exact milli-units
preset.py    where the three firmwares put it
stamp.py     time stamps in payloads
names.py     topic names to device ids, without collisions
device.py    one device: channels, and a filter each
intake.py    one message to records
"""
