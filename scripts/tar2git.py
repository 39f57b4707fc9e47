#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Turns a tar archive on stdin into input for git fast-import on stdout: one commit.

Usage: tar2git.py REF IDENTITY MESSAGE
IDENTITY is "Name <email> seconds +0000". The first component of each path is dropped.
"""
import sys
import tarfile


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    ref, identity, message = sys.argv[1:]
    out = sys.stdout.buffer
    message = message.encode()
    out.write(b"commit %s\ncommitter %s\ndata %d\n%s\n"
              % (ref.encode(), identity.encode(), len(message), message))
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
        for member in tar:
            _, _, path = member.name.partition("/")
            if member.issym():
                mode, data = b"120000", member.linkname.encode()
            elif member.isreg():
                mode = b"100755" if member.mode & 0o100 else b"100644"
                data = tar.extractfile(member).read()
            else:
                continue
            if '"' in path or "\n" in path:
                sys.exit(f"tar2git.py: cannot handle the path {path!r}")
            out.write(b"M %s inline %s\ndata %d\n" % (mode, path.encode(), len(data)))
            out.write(data)
            out.write(b"\n")
    out.write(b"done\n")


try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
