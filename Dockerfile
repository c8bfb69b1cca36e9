# The service as an image: `docker build .`, or `--target local` for the one with the small model.
#
# - Two stages: pip, caches and sources stay behind in the first. Every wheel is checked against its
#   hash; nothing is compiled, so there is no compiler to leave out.
# - The process is an ordinary user and PID 1 in exec form, so a SIGTERM reaches it. The root may be
#   read-only: runs are kept under /data, and nothing else is written.
# - HOST is 0.0.0.0, which the service refuses until it is told who may use it: set
#   TEAM_RUNS_API_KEYS, or TEAM_RUNS_AUTH=off where the port is published to nobody else.
# - BASE_IMAGE is any image with Python 3.11 or newer, its `venv` and useradd. An index of your own
#   is handed over as a secret: `--secret id=pip,src=pip.conf`.
# - A HEALTHCHECK exists in Docker's image format only: buildah and podman need `--format docker`.

ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /opt/team-runs
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv
COPY requirements.txt ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --only-binary=:all: \
    --require-hashes -r requirements.txt
COPY app ./app
RUN /opt/venv/bin/python -m compileall -q app

FROM build AS build-local
COPY requirements-local.txt ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/pip/bin/pip install --no-cache-dir --only-binary=:all: --no-deps --target /opt/local \
    --require-hashes -r requirements-local.txt

FROM ${BASE_IMAGE} AS runtime
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data \
    --shell /usr/sbin/nologin team-runs \
    && install -d -o team-runs -g team-runs /data
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/team-runs/app /opt/team-runs/app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TEAM_RUNS_HOST=0.0.0.0 \
    TEAM_RUNS_PORT=8000 \
    TEAM_RUNS_STORE_URL=sqlite:/data/team-runs.db
WORKDIR /opt/team-runs
USER 10001:10001
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import os, http.client as h; c = h.HTTPConnection('127.0.0.1', int(os.environ['TEAM_RUNS_PORT']), timeout=4); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "app"]
ARG VERSION=1.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="team-runs" \
    org.opencontainers.image.description="Runs a team of LLM agents over HTTP, streams the run, and stops it the moment somebody asks." \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM runtime AS local
USER 0:0
# The engine wants OpenMP, which slim images go without; Debian's current one is the right one.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/cache/apt/* /var/lib/apt/lists/*
USER 10001:10001
COPY --from=build-local /opt/local /opt/local
ENV PYTHONPATH=/opt/local
CMD ["serve"]

FROM runtime AS service
CMD ["serve"]
