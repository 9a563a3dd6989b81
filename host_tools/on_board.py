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
for p in ('/a', '/b', '/cold', '/isocore', '/isonode', '/lib/umqtt'):
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

# Let the board's own firmware judge {new}, and complete it with the passwords the board has. Prints ("good",), ("bad",
# why), ("secret", key) for a password that nobody gave, or ("bare",) where there is no firmware; {new} stays if good.
JUDGE = """
import json, os
def take():
 try:
  from isonode import config
 except ImportError:
  return ('bare',)
 try:
  with open('/config.json') as f:
   old = json.load(f)
 except (OSError, ValueError):
  old = {{}}
 with open({new!r}) as f:
  new = json.load(f)
 for part, who in (('wifi', 'ssid'), ('gateway', 'user')):
  now = new.get(part, {{}})
  was = old.get(part, {{}})
  if now.get(who) and 'password' not in now:
   if was.get(who) != now[who] or 'password' not in was:
    return ('secret', part + '.password')
   now['password'] = was['password']
 with open({new!r}, 'w') as f:
  json.dump(new, f)
 try:
  config.load({new!r})
 except Exception as e:
  return ('bad', str(e))
 return ('good',)
said = take()
if said != ('good',):
 try:
  os.remove({new!r})
 except OSError:
  pass
print(repr(said))
"""

# Put {new} and the files beside it in place, the configuration last; what brought the application down is forgotten.
PLACE = """
import os
for p in {paths!r}:
 os.rename(p + '.new', p)
os.rename({new!r}, '/config.json')
try:
 os.remove('/crash.log')
except OSError:
 pass
"""

# Everything but the firmware and the boot numbers goes.
WIPE = """
import os
def clear(p):
 for e in list(os.ilistdir(p)):
  q = p + '/' + e[0]
  if e[1] & 0x4000:
   clear(q)
   os.rmdir(q)
  else:
   os.remove(q)
gone = []
for e in list(os.ilistdir('/')):
 if e[0] in {keep!r}:
  continue
 gone.append(e[0])
 if e[1] & 0x4000:
  clear('/' + e[0])
  os.rmdir('/' + e[0])
 else:
  os.remove('/' + e[0])
print(repr(gone))
"""

# The doctor was heard: what brought the application down is no news any more.
FORGET = """
import os
for p in ('/crash.log', '/crash.old'):
 try:
  os.remove(p)
 except OSError:
  pass
"""

CRASH_CHARS = 800  # of the crash log's end

# What the doctor wants to know beyond FACTS.
HEALTH = """
import gc, json, os
gc.collect()
print(repr(('heap', gc.mem_free(), gc.mem_alloc())))
def end(p):
 try:
  with open(p) as f:
   return f.read()[-{crash_chars}:]
 except (OSError, ValueError):
  return ''
print(repr(('crash', end('/crash.log'))))
try:
 from isonode import config
 try:
  c = config.load()
  print(repr(('config_ok',)))
 except Exception as e:
  print(repr(('config_bad', str(e))))
except ImportError as e:
 print(repr(('no_firmware', str(e))))
try:
 with open('/config.json') as f:
  c = json.load(f)
 w, g = c.get('wifi', {{}}), c.get('gateway', {{}})
 print(repr(('names', c.get('device'), c.get('board'), w.get('ssid'), g.get('host'))))
except (OSError, ValueError, AttributeError):
 pass
try:
 print(repr(('outbox', len(os.listdir('/outbox')))))
except OSError:
 pass
print(repr(('root', [(e[0], e[3] if len(e) > 3 else 0) for e in os.ilistdir('/')])))
"""
