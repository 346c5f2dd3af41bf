"""Fills a PostgreSQL database with ended jobs, as many as a service has after a year of use."""

import json
from contextlib import closing
from dataclasses import replace
from typing import Final

from sqlalchemy import text

from shared.database.connection import Database
from shared.database.patience import WORKER
from shared.jobs import DeviceClass
from shared.kinds.knn.result import KnnResult
from shared.kinds.musicgen.result import MusicgenResult

_INSERTING: Final = replace(WORKER, answer_s=600)
_KNN_RESULT: Final[KnnResult] = {
    "scores": [{"k": k, "accuracy": 0.72, "accuracy_std": 0.05, "macro_f1": 0.7} for k in (1, 3, 5, 7)],
    "best_k": 5,
    "classes": ["1", "2", "3"],
    "confusion": [[50, 5, 4], [6, 60, 5], [4, 6, 38]],
    "per_class": [{"class": name, "precision": 0.7, "recall": 0.7, "f1": 0.7, "support": 59} for name in "123"],
    "n_train": 160,
    "n_test": 178,
    "device": DeviceClass.CPU,
    "compute_s": 0.02,
    "preparation": None,
    "warnings": [],
}
_MUSIC_RESULT: Final[MusicgenResult] = {
    "sampling_rate": 32_000,
    "frame_rate": 50,
    "samples": [
        {
            "prompt": "80s pop track with bassy drums",
            "seed": index,
            "duration_s": 5.06,
            "audio": f"audio-{index}.wav",
            "codes": f"codes-{index}.npy",
            "peak_dbfs": -1.2,
            "lufs": -14.3,
            "warnings": [],
        }
        for index in range(2)
    ],
    "tokens_per_s": 81.4,
    "realtime_factor": 1.5,
    "engine": "mindspore",
    "precision": "float16",
}
# Ids increase with time, as the ids of real jobs do: a job is created every 30 s.
_ID: Final = """
    substr(lpad(to_hex(1700000000000 + number * 30000), 12, '0'), 1, 8) || '-'
    || substr(lpad(to_hex(1700000000000 + number * 30000), 12, '0'), 9, 4) || '-7' || substr(md5(number::text), 1, 3)
    || '-8' || substr(md5(number::text), 4, 3) || '-' || substr(md5(number::text), 7, 12)
"""
_JOBS: Final = f"""
    INSERT INTO jobs (
        id, owner, kind, state, params, labels, priority, wanted_device, device, engine, worker, attempt, max_attempts,
        cancel_requested, request_sha256, created_at, available_at, deadline_at, started_at, finished_at,
        progress_stage, progress_done, progress_total, progress_unit, result, error
    )
    SELECT
        {_ID}, CASE WHEN number % 1000 = 0 THEN :rare_owner WHEN number % 3 = 0 THEN :common_owner ELSE 'other' END,
        CASE WHEN music THEN 'musicgen' ELSE 'knn' END, state,
        CASE WHEN music THEN jsonb_build_object('model', 'facebook/musicgen-small', 'prompts',
            jsonb_build_array('80s pop track with bassy drums', 'a quiet piano, number ' || number), 'num_samples', 1,
            'audio_prompts', '[]'::jsonb, 'max_new_tokens', 256, 'do_sample', true, 'top_k', 250, 'seed', number
        ) ELSE jsonb_build_object('dataset', '{{"name": "wine"}}'::jsonb, 'task', 'classification', 'p', 2.0,
            'k', '[1, 3, 5, 7]'::jsonb, 'metric', 'euclidean', 'weights', 'uniform', 'normalise', 'none', 'evaluation',
            jsonb_build_object('method', 'kfold', 'folds', 10, 'repeats', 1, 'seed', number)) END,
        CASE WHEN number % 2 = 0 THEN jsonb_build_object('team', 't' || number % 7, 'run', 'r' || number / 20)
            ELSE '{{}}'::jsonb END,
        number % 10, 'auto', CASE WHEN number % 50000 = 1 THEN 'ascend' WHEN music THEN 'gpu' ELSE 'cpu' END,
        'mindspore', 'worker:1', 1, 3, false, repeat('0', 64), at, at, at + interval '1 day', at, at + interval '9 s',
        'searching', 178, 178, 'rows',
        CASE WHEN state = 'succeeded' THEN CAST(CASE WHEN music THEN :music_result ELSE :knn_result END AS jsonb) END,
        CASE WHEN state <> 'succeeded' THEN
            jsonb_build_object('type', error, 'code', error, 'values', '{{}}'::jsonb) END
    FROM (
        SELECT number, number % 5 = 0 AS music, to_timestamp(1700000000 + number * 30) AS at,
            CASE WHEN number % 100 = 3 THEN 'failed' WHEN number % 1000 = 5 THEN 'cancelled' ELSE 'succeeded' END
            AS state,
            CASE WHEN number % 1000 = 5 THEN 'cancelled' ELSE 'worker-lost' END AS error
        FROM generate_series(1::bigint, :jobs) AS number
    ) AS numbered
"""  # noqa: S608 - built from constants alone
_LABELS: Final = (
    "INSERT INTO job_labels SELECT id, owner, label.key, label.value FROM jobs, jsonb_each_text(labels) AS label"
)
# Only the newest tenth of the jobs has artifacts and events. This is enough for pages to show some, and to fill the
# indexes.
_ARTIFACTS: Final = """
    INSERT INTO artifacts
    SELECT id, name, 'jobs/' || id || '/1/' || name, 'image/svg+xml', 23456, repeat('0', 64)
    FROM (SELECT id FROM jobs ORDER BY id DESC LIMIT :jobs / 10) AS newest,
        unnest(ARRAY['predictions.csv', 'scatter.svg', 'confusion.svg', 'scores.svg', 'report.json']) AS name
"""
_EVENTS: Final = """
    INSERT INTO job_events (job_id, at, kind, data)
    SELECT id, now(), 'state', jsonb_build_object('state', state, 'attempt', 1, 'worker', 'worker:1')
    FROM (SELECT id FROM jobs ORDER BY id DESC LIMIT :jobs / 10) AS newest,
        unnest(ARRAY['queued', 'running', 'succeeded']) AS state
"""


def insert_ended_jobs(address: str, jobs: int, *, common_owner: str, rare_owner: str) -> None:
    """Insert ended jobs into the database at an address.

    A third of the jobs belongs to ``common_owner``, and a thousandth to ``rare_owner``.
    """
    owners = {"common_owner": common_owner, "rare_owner": rare_owner}
    results = {"knn_result": json.dumps(_KNN_RESULT), "music_result": json.dumps(_MUSIC_RESULT)}
    with closing(Database(address, _INSERTING)) as database:
        with database.writing() as session:
            session.execute(text("SET LOCAL statement_timeout = 0"))
            session.execute(text(_JOBS), {"jobs": jobs, **owners, **results})
            session.execute(text(_LABELS))
            for statement in (_ARTIFACTS, _EVENTS):
                session.execute(text(statement), {"jobs": jobs})
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SET statement_timeout = 0"))
            for statement in ("VACUUM ANALYZE", "CHECKPOINT"):  # PostgreSQL runs both by itself, but later
                connection.execute(text(statement))
