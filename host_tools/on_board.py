"""What runs on a board at its prompt for the host tools: each a text with `{name}` for Python literals.

They need nothing but MicroPython's own modules, since a board may have no firmware yet. Each prints Python literals, a
line each. They are kept short: a board compiles them in its small heap.
"""

from __future__ import annotations

# Keep the prompt: the application's watchdog would reset the board in the middle. A timer feeds it, but only until
# HOLD_MS after the host's last word: a board whose cable was pulled restarts by itself. 8 s is what RP2 can do at most
# (RP2040 datasheet 4.7). ESP32 has no timer -1, RP2 no other.
HOLD_MS = 60_000
HOLD = """
import machine, sys, time
def _hold_feed(_):
 if time.ticks_diff(_hold_end, time.ticks_ms()) > 0:
  _hold_dog.feed()
_hold_end = time.ticks_add(time.ticks_ms(), {hold_ms})
try:
 _hold_dog = machine.WDT(timeout=8000)
 _hold_timer = machine.Timer(-1 if sys.platform == 'rp2' else 0)
 _hold_timer.init(mode=machine.Timer.PERIODIC, period=1000, callback=_hold_feed)
except AttributeError:
 pass
"""
HOLD_ON = "import time\n_hold_end = time.ticks_add(time.ticks_ms(), {hold_ms})"

# What is on the board: interpreter, slot line, space, and size and SHA-256 of the firmware's files wherever they lie.
FACTS = """
import hashlib, os, sys
i = sys.implementation
print(repr(('python', '.'.join(str(n) for n in i[1][:3]), sys.platform, getattr(i, '_mpy', 0) & 255)))
try:
 with open('/slot') as f:
  print(repr(('slot', f.read())))
except OSError:
 pass
s = os.statvfs('/')
print(repr(('space', s[0] * s[2], s[0] * s[3])))
try:
 os.stat('/config.json')
 print(repr(('config',)))
 with open('/crash.log') as f:
  print(repr(('crash', f.read()[-600:])))
except OSError:
 pass
def look(p):
 h = hashlib.sha256()
 n = 0
 with open(p, 'rb') as f:
  while True:
   d = f.read(512)
   if not d:
    break
   n += len(d)
   h.update(d)
 print(repr(('file', p, n, h.digest())))
def walk(p):
 try:
  found = list(os.ilistdir(p))
 except OSError:
  return
 for e in found:
  q = p + '/' + e[0]
  if e[1] & 0x4000:
   walk(q)
  else:
   look(q)
for p in ('/a', '/b', '/isocore', '/isonode', '/lib/umqtt'):
 walk(p)
for p in ('/boot.py', '/main.py', '/names.txt'):
 try:
  look(p)
 except OSError:
  pass
"""

# Make folders, remove files, copy files within the board.
PREPARE = """
import os
for p in {folders!r}:
 try:
  os.mkdir(p)
 except OSError as e:
  if e.errno != 17:
   raise
for p in {remove!r}:
 os.remove(p)
for p in {remove_folders!r}:
 try:
  os.rmdir(p)
 except OSError:
  pass
for s, t in {copies!r}:
 with open(s, 'rb') as f, open(t, 'wb') as g:
  while True:
   d = f.read(512)
   if not d:
    break
   g.write(d)
"""

# Hash every file; only when all are as they should be, put the loader and then the slot line in place, each by one
# rename. Prints the files that are not, then size and free bytes of the flash.
SWITCH = """
import binascii, hashlib, os
bad = []
for p, w in {wanted!r}:
 h = hashlib.sha256()
 try:
  with open(p, 'rb') as f:
   while True:
    d = f.read(512)
    if not d:
     break
    h.update(d)
 except OSError:
  pass
 if binascii.hexlify(h.digest()).decode() != w:
  bad.append(p)
if not bad:
 if {loader!r}:
  os.rename('/boot.py.new', '/boot.py')
 with open('/slot.new', 'w') as f:
  f.write({line!r})
 os.rename('/slot.new', '/slot')
print(repr(bad))
s = os.statvfs('/')
print(repr((s[0] * s[2], s[0] * s[3])))
"""

# Write the slot line.
SET_SLOT = """
import os
with open('/slot.new', 'w') as f:
 f.write({line!r})
os.rename('/slot.new', '/slot')
"""

# The slot line, and the last lines of what brought the application down.
VERDICT = """
def last(p):
 try:
  with open(p) as f:
   return f.read()[-600:]
 except OSError:
  return ''
print(repr((last('/slot'), last('/crash.log'))))
"""
