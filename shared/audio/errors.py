"""The error with which every file ends that has no sound, or none that can be read."""

from shared.errors import MindjobsError


class AudioError(MindjobsError):
    """A file cannot be read as audio. The text says what the file is, and what to upload."""

    type = "audio-unreadable"
    status = 422
