"""The line editor of the friendly prompt: echo, cursor keys, history, and whether a statement goes on.

Terminal sequences as in ECMA-48: CSI n D moves left, CSI K clears to the end of the line. Must not know what is done
with a line.
"""

from sim import repl_port as port

HISTORY_LINES = 20
_BACKSPACE, _TAB, _ENTER, _ESCAPE, _DELETE = 8, 9, 13, 27, 127
_LEAVING = (1, 2, 3, 4, 5)  # Ctrl-A to Ctrl-E end an empty line
_CTRL_C = 3
_COMPOUND = ("if", "while", "for", "try", "with", "def", "class", "async")
_INDENT = "    "

_history = []


class _Line:
    def __init__(self, prompt, text):
        self._prompt = prompt
        self.text = bytearray(text.encode())
        self.at = len(self.text)
        self.recalled = 0  # lines back in the history
        port.write_raw(prompt.encode() + self.text)

    def tail(self):
        """Redraw from the cursor on, and come back to it."""
        rest = bytes(self.text[self.at :])
        port.write_raw(rest + b"\x1b[K" + (b"\x1b[%dD" % len(rest) if rest else b""))

    def move(self, to):
        to = max(0, min(len(self.text), to))
        if to < self.at:
            port.write_raw(b"\x1b[%dD" % (self.at - to))
        elif to > self.at:
            port.write_raw(b"\x1b[%dC" % (to - self.at))
        self.at = to

    def insert(self, data):
        self.text[self.at : self.at] = data
        self.at += len(data)
        port.write_raw(data)
        if self.at < len(self.text):
            self.tail()

    def erase(self, count=1):
        """Delete to the left."""
        count = min(count, self.at)
        if count:
            self.move(self.at - count)
            self.text[self.at : self.at + count] = b""
            self.tail()

    def delete(self):
        if self.at < len(self.text):
            self.text[self.at : self.at + 1] = b""
            self.tail()

    def recall(self, back):
        if 0 <= back <= len(_history):
            self.recalled = back
            self.move(0)
            self.text = bytearray(_history[-back].encode() if back else b"")
            self.tail()
            self.move(len(self.text))

    def escape(self):
        """A cursor key."""
        if port.read_byte() != 91:  # "["
            return
        key = port.read_byte()
        if 48 <= key <= 57:  # CSI digit ~
            port.read_byte()
            key = {49: 72, 52: 70, 51: 51}.get(key, 0)
        if key == 65:
            self.recall(self.recalled + 1)
        elif key == 66:
            self.recall(self.recalled - 1)
        elif key == 67:
            self.move(self.at + 1)
        elif key == 68:
            self.move(self.at - 1)
        elif key == 72:
            self.move(0)
        elif key == 70:
            self.move(len(self.text))
        elif key == 51:
            self.delete()


def edit(prompt, text=""):
    """A line as text, or the number of the control key that ended it: Ctrl-C always, the others on an empty line."""
    line = _Line(prompt, text)
    while True:
        char = port.read_byte()
        if char == _CTRL_C or (char in _LEAVING and not line.text):
            return char
        if char == _ENTER:
            port.write_raw(b"\r\n")
            done = line.text.decode()
            if done.strip() and (not _history or _history[-1] != done):
                _history.append(done)
                if len(_history) > HISTORY_LINES:
                    _history.pop(0)
            return done
        if char == _BACKSPACE or char == _DELETE:
            blank = line.at and not line.text[: line.at].strip() and line.at % len(_INDENT) == 0
            line.erase(len(_INDENT) if blank else 1)
        elif char == _TAB:
            line.insert(_INDENT.encode())
        elif char == _ESCAPE:
            line.escape()
        elif char == 1:
            line.move(0)
        elif char == 5:
            line.move(len(line.text))
        elif char == 4:
            line.delete()
        elif char >= 32:
            line.insert(bytes((char,)))


def indent_of(text):
    """What the next line begins with: the last line's indent, one step more after a colon."""
    last = text.split("\n")[-1]
    indent = len(last) - len(last.lstrip(" "))
    return " " * indent + (_INDENT if last.rstrip().endswith(":") else "")


def wants_more(text):
    """Whether a statement goes on in the next line: an open bracket or string, a backslash, or a block not ended."""
    if text.endswith("\\") or _is_open(text):
        return True
    words = text.lstrip().replace(":", " ").replace("(", " ").split(None, 1)
    if words and (words[0] in _COMPOUND or words[0].startswith("@")):
        return bool(text.split("\n")[-1].strip()) or "\n" not in text
    return False


def _is_open(text):
    depth = 0
    quote = ""
    i = 0
    while i < len(text):
        char = text[i]
        if quote:
            if char == "\\":
                i += 1
            elif text.startswith(quote, i):
                i += len(quote) - 1
                quote = ""
            elif char == "\n" and len(quote) == 1:
                quote = ""  # an error that the compiler will name
        elif char in "'\"":
            quote = char * 3 if text.startswith(char * 3, i) else char
            i += len(quote) - 1
        elif char == "#":
            end = text.find("\n", i)
            if end < 0:
                break
            i = end
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        i += 1
    return depth > 0 or len(quote) == 3
