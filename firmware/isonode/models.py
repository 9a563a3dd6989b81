"""Threshold models on the board: two slots, of which one is in force and the other is on trial, or free.

Order of writes for a new model: container into the free slot, read back, then the state file, which alone says what is
in force. A cut before the state file is replaced leaves the old model, one after it leaves the new one on trial; the
slot in force is never written. The state file holds the SHA-256 of each slot, so a slot that rotted is never run.

Which keys may sign is the word of the fleet's root (trust.py), or, on boards without one, of the configuration. A key
that is withdrawn signs nothing new, and the sequences it has signed bind no more (docs/adr/0012); what runs stays.

Trial: committed after `trial_samples` good samples and one ack of the gateway since; reverted, with the reason, when as
many readings are out of its range first, when the ack does not come in time, or when the board restarted
_TRIAL_BOOTS_MAX times meanwhile. A reverted sequence is not tried again. Knows no filter, no topic and no clock but the
ticks it is given.
"""

import gc
import hashlib
import os
import struct

from micropython import const

from isocore.errors import ModelError, SignatureError
from isonode import durable, lazy
from isonode.errors import ModelRefused

_TRIAL_BOOTS_MAX = const(3)
_SLOTS = ("a.bin", "b.bin")
_NONE = const(255)
_MAGIC = b"IMS1"
_SIGNER_AT = const(8)  # isocore.sign: the signer's key id in a container
_SIGNER_BYTES = const(8)
# isocore.sign, which is loaded only to verify
_HEADER_BYTES = const(18)
_SIGNATURE_BYTES = const(64)
_CONTAINER_BYTES_MAX = const(4096)
_PIECE_BYTES = const(256)
_STATE = "<BBBBIII32s32s"  # in force, on trial, boots in trial, reason; sequences in force, on trial, reverted; digests
REASONS = ("", "unhealthy", "no_ack", "reboots", "slot", "crash")


def _read(path):
    """The container in a slot, or None."""
    try:
        if os.stat(path)[6] > _CONTAINER_BYTES_MAX:
            return None
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _digest(path):
    """SHA-256 of a slot, read in small pieces; None when it cannot be read."""
    sha = hashlib.sha256()
    piece = memoryview(bytearray(_PIECE_BYTES))
    try:
        with open(path, "rb") as file:
            while True:
                count = file.readinto(piece)
                if not count:
                    return sha.digest()
                sha.update(piece[:count])
    except OSError:
        return None


def _forget():
    """What verified a model or a list is not needed until the next one comes."""
    for name in ("isocore.sign", "isocore.payload", "isocore.keylist", "isonode.trust"):
        lazy.forget(name)


