"""The English sentences of audio; see `shared.texts`."""

from collections.abc import Mapping
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {
    # Files that cannot be read.
    "sound-foreign": "The file is {what}, not audio. Upload the recording itself, for example as WAV, FLAC, MP3 or M4A.",
    "sound-playlist": "The file is a playlist: it names other files, and contains no sound. Upload the recording itself, for example as WAV, FLAC, MP3 or M4A.",
    "sound-unknown": "The file is not audio of a known format, or its beginning is damaged. Upload it as WAV, FLAC, MP3 or M4A.",
    "sound-without-index": "The file is incomplete or damaged: its index, which many recorders write last, cannot be read. Copy it again, or upload another file.",
    "sound-missing": "The file ({format}) has no sound. Upload one that has.",
    "sound-codec": "The sound of the file ({format}) is encoded as {codec}, which cannot be read. Convert it to WAV, FLAC, MP3 or M4A.",
    "sound-encrypted": "The sound of the file is encrypted (DRM), so it cannot be read. Upload a recording without copy protection.",
    "sound-empty": "No sound in the file ({format}) can be decoded: it has none, or it is damaged. Save it again, or upload another file.",
    "sound-rate": "The file has a sampling rate of {rate_hz} Hz, and {min_hz} to {max_hz} Hz can be read. Upload it at 44100 Hz, for example.",
    "sound-channels": "The file has {channels} channels, and at most {max_channels} can be read. Upload it in stereo.",
    "sound-too-long": "The sound of the file is longer than {max_s:g} s. Upload only the part that is needed, or ask the operator to raise MINDJOBS_MAX_AUDIO_S.",
    "sound-not-finite": "The file has samples that are NaN or infinite. Save it again, as 16-bit WAV for example.",
    "sound-too-loud": "The file has samples of up to {peak:.3g}, which is no scale of audio. Save it again, as 16-bit WAV for example.",
    # Warnings.
    "sound-silent": "Silence: the sound stays below {level_dbfs:g} dBFS.",
    "sound-cancels": "The channels cancel each other when they are mixed to mono, which becomes {drop_db:.0f} dB quieter. Invert one channel, or upload one of them.",
    "sound-integer-scale": "The samples are floating-point numbers at the scale of integers, up to {peak:.0f} instead of 1. They were divided by {scale:.0f}.",
    "sound-incomplete": "The file states {stated_s:.2f} s, but only {read_s:.2f} s could be read, which are used. It may be incomplete: upload it again if more is needed.",
    "sound-damaged": "Parts of the file are damaged and were left out (packets: {packets}). {read_s:.2f} s could be read.",
    "sound-offset": "The sound has a DC offset of {offset:.0%} of full scale, which models hear. Remove it with a high-pass filter.",
    "sound-edited": "The file hides {hidden_s:.2f} s by an edit list, as players do; they are not used. To use them, export the recording without edits.",
    "sound-layout": "The file does not say which loudspeakers its {channels} channels belong to. They were taken for {layout}. If this is wrong, upload a stereo mix.",
    "sound-layout-unknown": "The file does not say which loudspeakers its {channels} channels belong to. Left and right are their mean. If this is wrong, upload a stereo mix.",
    "sound-changes": "The sampling rate or the channels change within the file ({changes} times). All of it is used, converted to one form.",
    "sound-tracks": "The file has {tracks} sound tracks. Track {used} is used.",
}
"""The sentences, keyed by code."""

TITLES: Final[Mapping[str, str]] = {
    "audio-unreadable": "The audio cannot be read",
}
"""The titles of errors, keyed by the type of error."""
