# Two images. Build both from the root of the repository:
#   docker build --target code -t dataset-pipeline .
#   docker build --target control -t dataset-pipeline-control .
# `code` holds the pipeline and runs builds; `control` is the web server and the daemon, which load no code of datasets and
# need neither torch nor models: a tenth of the size.

FROM python:3.12.11-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 DAGSTER_HOME=/dagster PATH=/opt/venv/bin:$PATH
# Fixed ids, so that volumes keep their owner from one image to the next.
RUN groupadd --gid 10001 pipeline \
    && useradd --uid 10001 --gid pipeline --no-create-home --home-dir /tmp pipeline \
    && mkdir -p /dagster /data /logs \
    && chown pipeline:pipeline /dagster /data /logs
COPY deploy/dagster.yaml deploy/workspace.yaml /dagster/

FROM base AS build
RUN pip install --no-cache-dir 'uv==0.9.11' && uv venv /opt/venv
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
ENV UV_NO_CACHE=1 UV_LINK_MODE=copy VIRTUAL_ENV=/opt/venv

FROM build AS build-code
COPY dataset_pipeline dataset_pipeline
RUN uv pip install --compile-bytecode --constraint constraints.txt '.[deploy,demo]'

FROM build AS build-control
RUN uv pip install --compile-bytecode --constraint constraints.txt dagster dagster-webserver dagster-postgres

FROM base AS control
COPY --from=build-control /opt/venv /opt/venv
USER pipeline
WORKDIR /dagster
EXPOSE 3000
CMD ["dagster-webserver", "--host", "0.0.0.0", "--port", "3000", "--workspace", "/dagster/workspace.yaml"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000/server_info', timeout=5)"]

FROM base AS code
COPY --from=build-code /opt/venv /opt/venv
USER pipeline
WORKDIR /data
VOLUME /data
EXPOSE 4000
ENV DATASET_PIPELINE_STORAGE=/data/storage
CMD ["dagster", "code-server", "start", "--host", "0.0.0.0", "--port", "4000", "--module-name", "dataset_pipeline.definitions"]
HEALTHCHECK --interval=30s --timeout=20s --start-period=120s \
  CMD ["dagster", "api", "grpc-health-check", "--port", "4000"]