class Models:
    """`current`: the isocore Model that runs (on trial or not), or None for the built-in defaults."""

    def __init__(self, folder, keys, identity, trial_samples, trial_timeout_ms, root_key=None):
        """identity: (fleet, device, device class, firmware version); root_key: signs the list of trusted keys; keys:
        trusted where there is no root. Public keys have 64 bytes."""
        self._folder = folder
        self._keys = keys
        self._root_key = root_key
        self._list = 0  # version of the list in force
        self._list_refused = ""
        self._identity = identity
        self._samples = trial_samples
        self._timeout_ms = trial_timeout_ms
        self.current = None
        self.applied = 0  # models committed since boot
        self.refused = 0
        self.io_errors = 0
        self.state = {"sequence": 0, "state": "committed", "id": ""}
        self.changed = True  # `state` is to be published
        self._force = _NONE
        self._trial = _NONE
        self._boots = 0
        self._reason = 0
        self._force_sequence = 0
        self._trial_sequence = 0
        self._reverted_sequence = 0
        self._digests = [bytes(32), bytes(32)]
        self._refused_id = b""
        self._good = 0
        self._bad = 0
        self._ack_came = False
        self._since = None
        self._standing_by = False

    @property
    def on_trial(self):
        """True while the running model is not committed."""
        return self._trial != _NONE

    @property
    def sequence(self):
        """Sequence of the running model, 0 for the built-in defaults."""
        return self.current.sequence if self.current is not None else 0

    # ---- start -----------------------------------------------------------------------------------------------------

    def open(self, now_unix_s=None, crashed=False, resumed=False):
        """Find the model to run. A provisioned container in slot A counts as in force once its signature is checked.

        crashed: the run before ended in a crash or by the watchdog, which ends a trial. resumed: a deep sleep is over,
        which is no restart; `resume` gives back what a trial had come to.
        """
        durable.make_folder(self._folder)
        if self._root_key is not None:
            self._take_list(None)
        data = durable.load(self._path("state"), _MAGIC)
        if data is None or len(data) != struct.calcsize(_STATE):
            self._provisioned(now_unix_s)
            return
        (
            self._force,
            self._trial,
            self._boots,
            self._reason,
            self._force_sequence,
            self._trial_sequence,
            self._reverted_sequence,
            first,
            second,
        ) = struct.unpack(_STATE, data)
        self._digests = [first, second]
        if self._trial != _NONE:
            self._resume_trial(crashed, resumed)
            return
        self.current = self._stored(self._force)
        if self.current is None and self._force != _NONE:
            self._force = _NONE
            self._force_sequence = 0
            self._report("reverted", 0, b"", "slot")
        else:
            self._report_current()

    def stand_by(self):
        """Safe mode: the built-in defaults run, whatever is in force; a new model is tried as ever."""
        self.current = None
        self._standing_by = True
        self._report("committed", 0, b"", "safe_mode")

    def progress(self, net_ticks, ticks_diff):
        """What a trial has come to, as four small integers that survive a deep sleep."""
        waited_ms = 0 if self._since is None else ticks_diff(net_ticks, self._since)
        return self._good, self._bad, 1 if self._ack_came else 0, max(0, waited_ms)

    def resume(self, good, bad, ack_came, since, changed):
        """Go on with a trial after a deep sleep; since: network ticks at which it would have begun without one."""
        self.changed = changed != 0
        self._good = good
        self._bad = bad
        self._ack_came = ack_came != 0
        self._since = since

    def _resume_trial(self, crashed, resumed):
        self.current = self._stored(self._trial)
        if not resumed:
            self._boots += 1
        if crashed:
            self._revert("crash")
        elif self.current is None:
            self._revert("slot")
        elif self._boots > _TRIAL_BOOTS_MAX:
            self._revert("reboots")
        else:
            if not resumed:
                self._try_save()
            self._report("trial", self._trial_sequence, self._digests[self._trial])

    def _provisioned(self, now_unix_s):
        container = _read(self._path(_SLOTS[0]))
        if container is None:
            return
        try:
            self.current = self._verified(container, self._trusted(), now_unix_s)
        except ModelRefused as refusal:
            self._report("refused", 0, hashlib.sha256(container).digest(), refusal.reason)
            return
        finally:
            _forget()
        self._force = 0
        self._force_sequence = self.current.sequence
        self._digests[0] = hashlib.sha256(container).digest()
        self._try_save()
        self._report_current()

    def _stored(self, slot):
        """The model in a slot, or None when it is not what was written there."""
        if slot >= len(_SLOTS):
            return None
        path = self._path(_SLOTS[slot])
        if _digest(path) != self._digests[slot]:
            return None
        from isocore import payload

        container = _read(path)
        try:
            return payload.parse(container[_HEADER_BYTES : len(container) - _SIGNATURE_BYTES])
        except ModelError:
            return None
        finally:
            _forget()

    # ---- a new one -------------------------------------------------------------------------------------------------

    def offer(self, container, now_unix_s=None):
        """A container came, as bytes or a memoryview. Returns True when it now runs on trial; else the old one stays.

        Takes up to 0.7 s on an ESP32 (the signature) and some 34 KB of garbage. The container that runs, or was refused
        or reverted last, is recognised and ignored, so a retained message costs nothing at every reconnect, and what a
        board says of it stays.
        """
        digest = hashlib.sha256(container).digest()
        running = self._trial if self._trial != _NONE else self._force
        if digest == self._refused_id or (running != _NONE and digest == self._digests[running]):
            return False
        gc.collect()
        try:
            keys = self._trusted()
            offered = self._verified(container, keys, now_unix_s)
            if offered.sequence <= self._floor(keys):
                raise ModelRefused("sequence", "not above the stored one")
            if offered.sequence == self._reverted_sequence:
                raise ModelRefused("reverted", "tried before")
            slot = 1 if self._force == 0 else 0
            self._write(slot, container, digest)
            self._put_on_trial(slot, offered.sequence, digest)
        except ModelRefused as refusal:
            self._refused_id = digest
            self.refused += 1
            self._report("refused", self.sequence, digest, refusal.reason)
            return False
        except MemoryError:
            self.refused += 1
            self._report("refused", self.sequence, digest, "memory")  # and tried again at the next connect
            return False
        finally:
            _forget()
            gc.collect()
        self.current = offered
        self._good = self._bad = 0
        self._ack_came = False
        self._since = None
        self._report("trial", offered.sequence, digest)
        return True

    def _trusted(self):
        """The keys that may sign now."""
        if self._root_key is None:
            return self._keys
        from isonode import trust

        return trust.kept(self._folder, self._root_key)[1]

    def _floor(self, keys):
        """The sequence that a new model must be above: of what runs, unless who signed it was withdrawn since."""
        floor = 0
        if self._force_sequence and not self._is_disowned(self._force, keys):
            floor = self._force_sequence
        if self._trial_sequence > floor and not self._is_disowned(self._trial, keys):
            floor = self._trial_sequence
        return floor

    def _is_disowned(self, slot, keys):
        """True when a slot is whole and its signer is none of `keys`."""
        from isocore import sign

        path = self._path(_SLOTS[slot])
        if _digest(path) != self._digests[slot]:
            return False
        signer = _read(path)[_SIGNER_AT : _SIGNER_AT + _SIGNER_BYTES]
        return not any(sign.key_id(key) == signer for key in keys)

    def offer_list(self, container):
        """A list of model keys came, as bytes or a memoryview. The one in force is recognised and costs nothing."""
        if self._root_key is not None:
            gc.collect()
            self._take_list(container)

    def _take_list(self, container):
        """container: None for the file that provisioning leaves, and to find what is in force."""
        from isonode import trust

        fleet = self._identity[0]
        before = (self._list, self._list_refused)
        try:
            if container is not None:
                version = trust.take(self._folder, self._root_key, fleet, container)
            else:
                self._list = trust.kept(self._folder, self._root_key)[0]
                version = trust.take_file(self._folder, self._root_key, fleet, self._folder + "-keys.isos")
            if version:
                self._list = version
                self._refused_id = b""  # it may be good under these keys
            self._list_refused = ""
        except ModelRefused as refusal:
            self._list_refused = refusal.reason
        except MemoryError:
            self._list_refused = "memory"
        finally:
            _forget()
            gc.collect()
        if (self._list, self._list_refused) != before:
            self._say_list()

    def _say_list(self):
        """Beside the model: the version of the list in force, and why the last one was refused."""
        self.state["keys"] = self._list
        self.state.pop("keys_refused", None)
        if self._list_refused:
            self.state["keys_refused"] = self._list_refused
        self.changed = True

    def _verified(self, container, keys, now_unix_s):
        from isocore import payload, sign

        try:
            content = sign.open_container(container, sign.KIND_MODEL, keys)
        except SignatureError as error:
            raise ModelRefused(error.reason, str(error))
        try:
            offered = payload.parse(content)
        except ModelError as error:
            raise ModelRefused("payload", str(error))
        fleet, device, device_class, firmware = self._identity
        reason = offered.why_not(fleet, device, device_class, firmware, now_unix_s)
        if reason is not None:
            raise ModelRefused(reason)
        return offered

    def _write(self, slot, container, digest):
        """Into the free slot, and read back."""
        if slot == self._trial:  # a newer one replaces the one on trial: the state must not point at what is torn
            self._trial = _NONE
            self._trial_sequence = 0
            self._try_save()
        try:
            with open(self._path(_SLOTS[slot]), "wb") as file:
                file.write(container)
                file.flush()
        except OSError as error:
            raise ModelRefused("storage", repr(error))
        if _digest(self._path(_SLOTS[slot])) != digest:
            raise ModelRefused("storage", "read back differently")

    def _put_on_trial(self, slot, sequence, digest):
        """The one write that makes the new model count."""
        before = self._digests[slot]
        self._trial = slot
        self._trial_sequence = sequence
        self._digests[slot] = digest
        self._boots = 0
        try:
            self._save()
        except OSError as error:
            self._trial = _NONE
            self._trial_sequence = 0
            self._digests[slot] = before
            raise ModelRefused("storage", repr(error))

    # ---- trial -----------------------------------------------------------------------------------------------------

    def on_sample(self):
        """A good sample while on trial. Allocates nothing."""
        self._good += 1

    def on_out_of_range(self):
        """A reading that the running model calls impossible. Allocates nothing."""
        self._bad += 1

    def on_ack(self):
        """The gateway acknowledged something."""
        self._ack_came = True

    def step(self, net_ticks, ticks_diff):
        """Decide on the trial. Returns True when `current` changed (it was reverted)."""
        if self._trial == _NONE:
            return False
        if self._since is None:
            self._since = net_ticks
        if self._bad >= self._samples:
            return self._revert("unhealthy")
        if self._good >= self._samples:
            if self._ack_came:
                self._commit()
            elif ticks_diff(net_ticks, self._since) >= self._timeout_ms:
                return self._revert("no_ack")
        return False

    def _commit(self):
        self._force = self._trial
        self._force_sequence = self._trial_sequence
        self._trial = _NONE
        self._trial_sequence = 0
        self._try_save()
        self.applied += 1
        self._report_current()

    def _revert(self, reason):
        sequence = self._trial_sequence
        digest = self._digests[self._trial]
        self._reverted_sequence = sequence
        self._refused_id = digest
        self._trial = _NONE
        self._trial_sequence = 0
        self._reason = REASONS.index(reason)
        self._try_save()
        self.current = None if self._standing_by else self._stored(self._force)
        self._report("reverted", sequence, digest, reason)
        return True

    # ---- state -----------------------------------------------------------------------------------------------------

    def _path(self, name):
        return self._folder + "/" + name

    def _save(self):
        data = struct.pack(
            _STATE,
            self._force,
            self._trial,
            min(self._boots, 255),
            self._reason,
            self._force_sequence,
            self._trial_sequence,
            self._reverted_sequence,
            self._digests[0],
            self._digests[1],
        )
        durable.save(self._path("state"), _MAGIC, data)

    def _try_save(self):
        """For decisions that are taken again after a restart, should the write fail."""
        try:
            self._save()
        except OSError:
            self.io_errors += 1

    def _report_current(self):
        if self._force == _NONE:
            self._report("committed", 0, b"")
        else:
            self._report("committed", self._force_sequence, self._digests[self._force])

    def _report(self, state, sequence, digest, reason=None):
        self.state = {"sequence": sequence, "state": state, "id": "".join("%02x" % b for b in digest[:8])}
        if reason is not None:
            self.state["reason"] = reason
        if self._root_key is not None:
            self._say_list()
        self.changed = True
