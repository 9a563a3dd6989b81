"""The main job on one machine: virtual boards, broker, gateway and receiver, run, disturbed and reconciled."""
