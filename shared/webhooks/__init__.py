"""Webhooks: their messages, their targets, and the delivery."""
