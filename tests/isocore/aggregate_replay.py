"""On MicroPython: fold the cases of a file, compare with what CPython made of them. Arguments: firmware, file."""

import json
import sys

sys.path.insert(0, sys.argv[1])

from isocore.aggregate import fold

count = 0
with open(sys.argv[2]) as lines:
    for line in lines:
        case = json.loads(line)
        windows = fold([tuple(item) for item in case["items"]], tuple(case["lengths_s"]), case["hold_s"], case["upto"])
        found = sorted([list(key), list(window.figures())] for key, window in windows.items())
        if found != case["windows"]:
            print("differs:", case, found)
            sys.exit(1)
        count += len(found)
print("windows=" + str(count))
