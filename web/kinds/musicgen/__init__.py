"""The form, the result and the models of music generation."""

from typing import Final

from web.kinds.musicgen import job_actions, models
from web.kinds.musicgen.form import MusicgenForm
from web.kinds.musicgen.result import view_result
from web.kinds.spec import KindApi, KindPages

PAGES: Final = KindPages(
    form=MusicgenForm,
    title="Music",
    nav_title="Music",
    card_title="Generate music",
    card_text="MusicGen generates music from a description, continues a clip, or generates without any input.",
    view_result=view_result,
    new_seed_title="Another version",
    views=job_actions.blueprint,
    api=KindApi(models.blueprint, models.OPERATIONS, [models.ModelList]),
)
