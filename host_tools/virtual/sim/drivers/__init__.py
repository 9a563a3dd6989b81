"""Sensor drivers as a board's image has them frozen in: dht, onewire and ds18x20, same surface and same errors."""
