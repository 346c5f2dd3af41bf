"""Evaluation of k nearest neighbours: parameters, results and data sets."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

from shared.inspection.upload_kinds import UploadKind
from shared.kinds.knn.parameters import MAX_SEED, KnnParams, UploadedDataset
from shared.kinds.knn.result import KnnResult
from shared.kinds.spec import KindSpec
from shared.settings import Settings
from shared.tables.facts import TableFacts
from shared.texts import render_stored


def _list_uploads(params: KnnParams) -> dict[str, str]:
    if isinstance(params.dataset, UploadedDataset):
        return {"/params/dataset/upload": params.dataset.upload}
    return {}


def _list_read_options(params: KnnParams) -> dict[str, dict[str, Any]]:
    if isinstance(params.dataset, UploadedDataset):
        return {params.dataset.upload: params.dataset.read_options.model_dump(exclude_none=True)}
    return {}


def _resolve(params: KnnParams, inspections: Mapping[str, Mapping[str, Any]], settings: Settings) -> KnnParams:  # noqa: ARG001 - no setting matters
    # The resolution imports `parameters` from this package, so it cannot be imported before this package is.
    from shared.kinds.knn.resolution import resolve  # noqa: PLC0415

    if isinstance(params.dataset, UploadedDataset):
        return resolve(params, TableFacts.model_validate(inspections[params.dataset.upload]))
    return resolve(params, None)


def _renew_seed(params: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**params, "evaluation": {**params["evaluation"], "seed": secrets.randbelow(MAX_SEED + 1)}}


def _present_result(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put the reasons and warnings into English. Jobs of earlier versions have neither."""
    preparation = result.get("preparation")
    if preparation is not None:
        columns = [
            column | {"reason": None if column["reason"] is None else render_stored(column["reason"])}
            for column in preparation["columns"]
        ]
        preparation = {**preparation, "columns": columns}
    return {**result, "preparation": preparation, "warnings": [*map(render_stored, result.get("warnings", []))]}


SPEC: Final = KindSpec(
    params=KnnParams,
    result=KnnResult,
    example={"k": 5, "evaluation": {"method": "loo"}},
    list_uploads=_list_uploads,
    reads=UploadKind.TABLE,
    list_read_options=_list_read_options,
    resolve=_resolve,
    renew=_renew_seed,
    present_result=_present_result,
)
