"""Inspects each upload once, in a process without rights, and stores with the upload what was found.

A file that anyone may upload is parsed in a process of its own (`child`, started by `sandbox`), which has no
environment, no network, no other file, and little memory and time. If a file ends this process, the upload is
unreadable, and nothing else happens. `runner` decides which upload is next; `inspectors` declares what inspects each
kind of upload.
"""
