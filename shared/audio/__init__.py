"""Reads audio that people upload; without database, Flask or settings.

Only a process without rights (`shared.inspection`) may import the modules that decode, since decoders are the most
attacked code that there is. Everything else imports `facts`, and what needs no decoder, such as `tags`.
"""
