"""The sweeper with an inspector of the tests: ``python -m tests.integration.probing_sweeper``."""

from shared.inspection.inspectors import INSPECTORS
from shared.inspection.upload_kinds import UploadKind
from shared.maintenance.__main__ import main
from tests.support.inspections import MEASURE

if __name__ == "__main__":
    INSPECTORS[UploadKind.TABLE] = MEASURE
    main()
