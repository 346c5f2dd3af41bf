"""The windows into which a signal is cut."""

import pytest

from worker.engines.musicgen.codec.windows import MAX_SMALL_FACTOR, cut


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_every_frame_is_kept_once_and_no_kept_frame_is_within_the_reach_of_a_cut(reach: int) -> None:
    small, large = 16, 64
    for frames in range(1, 400):
        windows = list(cut(frames, small, large, reach))
        kept = [frame for window in windows for frame in range(window.kept_start, window.kept_stop)]
        assert kept == list(range(frames))
        for window in windows:
            length = window.stop - window.start
            assert length == min(small, frames) if window.size == small else small < length <= large
            assert window.start == 0 or window.kept_start - window.start >= reach
            assert window.stop == frames or window.stop - window.kept_stop >= reach
        # Small windows are used only if a large window would take longer.
        assert sum(window.size == small for window in windows) <= 2 * MAX_SMALL_FACTOR
