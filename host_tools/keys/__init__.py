"""The fleet's keys and certificates: made, kept, used, withdrawn. The only folder that imports `cryptography`.

    sealed.py     secret files: mode 0600, under a passphrase where one is given
    signing.py    the keys that sign what boards run
    authority.py  the fleet's own certificate authority

No room here knows a command line, a broker or a board.
"""
