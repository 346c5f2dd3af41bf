"""Webhooks: their messages, their targets, and their delivery."""
