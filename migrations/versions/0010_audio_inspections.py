"""Inspects audio that was uploaded earlier: in the background, newest first.

Files whose kind was unknown are inspected as audio if their name says so; what cannot be read is then said.
"""

import sqlalchemy as sa
from alembic import op

AUDIO_NAMES = (
    "3gp aac ac3 aif aifc aiff amr ape au avi caf dts eac3 flac flv m4a m4b mka mkv mov mp2 mp3 mp4 mpg oga ogg opus "
    "tta w64 wav weba webm wma wv"
)

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

UPLOADS = sa.table(
    "uploads", *(sa.column(name) for name in ("kind", "inspection_state", "filename", "facts", "problem"))
)


def upgrade() -> None:
    named_audio = sa.or_(*(sa.func.lower(UPLOADS.c.filename).like(f"%.{name}") for name in AUDIO_NAMES.split()))
    is_audio = sa.or_(UPLOADS.c.kind == "audio", sa.and_(UPLOADS.c.kind == "unknown", named_audio))
    pending = UPLOADS.update().where(is_audio, UPLOADS.c.inspection_state.is_(None))
    op.execute(pending.values(kind="audio", inspection_state="pending"))


def downgrade() -> None:
    cleared = {"inspection_state": None, "facts": sa.null(), "problem": sa.null()}
    op.execute(UPLOADS.update().where(UPLOADS.c.kind == "audio").values(cleared))
