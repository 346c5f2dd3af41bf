"""What an audio file says about itself."""

from dataclasses import dataclass
from typing import IO, Final

from shared.audio.wav import is_wav, read_info


@dataclass(frozen=True)
class Tags:
    """The texts of an audio file.

    Parameters
    ----------
    title
        The name of the piece.
    comment
        Any text.
    software
        What made the file.
    """

    title: str = ""
    comment: str = ""
    software: str = ""


NO_TAGS: Final = Tags()


def read_tags(file: IO[bytes]) -> Tags:
    """Read the tags of a WAV, FLAC, Ogg or MP3 file from its start; a file without tags has empty tags.

    Raises
    ------
    ValueError
        The file is no audio file that libsndfile reads.
    """
    if is_wav(file.read(12)):
        info = read_info(file)
        return Tags(info.get("INAM", ""), info.get("ICMT", ""), info.get("ISFT", ""))
    import soundfile  # noqa: PLC0415 - loads NumPy, which the client needs for no other command

    file.seek(0)
    try:
        with soundfile.SoundFile(file) as audio:
            found = audio.copy_metadata()
    except soundfile.LibsndfileError as error:
        raise ValueError(error.error_string.strip(" .")) from error
    return Tags(found.get("title", ""), found.get("comment", ""), found.get("software", ""))
