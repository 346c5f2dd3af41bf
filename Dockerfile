# Two images from one file: `web` without MindSpore, `worker` with it.
FROM python:3.11.15-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN useradd --create-home --uid 10001 mindjobs && install -d -o mindjobs /srv/mindjobs /var/lib/mindjobs
WORKDIR /srv/mindjobs
VOLUME /var/lib/mindjobs
STOPSIGNAL SIGTERM

FROM base AS web
COPY web.lock .
RUN pip install --no-deps --require-hashes --only-binary :all: -r web.lock
COPY alembic.ini pyproject.toml ./
COPY migrations migrations
COPY shared shared
COPY web web
USER mindjobs
EXPOSE 8000
CMD ["python", "-m", "gunicorn", "--config", "python:web.server"]

FROM base AS worker
# MindSpore's CPU operators use OpenMP.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY worker.lock .
RUN pip install --no-deps --require-hashes --only-binary :all: -r worker.lock
COPY pyproject.toml ./
COPY shared shared
COPY worker worker
USER mindjobs
# Hands a running job back to the queue, where SIGTERM would wait for its end.
STOPSIGNAL SIGQUIT
CMD ["python", "-m", "worker", "--device", "cpu:0", "--kinds", "knn,musicgen"]
